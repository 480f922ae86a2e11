"""Notes that builds and `gc` keep under a root while they run, so that they do not interfere with each other.

No content of the dataset depends on a note. A build writes its note before it looks at what is committed, and `gc` writes its own before
it looks at the notes of builds; each then reads the other's. Whatever the order, at least one of them sees the other: a build waits until
`gc` has ended, and `gc` does not start while a build runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from clipmill.pipelines.dataset.leases import (
    FORGET_FILE,
    GC_FILE,
    LEASE_S,
    Lease,
    Note,
    StorageClock,
    in_iso,
    read_lease,
    read_leases,
)
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.layout import BUILDS, FORMAT_VERSION
from clipmill.schemas.seal import sealed
from clipmill.schemas.secret_values import hide_secrets
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

_BEAT_S = 10.0
_FINISH_S = 5.0
_QUIET_S = 2.0
"""A build that waits longer than this for `gc` says so."""
_GC_WAIT_S = LEASE_S + 30.0
_FORGOTTEN_MESSAGE = "removed: the message named a recording that has since been forgotten"


def _content(note: Note) -> bytes:
    return sealed({"format_version": FORMAT_VERSION, **asdict(note)})


def _write(root: Root, path: str, note: Note) -> None:
    try:
        root.write_bytes(path, _content(note))
    except OSError as error:
        raise describe_os_error(error, root, "write to") from None


class BuildNote:
    """The note of a running build, with a sign of life every 10 s. Entering it removes the notes of builds that have ended.

    tell : called with a line of text if the build has to wait for `gc` or `forget`
    describe : returns how far the build is, as text; to be set by the build
    measure : returns the build's numbers, see `Note`; to be set by the build
    """

    def __init__(
        self, root: Root, keys: list[str], recordings: int, tell: Callable[[str], None] = lambda line: None
    ) -> None:
        self._root, self._tell = root, tell
        self._note = Note.of_this_process(keys=keys, recordings=recordings)
        self._path = f"{BUILDS}/{self._note.id}.json"
        self.describe: Callable[[], str] = str
        self.measure: Callable[[], dict[str, Any]] = dict
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> BuildNote:
        _write(self._root, self._path, self._note)
        self._thread.start()
        try:
            clock = StorageClock(self._root.modified(self._path))
            for lease in read_leases(self._root, clock):
                if not lease.is_alive and lease.path != self._path:
                    self._root.remove(lease.path)
            _wait_for_gc(self._root, clock, self._tell)
        except BaseException as error:  # or it would go on giving signs of life
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def replan(self, keys: list[str], recordings: int) -> None:
        """Record that the build has planned again."""
        self._note = replace(self._note, keys=keys, recordings=recordings)
        _write(self._root, self._path, self._note)

    @property
    def id(self) -> str:
        """The note's id, which is its file's name without the extension."""
        return self._note.id

    def finish(self, outcome: str, message: str | None = None, rejections_sha256: str = "") -> None:
        """Record how the build ended, see `Note`."""
        self._stop_beat()
        numbers = self.measure()
        self._note = replace(
            self._note, outcome=outcome, message=message, numbers=numbers, rejections_sha256=rejections_sha256
        )
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


def _wait_for_gc(root: Root, clock: StorageClock, tell: Callable[[str], None]) -> None:
    begun, is_told = time.monotonic(), False
    deadline = time.monotonic() + _GC_WAIT_S
    while (lease := read_lease(root, GC_FILE, clock)) is not None and lease.is_alive:
        if time.monotonic() > deadline:
            raise ClipmillError(
                f"a `clipmill gc` or `forget` has been running on {root.url} for {_GC_WAIT_S / 60:.0f} minutes ({lease.holder}):"
                f" build again when it has ended{lease.until}"
            )
        if not is_told and time.monotonic() - begun > _QUIET_S:
            is_told = True
            tell(f"waiting for a `clipmill gc` or `forget` on {root.url} ({lease.holder}){lease.until}")
        time.sleep(0.2)


@contextmanager
def collecting(root: Root, command: str = "gc") -> Iterator[None]:
    """Hold a root for `gc` or `forget`, with a sign of life every 10 s.

    command : name of the command that holds it, for messages

    Raises
    ------
    ClipmillError : a build, or another `gc` or `forget`, is running on the root
    """
    clock, note, stop = StorageClock(root.now_s()), Note.of_this_process(), threading.Event()
    _take_over(root, note, clock, command)

    def beat() -> None:
        while not stop.wait(_BEAT_S):
            with suppress(ClipmillError):
                _write(root, GC_FILE, replace(note, beat=datetime.now(UTC).isoformat(timespec="seconds")))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        running = [lease for lease in read_leases(root, clock) if lease.is_alive]
        if running:
            raise ClipmillError(
                f"a build is running on {root.url} ({running[0].holder}): nothing was removed; run {command} again when it has"
                f" ended{running[0].until}"
            )
        yield
    finally:
        stop.set()
        thread.join()
        held = read_lease(root, GC_FILE, clock)
        if held is not None and (
            held.note is None or held.note.id == note.id
        ):  # not if another one took this one for dead
            root.remove(GC_FILE)


def _take_over(root: Root, note: Note, clock: StorageClock, command: str) -> None:
    """Write the note of a `gc` or `forget` in the place of one that has ended. Of several at once only one succeeds."""
    while True:
        other = read_lease(root, GC_FILE, clock)
        if other is not None and other.is_alive:
            raise ClipmillError(
                f"another `clipmill gc` or `forget` is running on {root.url} ({other.holder}): run {command} again when it has"
                f" ended{other.until}"
            )
        try:
            if root.swap_bytes(GC_FILE, other.content if other is not None else None, _content(note)):
                return
        except OSError as error:
            raise describe_os_error(error, root, "write to") from None


def refuse_while_collecting(root: Root, what: str) -> None:
    """Raise ClipmillError if `gc` or `forget` is running on a root, because they remove files that an export reads.

    what : the consequence, as "nothing was exported"
    """
    lease = _lease(root, GC_FILE)
    if lease is not None and lease.is_alive:
        raise ClipmillError(
            f"a `clipmill gc` or `forget` is running on {root.url} ({lease.holder}): {what}; try again when it has ended{lease.until}"
        )


def _lease(root: Root, path: str) -> Lease | None:
    """Return what a note says, to a command that only reads."""
    return read_lease(root, path, StorageClock(root.now_s(may_write=False)))


def begin_forgetting(root: Root) -> None:
    """Record that `forget` is changing a root, until `end_forgetting`, so that an interrupted one can be detected."""
    _write(root, FORGET_FILE, Note.of_this_process())


def end_forgetting(root: Root) -> None:
    """Remove the record of `begin_forgetting`."""
    root.remove(FORGET_FILE)


def unfinished_forget(root: Root) -> tuple[str, bool] | None:
    """Return when an unfinished `forget` started, and whether it is still running; None if there is none.

    A record that cannot be read is that of one which is unfinished too.
    """
    forget, holder = _lease(root, FORGET_FILE), _lease(root, GC_FILE)
    if forget is None:
        return None
    running = holder is not None and holder.is_alive
    if forget.note is None or holder is None or holder.note is None:
        return forget.note.started if forget.note is not None else in_iso(forget.modified_s), running
    return forget.note.started, running and (holder.note.host, holder.note.pid) == (forget.note.host, forget.note.pid)


def clean_notes(root: Root, keys: Collection[str], is_in_text: Callable[[str], bool]) -> None:
    """Remove shards, and messages that name forgotten recordings, from the notes of builds that have ended.

    keys : keys of the shards
    is_in_text : whether a text names a forgotten recording
    """
    for lease in read_leases(root):
        if (note := lease.note) is None:
            continue
        cleaned = replace(
            note,
            keys=[key for key in note.keys if key not in keys],
            message=_FORGOTTEN_MESSAGE if is_in_text(note.message or "") else note.message,
            progress="" if is_in_text(note.progress) else note.progress,
        )
        if cleaned != note:
            # It has ended, and writing it again would make it count for another lease.
            _write(root, lease.path, replace(cleaned, outcome=note.outcome or "interrupted"))
