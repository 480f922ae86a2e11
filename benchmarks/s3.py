"""The same build from a local disk and from an S3 store, in turns; and how long a listing takes.

    S3_ENDPOINT_URL=... python -m benchmarks.s3 [--hours 0.5] [--rounds 3] [--corpus FOLDER] [--objects 0]

Needs a server and credentials in the environment; makes a bucket and removes it. A server on the same machine takes its share of the
same cores, which the ratios include.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.contenders.clipmill_build import configured
from benchmarks.corpus import make_corpus
from benchmarks.work import source_seconds
from clipmill.stages.storage.root import Root

TOP = Path(__file__).parents[1]
_PROGRAM = (
    "import sys\nfrom clipmill.pipelines.run.build import build\nfrom clipmill.pipelines.config_file import loads\n"
    "r = build(loads(sys.stdin.read()), workers=int(sys.argv[1]), quiet=True)\n"
    "assert r.status == 'published', r\nprint(r.wall_s - r.startup_s, r.snapshot.counts.clips_kept)"
)


def work_s(config: str) -> tuple[float, int]:
    """Build in a process of its own; return the seconds of work and the clips."""
    command = [sys.executable, "-c", _PROGRAM, str(len(os.sched_getaffinity(0)))]
    done = subprocess.run(command, input=config, capture_output=True, text=True, cwd=TOP, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the build failed: {done.stderr[-2000:]}")
    seconds, clips = done.stdout.split()[-2:]
    return float(seconds), int(clips)


def listing(root: Root, n: int) -> str:
    """Make so many small objects; return how long it takes to list them."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: root.write_bytes(f"many/{i:06}.wav", b"x"), range(n)))
    started = time.perf_counter()
    found = sum(1 for _ in root.remote_files("many"))
    return f"listing {found:,} objects: {time.perf_counter() - started:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--objects", type=int, default=0, help="how many to list")
    o = parser.parse_args()
    endpoint = os.environ.get("S3_ENDPOINT_URL")
    if not endpoint:
        raise SystemExit("set S3_ENDPOINT_URL, and AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    bucket = f"clipmill-bench-{uuid.uuid4().hex[:8]}"
    options = f"storage_options: {{endpoint_url: '{endpoint}'}}"
    there = Root(f"s3://{bucket}", {"endpoint_url": endpoint})
    there.fs.mkdir(bucket)
    with tempfile.TemporaryDirectory(prefix="clipmill-bench-") as folder:
        place = Path(folder)
        corpus = o.corpus or place / "corpus"
        if o.corpus is None:
            make_corpus(corpus, o.hours)
        for path in sorted((corpus / "data").rglob("*.*")):
            there.write_bytes(f"data/{path.relative_to(corpus / 'data')}", path.read_bytes())
        source_s = source_seconds(corpus)
        local = configured(corpus, place / "out")
        from_s3 = local.replace(f"root: {corpus / 'data'}", f"root: s3://{bucket}/data\n    {options}")
        ways = {
            "disk to disk": local,
            "S3 to disk": from_s3,
            "S3 to S3": from_s3.replace(f"root: {place / 'out'}", f"root: 's3://{bucket}/out', {options}"),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(o.rounds):
            counts = set()
            for way, config in ways.items():
                took, clips = work_s(config)
                seconds[way].append(took)
                counts.add(clips)
                shutil.rmtree(place / "out", ignore_errors=True)
                for name in there.sizes("out"):
                    there.remove(name)
            if len(counts) != 1:
                raise SystemExit(f"the ways gave different numbers of clips: {counts}")
        print(
            f"{source_s:,.0f} s of audio, {o.rounds} rounds in turns\n{'':<16}{'work s':>9}{'x realtime':>13}   of disk to disk"
        )
        for way, took in seconds.items():
            ratios = [a / b for a, b in zip(seconds["disk to disk"], took, strict=True)]
            told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            print(f"{way:<16}{statistics.median(took):>9.1f}{source_s / statistics.median(took):>13,.0f}   {told}")
        if o.objects:
            print(listing(there, o.objects))
    there.fs.rm(bucket, recursive=True)


if __name__ == "__main__":
    main()
