"""Read the notes of builds, `gc` and `forget`, and tell whether who wrote one may still be at work.

A process of this machine is asked. Any other note, also one that cannot be read, counts for a lease after its file was written, by the
storage's clock, whatever it says: clocks of other machines may be wrong, and a note may be damaged. Its process rewrites it every 10 s.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from clipmill.schemas.layout import BUILDS
from clipmill.schemas.seal import unsealed
from clipmill.stages.storage.processes import process_start, still_runs, this_boot
from clipmill.stages.storage.root import Root

LEASE_S = 600.0
GC_FILE = f"{BUILDS}/gc.json"
FORGET_FILE = f"{BUILDS}/forget.json"
_OF_BUILD = re.compile(r"\d{8}T\d{12}-\d+\.json")
_TEXTS = {"id", "host", "started", "beat", "progress"}
_NUMBERS = {"pid", "process_start", "recordings"}


@dataclass(frozen=True)
class Note:
    """The record that a build, `gc` or `forget` keeps of itself.

    host : see `clipmill.stages.storage.processes.this_boot`
    keys : keys of the shards that a build planned
    started, beat : when it started and when it last gave a sign of life, in UTC, ISO 8601
    process_start : start of the process in clock ticks since the machine started, because process ids are reused
    outcome : how it ended: published, unchanged, not_published, failed, interrupted; None while it runs, or if it was killed
    message : why it published nothing
    progress : how far it was at the last sign of life, as text to print
    rejections_sha256 : of the table of rejections, if the build was not published
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
    rejections_sha256: str = ""

    @classmethod
    def of_this_process(cls, **more: Any) -> Note:
        """Return a new note of this process. more : further fields"""
        now = datetime.now(UTC)
        pid = os.getpid()
        name = f"{now.strftime('%Y%m%dT%H%M%S%f')}-{pid}"
        stamp = now.isoformat(timespec="seconds")
        return cls(name, this_boot(), pid, process_start(pid), stamp, stamp, **more)

    @classmethod
    def from_json(cls, content: bytes) -> Note | None:
        """Return a note as it was written, None if it is damaged. What a newer clipmill has added is left out."""
        try:
            plain = unsealed(content)
            known = {f.name for f in fields(cls)}
            note = cls(**{name: value for name, value in plain.items() if name in known})
            return note if _is_sound(note.__dict__) else None
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None


def _is_sound(values: Mapping[str, Any]) -> bool:
    """Return whether the values of a note have their types. Raises ValueError if a time is none."""
    texts = all(isinstance(values[name], str) for name in _TEXTS)
    numbers = all(type(values[name]) is int and 0 <= values[name] < 1 << 63 for name in _NUMBERS)
    optional = all(values[name] is None or isinstance(values[name], str) for name in ("outcome", "message"))
    keys = isinstance(values["keys"], list) and all(isinstance(key, str) for key in values["keys"])
    optional = optional and isinstance(values["numbers"], dict) and isinstance(values["rejections_sha256"], str)
    return texts and numbers and optional and keys and all(_time(values[name]) for name in ("started", "beat"))


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("it does not say in which zone")
    return moment


class StorageClock:
    """The clock of a storage, by this machine's from the moment at which it was read. now_s : what it said, in seconds since 1970"""

    def __init__(self, now_s: float) -> None:
        self._ahead_s = now_s - time.monotonic()

    def now_s(self) -> float:
        """Return what it says now, in seconds since 1970."""
        return time.monotonic() + self._ahead_s


@dataclass(frozen=True)
class Lease:
    """What a note says at a moment, and how long it counts.

    path : of its file
    content : of its file
    note : None if it cannot be read
    modified_s, now_s : when the file was written, and the moment: seconds since 1970, by the storage's clock
    """

    path: str
    content: bytes
    note: Note | None
    modified_s: float
    now_s: float

    @property
    def _runs(self) -> bool | None:
        """Whether the note's process runs, as far as this machine knows."""
        if self.note is None or self.note.host != this_boot():
            return None
        return still_runs(self.note.pid, self.note.process_start)

    @property
    def is_alive(self) -> bool:
        """Whether the build, `gc` or `forget` may still be at work."""
        if self.note is not None and self.note.outcome is not None:
            return False
        runs = self._runs
        # A file from further in the future was written by a clock that was wrong, and would count for as long as that.
        return abs(self.now_s - self.modified_s) < LEASE_S if runs is None else runs

    @property
    def began(self) -> datetime | None:
        """When it began; None if that is not known, also because the note's clock is ahead of the storage's."""
        began = _time(self.note.started) if self.note is not None else None
        return began if began is not None and began.timestamp() <= self.modified_s else None

    @property
    def holder(self) -> str:
        """Who wrote the note, for messages."""
        if self.note is None:
            return f"so it seems: its note, {self.path}, cannot be read"
        return f"process {self.note.pid} on {self.note.host.partition(' (')[0]}, since {self.note.started}"

    @property
    def until(self) -> str:
        """A clause for messages: until when it counts as running; empty if its process was asked."""
        if self._runs is not None:
            return ""
        end = in_iso(self.modified_s + LEASE_S)
        return (
            f"; without another sign of life it counts as ended from {end} on, and nothing needs to be removed by hand"
        )


def in_iso(time_s: float) -> str:
    """Return seconds since 1970 as UTC in ISO 8601; times beyond what that can say as the nearest one that it can."""
    return datetime.fromtimestamp(min(max(time_s, 0.0), 2.5e11), UTC).isoformat(timespec="seconds")


def read_lease(root: Root, path: str, clock: StorageClock) -> Lease | None:
    """Return what a note's file says; None if there is none."""
    try:
        content = root.read_bytes(path)
        return Lease(path, content, Note.from_json(content), root.modified(path), clock.now_s())
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_leases(root: Root, clock: StorageClock | None = None) -> list[Lease]:
    """Return the notes of builds, oldest first, also those that cannot be read. Files of other names count only if they are notes.

    clock : the storage's; None: asked without writing
    """
    clock = clock or StorageClock(root.now_s(may_write=False))
    found = []
    for name in root.names(BUILDS):
        if name.endswith(".json") and f"{BUILDS}/{name}" not in (GC_FILE, FORGET_FILE):
            lease = read_lease(root, f"{BUILDS}/{name}", clock)
            if lease is not None and (lease.note is not None or _OF_BUILD.fullmatch(name)):
                found.append(lease)
    return sorted(found, key=lambda lease: lease.path)


def read_notes(root: Root) -> list[Note]:
    """Return the notes of builds that can be read, oldest first."""
    return [lease.note for lease in read_leases(root) if lease.note is not None]


def running_since(root: Root, but: str | None = None) -> datetime | None:
    """Return when the oldest running build started; None if no build is running, the earliest time if it is not known.

    but : id of a build that does not count
    """
    alive = [lease for lease in read_leases(root) if lease.is_alive and lease.path != f"{BUILDS}/{but}.json"]
    return min((lease.began or datetime.min.replace(tzinfo=UTC) for lease in alive), default=None)
