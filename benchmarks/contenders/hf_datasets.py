"""Hugging Face datasets: a table of recordings, mapped by two processes with librosa, written as Parquet.

python -m benchmarks.contenders.hf_datasets CORPUS OUT [PROCESSES]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")
import librosa
import numpy as np
from datasets import Dataset

from benchmarks.contenders.pydub_librosa import row
from benchmarks.work import RATE_HZ, Outcome, is_loud, label_of, recordings, windows


def clips_of(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
    rows = []
    for path in map(Path, batch["path"]):
        y, _ = librosa.load(path, sr=RATE_HZ, mono=True, res_type="soxr_hq")
        pcm = np.clip(np.rint(y * 32768), -32768, 32767).astype(np.int16)
        for start, stop in windows(len(pcm)):
            if is_loud(pcm[start:stop]):
                rows.append(row(path.name, start, label_of(path), pcm[start:stop]))
    names = ("clip_id", "recording", "start_s", "label", "audio", "log_mel", "mfcc")
    return {name: [r[name] for r in rows] for name in names}


def run(corpus: Path, out: Path, processes: int) -> Outcome:
    out.mkdir(parents=True)
    row("warm-up", 0, "", np.zeros(RATE_HZ, np.int16))  # numba compiles on the first call; the processes are forks
    started = time.perf_counter()
    table = Dataset.from_dict({"path": [str(p) for p in recordings(corpus)]})
    mapped = table.map(clips_of, batched=True, batch_size=8, num_proc=processes, remove_columns=["path"])
    n = len(mapped)
    for i in range(processes):
        mapped.shard(processes, i, contiguous=True).to_parquet(out / f"{i}.parquet")
    return Outcome("datasets + librosa", n, time.perf_counter() - started)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 2).tell()
