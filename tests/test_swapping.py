"""Small files that several processes change at once: nobody's entry is lost, also when some of them are killed."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import tone, write_audio
from s3_proxy import before as proxy_before

from clipmill.pipelines.dataset import gc, tries
from clipmill.pipelines.dataset.tries import read_retries, update_retries
from clipmill.schemas.errors import StorageError
from clipmill.schemas.layout import RETRIES_FILE, Retries
from clipmill.stages.storage import swapping
from clipmill.stages.storage.local_files import LOCK_PREFIX
from clipmill.stages.storage.root import Root

FORK = multiprocessing.get_context("fork")
FILE = "state/counts.json"


def adding_to_it(root: Root, who: int, n: int, done: Any) -> None:
    """Add entries to one JSON file, one by one, and write after each that it is there."""
    for i in range(n):
        while True:
            try:
                before = root.read_bytes(FILE)
            except FileNotFoundError:
                before = None
            entries = json.loads(before or b"{}")
            entries[f"{who}-{i}"] = i
            if root.swap_bytes(FILE, before, json.dumps(entries).encode()):
                break
            time.sleep(random.uniform(0, 0.01))
        done.write(f"{who}-{i}\n")
        done.flush()


def add_here(folder: str, who: int, n: int) -> None:
    with open(f"{folder}/done-{who}", "w") as done:
        adding_to_it(Root(f"{folder}/root"), who, n, done)


def said(folder: Path) -> set[str]:
    return {line for path in folder.glob("done-*") for line in path.read_text().splitlines()}


def test_of_eight_processes_none_loses_an_entry(tmp_path: Path) -> None:
    adders = [FORK.Process(target=add_here, args=(str(tmp_path), who, 50)) for who in range(8)]
    for process in adders:
        process.start()
    for process in adders:
        process.join(60)
    there = json.loads((tmp_path / "root" / FILE).read_bytes())
    assert there == {f"{who}-{i}": i for who in range(8) for i in range(50)}
    assert Root(str(tmp_path / "root")).names("state") == ["counts.json"]


def test_the_killed_take_nothing_with_them_and_leave_no_lock_behind(tmp_path: Path) -> None:
    rng = random.Random(3)
    without_end = 1_000_000
    killed = [FORK.Process(target=add_here, args=(str(tmp_path), who, without_end)) for who in range(5)]
    others = [FORK.Process(target=add_here, args=(str(tmp_path), who, 50)) for who in range(5, 8)]
    for process in killed + others:
        process.start()
    for process in killed:
        time.sleep(rng.uniform(0.005, 0.06))
        process.kill()
    for process in killed + others:
        process.join(60)
    there = json.loads((tmp_path / "root" / FILE).read_bytes())
    assert said(tmp_path) <= set(there)
    assert {f"{who}-{i}" for who in range(5, 8) for i in range(50)} <= set(there)
    assert [process.exitcode for process in killed + others] == [-signal.SIGKILL] * 5 + [0] * 3
    begun = time.monotonic()
    assert Root(str(tmp_path / "root")).swap_bytes(FILE, json.dumps(there).encode(), b"{}")
    assert time.monotonic() - begun < 1


ADDER = """
import sys
sys.path.insert(0, sys.argv[1])
from test_swapping import adding_to_it
from clipmill.stages.storage.root import Root
root = Root(sys.argv[2], {"endpoint_url": sys.argv[3]})
root.connect()
with open(sys.argv[4] + "/done-" + sys.argv[5], "w") as done:
    adding_to_it(root, int(sys.argv[5]), int(sys.argv[6]), done)
