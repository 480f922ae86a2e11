"""Make miniatures of corpora: folders, names and tables as their authors publish them, with short tones for recordings."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import soundfile as sf
from conftest import tone

import clipmill
from clipmill.pipelines.config_file import load
from clipmill.pipelines.run.build import build

RECIPES = Path(__file__).parents[1] / "recipes"
ANY = "any split"
_FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "au": ("AU", "PCM_16"),
}
Clip = tuple[str, str | None, dict[str, Any]]
"""Split, label, and some of the other columns of a clip."""


@dataclass(frozen=True)
class Miniature:
    """A miniature of a corpus, and what the recipe must give for it.

    recipe : name of the recipe
    files : contents by path in the corpus: seconds of a tone (or a pair of seconds and rate), text, or bytes
    clips : clips by path of their recording; of several, by start
    sizes : number of clips by split, where hashes decide
    apart : a column no value of which may be in two splits
    reasons : number of rejected recordings, annotations and clips, by reason
    without, ignored : number of recordings without annotations, and of rows left out since their recording is not there
    environ : further variables for the recipe
    """

    recipe: str
    files: Mapping[str, float | tuple[float, int] | str | bytes]
    clips: Mapping[str, Clip | list[Clip]]
    sizes: Mapping[str, int] | None = None
    apart: str | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    without: int = 0
    ignored: int = 0
    environ: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write the files into a folder, and return it."""
        for i, (name, content) in enumerate(self.files.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                content = content.encode()
            elif not isinstance(content, bytes):
                seconds, rate = content if isinstance(content, tuple) else (content, 16000)
                content = recording(path.suffix[1:], seconds, rate, i)
            path.write_bytes(content)
        return folder

    def check(self, tmp_path: Path) -> list[dict[str, Any]]:
        """Build the recipe on the miniature, compare clips, splits, rejections and counts, and return the clips."""
        corpus, out = self.write(tmp_path / "corpus"), tmp_path / "out"
        rows = built(self.recipe, corpus, out, dict(self.environ))
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            found.setdefault(str(Path(row["source_uri"]).relative_to(corpus)), []).append(row)
        wanted = {path: clips if isinstance(clips, list) else [clips] for path, clips in self.clips.items()}
        dataset = clipmill.open_dataset(out)
        rejected = Counter(row["reason"] for row in dataset.rejections().to_pylist())
        assert rejected == Counter(self.reasons), dataset.rejections().to_pylist()
        assert {path: len(clips) for path, clips in found.items()} == {p: len(clips) for p, clips in wanted.items()}
        for path, clips in wanted.items():
            for row, (split, label, columns) in zip(found[path], clips, strict=True):
                assert row["label"] == label, path
                assert split in (row["split"], ANY), path
                assert {name: row[name] for name in columns} == columns, path
        snapshot = dataset.snapshot
        assert (snapshot.recordings_without_annotations, snapshot.annotations_ignored) == (self.without, self.ignored)
        if self.sizes is not None:
            assert Counter(row["split"] for row in rows) == Counter(self.sizes)
        if self.apart is not None:
            sides: dict[str, set[str]] = {}
            for row in rows:
                sides.setdefault(row[self.apart], set()).add(row["split"])
            assert all(len(side) == 1 for side in sides.values()), sides
        return rows


def built(recipe: str, corpus: Path, out: Path, environ: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Build a recipe in this process; return the rows of its shards by recording and start. Limits that a slice exceeds are accepted."""
    variables = {"CORPUS": str(corpus), "OUT": str(out), **(environ or {})}
    report = build(load(RECIPES / f"{recipe}.yaml", environ=variables), quiet=True, accept=True)
    assert report.status == "published", report
    rows = [row for p in sorted((out / "shards").rglob("*.parquet")) for row in pq.read_table(p).to_pylist()]
    return sorted(rows, key=lambda row: (row["source_uri"], row["start_s"], row["duration_s"]))


@cache
def recording(extension: str, seconds: float, rate: int, seed: int) -> bytes:
    """Return a file with a tone. pcm and raw: samples of 16 bits without a header"""
    y = tone(seconds, rate, hz=200.0 + 40 * (seed % 20), seed=seed)
    if extension in ("pcm", "raw"):
        return (y[:, 0] * 32767).astype("<i2").tobytes()
    stream = io.BytesIO()
    container, subtype = _FORMATS[extension]
    sf.write(stream, y, rate, format=container, subtype=subtype)
    return stream.getvalue()


def lines(*rows: str) -> str:
    """Return rows as the text of a file."""
    return "".join(f"{row}\n" for row in rows)
