"""Builds that are killed, run out of space, may not write, or lose a machine. See crash_matrix.py for the whole matrix."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import build_here, shard_hashes, tone, write_audio
from crash_matrix import Matrix, files_of

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.records_io import committed_keys, snapshot_numbers
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import StorageError
from clipmill.stages.storage.root import TEMPORARY_PREFIX, Root

pytestmark = pytest.mark.usefixtures("in_process")


def test_a_build_killed_at_a_commit_point_is_finished_by_the_next_one(tmp_path: Path) -> None:
    matrix = Matrix(tmp_path)
    points = matrix.points()
    assert len(points) > 30
    for number in range(2, len(points), 9):
        matrix.kill_at(number)
    assert matrix.is_clean, matrix.table()
    assert not any(row.too_late for row in matrix.rows.values()), matrix.table()


@pytest.mark.slow
def test_the_whole_matrix_on_ray(tmp_path: Path) -> None:
    matrix = Matrix(tmp_path, workers=2)
    for number in range(len(matrix.points())):
        matrix.kill_at(number)
    matrix.random_moments(30, 14, seed=1)
    matrix.workers_killed(5, seed=1)
    print(matrix.table())
    assert matrix.is_clean, matrix.table()


def test_the_matrix_can_fail(tmp_path: Path) -> None:
    """A shard that is not what it should be is a differing file, and a temporary one a problem."""
    matrix = Matrix(tmp_path)
    root = matrix.fresh()
    matrix.build(matrix.config)
    shard = next(p for p in sorted(files_of(root, 2)) if p.endswith(".tar") and p not in matrix.first)
    content = (root / shard).read_bytes()
    (root / shard).write_bytes(content[:-1] + b"\1")
    (root / "shards" / f"{TEMPORARY_PREFIX}x").write_bytes(b"")
    matrix.judge("a damaged shard", True)
    row = matrix.rows["a damaged shard"]
    assert row.differing == 1
    assert "its sha256 is" in "".join(row.problems)
    assert "left behind" in "".join(row.problems)


def corpus(folder: Path, n: int = 8) -> dict[str, object]:
    for i in range(n):
        write_audio(folder / f"{i}.wav", tone(2.0, 44100, 2, seed=i), 44100)
    return {"root": folder, "segment": {"mode": "window", "length_s": 0.5}, "bytes_per_second": 176400}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("a small file system cannot be mounted here; it takes root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_stops_the_build_and_space_lets_it_finish(
    small_disk: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    source = corpus(tmp_path / "in")
    config = make_config(source, output={"root": str(small_disk), "shard_seconds": 4, "audio_codec": "wav"})
    report = build(load(config), quiet=True)
    assert (report.status, report.exit_code) == ("failed", 1)
    assert all("No space left on device (free some space, then build again" in f for f in report.failures)
    root = Root(str(small_disk))
    assert snapshot_numbers(root) == []
    assert not list(small_disk.rglob(f"{TEMPORARY_PREFIX}*"))
    before = committed_keys(root)
    assert before
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    again = build(load(config), quiet=True)
    assert (again.status, again.shards_reused) == ("published", len(before))
    *_, verdict = verify(root)
    assert not verdict.problems
    calm = {"root": str(tmp_path / "calm"), "shard_seconds": 4, "audio_codec": "wav"}
    build_here(make_config(source, output=calm))
    assert shard_hashes(small_disk) == shard_hashes(tmp_path / "calm")


def test_a_read_only_output_is_said_at_once(small_disk: Path, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    config = make_config(corpus(tmp_path / "in", 1), output={"root": str(small_disk)})
    build(load(config), quiet=True)
    before = files_of(small_disk, 1)
    write_audio(tmp_path / "in/more.wav", tone(1.0, 44100, 2), 44100)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match=r"cannot write to .*Read-only file system"):
        build(load(config), quiet=True)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert files_of(small_disk, 1) == before
    assert build(load(config), quiet=True).status == "published"


def test_a_leftover_is_removed_and_a_running_writers_file_is_not(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    config = make_config(corpus(tmp_path / "in", 1))
    build(load(config), quiet=True)
    out = tmp_path / "out"
    root = Root(str(out))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    unburied = subprocess.Popen([sys.executable, "-c", ""])
    while (state := Path(f"/proc/{unburied.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]) != "Z":
        assert state in "RSD"
        time.sleep(0.01)
    with root.write("shards/x") as stream:
        stream.write(b"1")
        living = next((out / "shards").glob(f"{TEMPORARY_PREFIX}*"))
        dead = living.with_name(living.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
        dead.write_bytes(b"22")
        zombie = living.with_name(living.name.replace(f"-{os.getpid()}-", f"-{unburied.pid}-"))
        zombie.write_bytes(b"55555")
        old = living.with_name(f"{TEMPORARY_PREFIX}ffffffff-1-deadbeef-other-machine")
        old.write_bytes(b"333")
        fresh = living.with_name(f"{TEMPORARY_PREFIX}ffffffff-2-deadbeef-other-machine")
        fresh.write_bytes(b"4444")
        os.utime(old, (time.time() - 90_000, time.time() - 90_000))
        assert root.leftovers() == {
            f"shards/{dead.name}": 2,
            f"shards/{old.name}": 3,
            f"shards/{zombie.name}": 5,
        }
        build(load(config), quiet=True)
        assert not dead.exists()
        assert not zombie.exists()
        unburied.wait()
        assert not old.exists()
        assert living.exists()
        assert fresh.exists()


@pytest.mark.slow
def test_a_build_outlives_a_machine_of_its_cluster(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    from ray.cluster_utils import Cluster

    source = corpus(tmp_path / "in", 40)
    out = {"shard_seconds": 4}
    config = make_config(source, features={"log_mel": {}}, output={"root": str(tmp_path / "out"), **out})
    # Ray's own patience with a machine that is silent is 15 s.
    notices_soon = {
        "health_check_initial_delay_ms": 500,
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 4,
    }
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": notices_soon}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        doomed = cluster.add_node(num_cpus=1)
        env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        command = [
            sys.executable,
            "-m",
            "clipmill",
            "build",
            str(config),
            "--address",
            cluster.address,
        ]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        root = Root(str(tmp_path / "out"))
        while len(committed_keys(root)) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()[1]
        cluster.remove_node(doomed, allow_graceful=False)
        output, errors = process.communicate(timeout=180)
    finally:
        cluster.shutdown()
    assert process.returncode == 0, errors
    assert "0 failed" in output
    *_, verdict = verify(root)
    assert not verdict.problems
    calm = make_config(source, features={"log_mel": {}}, output={"root": str(tmp_path / "calm"), **out})
    build_here(calm)
    assert shard_hashes(tmp_path / "out") == shard_hashes(tmp_path / "calm")
