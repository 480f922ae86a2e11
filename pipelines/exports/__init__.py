"""Exports: a snapshot as other libraries want it. A module is a format: it declares what it is as `FORMAT`, and has a function `export`,
and `check` where a format can be out of the question; audio is repeated only where a format must have files of its own."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, TypeVar

from clipmill.pipelines.exports.export_format import Format
from clipmill.pipelines.read.clip_source import clip_rows, clips
from clipmill.schemas.config.model import Frozen
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.label_columns import LABELS_COLUMN
from clipmill.schemas.names import transcript_field
from clipmill.schemas.plural import counted
from clipmill.schemas.thresholds import Thresholds
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

if TYPE_CHECKING:
    from clipmill.pipelines.dataset.published import Published

Options = TypeVar("Options", bound=Frozen)


@dataclass
class ClipCount:
    """How far an export is.

    done : clips that were written, of `total` in the snapshot, of which --where can leave some out
    """

    done: int = 0
    total: int = 0

    def __str__(self) -> str:
        if not self.done:  # formats that name the shards as they are write no clips
            return "writing"
        return f"{self.done:,} of {counted(self.total, 'clip')}"


@dataclass(frozen=True)
class Export:
    """What an export is asked for.

    published : the snapshot
    target : where the files go; the dataset's root for formats whose place is root or service
    text : the field that holds a clip's transcript; None: `text`, `transcript` or `normalized_text` if there is one, else the label
    where : only clips within these thresholds; None: all
    notes : what the reader of the files will not do, to be told to the user
    options : those that only the format has; None: their defaults
    address : what `--to` names where a format's place is a service
    planned : what would be done, a line each, by an export that was not told to do it
    count : counts the clips that `clips` yields

    Raises
    ------
    ConfigError : there is no such field
    """

    published: Published
    target: Root
    text: str | None = None
    where: Thresholds | None = None
    notes: list[str] = field(default_factory=list)
    options: Frozen | None = None
    address: str = ""
    planned: list[str] = field(default_factory=list)
    count: ClipCount = field(default_factory=ClipCount)

    def __post_init__(self) -> None:
        known = self.published.snapshot.fields
        if self.text is not None and self.text not in (*known, "label"):
            raise ConfigError(
                f"--text {self.text}: there is no field {self.text!r}; there are {', '.join(['label', *known])}",
                code="usage",
            )

    def read_options(self, model: type[Options]) -> Options:
        """Return the format's options. model : that the format declares"""
        return self.options if isinstance(self.options, model) else model()

    @property
    def splits(self) -> list[str]:
        """Those that have clips. Most readers fail on one without."""
        splits = [s for s in self.published.splits if self.published.snapshot.by_split[s]["clips"]]
        if self.where is None:
            return splits
        return [s for s in splits if next(clip_rows(self.published, s, self.where), None) is not None]

    def clips(self, split: str, features: bool = False, images: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the clips of a split that are asked for, with their audio, as `clipmill.pipelines.read.clip_source.clips` does."""
        for row in clips(self.published, split, features, self.where, images):
            yield row
            self.count.done += 1

    @property
    def text_field(self) -> str:
        if self.text is not None:
            return self.text
        return transcript_field(self.published.snapshot.fields) or "label"

    def text_of(self, row: dict[str, Any]) -> str:
        """Return a clip's transcript, empty when there is none; several labels stand with blanks between them."""
        if (
            self.text_field == "label"
            and row.get(LABELS_COLUMN)
            and LABELS_COLUMN in self.published.snapshot.label_lists
        ):
            return " ".join(row[LABELS_COLUMN])
        return str(row.get(self.text_field) or "")

    @property
    def speaker_field(self) -> str | None:
        """The field that says who speaks."""
        known = self.published.snapshot.fields
        return next((name for name in ("speaker", "spk", "speaker_id") if name in known), None)

    def write(self, path: str, lines: Iterable[str]) -> str:
        """Write a text file, whole or not at all, a line at a time; return its address."""
        with self.open(path) as stream:
            for line in lines:
                stream.write(f"{line}\n".encode())
        return self.target.uri(path)

    def write_bytes(self, path: str, content: bytes) -> str:
        """Write a file, whole or not at all; return its address."""
        with self.writing(path):
            self.target.write_bytes(path, content)
        return self.target.uri(path)

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file for writing, which appears whole when the block ends.

        Raises
        ------
        ClipmillError : names the file, and why it cannot be written
        """
        with self.writing(path), self.target.write(path) as stream:
            yield stream

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[None]:
        """Say of a file of the target what is to be done when it cannot be written."""
        try:
            yield
        except OSError as error:
            raise describe_os_error(error, self.target, "write", path, then="export again") from None


FORMATS = (
    "huggingface",
    "croissant",
    "webdataset",
    "nemo",
    "lhotse",
    "kaldi",
    "tts",
    "csv",
    "folders",
    "tfrecord",
    "lance",
    "iceberg",
    "hub",
)
"""Names of the formats, each of a module."""


def format_of(name: str) -> Format:
    """Return what a module declares of its format."""
    found: Format = importlib.import_module(f"clipmill.pipelines.exports.{name}").FORMAT
    return found


def checker(format: str) -> Callable[[Export], None]:
    """Return what raises a ClipmillError when a format cannot be written, before anything is."""
    found: Callable[[Export], None] = getattr(
        importlib.import_module(f"clipmill.pipelines.exports.{format}"), "check", _nothing
    )
    return found


def _nothing(asked: Export) -> None:
    return


def exporter(format: str) -> Callable[[Export], list[str]]:
    """Return the function that writes a format, which returns the addresses of what it wrote."""
    found: Callable[[Export], list[str]] = importlib.import_module(f"clipmill.pipelines.exports.{format}").export
    return found
