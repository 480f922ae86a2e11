"""Builds whose S3 server is killed or stopped under them. Needs the tool that starts it: CLIPMILL_S3_SERVER, and its server running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import remote_hashes, shard_hashes, tone, upload_source, write_audio

from clipmill.pipelines.dataset.records_io import committed_keys
from clipmill.schemas.layout import commit_path
from clipmill.stages.storage.root import Root

SERVER = os.environ.get("CLIPMILL_S3_SERVER", "")
OUTPUT = {"formats": ["parquet", "webdataset"], "shard_seconds": 4}

pytestmark = pytest.mark.skipif(
    not SERVER or not os.environ.get("S3_ENDPOINT_URL"),
    reason="no S3 server that can be killed: set CLIPMILL_S3_SERVER to its tool, start it, and set what it prints",
)


def server(*words: str) -> None:
    subprocess.run([SERVER, *words], check=True, capture_output=True, timeout=120)


@pytest.fixture
def alive() -> Iterator[None]:
    yield
    for word in ("rgw", "osd"):
        subprocess.run([SERVER, "resume", word], check=False, capture_output=True, timeout=60)
    server("start")


@pytest.fixture
def sources(tmp_path: Path, bucket: str, endpoint: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same recordings in a folder and in a bucket."""
    for i in range(24):
        write_audio(tmp_path / f"in/r{i:02}.wav", tone(4.0, 44100, 2, seed=i), 44100)
    segment = {"mode": "window", "length_s": 0.5}
    here = {"root": tmp_path / "in", "name": "s", "segment": segment, "bytes_per_second": 44100 * 4}
    return here, upload_source(here, bucket, endpoint)


def to_the_store(
    source: dict[str, Any], bucket: str, endpoint: str, make_config: Callable[..., Path]
) -> tuple[Root, Path]:
    """Return where a dataset goes in the store, and the configuration of its build."""
    out = Root(f"s3://{bucket}/out", {"endpoint_url": endpoint})
    return out, make_config(
        source, name="test", output={"root": out.url, "storage_options": out.storage_options, **OUTPUT}
    )


def begin(config: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clipmill", "build", str(config), "--workers", "2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_commits(root: Root, n: int) -> None:
    deadline = time.monotonic() + 120
    while len(committed_keys(root)) < n:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def finish(process: subprocess.Popen[str], config: Path) -> None:
    """See a build end by itself, or say in words why it did not and be ended by another one."""
    said, _ = process.communicate(timeout=300)
    assert "Traceback" not in said, said
    if process.returncode != 0:
        assert process.returncode == 1, said
        assert "s3://" in said, said
        again = begin(config)
        said, _ = again.communicate(timeout=300)
        assert again.returncode == 0, said


def check_same_as_on_disk(out: Root, source: dict[str, Any], place: Path, make_config: Callable[..., Path]) -> None:
    """See that what is in the store is what an undisturbed build to a disk gives, and nothing half uploaded is left."""
    config = make_config(source, name="test", output={"root": str(place / "on-disk"), **OUTPUT})
    assert begin(config).wait(timeout=300) == 0
    assert remote_hashes(out) == shard_hashes(place / "on-disk") != {}
    assert out.leftovers() == {}


@pytest.mark.parametrize(
    ("first", "then", "down_s"),
    [
        pytest.param(["kill9", "rgw"], ["start"], 3.0, marks=pytest.mark.slow),
        pytest.param(["pause", "rgw"], ["resume", "rgw"], 25.0, marks=pytest.mark.slow),
        pytest.param(["kill9", "all"], ["start"], 3.0, marks=pytest.mark.slow),
        pytest.param(["kill9", "osd"], ["start"], 3.0, marks=pytest.mark.slow),
        pytest.param(["pause", "osd"], ["resume", "osd"], 8.0, marks=pytest.mark.slow),
    ],
)
def test_a_server_that_goes_away_costs_time_and_nothing_else(
    first: list[str], then: list[str], down_s: float, alive: None, sources: tuple[dict[str, Any], dict[str, Any]],
    bucket: str, endpoint: str, tmp_path: Path, make_config: Callable[..., Path],
) -> None:  # fmt: skip
    _, there = sources
    out, config = to_the_store(there, bucket, endpoint, make_config)
    process = begin(config)
    wait_for_commits(out, 2)
    server(*first)
    time.sleep(down_s)
    server(*then)
    finish(process, config)
    check_same_as_on_disk(out, there, tmp_path, make_config)


@pytest.mark.slow
def test_a_killed_driver_leaves_what_the_next_build_ends(
    sources: tuple[dict[str, Any], dict[str, Any]],
    bucket: str,
    endpoint: str,
    tmp_path: Path,
    make_config: Callable[..., Path],
) -> None:
    here, _ = sources
    out, config = to_the_store(here, bucket, endpoint, make_config)
    process = begin(config)
    wait_for_commits(out, 2)
    process.kill()
    process.communicate()
    kept = committed_keys(out)
    again = begin(config)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert kept <= committed_keys(out)
    check_same_as_on_disk(out, here, tmp_path, make_config)
    assert out.exists(commit_path(next(iter(kept))))
