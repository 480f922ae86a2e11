"""What a night costs with many shards: an unchanged one, one changed recording, opening, gc, status, show.

    python -m benchmarks.scale [--shards 1000 10000 100000] [--clips 1] [--keep FOLDER]

Each shard holds one recording of a corpus of tiny files. What the workers would do is not measured, so the shards are written by the
stage `Write` itself from the clips of one real recording; everything else is what users run, each in a process of its own. Times are
also given as multiples of what listing the same tree costs: `os.scandir` and `os.stat` of each of its files.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile as sf
import yaml

RATE = 8000
FOLDER = 1000


def make_corpus(place: Path, n: int) -> None:
    """Write n recordings of 50 ms, 1,000 in a folder."""
    y = (0.1 * np.random.default_rng(0).standard_normal(RATE // 20)).astype("float32")
    for i in range(n):
        folder = place / f"{i // FOLDER:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        if not i:
            sf.write(folder / "r0000000.wav", y, RATE)
            content = (folder / "r0000000.wav").read_bytes()
        (folder / f"r{i:07d}.wav").write_bytes(content)


def configuration(place: Path) -> Path:
    """Write a configuration by which each recording is a shard."""
    plain = {
        "name": "scale",
        "sources": [{"name": "s", "root": str(place / "in"), "label": "a", "bytes_per_second": 800}],
        "audio": {"sample_rate_hz": RATE},
        "features": {"log_mel": {"n_mels": 40}},
        "output": {"root": str(place / "out"), "shard_seconds": 1},
    }
    path = place / "scale.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def commit_all(config: Path, share: int, of: int) -> None:
    """Write and commit a share of the shards that a configuration plans, by the stage that builds use."""
    from clipmill.pipelines.config_file import load
    from clipmill.pipelines.dataset.identity import claim_root
    from clipmill.pipelines.plan.planning import make_plan
    from clipmill.pipelines.run.graph import output_root, stages_of
    from clipmill.pipelines.run.output_check import check_output
    from clipmill.pipelines.run.shard_work import apply_stages
    from clipmill.schemas.layout import commit_path
    from clipmill.stages.arrow_rows import replace_column

    os.fsync = lambda handle: None  # type: ignore[assignment]
    file = load(config)
    root = output_root(file.config)
    file = check_output(file, root)
    claim_root(root, file.config.name)
    plan = make_plan(file.config)
    stages = stages_of(file.config, plan, "cpu")
    first = plan.shard(0)
    clips = pa.concat_tables(apply_stages((stages.clips, *stages.before_cut, *stages.after_cut), [first]))
    origin = clips["clip_id"][0].as_py().split("-")[1] if clips.num_rows else ""
    for i in range(share, len(plan.keys), of):
        shard = plan.shard(i)
        own = clips
        for name in ("item_id", "recording_id", "source_uri"):
            value = shard[name][0].as_py()
            own = replace_column(own, name, pa.array([value] * own.num_rows, pa.string()))
        ids = [c and c.replace(origin, f"{i:032x}") for c in own["clip_id"].to_pylist()]
        own = replace_column(own, "clip_id", pa.array(ids, pa.string()))
        commit = stages.write(shard, [own])
        root.write_bytes(commit_path(commit.key), commit.to_json())


def listing_s(place: Path) -> tuple[float, int]:
    """Return the seconds that scandir and stat of a tree take, and the number of its files."""
    begun, n = time.monotonic(), 0
    waiting = [str(place)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    os.stat(entry.path)
                    n += 1
    return time.monotonic() - begun, n


def night(config: str) -> dict[str, Any]:
    """Build, and return what it says."""
    import clipmill

    report = clipmill.build(config, quiet=True)
    return {"status": report.status, "shards": report.shards_planned, "plan_s": round(report.plan_s, 1)}


def opened(config: str) -> dict[str, Any]:
    """Open the dataset for training."""
    import clipmill

    root = yaml.safe_load(Path(config).read_text())["output"]["root"]
    return {"clips": len(clipmill.ClipDataset(root, "train", columns=("label_id",)))}


def _command(*args: str) -> Callable[[str], dict[str, Any]]:
    def run(config: str) -> dict[str, Any]:
        from click.testing import CliRunner

        from clipmill.pipelines.cli.main import main

        root = yaml.safe_load(Path(config).read_text())["output"]["root"]
        result = CliRunner().invoke(main, [args[0], root, *args[1:]])
        return {"exit_code": result.exit_code}

    return run


STEPS: dict[str, Callable[[str], dict[str, Any]]] = {
    "publish": night,
    "unchanged": night,
    "changed": night,
    "open": opened,
    "show": _command("show", "--json"),
    "status": _command("status", "--json"),
    "gc": _command("gc", "--json"),
}


def measure(step: str, config: Path) -> dict[str, Any]:
    """Run a step in a process of its own; return its seconds, its peak of memory, and what it says."""
    begun = time.monotonic()
    code = (
        "import json,sys,resource; from benchmarks.scale import STEPS; r=STEPS[sys.argv[1]](sys.argv[2]);"
        "print(json.dumps({**r,'peak_mb':resource.getrusage(resource.RUSAGE_SELF).ru_maxrss//1024}))"
    )
    done = subprocess.run([sys.executable, "-c", code, step, str(config)], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {"seconds": round(time.monotonic() - begun, 2), **found}


def run(place: Path, n_shards: int) -> None:
    make_corpus(place / "in", n_shards)
    config = configuration(place)
    begun = time.monotonic()
    context = get_context("spawn")
    workers = [context.Process(target=commit_all, args=(config, i, 2)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            sys.exit("the shards could not be written")
    print(f"{n_shards:,} shards written in {time.monotonic() - begun:.0f} s", flush=True)
    for step in STEPS:
        if step == "changed":
            path = place / "in/0000/r0000000.wav"
            os.utime(path, (1, 1))
        found = measure(step, config)
        if step == "publish":
            of_listing, n_files = listing_s(place)
            print(f"scandir and stat of {n_files:,} files: {of_listing:.2f} s", flush=True)
        seconds = found.pop("seconds")
        about = "  ".join(f"{k} {v}" for k, v in found.items())
        print(f"{step:10} {seconds:7.2f} s  {seconds / of_listing:6.1f} x listing  {about}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--keep", type=Path, help="a folder for the datasets, which then stay")
    args = parser.parse_args()
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
    for n in args.shards:
        if args.keep is not None:
            run(args.keep / str(n), n)
        else:
            with tempfile.TemporaryDirectory(prefix="clipmill-scale-") as place:
                run(Path(place), n)


if __name__ == "__main__":
    main()
