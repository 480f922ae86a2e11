"""Kill builds wherever it could hurt, and compare what the next build makes of it with an undisturbed one.

    python tests/crash_matrix.py                  at every commit point, without Ray (about two minutes)
    python tests/crash_matrix.py --full           the same on Ray, at 30 random moments, and workers and nodes killed (half an hour)

A dataset has a published snapshot. Its inputs change and a build is killed while it makes the second one. Then: the first
snapshot verifies and its files are untouched; one more build publishes; every file of the new snapshot has the sha256 that an
undisturbed build gives it; nothing temporary is left. Prints one row for each kind of moment.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import soundfile as sf
import yaml

TOP = Path(__file__).parents[1]
FILES_OF = {
    "commit record": r"commits/[0-9a-f]{64}\.json",
    "part of the manifest": r"commits/.*\.manifest\.parquet",
    "recordings of a shard": r"commits/.*\.recordings\.parquet",
    "shard, Parquet": r"shards/.*\.parquet",
    "shard, tar": r"shards/.*\.tar",
    "snapshot": r"snapshots/\d+\.json",
    "part of the index": r"index/.*",
    "what annotation files gave": r"annotations/.*",
    "manifest": r"snapshots/\d+/manifest\.parquet",
    "rejections": r"snapshots/\d+/rejections\.parquet",
    "note of the build": r"builds/.*",
    "dataset.json": r"dataset\.json",
}
_HOOK = """
import sys, os
if os.environ.get("CRASH_ROOT"):
    root, seen = os.environ["CRASH_ROOT"] + os.sep, os.environ["CRASH_SEEN"]
    driver = int(os.environ.setdefault("CRASH_DRIVER", str(os.getpid())))  # the first process; others inherit it
    def at(phase, target):
        target = os.fspath(target)
        if not target.startswith(root):
            return
        fd = os.open(seen, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{phase} {target[len(root):]}\\n".encode())
        number = len(open(seen).readlines()) - 1
        if number >= int(os.environ.get("CRASH_AT", 1 << 30)):
            os.kill(driver, 9)
            if driver != os.getpid():
                os.kill(os.getpid(), 9)
    def watched(original, place):
        def call(*arguments, **more):
            at("before", arguments[place])
            result = original(*arguments, **more)
            at("after", arguments[place])
            return result
        return call
    os.replace, os.link = watched(os.replace, 1), watched(os.link, 1)
"""


@dataclass
class Row:
    """What came of the kills at one kind of moment."""

    kills: int = 0
    too_late: int = 0
    differing: int = 0
    problems: list[str] = field(default_factory=list)


def lay_corpus(folder: Path) -> None:
    for i in range(10):
        write(folder / f"r{i}.wav", i)


def change_corpus(folder: Path) -> None:
    """Add one recording, change one, remove one."""
    write(folder / "new.wav", 100)
    write(folder / "r1.wav", 101)
    (folder / "r2.wav").unlink()
    (folder / "broken.wav").write_bytes(b"no audio at all")


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    y = 0.1 * np.random.default_rng(seed).standard_normal((44100, 2))
    sf.write(path, y, 44100)


def lay_config(place: Path, root: Path, features: bool) -> Path:
    config = {
        "name": "matrix",
        "sources": [{"name": "s", "root": str(place / "in"), "segment": {"mode": "window", "length_s": 0.5}, "bytes_per_second": 176400}],
        "features": {"log_mel": {"n_fft": 512, "n_mels": 40}} if features else {},
        "output": {"root": str(root), "formats": ["parquet", "webdataset"], "shard_seconds": 4},
        "limits": {"max_rejected_share": 0.5},
    }  # fmt: skip
    path = place / f"{root.name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def files_of(root: Path, number: int) -> dict[str, str]:
    """Return the sha256 of everything that a snapshot consists of, but for its own file, which bears the time."""
    snapshot = json.loads((root / f"snapshots/{number:06d}.json").read_text())
    paths = [root / f"snapshots/{number:06d}/{name}.parquet" for name in ("manifest", "rejections")]
    for key in snapshot["commits"]:
        commit = json.loads((root / f"commits/{key}.json").read_text())
        paths += [root / f"commits/{key}.json", *(root / output["path"] for output in commit["outputs"])]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


class Matrix:
    """A dataset with one snapshot, inputs that have changed since, and what an undisturbed build makes of them."""

    def __init__(self, place: Path, workers: int | None = None) -> None:
        self.place, self.workers = place, workers
        lay_corpus(place / "in")
        (place / "hook").mkdir()
        (place / "hook/sitecustomize.py").write_text(_HOOK)
        self.base, self.root, calm = place / "base", place / "root", place / "calm"
        self.config = lay_config(place, self.root, workers is not None)
        self.build(self.config)
        self.first = files_of(self.root, 1)
        shutil.move(self.root, self.base)
        change_corpus(place / "in")
        shutil.copytree(self.base, calm)
        self.build(lay_config(place, calm, workers is not None))
        self.wanted = files_of(calm, 2)
        self.rows: dict[str, Row] = {}

    def command(self, config: Path) -> list[str]:
        given = [] if self.workers is None else ["--workers", str(self.workers)]
        return [sys.executable, "-m", "clipmill", "build", str(config), *given]

    def environment(self, **more: str) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CRASH_") and k != "RAY_ADDRESS"}
        return {**clean, "PYTHONPATH": os.pathsep.join([str(self.place / "hook"), str(TOP)]), **more}

    def start(self, **more: str) -> subprocess.Popen[bytes]:
        """Begin a build of a fresh copy of the dataset, in a session of its own."""
        self.fresh()
        return subprocess.Popen(
            self.command(self.config), env=self.environment(**more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def build(self, config: Path, **more: str) -> None:
        """Build undisturbed: in this process if it is not watched and needs no Ray, which takes less time."""
        if self.workers is None and not more:
            from clipmill.pipelines.run.build import build

            report = build(str(config), quiet=True)
            if report.exit_code != 0:
                raise AssertionError(f"a build that nobody killed failed: {report}")
            return
        done = subprocess.run(self.command(config), env=self.environment(**more), capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(f"a build that nobody killed failed: {done.stderr[-2000:]}")

    def fresh(self) -> Path:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.base, self.root)
        return self.root

    def points(self) -> list[str]:
        """Return what an undisturbed build does, in order: ``before`` or ``after`` and the path."""
        seen = self.place / "seen"
        seen.unlink(missing_ok=True)
        self.fresh()
        self.build(self.config, CRASH_ROOT=str(self.root), CRASH_SEEN=str(seen))
        return seen.read_text().splitlines()

    def kill_at(self, number: int) -> None:
        """Kill a build at its n-th commit point."""
        seen = self.place / "seen"
        seen.unlink(missing_ok=True)
        process = self.start(CRASH_ROOT=str(self.root), CRASH_SEEN=str(seen), CRASH_AT=str(number))
        killed = process.wait() == -signal.SIGKILL
        end_session(process.pid)
        points = seen.read_text().splitlines()
        phase, path = points[min(number, len(points) - 1)].split(" ", 1)
        kind = next(name for name, pattern in FILES_OF.items() if re.fullmatch(pattern, path))
        self.judge(f"{phase} {kind}", killed)

    def judge(self, kind: str, killed: bool) -> None:
        row = self.rows.setdefault(kind, Row())
        row.kills += 1
        row.too_late += not killed
        problems = []
        now = files_of(self.root, 1)
        if now != self.first:
            problems.append("the first snapshot's files changed")
        problems += self.verify(1)
        numbers = sorted(p.stem for p in (self.root / "snapshots").glob("[0-9]*.json"))
        if numbers != ["000001"] and numbers != ["000001", "000002"]:
            problems.append(f"snapshots {numbers}")
        self.build(self.config)
        found = files_of(self.root, 2)
        row.differing += sum(found.get(path) != sha for path, sha in self.wanted.items()) + len(
            found.keys() - self.wanted.keys()
        )
        problems += self.verify(2)
        if left := [str(p) for p in self.root.rglob(".clipmill-tmp-*")]:
            problems.append(f"left behind: {left}")
        row.problems += problems

    def verify(self, number: int) -> list[str]:
        from clipmill.pipelines.dataset.verify import verify
        from clipmill.stages.storage.root import Root

        *_, verdict = verify(Root(str(self.root)), number)
        return verdict.problems

    def table(self) -> str:
        lines = [f"{'killed':<40}{'kills':>7}{'too late':>10}{'differing files':>17}{'problems':>10}"]
        for kind, row in sorted(self.rows.items()):
            lines.append(f"{kind:<40}{row.kills:>7}{row.too_late:>10}{row.differing:>17}{len(row.problems):>10}")
            lines += [f"    {problem}" for problem in row.problems]
        total = [sum(getattr(r, n) for r in self.rows.values()) for n in ("kills", "too_late", "differing")]
        lines.append(
            f"{'all':<40}{total[0]:>7}{total[1]:>10}{total[2]:>17}{sum(len(r.problems) for r in self.rows.values()):>10}"
        )
        return "\n".join(lines)

    @property
    def is_clean(self) -> bool:
        return not any(r.differing or r.problems for r in self.rows.values())

    def random_moments(self, n: int, seconds: float, seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(n):
            process = self.start()
            try:
                process.wait(draw.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                process.kill()
            killed = process.wait() == -signal.SIGKILL
            end_session(process.pid)
            self.judge("the driver, at a random moment", killed)

    def workers_killed(self, n: int, seed: int) -> None:
        """Kill a Ray worker that is at work; the build itself must end well."""
        draw = random.Random(seed)
        for _ in range(n):
            process = self.start()
            hit = wait_for(lambda p=process: at_work(p.pid), process)
            if hit:
                time.sleep(draw.uniform(0, 0.3))
                victims = at_work(process.pid)
                for victim in victims[:1]:
                    victim.kill()
            _, errors = process.communicate(timeout=120)
            if process.returncode != 0:
                self.rows.setdefault("a worker", Row()).problems.append(errors.decode()[-500:])
            end_session(process.pid)
            self.judge("a worker, the build goes on", hit)


def at_work(driver: int) -> list[psutil.Process]:
    """Return the Ray workers of a build that run a task of Ray Data."""
    found = []
    for process in psutil.process_iter(["pid", "name", "cmdline"]):
        if "ray::Map" in " ".join(process.info["cmdline"] or []):
            try:
                if os.getsid(process.pid) == driver:
                    found.append(process)
            except ProcessLookupError:
                continue
    return found


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if condition():
            return True
        time.sleep(0.005)
    return False


def end_session(leader: int) -> None:
    """End the processes that a killed build leaves behind, by the session that it was started in."""
    for process in psutil.process_iter(["pid"]):
        try:
            if os.getsid(process.pid) == leader and process.pid != os.getpid():
                process.kill()
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--random", type=int, default=30)
    parser.add_argument("--every", type=int, default=1, help="only every n-th commit point")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clipmill-matrix-") as place:
        matrix = Matrix(Path(place), workers=2 if options.full else None)
        points = matrix.points()
        for number in range(options.seed % options.every, len(points), options.every):
            matrix.kill_at(number)
        if options.full:
            started = time.monotonic()
            matrix.fresh()
            matrix.build(matrix.config)
            matrix.random_moments(options.random, time.monotonic() - started, options.seed)
            matrix.workers_killed(5, options.seed)
        print(matrix.table())
    sys.exit(0 if matrix.is_clean else 1)


if __name__ == "__main__":
    main()
