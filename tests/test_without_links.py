"""Output on file systems without hard links: one of many creates a file, nobody sees a part of it, and the dead hold nobody up."""

import errno
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import build_here, shard_hashes, tone, write_audio

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.run.build import build
from clipmill.stages.storage import local_files
from clipmill.stages.storage.local_files import TEMPORARY_PREFIX
from clipmill.stages.storage.root import Root

FORK = multiprocessing.get_context("fork")


def refusing(number: int) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def without_links(monkeypatch: pytest.MonkeyPatch, link: int = errno.EPERM, rename: int | None = errno.EINVAL) -> None:
    """Have hard links be refused, and renaming without replacing too, as exFAT (EPERM), rclone (EIO) and SMB (EACCES) do."""
    monkeypatch.setattr(os, "link", refusing(link))
    if rename is not None:
        monkeypatch.setattr(local_files, "_rename_without_replacing", refusing(rename))


@pytest.fixture(params=["link", "rename", "claim"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "link":
        without_links(monkeypatch, rename=None if request.param == "rename" else errno.EINVAL)
    return str(request.param)


def temporary(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob(f"{TEMPORARY_PREFIX}*"))


def test_a_file_is_created_once_and_never_replaced(tmp_path: Path, way: str) -> None:
    root = Root(str(tmp_path))
    assert root.create_bytes("a/000001.json", b"first")
    assert not root.create_bytes("a/000001.json", b"other")
    assert root.read_bytes("a/000001.json") == b"first"
    with pytest.raises(FileExistsError), root.write("a/000001.json", replace=False) as stream:
        stream.write(b"third")
    assert root.local_files.created_by == way
    assert not temporary(tmp_path)


@pytest.mark.parametrize(
    "number",
    [
        errno.EPERM,
        errno.EACCES,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
        errno.EMLINK,
        errno.EXDEV,
        errno.EIO,
    ],
)
def test_every_way_to_refuse_links_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    without_links(monkeypatch, number, errno.ENOSYS)
    root = Root(str(tmp_path))
    assert root.create_bytes("x", b"1")
    assert root.local_files.created_by == "claim"


def test_without_the_c_librarys_function_a_claim_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    monkeypatch.setattr(local_files, "_renameat2", lambda: None)
    root = Root(str(tmp_path))
    assert root.create_bytes("x", b"1")
    assert root.local_files.created_by == "claim"


def test_a_full_disk_is_not_taken_for_one_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left") as raised:
        Root(str(tmp_path)).create_bytes("x", b"1")
    assert raised.value.filename == str(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def contend(folder: str, names: list[str], who: int, started: Any, results: Any) -> None:
    root = Root(folder)
    started.wait()
    for name in names:
        content = f"{who} ".encode() * 20_000
        results.put((name, who, root.create_bytes(name, content)))


def watch(folder: str, names: list[str], started: Any, ended: Any, problems: Any) -> None:
    root = Root(folder)
    started.wait()
    n_seen, last = 0, {}
    while not ended.is_set():
        for name in names:
            try:
                content = root.read_bytes(name)
            except FileNotFoundError:
                continue
            n_seen += 1
            writers = set(content.split())
            if len(content) < 40_000 or len(writers) != 1 or last.setdefault(name, writers) != writers:
                problems.put(f"{name}: {len(content)} bytes of {writers}, {last.get(name)} before")
    problems.put(n_seen)


def race(folder: Path, n_writers: int = 6, n_names: int = 60) -> None:
    names = [f"snapshots/{i:06d}.json" for i in range(n_names)]
    started, ended = FORK.Barrier(n_writers + 1), FORK.Event()
    results, problems = FORK.Queue(), FORK.Queue()
    writers = [
        FORK.Process(target=contend, args=(str(folder), names, who, started, results)) for who in range(n_writers)
    ]
    reader = FORK.Process(target=watch, args=(str(folder), names, started, ended, problems))
    for process in (*writers, reader):
        process.start()
    outcomes = [results.get(timeout=60) for _ in range(n_writers * n_names)]
    ended.set()
    said = [problems.get(timeout=60)]
    while not isinstance(said[-1], int):
        said.append(problems.get(timeout=60))
    for process in (*writers, reader):
        process.join()
    assert said[:-1] == []
    for name in names:
        (winner,) = [who for n, who, won in outcomes if n == name and won]
        assert (folder / name).read_bytes() == f"{winner} ".encode() * 20_000
    assert not temporary(folder)


def test_one_of_many_wins_and_readers_see_whole_files(tmp_path: Path, way: str) -> None:
    race(tmp_path)


STEPS = ["signing", "signed", "renamed"]


def die_at(step: str, folder: str) -> None:
    """Create a file, and die on the way as a killed process does."""

    def dies(*_: object) -> None:
        os._exit(9)

    if step == "signing":
        local_files._sign = dies  # type: ignore[assignment]
    elif step == "signed":
        os.rename = dies  # type: ignore[assignment]
    else:
        local_files._remove_claims = dies
    Root(folder).create_bytes("s/000001.json", b"of the dead")


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_builder_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    without_links(monkeypatch)
    monkeypatch.setattr(local_files, "_UNSIGNED_S", 0.5)
    dead = FORK.Process(target=die_at, args=(step, str(tmp_path)))
    dead.start()
    dead.join()
    assert dead.exitcode == 9
    root = Root(str(tmp_path))
    assert temporary(tmp_path)
    begun = time.monotonic()
    assert root.create_bytes("s/000001.json", b"of the living") == (step != "renamed")
    assert time.monotonic() - begun < 5
    assert root.read_bytes("s/000001.json") == (b"of the dead" if step == "renamed" else b"of the living")
    for name in root.leftovers():
        root.remove_leftover(name)
    assert not temporary(tmp_path)


@pytest.mark.parametrize("step", STEPS)
def test_many_after_a_killed_one_are_still_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    without_links(monkeypatch)
    monkeypatch.setattr(local_files, "_UNSIGNED_S", 0.5)
    dead = FORK.Process(target=die_at, args=(step, str(tmp_path)))
    dead.start()
    dead.join()
    results = FORK.Queue()
    started = FORK.Barrier(6)
    others = [
        FORK.Process(target=contend, args=(str(tmp_path), ["s/000001.json"], who, started, results)) for who in range(6)
    ]
    for process in others:
        process.start()
    won = [results.get(timeout=60)[2] for _ in others]
    for process in others:
        process.join()
    assert sum(won) == (0 if step == "renamed" else 1)


def test_a_claim_is_not_swept_before_its_file_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch)
    dead = FORK.Process(target=die_at, args=("signed", str(tmp_path)))
    dead.start()
    dead.join()
    root = Root(str(tmp_path))
    claim = f"s/{TEMPORARY_PREFIX}claim-0-000001.json"
    assert claim not in root.leftovers()
    (tmp_path / "s/000001.json").write_bytes(b"")
    assert claim in root.leftovers()
    (tmp_path / "s/000001.json").unlink()
    os.utime(tmp_path / claim, (0, 0))
    assert claim in root.leftovers()


def test_the_living_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch)
    monkeypatch.setattr(local_files, "_WAIT_S", 0.3)
    held = tmp_path / f"{TEMPORARY_PREFIX}claim-0-x.json"
    parent = os.getppid()
    held.write_text(f"{local_files.machine_digest()} {parent} {local_files.process_start(parent)}\n")
    with pytest.raises(TimeoutError, match="another build"):
        local_files._create_by_claim(str(tmp_path / "tmp"), str(tmp_path / "x.json"))
    held.write_text(f"ffffffff {parent} 1\n")  # another machine's, which may live
    with pytest.raises(TimeoutError):
        local_files._create_by_claim(str(tmp_path / "tmp"), str(tmp_path / "x.json"))
    os.utime(held, (time.time() - 3600,) * 2)
    (tmp_path / "tmp").write_text("content")
    assert local_files._create_by_claim(str(tmp_path / "tmp"), str(tmp_path / "x.json"))


def test_an_attempt_that_failed_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch)
    root = Root(str(tmp_path))
    with monkeypatch.context() as failing:
        failing.setattr(os, "rename", refusing(errno.EDQUOT))
        with pytest.raises(OSError, match="quota") as raised:
            root.create_bytes("x.json", b"1")
    assert raised.value.filename == str(tmp_path / "x.json")
    assert root.create_bytes("x.json", b"2")
    assert not temporary(tmp_path)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_refused_fsync_is_tolerated_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(number))
    root = Root(str(tmp_path))
    assert root.local_files.is_synced
    root.write_bytes("x", b"1")
    assert root.read_bytes("x") == b"1"
    assert not root.local_files.is_synced


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_failed_fsync_is_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "fsync", refusing(number))
    monkeypatch.setattr("clipmill.stages.storage.patience.ATTEMPTS", 1)
    root = Root(str(tmp_path))
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        root.write_bytes("x", b"1")
    assert raised.value.filename == str(tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("in_process")
def test_a_dataset_is_built_there_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_config: Callable[..., Path]
) -> None:
    for i in range(4):
        write_audio(tmp_path / "in" / f"r{i}.wav", tone(2.0, 22050, seed=i), 22050)
    source = {"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 0.5}}
    build_here(make_config(source, output={"root": str(tmp_path / "usual")}))
    without_links(monkeypatch)
    monkeypatch.setattr(os, "fsync", refusing(errno.ENOSYS))
    config = make_config(source, output={"root": str(tmp_path / "out")})
    assert build(load(config), quiet=True).status == "published"
    assert build(load(config), quiet=True).status == "unchanged"
    assert shard_hashes(tmp_path / "out") == shard_hashes(tmp_path / "usual")
    *_, verdict = verify(Root(str(tmp_path / "out")))
    assert not verdict.problems
    assert not temporary(tmp_path / "out")
