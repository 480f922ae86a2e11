"""Kill the S3 gateway or the build at random moments until the build is complete; compare with an undisturbed local build.

    CLIPMILL_S3_SERVER=... S3_ENDPOINT_URL=... python tests/s3_matrix.py [--rounds 12] [--seed 0]

Recordings and dataset are both in the store. In each round either the gateway is killed and restarted, or the build is killed with all
its processes, up to four times; then a build runs to its end. Every shard must have the sha256 that it has on a local disk, `verify`
must find nothing, and no unfinished upload may remain. Prints one row per round.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import yaml
from conftest import kill_tree, remote_hashes, shard_hashes, tone, upload_source, write_audio

from clipmill.pipelines.dataset.records_io import committed_keys
from clipmill.pipelines.dataset.verify import verify
from clipmill.stages.storage.root import Root

ENDPOINT = os.environ.get("S3_ENDPOINT_URL", "")
SERVER = os.environ.get("CLIPMILL_S3_SERVER", "")
OUTPUT = {"formats": ["parquet", "webdataset"], "shard_seconds": 4}


def begin(config: Path) -> subprocess.Popen[str]:
    """Start a build on the command line."""
    command = [sys.executable, "-m", "clipmill", "build", str(config), "--workers", "2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def disturb(kind: str, config: Path, chance: random.Random) -> tuple[list[float], int]:
    """Build under disturbances; return the time of each in seconds, and the number of builds until one exited with 0."""
    moments: list[float] = []
    for builds in range(1, 20):
        process, begun = begin(config), time.monotonic()
        while process.poll() is None and len(moments) < 4:
            wait_s = chance.uniform(3, 14)
            try:
                process.wait(wait_s)
            except subprocess.TimeoutExpired:
                moments.append(time.monotonic() - begun)
                if kind == "build":
                    kill_tree(process)
                else:
                    subprocess.run([SERVER, "kill9", "rgw"], check=True, capture_output=True, timeout=60)
                    time.sleep(chance.uniform(0, 6))
                    subprocess.run([SERVER, "start"], check=True, capture_output=True, timeout=120)
        output_text, _ = process.communicate(timeout=400)
        if "Traceback" in (output_text or ""):
            raise SystemExit(f"a traceback:\n{output_text}")
        if process.returncode == 0:
            return moments, builds
    raise SystemExit("no build finished")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    o = parser.parse_args()
    if not ENDPOINT or not SERVER:
        raise SystemExit("set CLIPMILL_S3_SERVER to the tool that starts and kills the server, and S3_ENDPOINT_URL")
    chance = random.Random(o.seed)
    options = {"endpoint_url": ENDPOINT}
    bucket = f"clipmill-matrix-{uuid.uuid4().hex[:8]}"
    top = Root(f"s3://{bucket}", options)
    top.fs.mkdir(bucket)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="clipmill-matrix-") as folder:
        place = Path(folder)
        for i in range(60):
            write_audio(place / f"in/r{i:02}.wav", tone(8.0, 44100, 2, seed=i), 44100)
        local_source = {
            "root": str(place / "in"),
            "name": "s",
            "segment": {"mode": "window", "length_s": 0.5},
            "bytes_per_second": 176400,
        }
        remote_source = upload_source(local_source, bucket, ENDPOINT)

        def config(output: dict[str, object]) -> Path:
            path = place / "config.yaml"
            content = {
                "name": "matrix",
                "sources": [remote_source],
                "features": {"log_mel": {}},
                "output": {**output, **OUTPUT},
            }
            path.write_text(yaml.safe_dump(content))
            return path

        undisturbed = begin(config({"root": str(place / "out")}))
        output_text, _ = undisturbed.communicate()
        if undisturbed.returncode != 0:
            raise SystemExit(output_text)
        expected = shard_hashes(place / "out")
        print(
            f"{'round':<7}{'killed':<10}{'after s':<34}{'builds':>7}{'shards':>8}{'differ':>8}{'problems':>10}{'left over':>11}"
        )
        for n in range(o.rounds):
            kind = ("gateway", "build")[n % 2]
            out = Root(f"{top.url}/out{n}", options)
            moments, builds = disturb(kind, config({"root": out.url, "storage_options": options}), chance)
            hashes = remote_hashes(out)
            differ = sum(hashes.get(name) != expected.get(name) for name in {*hashes, *expected})
            *_, verdict = verify(out)
            problems = len(verdict.problems)
            left = len(out.leftovers())
            bad += differ + problems + left
            after = ", ".join(f"{m:.1f}" for m in moments)
            row = f"{n:<7}{kind:<10}{after:<34}{builds:>7}{len(committed_keys(out)):>8}{differ:>8}{problems:>10}{left:>11}"
            print(row, flush=True)
    top.fs.rm(bucket, recursive=True)
    print("all results equal those of the undisturbed build" if not bad else f"{bad} differences")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
