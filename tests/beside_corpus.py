"""A small dataset whose features lie beside its shards, or in them: a stage with a number and an array of each clip, and pictures."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from conftest import tone, write_audio

from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.run.build import build
from clipmill.stages.storage.root import Root

RATE = 8000
STAGE = """
from dataclasses import dataclass
import numpy as np
import pyarrow as pa
from clipmill.stages import Reason, Stage, StageSettings, column, feature, rejected, waveforms, with_column

class Settings(StageSettings):
    scale: float = 1.0
    least: int = 1

@dataclass(frozen=True)
class Frames(Stage):
    spec: Settings
    section = "frames"
    scope = "derived"
    settings = Settings
    columns = (column("loudest", pa.float64(), "greatest sample"), *feature("frames", "samples, thinned out", shape=[1, "n_frames"]))
    rejects = (Reason("clip_too_short_for_frames", "fewer samples than frames.least", "have longer clips"),)

    def __call__(self, table):
        loudest, values, shapes, short = {}, {}, {}, {}
        for row, y in waveforms(table):
            if y.shape[1] < self.spec.least:
                short[row] = f"{y.shape[1]} samples"
                continue
            loudest[row] = float(np.abs(y).max()) * self.spec.scale
            values[row] = y[0, ::40] * np.float32(self.spec.scale)
            shapes[row] = [1, len(values[row])]
        for field, found in zip(self.columns, (loudest, values, shapes)):
            table = with_column(table, field, found)
        return rejected(table, short, "clip_too_short_for_frames")
"""


def lay(place: Path, n: int = 8) -> None:
    """Write recordings, and the module of the stage, whose folder has to be on the path."""
    for i in range(n):
        write_audio(place / f"in/{'ab'[i % 2]}/r{i}.wav", tone(1.7, RATE, seed=i, hz=200 + 30 * i), RATE)
    (place / "besides.py").write_text(STAGE)


def config(place: Path, out: Path | str, layout: str = "beside", **more: Any) -> dict[str, Any]:
    """Return a configuration. more : settings of the stage, and keys of `output` where there is one in `output`"""
    output = more.pop("output", {})
    features = more.pop("features", {"besides:Frames": more})
    return {
        "name": "t",
        "sources": [
            {
                "name": "s",
                "root": str(place / "in"),
                "label": {"from": "folder"},
                "segment": {"mode": "window", "length_s": 0.4},
                "bytes_per_second": 2 * RATE,
            }
        ],
        "audio": {"sample_rate_hz": RATE},
        "features": features,
        "limits": {"max_rejected_share": 1},
        "output": {"root": str(out), "shard_seconds": 5, "features": layout, **output},
    }


def made(plain: dict[str, Any]) -> Any:
    """Build a configuration, which must publish, and return the report."""
    report = build(plain, quiet=True)
    assert report.status == "published", (report.status, report.failures)
    return report


def stamps(root: Path, *folders: str) -> dict[str, tuple[int, int]]:
    """Return inode and time of each file in folders of a root, by path: a file that was written again has others."""
    found = (path for folder in folders for path in sorted((root / folder).rglob("*")) if path.is_file())
    return {str(p.relative_to(root)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in found}


def contents(root: Path, *folders: str) -> dict[str, str]:
    """Return the sha256 of each file in folders of a root, by path."""
    paths = [*stamps(root, *folders)]
    return {path: hashlib.sha256((root / path).read_bytes()).hexdigest() for path in paths}


SHARD = ("shards", "features", "commits")


def without_donors(root: Path) -> dict[str, str]:
    """Return the sha256 of all files of shards, but for the records themselves, which say how they came about."""
    return {path: sha256 for path, sha256 in contents(root, *SHARD).items() if not path.endswith(".json")}


def spoil_recordings(place: Path) -> None:
    """Overwrite the recordings with noise of the same size and time: what is read of them is something else now."""
    for path in (place / "in").rglob("*.wav"):
        status = path.stat()
        path.write_bytes(path.read_bytes()[:44] + os.urandom(status.st_size - 44))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip(path: Path) -> None:
    """Change a bit in the middle of a file, which keeps its size."""
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def problems(root: Path, number: int | None = None) -> list[str]:
    """Return what `verify` finds."""
    *_, verdict = verify(Root(str(root)), number)
    return verdict.problems
