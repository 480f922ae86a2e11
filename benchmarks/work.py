"""The work that all contenders of the benchmark do, in numbers, and how what they wrote is compared.

Every recording of a corpus as `benchmarks.corpus` makes it: decode, mix to mono, resample to 16 kHz, cut into windows of half
a second (a rest at the end is dropped), drop windows under -80 dBFS (nearly none: all of the audio goes through every stage),
compute log-mel and MFCC as librosa does, and write all as Parquet: `clip_id`, `recording`, `start_s`, `label` (the folder),
`audio` (FLAC, 16 bit), `log_mel`, `mfcc`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.dataset as ds
import soundfile as sf

RATE_HZ = 16000
WINDOW_S = 0.5
MIN_DBFS = -80.0
N_FFT, HOP_LENGTH, N_MELS, N_MFCC = 1024, 160, 80, 20
EXTENSIONS = ("wav", "flac", "ogg", "mp3")


@dataclass
class Outcome:
    """What a contender did. work_s : from the first recording to the last file, libraries loaded and workers started.

    stages : seconds by stage, where a contender can tell
    """

    name: str
    clips: int
    work_s: float
    startup_s: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)

    def tell(self) -> None:
        """Print it for the benchmark to read."""
        print(json.dumps(asdict(self)))


class Clock:
    """Sums up seconds by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._last
        self._last = now


def recordings(corpus: Path) -> list[Path]:
    return sorted(p for p in (corpus / "data").rglob("*") if p.suffix.lstrip(".") in EXTENSIONS)


def label_of(recording: Path) -> str:
    return recording.parent.name


def windows(n_samples: int) -> list[tuple[int, int]]:
    """Return the whole windows of a recording at the target rate, in samples, [start, stop)."""
    length = round(WINDOW_S * RATE_HZ)
    return [(start, start + length) for start in range(0, n_samples - length + 1, length)]


def event_windows(recording: Path, n_samples: int) -> list[tuple[int, int]]:
    """Return the whole windows of a recording's annotated events."""
    length, found = round(WINDOW_S * RATE_HZ), []
    with open(recording.with_suffix(".csv"), newline="") as file:
        for start_s, end_s, *_ in csv.reader(file):
            first, end = round(float(start_s) * RATE_HZ), min(round(float(end_s) * RATE_HZ), n_samples)
            found += [(start, start + length) for start in range(first, end - length + 1, length)]
    return found


def is_loud(pcm: npt.NDArray[np.int16]) -> bool:
    mean_square = float(np.mean(np.square(pcm, dtype=np.float64))) / (1 << 30)
    return mean_square > 0 and 10 * math.log10(mean_square) >= MIN_DBFS


def flac(pcm: npt.NDArray[np.int16]) -> bytes:
    sink = io.BytesIO()
    sf.write(sink, pcm, RATE_HZ, subtype="PCM_16", format="FLAC")
    return sink.getvalue()


def source_seconds(corpus: Path) -> float:
    return sum(sf.info(p).duration for p in recordings(corpus))


def read_output(folder: Path) -> dict[tuple[str, int], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Return log-mel and MFCC of every clip, by recording and start in samples."""
    found = {}
    data = ds.dataset(
        folder / "shards" if (folder / "shards").is_dir() else folder, format="parquet", exclude_invalid_files=True
    )
    name = "recording_id" if "recording_id" in data.schema.names else "recording"
    for batch in data.to_batches(columns=[name, "start_s", "log_mel", "mfcc"], batch_size=512):
        for row in batch.to_pylist():
            features = (np.array(row["log_mel"], np.float32), np.array(row["mfcc"], np.float32))
            found[Path(row[name]).name, round(row["start_s"] * RATE_HZ)] = features
    return found
