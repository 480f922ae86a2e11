"""Notes that are damaged, from the future, from dead machines or of reused process ids: they stop nobody for longer than a lease."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import run, tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset import leases, notes
from clipmill.pipelines.dataset.inspection import status
from clipmill.pipelines.dataset.leases import GC_FILE, LEASE_S, Lease, Note, read_leases, running_since
from clipmill.pipelines.dataset.notes import BuildNote, begin_forgetting, clean_notes, collecting, unfinished_forget
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.storage import local_files, processes
from clipmill.stages.storage.processes import process_start, still_runs, this_boot
from clipmill.stages.storage.root import Root

FORK = multiprocessing.get_context("fork")
NAME = "builds/20200101T000000000000-77.json"
MINE = asdict(Note.of_this_process())
FAR = {**MINE, "host": "elsewhere (pid:[4026531836]) boot 12345678", "pid": 1}


def text(**more: Any) -> bytes:
    return json.dumps({**FAR, **more}).encode()


ODD = {
    "empty": b"",
    "garbage": bytes(range(256)),
    "truncated": text()[:70],
    "a list": b"[1, 2]",
    "null": b"null",
    "nested": b"[" * 100_000,
    "keys are a number": text(keys=5),
    "keys are numbers": text(keys=[5]),
    "pid is text": text(pid="x"),
    "pid is true": text(pid=True),
    "pid is huge": text(pid=10**400),
    "pid is NaN": text(pid=float("nan")),
    "start is infinite": text(process_start=float("inf")),
    "start is negative": text(process_start=-1),
    "beat is no time": text(beat="soon"),
    "beat has no zone": text(beat="2020-01-01T00:00:00"),
    "started is a number": text(started=5),
    "outcome is a number": text(outcome=5),
    "a field is missing": json.dumps({k: v for k, v in FAR.items() if k != "host"}).encode(),
}
SOUND = {
    "of another machine": text(),
    "beat in the future": text(beat="9999-12-31T23:59:59+00:00"),
    "beat long ago": text(beat="2001-01-01T00:00:00+00:00"),
    "id leads out": text(id="../../x"),
    "of a newer clipmill": text(colour="green"),
    "of this name and another boot": text(host=MINE["host"][:-1] + "x", pid=os.getpid()),
    "of this name without a boot": text(host=processes.this_machine(), pid=os.getpid()),
    "of this boot, start not known": text(host=MINE["host"], pid=os.getpid(), process_start=0),
}


def put(root: Root, path: str, content: bytes, age_s: float) -> None:
    root.write_bytes(path, content)
    at = time.time() - age_s
    os.utime(root.full(path), (at, at))


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(str(tmp_path / "out"))


@pytest.mark.parametrize("what", [*ODD, *SOUND])
def test_it_counts_for_a_lease_after_it_was_written(what: str, root: Root) -> None:
    content = {**ODD, **SOUND}[what]
    for age_s, alive in ((1, True), (LEASE_S - 30, True), (LEASE_S + 1, False), (-30, True), (-LEASE_S - 30, False)):
        put(root, NAME, content, age_s)
        assert [lease.is_alive for lease in read_leases(root)] == [alive], age_s
        if alive:
            with (
                pytest.raises(ClipmillError, match=r"a build is running on .*nothing was removed") as raised,
                collecting(root),
            ):
                pass
            end = datetime.fromtimestamp(root.modified(NAME) + LEASE_S, UTC).isoformat(timespec="seconds")
            assert f"counts as ended from {end} on, and nothing needs to be removed by hand" in str(raised.value)
            assert (NAME in str(raised.value)) == (what in ODD)
        else:
            with collecting(root):
                pass
        assert root.exists(NAME)
        assert not root.exists(GC_FILE)
    with BuildNote(root, [], 0):
        assert len(read_leases(root)) == 1, "the next build has removed it"


@pytest.mark.parametrize("what", [*ODD, *SOUND])
def test_the_same_for_one_of_gc(what: str, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {**ODD, **SOUND}[what]
    monkeypatch.setattr(notes, "_GC_WAIT_S", 0.0)
    put(root, GC_FILE, content, LEASE_S - 30)
    told = "counts as ended from .* on, and nothing needs to be removed by hand"
    with pytest.raises(ClipmillError, match=f"another `clipmill gc` or `forget` is running.*{told}"), collecting(root):
        pass
    with pytest.raises(ClipmillError, match=f"build again when it has ended.*{told}"), BuildNote(root, [], 0):
        pass
    with pytest.raises(ClipmillError, match=f"nothing was exported.*{told}"):
        notes.refuse_while_collecting(root, "nothing was exported")
    assert root.read_bytes(GC_FILE) == content
    put(root, GC_FILE, content, LEASE_S + 1)
    notes.refuse_while_collecting(root, "nothing was exported")
    with BuildNote(root, [], 0):
        pass
    with collecting(root):
        assert b"elsewhere" not in root.read_bytes(GC_FILE)
    assert not root.exists(GC_FILE)


@given(st.binary(max_size=200) | st.builds(lambda v: json.dumps({**FAR, **v}).encode(), st.dictionaries(
    st.sampled_from(sorted(FAR)), st.none() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))))  # fmt: skip
def test_no_content_raises(content: bytes) -> None:
    note = Note.from_json(content)
    lease = Lease(NAME, content, note, 1e9, 1e9 + 1)
    assert lease.is_alive == (note is None or note.outcome is None)
    assert lease.holder
    assert lease.until
    assert lease.began is None or lease.began.timestamp() <= 1e9


def test_processes_of_this_machine_are_asked(root: Root) -> None:
    def is_alive(age_s: float = 1, **more: Any) -> bool:
        put(root, NAME, json.dumps({**MINE, **more}).encode(), age_s)
        (lease,) = read_leases(root)
        assert lease.until == ""
        return lease.is_alive

    assert is_alive(), "it is this process"
    assert is_alive(10 * LEASE_S), "that was stopped for a while"
    assert not is_alive(process_start=MINE["process_start"] - 1), "another process of the same id"
    assert not is_alive(outcome="published")
    assert not is_alive(pid=1 << 40)
    assert not is_alive(pid=0)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    start = process_start(ended.pid)
    time.sleep(0.3)  # it is a zombie now
    assert not is_alive(pid=ended.pid, process_start=start)
    ended.wait()
    assert not is_alive(pid=ended.pid, process_start=start)


def test_a_process_that_proc_hides_is_not_taken_for_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "is_running", lambda pid: False)
    honest = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path != f"/proc/{os.getpid()}" and honest(path))
    assert still_runs(os.getpid(), 5) is None
    monkeypatch.setattr(processes, "process_start", lambda pid: 0)
    assert still_runs(os.getpid(), 5) is None, "without /proc nothing can be told"


def test_a_boot_is_not_another_boot() -> None:
    assert this_boot().startswith(processes.this_machine())
    assert this_boot() == this_boot() != processes.this_machine()


def test_the_storage_says_what_time_it_is(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's clock is an hour fast or slow: neither lives a note longer, nor is a running build taken for dead."""
    monkeypatch.setattr(notes, "_GC_WAIT_S", 0.0)
    honest = time.time
    for wrong_s in (-3600.0, 3600.0):
        monkeypatch.setattr(time, "time", honest)
        put(root, NAME, text(), 1)
        put(root, GC_FILE, text(), LEASE_S + 1)
        monkeypatch.setattr(time, "time", lambda wrong_s=wrong_s: honest() + wrong_s)
        with pytest.raises(ClipmillError, match="a build is running"), collecting(root):
            pass
        assert not root.exists(GC_FILE)
        with BuildNote(root, [], 0):
            assert root.exists(NAME), "it is alive, and kept"
        monkeypatch.setattr(time, "time", honest)
        put(root, GC_FILE, text(), 1)
        monkeypatch.setattr(time, "time", lambda wrong_s=wrong_s: honest() + wrong_s)
        with pytest.raises(ClipmillError, match="build again when it has ended"), BuildNote(root, [], 0):
            pass
        root.remove(GC_FILE)
        put(root, NAME, text(), LEASE_S + 1 - wrong_s)
        with BuildNote(root, [], 0):
            assert not root.exists(NAME)


