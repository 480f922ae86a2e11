"""What a night costs: a large corpus built once, then again with nothing changed, one recording changed, one row changed.

    python -m benchmarks.rebuild [--recordings 100000] [--keep FOLDER]

Makes that many WAV files of 0.1 s, each with a sidecar of one row, and runs `clipmill build` on them as a user would. Prints wall
time, the build's own account of it, and the largest resident memory of the driver process.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CONFIG = """
name: nightly
sources:
  - name: s
    root: {corpus}
    annotations: {{sidecar: "{{stem}}.csv", header: false, columns: {{start: 0, end: 1, label: 2}}}}
    segment: {{mode: annotation}}
audio: {{sample_rate_hz: 8000}}
output: {{root: {out}, shard_seconds: 600}}
"""


def wav(seed: int) -> bytes:
    y = (3000 * np.sin(np.arange(800) * (0.1 + seed % 997 / 2000))).astype("<i2").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(y), b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    return head + struct.pack("<4sI", b"data", len(y)) + y


def make_corpus(folder: Path, n: int) -> None:
    for i in range(n):
        place = folder / f"{i % 200:03d}"
        if i < 200:
            place.mkdir(parents=True)
        add(place / f"{i:07d}.wav", i)


def add(path: Path, seed: int) -> None:
    path.write_bytes(wav(seed))
    path.with_suffix(".csv").write_text(f"0.0,0.1,{'dog' if seed % 3 else 'cat'}\n")


def build(config: Path) -> tuple[float, float, dict[str, Any]]:
    """Run a build; return wall seconds, the driver's peak memory in MB, and its report."""
    started = time.perf_counter()
    code = (
        "import json, resource, sys; from clipmill.pipelines.run.build import build; from clipmill.pipelines.config_file import load;"
        "report = build(load(sys.argv[1]), quiet=True).to_dict();"
        "print(json.dumps({**report, 'rss_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(config)], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout.splitlines()[-1])
    return time.perf_counter() - started, report["rss_mb"], report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="where to make it, and leave it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        corpus = place / "corpus"
        if not corpus.exists():
            make_corpus(corpus, options.recordings)
        config = place / "nightly.yaml"
        config.write_text(CONFIG.format(corpus=corpus, out=place / "out"))
        some = sorted((corpus / "007").glob("*.wav"))
        steps: dict[str, Callable[[], object]] = {
            f"first build of {options.recordings:,} recordings": lambda: None,
            "nothing changed": lambda: None,
            "one recording changed": lambda: some[0].write_bytes(wav(time.time_ns())),
            "one recording added": lambda: add(corpus / "000" / f"new{time.time_ns()}.wav", 5),
            "one annotation row edited": lambda: some[1].with_suffix(".csv").write_text("0.0,0.09,wolf\n"),
            "one recording removed": lambda: (some[2].unlink(), some[2].with_suffix(".csv").unlink()),
            "nothing changed again": lambda: None,
        }
        print(f"{'build':<42}{'wall s':>8}{'plan s':>8}{'built':>7}{'reused':>8}{'driver MB':>11}  status")
        for name, change in steps.items():
            change()
            wall, rss, report = build(config)
            print(
                f"{name:<42}{wall:>8.1f}{report['plan_s']:>8.1f}{report['shards_built']:>7}{report['shards_reused']:>8}{rss:>11,.0f}"
                f"  {report['status']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
