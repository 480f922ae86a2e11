"""What it gives to decode only what is annotated: a corpus of which a tenth is annotated, beside decoding all of it.

    python -m benchmarks.sparse [--hours 1] [--rounds 3]

Both sides run on one core, in one process: the kernels of `benchmarks.contenders.kernels`, which decode, mix and resample whole
recordings and then cut the annotated windows out, and clipmill's stages, which seek. What comes
after the clips is the same work for both, and takes the larger part where it is a tenth of the audio. Their clips are counted and compared.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

import torch

from benchmarks import stages
from benchmarks.bench import compared, spread
from benchmarks.contenders import kernels
from benchmarks.contenders.clipmill_build import configured
from benchmarks.corpus import EVENT_S, make_corpus
from benchmarks.work import source_seconds

ANNOTATED = 0.1
_MEAN_S = 120.0  # every recording has an event, and a short one would be annotated to a larger part
SIDECAR = 'annotations: {sidecar: "{stem}.csv", header: false, columns: {start: 0, end: 1, salience: 2, label: 3}}'


_KERNELS = ("decode", "mix", "resample", "cut, gate")
_STAGES = ("decode", "downmix", "resample", "segment", "gate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    o = parser.parse_args()
    torch.set_num_threads(1)
    per_minute = ANNOTATED * 60 / EVENT_S
    print(f"{'':<26}{'decoding all, s':>22}{'what is annotated, s':>24}{'x realtime':>12}{'faster by':>20}")
    for kind in ("wav", "flac"):
        with tempfile.TemporaryDirectory(prefix="clipmill-bench-") as folder:
            place = Path(folder)
            make_corpus(place, o.hours, kinds=kind, events_per_minute=per_minute, mean_s=_MEAN_S)
            source_s = source_seconds(place)
            theirs: list[tuple[float, float]] = []
            ours: list[tuple[float, float]] = []
            for _ in range(o.rounds):
                outcome = kernels.run(place, place / "kernels", annotated=True)
                theirs.append((sum(outcome.stages[s] for s in _KERNELS), outcome.work_s))
                outcome = stages.run(
                    configured(place, place / "clipmill").replace("    label: {from: folder}\n", f"    {SIDECAR}\n")
                )
                ours.append((sum(outcome.stages[s] for s in _STAGES), outcome.work_s))
                agreement = compared(place / "kernels", place / "clipmill")
                for name in ("kernels", "clipmill"):
                    shutil.rmtree(place / name)
            for i, what in enumerate(("to 16-bit clips", "with features and files")):
                a, b = [t[i] for t in theirs], [t[i] for t in ours]
                faster = spread([x / y for x, y in zip(a, b, strict=True)])
                speed = source_s / statistics.median(b)
                print(f"{kind + ' ' + what:<26}{spread(a):>22}{spread(b):>24}{speed:>12,.0f}{faster:>20}", flush=True)
            print(f"{'':<26}{agreement}")


if __name__ == "__main__":
    main()