def test_where_nothing_can_be_written_this_machines_clock_is_asked(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    assert abs(root.now_s() - time.time()) < 5, "the folder does not exist"
    root.write_bytes("x", b"")
    assert abs(root.now_s() - time.time()) < 5
    assert root.names("") == ["x"]
    assert not root.leftovers()
    assert len(list(Path(root.full()).iterdir())) == 1
    before = os.stat(root.full()).st_mtime_ns
    root.now_s(may_write=False)
    assert os.stat(root.full()).st_mtime_ns == before
    assert local_files.clock_of("/proc") == pytest.approx(time.time(), abs=5)


def test_in_a_store(bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Root(f"s3://{bucket}/out", {"endpoint_url": endpoint})
    assert abs(root.now_s() - time.time()) < 3
    root.write_bytes(NAME, text(beat="9999-12-31T23:59:59+00:00"))
    assert abs(root.modified(NAME) - time.time()) < 3
    root.write_bytes(GC_FILE, b"{")
    with (
        pytest.raises(ClipmillError, match=r"another `clipmill gc` or `forget` is running on \S+ \(so it seems"),
        collecting(root),
    ):
        pass
    root.remove(GC_FILE)
    with pytest.raises(ClipmillError, match=r"a build is running on \S+ \(process 1 on elsewhere, "), collecting(root):
        pass
    monkeypatch.setattr(
        "clipmill.stages.storage.root.time", SimpleNamespace(time=lambda: 0.0)
    )  # the store's clock counts
    assert [lease.is_alive for lease in read_leases(root)] == [True]
    monkeypatch.setattr(leases, "LEASE_S", 0.001)
    root.write_bytes(GC_FILE, b"{")
    time.sleep(1.1)
    with collecting(root):
        pass
    assert not root.exists(GC_FILE)
    with BuildNote(root, [], 0):
        assert not root.exists(NAME)


def test_a_build_goes_on_when_the_lease_of_a_dead_gc_ends(root: Root) -> None:
    put(root, GC_FILE, b"torn", LEASE_S - 1)
    begun = time.monotonic()
    with BuildNote(root, [], 0):
        assert 0.5 < time.monotonic() - begun < 5


def test_a_build_that_waits_says_for_what(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_QUIET_S", 0.0)
    put(root, GC_FILE, b"torn", LEASE_S - 1)
    lines: list[str] = []
    with BuildNote(root, [], 0, lines.append):
        pass
    assert len(lines) == 1 and lines[0].startswith(f"waiting for a `clipmill gc` or `forget` on {root.url}")


def test_who_had_to_give_up_gives_no_more_signs_of_life(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_GC_WAIT_S", 0.0)
    put(root, GC_FILE, b"torn", 1)
    with pytest.raises(ClipmillError), BuildNote(root, [], 0):
        pass
    assert [lease.note.outcome for lease in read_leases(root) if lease.note] == ["failed"]
    root.remove(GC_FILE)
    with collecting(root):
        pass


def collect_at_once(folder: str, started: Any, results: Any) -> None:
    root = Root(folder)
    started.wait()
    try:
        with collecting(root):
            results.put(time.monotonic())
            time.sleep(0.5)
        results.put(time.monotonic())
    except ClipmillError:
        results.put(None)


def test_of_several_gcs_at_once_one_runs(root: Root) -> None:
    put(root, GC_FILE, b"torn", LEASE_S + 1)
    started, results = FORK.Barrier(4), FORK.Queue()
    for _ in range(4):
        FORK.Process(target=collect_at_once, args=(root.full(), started, results)).start()
    said = [results.get(timeout=240) for _ in range(5)]
    assert sum(one is None for one in said) == 3, said


def test_one_that_was_taken_for_dead_leaves_the_note_of_its_successor(root: Root) -> None:
    with collecting(root):
        root.write_bytes(GC_FILE, text(id="another"))
    assert root.exists(GC_FILE)


def test_what_a_build_of_unknown_age_uploads_is_left_alone(root: Root) -> None:
    assert running_since(root) is None
    with BuildNote(root, [], 0) as note:
        (only,) = read_leases(root)
        assert running_since(root, but=note.id) is None
        put(root, f"builds/{note.id}.json", only.content, -5)
        assert running_since(root) == datetime.fromisoformat(only.note.started) if only.note else False
        put(root, NAME, b"torn", 1)
        assert running_since(root) == datetime.min.replace(tzinfo=UTC)
    put(root, NAME, text(started="2999-01-01T00:00:00+00:00"), 1)
    assert running_since(root) == datetime.min.replace(tzinfo=UTC)


def test_what_is_forgotten_is_taken_from_a_note_without_bringing_it_to_life(root: Root) -> None:
    put(root, NAME, text(message="s/a.wav failed"), LEASE_S + 5)
    clean_notes(root, [], lambda message: "a.wav" in message)
    (lease,) = read_leases(root)
    assert not lease.is_alive
    assert lease.note is not None
    assert "a.wav" not in str(lease.note.message)


@pytest.mark.parametrize("content", [b"", b"\xff", text(keys=5)])
def test_a_damaged_record_of_a_forget_is_one_that_is_unfinished(content: bytes, root: Root) -> None:
    put(root, leases.FORGET_FILE, content, 5000)
    since = datetime.fromtimestamp(root.modified(leases.FORGET_FILE), UTC).isoformat(timespec="seconds")
    assert unfinished_forget(root) == (since, False)
    with collecting(root):
        assert unfinished_forget(root) == (since, True)
        begin_forgetting(root)
        found = unfinished_forget(root)
        assert found is not None
        assert found[1]


def test_gc_removes_and_status_tells(tmp_path: Path, root: Root, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/a.wav", tone(1.0, 8000), 8000)
    build(load(make_config({"root": tmp_path / "in"})), quiet=True)
    root.write_bytes("builds/mine.json", b"somebody else's")
    assert "nothing to remove" in run("gc", root.url)
    put(root, NAME, b"torn", 1)
    assert f"unreadable   {NAME} cannot be read: its build may be running; without" in run("status", root.url)
    assert "since" not in run("gc", root.url, "--delete", code=1)
    put(root, NAME, b"torn", LEASE_S + 1)
    assert f"{NAME} cannot be read: its build has ended; the next build removes the note" in run("status", root.url)
    assert [b["state"] for b in status(root)["builds"]] == ["unreadable", "published"]
    run("gc", root.url, "--delete")
    assert not root.exists(NAME)
    assert root.exists("builds/mine.json")
