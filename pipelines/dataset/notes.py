"""Notes that builds and `gc` keep under a root while they run, so that they do not interfere with each other.

No content of the dataset depends on a note. A build writes its note before it looks at what is committed, and `gc` writes its own before
it looks at the notes of builds; each then reads the other's. Whatever the order, at least one of them sees the other: a build waits until
`gc` has ended, and `gc` does not start while a build runs.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.layout import BUILDS
from clipmill.schemas.secret_values import hide_secrets
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.processes import is_running, process_start, this_machine
from clipmill.stages.storage.root import Root

_BEAT_S = 10.0
_DEAD_AFTER_S = 600.0
_FINISH_S = 5.0
_GC_FILE = f"{BUILDS}/gc.json"
_GC_WAIT_S = 600.0
_FORGET_FILE = f"{BUILDS}/forget.json"
_FORGOTTEN_MESSAGE = "removed: the message named a recording that has since been forgotten"


@dataclass(frozen=True)
class Note:
    """The record that a build, `gc` or `forget` keeps of itself.

    keys : keys of the shards that a build planned
    started, beat : when it started and when it last gave a sign of life, in UTC, ISO 8601
    process_start : start of the process in clock ticks since the machine started, because process ids are reused
    outcome : how it ended: published, unchanged, not_published, failed, interrupted; None while it runs, or if it was killed
    message : why it published nothing
    progress : how far it was at the last sign of life, as text to print
    numbers : what an ended build measured, see `clipmill.pipelines.run.build_numbers`; empty while it runs
    """

    id: str
    host: str
    pid: int
    process_start: int
    started: str
    beat: str
    keys: list[str] = field(default_factory=list)
    recordings: int = 0
    outcome: str | None = None
    message: str | None = None
    progress: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def is_alive(self) -> bool:
        """Whether it is still running: checked by its process on this machine, judged by its last sign of life on others."""
        if self.outcome is not None:
            return False
        if self.host == this_machine():
            return is_running(self.pid) and process_start(self.pid) == self.process_start
        silent = datetime.now(UTC) - datetime.fromisoformat(self.beat)
        return silent.total_seconds() < _DEAD_AFTER_S

    @classmethod
    def of_this_process(cls, **more: Any) -> Note:
        """Return a new note of this process. more : further fields"""
        now = datetime.now(UTC)
        pid = os.getpid()
        name = f"{now.strftime('%Y%m%dT%H%M%S%f')}-{pid}"
        stamp = now.isoformat(timespec="seconds")
        return cls(name, this_machine(), pid, process_start(pid), stamp, stamp, **more)


def read_notes(root: Root) -> list[Note]:
    """Return the notes of builds, oldest first. Files that are not notes are ignored."""
    notes = []
    for name in root.names(BUILDS):
        if name.endswith(".json") and f"{BUILDS}/{name}" not in (_GC_FILE, _FORGET_FILE):
            note = _read(root, f"{BUILDS}/{name}")
            if note is not None:
                notes.append(note)
    return sorted(notes, key=lambda n: n.id)


def running_since(root: Root, but: str | None = None) -> datetime | None:
    """Return when the oldest running build started; None if no build is running. but : id of a build that does not count"""
    started = [n.started for n in read_notes(root) if n.is_alive and n.id != but]
    return datetime.fromisoformat(min(started)) if started else None


def _read(root: Root, path: str) -> Note | None:
    try:
        return Note(**json.loads(root.read_bytes(path)))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def _write(root: Root, path: str, note: Note) -> None:
    plain = asdict(note)
    if not note.numbers:  # an older clipmill ignores notes that have it, and must see running builds
        plain.pop("numbers")
    try:
        root.write_bytes(path, (json.dumps(plain) + "\n").encode())
    except OSError as error:
        raise describe_os_error(error, root, "write to") from None


class BuildNote:
    """The note of a running build, with a sign of life every 10 s. Entering it removes the notes of builds that have ended.

    describe : returns how far the build is, as text; to be set by the build
    measure : returns the build's numbers, see `Note`; to be set by the build
    """

    def __init__(self, root: Root, keys: list[str], recordings: int) -> None:
        self._root = root
        self._note = Note.of_this_process(keys=keys, recordings=recordings)
        self._path = f"{BUILDS}/{self._note.id}.json"
        self.describe: Callable[[], str] = str
        self.measure: Callable[[], dict[str, Any]] = dict
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> BuildNote:
        for note in read_notes(self._root):
            if not note.is_alive:
                self._root.remove(f"{BUILDS}/{note.id}.json")
        _write(self._root, self._path, self._note)
        self._thread.start()
        _wait_for_gc(self._root)
        return self

    @property
    def id(self) -> str:
        """The note's id, which is its file's name without the extension."""
        return self._note.id

    def finish(self, outcome: str, message: str | None = None) -> None:
        """Record how the build ended, see `Note`."""
        self._stop_beat()
        self._note = replace(self._note, outcome=outcome, message=message, numbers=self.measure())
        _write(self._root, self._path, self._note)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._note.outcome is not None:
            self._stop_beat()
        elif isinstance(error, Exception):
            self._finish_if_possible("failed", hide_secrets(str(error)))
        else:
            # An interrupt must end the command soon, but a store that hangs may block this thread for minutes: do not wait for it.
            thread = threading.Thread(target=self._finish_if_possible, args=("interrupted",), daemon=True)
            thread.start()
            thread.join(_FINISH_S)

    def _finish_if_possible(self, outcome: str, message: str | None = None) -> None:
        with suppress(ClipmillError):  # what ended the build may also prevent this write
            self.finish(outcome, message)

    def _stop_beat(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(_BEAT_S):
            with suppress(ClipmillError):
                now = datetime.now(UTC).isoformat(timespec="seconds")
                _write(self._root, self._path, replace(self._note, beat=now, progress=self.describe()))


def _wait_for_gc(root: Root) -> None:
    deadline = time.monotonic() + _GC_WAIT_S
    while (note := _read(root, _GC_FILE)) is not None and note.is_alive:
        if time.monotonic() > deadline:
            raise ClipmillError(
                f"a `clipmill gc` or `forget` has been running on {root.url} since {note.started} (process {note.pid} on {note.host}):"
                " build again when it has ended"
            )
        time.sleep(0.2)


@contextmanager
def collecting(root: Root, command: str = "gc") -> Iterator[None]:
    """Hold a root for `gc` or `forget`, with a sign of life every 10 s.

    command : name of the command that holds it, for messages

    Raises
    ------
    ClipmillError : a build, or another `gc` or `forget`, is running on the root
    """
    other = _read(root, _GC_FILE)
    if other is not None and other.is_alive:
        raise ClipmillError(
            f"another `clipmill gc` or `forget` is running on {root.url} (process {other.pid} on {other.host},"
            f" since {other.started}): run {command} again when it has ended"
        )
    note, stop = Note.of_this_process(), threading.Event()
    _write(root, _GC_FILE, note)

    def beat() -> None:
        while not stop.wait(_BEAT_S):
            with suppress(ClipmillError):
                _write(root, _GC_FILE, replace(note, beat=datetime.now(UTC).isoformat(timespec="seconds")))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        running = [n for n in read_notes(root) if n.is_alive]
        if running:
            raise ClipmillError(
                f"a build is running on {root.url} (process {running[0].pid} on {running[0].host}, since {running[0].started}):"
                f" nothing was removed; run {command} again when it has ended"
            )
        yield
    finally:
        stop.set()
        thread.join()
        root.remove(_GC_FILE)


def refuse_while_collecting(root: Root, what: str) -> None:
    """Raise ClipmillError if `gc` or `forget` is running on a root, because they remove files that an export reads.

    what : the consequence, as "nothing was exported"
    """
    note = _read(root, _GC_FILE)
    if note is not None and note.is_alive:
        raise ClipmillError(
            f"a `clipmill gc` or `forget` has been running on {root.url} since {note.started} (process {note.pid} on {note.host}):"
            f" {what}; try again when it has ended"
        )


def begin_forgetting(root: Root) -> None:
    """Record that `forget` is changing a root, until `end_forgetting`, so that an interrupted one can be detected."""
    _write(root, _FORGET_FILE, Note.of_this_process())


def end_forgetting(root: Root) -> None:
    """Remove the record of `begin_forgetting`."""
    root.remove(_FORGET_FILE)


def unfinished_forget(root: Root) -> tuple[str, bool] | None:
    """Return when an unfinished `forget` started, and whether it is still running; None if there is none."""
    forget, holder = _read(root, _FORGET_FILE), _read(root, _GC_FILE)
    if forget is None:
        return None
    return forget.started, holder is not None and holder.is_alive and holder.pid == forget.pid


def clean_notes(root: Root, keys: Collection[str], is_in_text: Callable[[str], bool]) -> None:
    """Remove shards, and messages that name forgotten recordings, from the notes of builds that have ended.

    keys : keys of the shards
    is_in_text : whether a text names a forgotten recording
    """
    for note in read_notes(root):
        cleaned = replace(
            note,
            keys=[key for key in note.keys if key not in keys],
            message=_FORGOTTEN_MESSAGE if is_in_text(note.message or "") else note.message,
            progress="" if is_in_text(note.progress) else note.progress,
        )
        if cleaned != note:
            _write(root, f"{BUILDS}/{note.id}.json", cleaned)
