"""clipmill against the kernels alone and against what the field uses: one corpus, the same work, in turns.

    make bench                                    one hour of audio, three rounds (about six minutes)
    python -m benchmarks.bench --hours 10         the same on ten hours
    python -m benchmarks.bench --corpus FOLDER    on a corpus that is there, laid out as `benchmarks.corpus` does it

Each contender is a process of its own, with as many workers as there are cores where it can use them. The floor is what the
kernels do on one core, times the cores. How near two processes come to that where cores share caches and memory, `kernels, 2 at once` shows:
so many on the same corpus, the time by their number. Ratios are taken within a round; the table gives median, least and greatest.
What was written is read back and compared with what the kernels wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.corpus import make_corpus
from benchmarks.work import Outcome, read_output, source_seconds

TOP = Path(__file__).parents[1]
CONTENDERS = {
    "kernels": ("kernels",),
    "clipmill": ("clipmill_build",),
    "datasets + librosa": ("hf_datasets",),
    "lhotse + librosa": ("lhotse_cuts",),
    "pydub + librosa": ("pydub_librosa",),
    "the same, as written": ("pydub_librosa", "--twice"),
}
"""By the name of the row: the module under benchmarks.contenders, and what it is told beside corpus, output and cores."""
_ALONE = ("kernels", "pydub_librosa")
_PICTURES = {"plain": 300, "axes": 60}


@dataclass
class Contender:
    """name : of the row; told : see CONTENDERS; agreement : how its output compares, in words."""

    name: str
    told: tuple[str, ...]
    outcomes: list[Outcome] = field(default_factory=list)
    agreement: str = ""

    def run(self, corpus: Path, out: Path, cores: int, *more: str) -> None:
        self.outcomes.append(self.end(self.begin(corpus, out, cores, *more)))

    def run_at_once(self, corpus: Path, place: Path, n: int) -> None:
        """Run n times the same at once; the outcome is one n-th of the slowest."""
        started = [self.begin(corpus, place / f"at-once-{i}", n) for i in range(n)]
        ended = [self.end(process) for process in started]
        for i in range(n):
            shutil.rmtree(place / f"at-once-{i}")
        self.outcomes.append(Outcome(self.name, ended[0].clips, max(o.work_s for o in ended) / n))

    def begin(self, corpus: Path, out: Path, cores: int, *more: str) -> subprocess.Popen[str]:
        module, *told = self.told
        command = [sys.executable, "-m", f"benchmarks.contenders.{module}", str(corpus), str(out)]
        if module not in _ALONE:
            command.append(str(cores))
        command += (*told, *more)
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | one_thread
        return subprocess.Popen(command, cwd=TOP, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self, process: subprocess.Popen[str]) -> Outcome:
        said, errors = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"{self.name} failed: {errors[-2000:]}")
        return Outcome(**json.loads(said.strip().splitlines()[-1]))


def compared(reference: Path, other: Path) -> str:
    """Return how another contender's clips and features differ from the kernels'."""
    wanted, found = read_output(reference), read_output(other)
    both = sorted(wanted.keys() & found.keys())
    if not both:
        raise SystemExit(f"{other}: no clip in common with the kernels'")
    differences = [np.abs(wanted[k][0] - found[k][0]).max() for k in both if wanted[k][0].shape == found[k][0].shape]
    text = f"{len(both):,} clips in common"
    if missing := len(wanted) - len(both):
        text += f", {missing:,} lacking"
    if more := len(found) - len(both):
        text += f", {more:,} more"
    return text + f"; log-mel differs by {np.median(differences):.2g} dB (median of the clips' largest)"


def spread(values: list[float], digits: int = 2) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def table(contenders: list[Contender], at_once: Contender, source_s: float, cores: int) -> str:
    floor_s = [o.work_s / cores for o in contenders[0].outcomes]
    ours = next((c for c in contenders if c.name == "clipmill"), None)
    lines = [
        f"{'':<22}{'clips':>9}{'start s':>9}{'work s':>9}{'x realtime':>24}{'of the floor':>22}{'clipmill is faster by':>24}"
    ]
    together = [o.work_s for o in at_once.outcomes]
    rows = [
        ("floor", contenders[0], floor_s),
        (at_once.name, at_once, together),
        *((c.name, c, [o.work_s for o in c.outcomes]) for c in contenders),
    ]
    for name, contender, work_s in rows:
        start_s = statistics.median(o.startup_s for o in contender.outcomes)
        speed = spread([source_s / s for s in work_s], 0)
        share = spread([f / s for f, s in zip(floor_s, work_s, strict=True)])
        faster = ""
        if ours is not None and name not in ("clipmill", "floor"):
            faster = spread([s / o.work_s for s, o in zip(work_s, ours.outcomes, strict=True)])
        label = {"floor": f"floor: kernels x {cores}", "kernels": "kernels, one core"}.get(name, name)
        clips = contender.outcomes[0].clips
        lines.append(
            f"{label:<22}{clips:>9,}{start_s:>9.1f}{statistics.median(work_s):>9.1f}{speed:>24}{share:>22}{faster:>24}"
        )
    return "\n".join(lines)


def stages(kernels: Contender, source_s: float) -> str:
    lines = [f"{'kernels, one core':<22}{'s':>9}{'x realtime':>14}"]
    for stage in kernels.outcomes[0].stages:
        seconds = statistics.median(o.stages[stage] for o in kernels.outcomes)
        lines.append(f"{stage:<22}{seconds:>9.2f}{source_s / seconds:>14,.0f}")
    return "\n".join(lines)


def pictures(corpus: Path, place: Path, cores: int, rounds: int) -> str:
    """Return how fast clips come with a picture of each, beside the usual ways; those make only the first clips."""
    ours = Contender("clipmill", CONTENDERS["clipmill"])
    usual = {way: Contender(f"matplotlib, {way}", CONTENDERS["pydub + librosa"]) for way in _PICTURES}
    for _ in range(rounds):
        out = place / "pictures"
        ours.run(corpus, out, cores, "--pictures")
        shutil.rmtree(out)
        for way, n in _PICTURES.items():
            usual[way].run(corpus, out, cores, "--pictures", way, str(n))
            shutil.rmtree(out)
    lines = [f"{'with a picture of each':<26}{'clips a second':>24}{'clipmill is faster by':>26}"]
    speeds = [o.clips / o.work_s for o in ours.outcomes]
    lines.append(f"{ours.name:<26}{spread(speeds, 0):>24}")
    for contender in usual.values():
        theirs = [o.clips / o.work_s for o in contender.outcomes]
        ratio = spread([a / b for a, b in zip(speeds, theirs, strict=True)], 1)
        lines.append(f"{contender.name:<26}{spread(theirs, 1):>24}{ratio:>26}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0, help="of the corpus to make")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--corpus", type=Path, help="use this one")
    parser.add_argument("--only", help="contenders beside kernels and clipmill, by comma; default: all")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    o = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    names = [
        n
        for n in CONTENDERS
        if o.only is None or n in ("kernels", "clipmill") or any(w in n.split() for w in o.only.split(","))
    ]
    contenders = [Contender(n, CONTENDERS[n]) for n in names]
    with tempfile.TemporaryDirectory(prefix="clipmill-bench-") as place:
        corpus = o.corpus or Path(place) / "corpus"
        if o.corpus is None:
            make_corpus(corpus, o.hours)
        source_s = source_seconds(corpus)
        print(
            f"{source_s:,.0f} s of audio, {cores} cores, Python {platform.python_version()}, {o.rounds} rounds in turns",
            flush=True,
        )
        at_once = Contender(f"kernels, {cores} at once", CONTENDERS["kernels"])
        for number in range(o.rounds):
            at_once.run_at_once(corpus, Path(place), cores)
            for contender in contenders:
                out = Path(place) / contender.told[0]
                contender.run(corpus, out, cores)
                if number == 0 and contender is not contenders[0]:
                    contender.agreement = compared(Path(place) / contenders[0].told[0], out)
                if number > 0 or contender is not contenders[0]:
                    shutil.rmtree(out)
            if number == 0:
                shutil.rmtree(Path(place) / contenders[0].told[0])
        drawn = pictures(corpus, Path(place), cores, o.rounds) if o.only is None else ""
    print(
        f"\n{table(contenders, at_once, source_s, cores)}\n\n{stages(contenders[0], source_s)}\n\nagainst what the kernels wrote:"
    )
    for contender in contenders[1:]:
        print(f"{contender.name:<22}{contender.agreement}")
    print(f"\n{drawn}")
    if o.json is not None:
        o.json.write_text(json.dumps({c.name: [vars(x) for x in c.outcomes] for c in contenders}, indent=1))


if __name__ == "__main__":
    main()
