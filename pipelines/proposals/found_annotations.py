"""Hold what was found out about annotation files: how they would be configured, and what speaks for that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clipmill.pipelines.proposals.column_guesses import Guessed
from clipmill.pipelines.proposals.commented_yaml import Instead, Part
from clipmill.pipelines.proposals.row_trial import Trial
from clipmill.schemas.plural import counted
from clipmill.stages.annotations.registered import find_format

BINARY = frozenset(
    "raw pcm png jpg jpeg gif bmp svg tif tiff webp pdf zip tar gz bz2 xz 7z rar parquet arrow npy npz pkl pt pth onnx h5 hdf5 mat avi flv mpg"
    " vob doc docx xls xlsx exe so py ipynb sh md html css js yaml yml toml ini cfg conf lock db sqlite".split()
)
"""Extensions of files that are no annotations, or that no format reads."""
TREES = frozenset(("textgrid", "eaf", "jams", "batdetect", "lhotse", "speechbrain", "kaldi"))
"""Formats of which the beginning of a file is not enough."""
TREE_BYTES = 8 << 20

_MOST_REPEATED = 1.05
"""Rows without times of a recording. A few can be mistakes."""


@dataclass
class FoundAnnotations:
    """Annotations that a configuration could use.

    key : what the files are called: `sidecar` or `table`
    where : value of this key
    keys : the other keys of `annotations`
    because : evidence, by key of `annotations`, and under "" what is said above all
    instead : alternatives, by key
    trial : what the beginnings of the files give
    guessed : the columns of a table or of sidecars that are delimited text; None for formats with a layout of their own
    n_files : number of files
    covered : number of recordings that have a sidecar; None for tables
    has_lines : whether each file is a line of text
    below : folder below the root in which the recordings are, and `root_below` that of the sidecars, if they are in trees of their own
    """

    key: str
    where: str
    keys: dict[str, Any]
    trial: Trial
    because: dict[str, list[str]] = field(default_factory=dict)
    instead: dict[str, list[Instead]] = field(default_factory=dict)
    guessed: Guessed | None = None
    n_files: int = 1
    covered: int | None = None
    below: str = ""
    root_below: str | None = None
    has_lines: bool = False

    @property
    def format(self) -> str:
        return str(self.keys.get("format", "csv"))

    @property
    def is_timed(self) -> bool:
        return self.trial.n_timed > 0

    @property
    def repeated(self) -> str | None:
        """How many rows are about how many recordings, if rows without times are about the same ones; None if nearly none are."""
        trial = self.trial
        n_rows = trial.n_joined if self.key == "table" else trial.n_rows
        n = len(trial.recordings)
        if self.is_timed or n_rows <= _MOST_REPEATED * n:
            return None
        return f"the {n_rows:,} rows looked at are about {counted(n, 'recording')}, {n_rows / max(1, n):.1f} on average"

    @property
    def plain(self) -> dict[str, Any]:
        """The annotations as plain data, without `root`."""
        return {self.key: self.where, **self.keys}

    @property
    def text_field(self) -> str | None:
        """Name of the field with the transcript, None if there is none."""
        if self.has_lines:
            return "text"
        if self.guessed is not None:
            return None if self.guessed.text is None else "text"
        return "text" if "text" in find_format(self.format).fields else None

    @property
    def has_label(self) -> bool:
        return bool(self.trial.labels)

    def parts(self, root: str | None) -> list[Part]:
        """Return the keys of `annotations` with their evidence. root : address of the tree of the files, if it is another"""
        keys = {**({"root": root} if root is not None else {}), self.key: self.where, **self.keys}
        parts = [Part(key, value, self.because.get(key, []), self.instead.get(key, [])) for key, value in keys.items()]
        left = [key for key in (*self.because, *self.instead) if key and key not in keys]
        parts += [
            Part(key, None, self.because.get(key, []), self.instead.get(key, []), only_instead=True)
            for key in dict.fromkeys(left)
        ]
        return parts
