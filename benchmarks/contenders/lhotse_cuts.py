"""lhotse: recordings and supervisions as manifests, a cut of each, decoded and resampled by lhotse in two jobs.

    python -m benchmarks.contenders.lhotse_cuts CORPUS OUT [JOBS]

lhotse has no extractor for librosa's MFCC: librosa computes both features, as for the others. A cut is loaded in one
piece and divided into windows as an array, since `cut_into_windows` would decode every window by itself.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
import numpy as np
import pandas as pd
from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from benchmarks.contenders.pydub_librosa import row
from benchmarks.work import RATE_HZ, Outcome, is_loud, label_of, recordings, windows


def manifests(corpus: Path) -> CutSet:
    paths = recordings(corpus)
    found = RecordingSet.from_recordings(Recording.from_file(p, recording_id=p.name) for p in paths)
    lengths = {r.id: r.duration for r in found}
    supervisions = SupervisionSet.from_segments(
        SupervisionSegment(p.name, p.name, 0.0, lengths[p.name], text=label_of(p)) for p in paths
    )
    return CutSet.from_manifests(recordings=found, supervisions=supervisions)


def job(cuts: CutSet, out: Path) -> int:
    rows = []
    for cut in cuts:
        y = cut.resample(RATE_HZ).load_audio().mean(axis=0)
        pcm = np.clip(np.rint(y * 32768), -32768, 32767).astype(np.int16)
        label = cut.supervisions[0].text or ""
        for start, stop in windows(len(pcm)):
            if is_loud(pcm[start:stop]):
                rows.append(row(cut.recording_id, start, label, pcm[start:stop]))
    pd.DataFrame(rows).to_parquet(out, compression="zstd")
    return len(rows)


def run(corpus: Path, out: Path, jobs: int) -> Outcome:
    out.mkdir(parents=True)
    row("warm-up", 0, "", np.zeros(RATE_HZ, np.int16))  # numba compiles on the first call; the jobs are forks
    started = time.perf_counter()
    parts = manifests(corpus).to_eager().split(jobs, shuffle=True)
    with ProcessPoolExecutor(jobs) as pool:
        clips = sum(pool.map(job, parts, [out / f"{i}.parquet" for i in range(jobs)]))
    return Outcome("lhotse + librosa", clips, time.perf_counter() - started)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 2).tell()