"""


@pytest.mark.parametrize(("n_processes", "n"), [(3, 10), pytest.param(8, 50, marks=pytest.mark.slow)])
def test_in_a_store_as_well(n_processes: int, n: int, bucket: str, endpoint: str, tmp_path: Path) -> None:
    def start(who: int) -> subprocess.Popen[bytes]:
        words = [str(Path(__file__).parent), f"s3://{bucket}/root", endpoint, str(tmp_path), str(who), str(n)]
        return subprocess.Popen([sys.executable, "-c", ADDER, *words])

    adders = [start(who) for who in range(n_processes)]
    deadline = time.monotonic() + 300
    while len(said(tmp_path)) < n // 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    adders[0].kill()
    assert [process.wait(250) for process in adders][1:] == [0] * (n_processes - 1)
    there = json.loads(Root(f"s3://{bucket}/root", {"endpoint_url": endpoint}).read_bytes(FILE))
    assert said(tmp_path) <= set(there)
    assert {f"{who}-{i}" for who in range(1, n_processes) for i in range(n)} <= set(there)


@pytest.fixture(params=["local", "s3", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    if request.param == "s3":
        bucket, endpoint = request.getfixturevalue("bucket"), request.getfixturevalue("endpoint")
        return Root(f"s3://{bucket}/x", {"endpoint_url": endpoint})
    return Root(str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}")


def test_only_what_was_read_is_replaced(root: Root) -> None:
    assert not root.swap_bytes("a/x.json", b"1", b"2"), "it does not exist"
    assert not root.exists("a/x.json")
    assert root.swap_bytes("a/x.json", None, b"1")
    assert not root.swap_bytes("a/x.json", None, b"2")
    assert not root.swap_bytes("a/x.json", b"2", b"3")
    assert root.read_bytes("a/x.json") == b"1"
    assert root.swap_bytes("a/x.json", b"1", b"")
    assert root.swap_bytes("a/x.json", b"", b"4")
    assert root.read_bytes("a/x.json") == b"4"
    assert root.names("a") == ["x.json"]
    assert list(root.sizes("")) == ["a/x.json"]


def test_another_store_is_told_to_be_weaker() -> None:
    root = Root("memory://weaker")
    assert root.swap_bytes("x", None, b"1")
    assert root.swap_bytes("x", b"1", b"2")
    assert [w for w in root.local_files.weaknesses if "run one `clipmill retry` or `gc` at a time" in w]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL])
def test_a_file_system_without_locks_is_told_of(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    root = Root(str(tmp_path))
    assert root.local_files.weaknesses == []
    assert root.swap_bytes("x", None, b"1")
    assert not root.swap_bytes("x", None, b"2")
    assert len(root.local_files.weaknesses) == 1


def test_one_that_holds_the_lock_is_waited_for_and_one_that_hangs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swapping, "_WAIT_S", 0.2)
    monkeypatch.setattr("clipmill.stages.storage.patience.ATTEMPTS", 1)
    root = Root(str(tmp_path))
    with open(tmp_path / f"{LOCK_PREFIX}x", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="locked this file for a minute") as raised:
            root.swap_bytes("x", None, b"1")
        assert raised.value.filename == str(tmp_path / "x")
        monkeypatch.setattr(swapping, "_WAIT_S", 30)
        threading.Timer(0.2, fcntl.flock, (held, fcntl.LOCK_UN)).start()
        assert root.swap_bytes("x", None, b"1")
    os.utime(tmp_path / f"{LOCK_PREFIX}x", (0, 0))
    assert root.leftovers() == {}, "a lock that is removed while it is held would be two locks"


@pytest.mark.parametrize("quoted", [False, True])
def test_both_spellings_of_an_etag_are_tried(
    quoted: bool, bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    honest = swapping._ask

    def strict(fs: Any, method: str, path: str, **more: Any) -> Any:
        etag = more.get("IfMatch")
        if etag is not None:
            asked.append(etag)
            if etag.startswith('"') != quoted:
                more["IfMatch"] = "0" * 32
            else:
                more["IfMatch"] = spelling(etag)
        return honest(fs, method, path, **more)

    root = Root(f"s3://{bucket}/x", {"endpoint_url": endpoint})
    spelling = str if "127.0.0.1" not in endpoint else lambda etag: etag.strip('"')
    root.write_bytes("x", b"1")
    monkeypatch.setattr(swapping, "_ask", strict)
    assert root.swap_bytes("x", b"1", b"2")
    assert len(asked) == (2 if quoted else 1)
    assert root.read_bytes("x") == b"2"


def test_an_answer_that_is_lost_does_not_lose_the_swap(
    bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmill.stages.storage.patience.FIRST_WAIT_S", 0.01)
    root = Root(f"s3://{bucket}/x", {"endpoint_url": endpoint})
    root.write_bytes("x", b"1")
    honest, lost = swapping._ask, []

    def losing(fs: Any, method: str, path: str, **more: Any) -> Any:
        answer = honest(fs, method, path, **more)
        if method == "put_object" and not lost:
            lost.append(method)
            raise OSError(errno.EIO, "the connection was lost")
        return answer

    monkeypatch.setattr(swapping, "_ask", losing)
    assert root.swap_bytes("x", b"1", b"2")
    assert lost == ["put_object"]


def test_a_store_that_fails_for_a_while_is_asked_again(
    bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmill.stages.storage.patience.FIRST_WAIT_S", 0.01)
    Root(f"s3://{bucket}/x", {"endpoint_url": endpoint}).write_bytes("x", b"1")
    with proxy_before(endpoint) as (address, proxy):
        root = Root(f"s3://{bucket}/x", {"endpoint_url": address})
        proxy.rule = lambda method, path, n: (503, "SlowDown") if n in (0, 1, 3, 5) else None
        assert root.swap_bytes("x", b"1", b"2")
        assert not root.swap_bytes("x", b"1", b"3")
        proxy.rule = lambda method, path, n: (403, "AccessDenied") if method == "PUT" else None
        with pytest.raises(PermissionError):
            root.swap_bytes("x", b"2", b"3")


def retry_many(folder: str, who: int) -> None:
    for i in range(25):
        update_retries(Root(folder), lambda now, i=i: {**now, f"s/{who}-{i}": ("1", 1)})


def test_retries_at_once_lose_no_entry(tmp_path: Path) -> None:
    writers = [FORK.Process(target=retry_many, args=(str(tmp_path), who)) for who in range(4)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(60)
    assert len(read_retries(Root(str(tmp_path)))) == 100


def test_gc_leaves_an_entry_that_came_after_it_looked(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    update_retries(root, lambda _: {"s/gone": ("1", 1), "s/again": ("1", 1)})
    garbage = gc.find_garbage(root)
    assert garbage.retries == garbage.to_dict()["retries"] == 2
    update_retries(root, lambda now: {**now, "s/again": ("1", 2), "s/new": ("1", 1)})
    gc.remove(root, garbage)
    assert read_retries(root) == {"s/again": ("1", 2), "s/new": ("1", 1)}


def test_a_change_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    assert update_retries(Root(str(tmp_path)), dict) == {}
    assert not list(tmp_path.iterdir())


def test_a_file_that_others_change_all_the_time_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "_SWAPS", 3)
    root = Root(str(tmp_path))

    def interrupted(now: Retries) -> Retries:
        n = len(now)
        (tmp_path / RETRIES_FILE).write_text(json.dumps({f"other-{i}": ["1", 1] for i in range(n + 1)}))
        return {**now, "mine": ("1", 1)}

    with pytest.raises(StorageError, match=r"retries\.json: other commands have changed it 3 times in a row"):
        update_retries(root, interrupted)


def test_a_retry_keeps_what_another_one_wrote_meanwhile(tmp_path: Path, make_config: Any) -> None:
    from clipmill.pipelines.config_file import load
    from clipmill.pipelines.run import retry as retrying
    from clipmill.pipelines.run.build import build

    write_audio(tmp_path / "in/good.wav", tone(1.0, 8000), 8000)
    (tmp_path / "in/bad.wav").write_bytes(b"not audio" * 100)
    file = load(make_config({"root": tmp_path / "in"}))
    build(file, quiet=True, accept=True)
    root = Root(str(tmp_path / "out"))
    write_audio(tmp_path / "other.wav", tone(1.0, 8000, seed=1), 8000)
    honest = retrying._take_back_equal_shards

    def meanwhile(*words: Any) -> set[str]:
        update_retries(root, lambda now: {**now, "s0/of-another.wav": ("1", 3)})
        honest(*words)
        return set()  # as if something had changed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrying, "_take_back_equal_shards", meanwhile)
        retrying.retry(file, [], quiet=True, accept=True)
    assert set(read_retries(root)) == {"s0/of-another.wav", "s0/bad.wav"}


def test_what_comes_between_reading_and_writing_is_not_overwritten(
    bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Root(f"s3://{bucket}/x", {"endpoint_url": endpoint})
    root.write_bytes("x", b"1")
    honest = swapping._object

    def late(*words: Any) -> Any:
        found = honest(*words)
        root.write_bytes("x", b"of another")
        return found

    monkeypatch.setattr(swapping, "_object", late)
    assert not root.swap_bytes("x", b"1", b"2")
    assert root.read_bytes("x") == b"of another"
