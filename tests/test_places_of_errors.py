"""An error names the place where it happened, and says what helps there."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import tone, write_audio

from clipmill.pipelines.cli.build_summary import describe_build
from clipmill.pipelines.config_file import load
from clipmill.pipelines.run.build import build
from clipmill.pipelines.run.ray_folder import describe_start_failure
from clipmill.stages.storage import local_files
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root
from clipmill.stages.write.shard_files import ParquetFile

WAITING = "once the storage answers"


def told(error: OSError, root: Root | None = None, path: str = "") -> str:
    return str(describe_os_error(error, root or Root("/data/out"), "write to", path))


def of(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([path] if path else []))


PASSING = [errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EAGAIN, errno.EBUSY]


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_waiting_is_advised_only_where_it_helps(number: int) -> None:
    text = told(of(number, "/data/out/x"))
    of_the_process = number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    assert text.startswith(f"cannot write to /data/out: {'' if of_the_process else 'x: '}{os.strerror(number)} (")
    if number in PASSING:
        assert WAITING in text
    elif number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ESTALE, errno.ENOTCONN, errno.EIO):
        assert WAITING not in text
    assert text.endswith(")")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "a quota is used up"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permissions"),
        (errno.ENAMETOOLONG, "shorter names"),
        (errno.ESTALE, "mount it again"),
        (errno.ENOTCONN, "mount it again"),
        (errno.EIO, "dmesg"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "fs.file-max"),
        (errno.ENOMEM, "memory"),
        (errno.EFBIG, "ulimit -f"),
    ],
)
def test_each_has_its_remedy(number: int, advice: str) -> None:
    assert advice in told(of(number))


def test_a_store_that_fails_is_waited_for() -> None:
    assert WAITING in told(OSError(errno.EIO, "InternalError"), Root("memory://out"))
    assert WAITING in told(OSError("no number at all"), Root("memory://out"))


def test_a_place_outside_the_root_is_not_called_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    scratch = str(tmp_path / "scratch")
    for named in (scratch, f"{scratch}/clipmill-x"):
        text = told(of(errno.ENOSPC, named))
        assert "/data/out" not in text
        assert scratch in text
        assert "TMPDIR" in text
    assert "TMPDIR" in told(of(errno.ENOSPC, scratch), Root("memory://out"))
    assert "ulimit -n" in told(of(errno.EMFILE, scratch))
    assert told(of(errno.EACCES, "/etc/other")).startswith("cannot use /etc/other: Permission denied")
    assert told(of(errno.EACCES, "/data")).startswith("cannot write to /data/out: /data: Permission denied")
    assert told(of(errno.ENOSPC, "/data/out/x/y"), path="x/y").startswith("cannot write to /data/out/x/y: No space")
    assert told(of(errno.ENOSPC), Root("memory://out")).startswith("cannot write to memory://out: No space")


def test_no_temporary_folder_at_all() -> None:
    error = FileNotFoundError(
        errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp', '/usr/tmp', '/x']"
    )
    text = told(error)
    assert text.startswith("cannot use the folder for temporary files /tmp: No usable temporary directory found")
    assert "set TMPDIR to a" in text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True)
    if mount.returncode:
        pytest.skip("a small file system cannot be mounted here; it takes root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_write_that_does_not_fit_names_the_file(small_disk: Path) -> None:
    root = Root(str(small_disk))
    with pytest.raises(OSError, match="No space left") as raised, root.write("shards/x.bin") as stream:
        stream.write(bytes(1 << 20))
    assert raised.value.filename == str(small_disk / "shards/x.bin")
    assert not list(small_disk.rglob("*.bin"))
    assert not list(small_disk.rglob(".clipmill*"))


def test_so_does_one_that_arrow_makes(small_disk: Path) -> None:
    table = pa.table({"clip_id": ["x"], "audio": [os.urandom(1 << 20)]})
    root = Root(str(small_disk))
    with pytest.raises(OSError, match="No space left") as raised, root.write("x.parquet") as stream:
        part = ParquetFile("parquet", "x.parquet", stream, table.schema)
        try:
            part.add(table)
            part.finish()
        finally:
            part.abandon()
    assert raised.value.filename == str(small_disk / "x.parquet")


def test_what_fails_in_a_block_is_not_blamed_on_the_file_that_is_written(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    with pytest.raises(FileNotFoundError) as raised, root.write("x") as stream:
        stream.write((tmp_path / "absent").read_bytes())
    assert raised.value.filename == str(tmp_path / "absent")
    with pytest.raises(OSError, match="Too many") as many, root.write("x"):
        raise of(errno.EMFILE)
    assert many.value.filename is None


def run_build(config: Path, *arguments: str, wrap: str = "", **env: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "clipmill", "build", str(config), *arguments]
    if wrap:
        command = ["bash", "-c", f'{wrap}; exec "$@"', "bash", *command]
    inherited = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_TMPDIR")}
    done = subprocess.run(command, env=inherited | env, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip().splitlines()[-1]


@pytest.fixture
def small_corpus(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    write_audio(tmp_path / "in/a.wav", tone(2.0, 16000), 16000)
    return make_config(
        {"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 0.5}},
        output={"root": str(tmp_path / "out")},
    )


def test_rays_places_are_named(tmp_path: Path, small_corpus: Path, small_disk: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    code, text = run_build(small_corpus, "--workers", "1", HOME=str(file))
    assert code == 1
    assert text.startswith(f"error: cannot start Ray on this machine: {file}/.ray: Not a directory")
    assert "HOME" in text
    for place, why in ((file, "Not a directory"), (small_disk, "No space left on device")):
        code, text = run_build(small_corpus, "--workers", "1", RAY_TMPDIR=str(place))
        assert code == 1
        assert text.startswith(f"error: cannot start Ray on this machine: {place}/ray: {why}")
        assert "RAY_TMPDIR" in text
        assert str(tmp_path / "out") not in text
    long = tmp_path / ("x" * 100)
    code, text = run_build(small_corpus, "--workers", "1", RAY_TMPDIR=str(long))
    assert code == 1
    assert "shorter path" in text
    code, text = run_build(small_corpus, "--workers", "1", wrap="ulimit -n 60")
    assert code == 1
    assert "the limit of 60 open files is too low" in text
    assert "ulimit -n" in text


def test_a_ray_that_says_nothing_of_use_gets_a_hint(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(small_disk))
    (small_disk / "ray").mkdir()
    text = str(describe_start_failure(Exception("The current node timed out during startup."), None))
    assert f"bytes are free under {small_disk}/ray" in text
    assert "RAY_TMPDIR" in text
    assert "RAY_TMPDIR" not in str(describe_start_failure(ConnectionError("no answer"), "ray://head:10001"))


def test_too_few_files_or_too_small_ones_are_told_as_limits(small_corpus: Path) -> None:
    code, text = run_build(small_corpus, wrap="ulimit -n 10")
    assert code == 1
    assert "Too many open files" in text
    assert "ulimit -n" in text
    code, text = run_build(small_corpus, wrap="ulimit -f 8")
    assert code == 1
    assert "File too large" in text
    assert "ulimit -f" in text


@pytest.mark.usefixtures("in_process")
def test_a_weaker_file_system_is_told_at_the_end(small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise of(errno.EINVAL)

    for place, name in ((os, "link"), (local_files, "_rename_without_replacing"), (os, "fsync")):
        monkeypatch.setattr(place, name, refuse)
    report = build(load(small_corpus), quiet=True)
    assert report.status == "published"
    assert [line for line in describe_build(report) if "one machine at a time" in line]
    assert [line for line in describe_build(report) if "clipmill verify" in line]
    assert len(report.to_dict()["storage_weaknesses"]) == 2
