"""Sandbox: recordings become clips in a process of their own, since a decoder can crash, take all memory, or never end.

The process lives as long as the worker that started it and does one plan after the other. When it dies or falls silent,
the recording that it was at is rejected and a new process goes on with the others. Which one that was is made sure of:
after a crash, or an exception that no stage expects, the recordings that were under way are tried one by one, and only one
that fails alone is to blame.

A process is lent to one request at a time. It is used again when it has said that the request has ended, never before: what is
still to come of an earlier one (its consumer may have gone, or may come back) must not be taken for the answer to the next.

What passes between the two is in `clipmill.pipelines.run.sandbox_child`. Of what the process says only Arrow tables and plain text are
read, nothing is unpickled.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.run.search_path import without_current_folder
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ClipmillError, StageError, StorageError
from clipmill.schemas.tables import CLIPS, ITEM_COLUMNS, PLAN
from clipmill.stages.arrow_rows import replace_column, stream_bytes, stream_table
from clipmill.stages.clip_buffer import temporary_file_errors

BEGIN, TABLE, END, STORAGE, MEMORY, REFUSED, FAILED, STAGE = b"B", b"T", b"E", b"S", b"M", b"R", b"F", b"G"
ID_BYTES = 8
"""Of a request: before its configuration and plan on the way there, behind the letter of each message on the way back."""
_PIPE_BYTES = 1 << 20
_REPORT_BYTES = 1 << 16
_START_S = 120.0
"""What a busy machine may take to start a process that loads its libraries; no recording is to blame for it."""


@dataclass(frozen=True)
class Sandbox:
    """Make clips of recordings in a process of its own. Takes a plan, gives an iterator of `clipmill.schemas.tables.CLIPS`.

    A row with the status `void` says that what was given of its item so far is void, and that the item comes again.

    origins, sources : of stages of other packages, see `clipmill.pipelines.chain.Chain`
    config : of the build; its limits say how long a decoder may be silent and how much memory it may take
    """

    config: Config
    origins: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start the process, which otherwise comes with the first plan, and wait until it can work."""
        for _ in self(PLAN.empty_table()):
            pass

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        waiting = deque([table])
        while waiting:
            part = waiting.popleft()
            seen = _Seen()
            fall = yield from self._run(part, seen)
            if fall is None:
                continue
            if seen.unfinished:
                yield _void(part, seen.unfinished)
            waiting.extendleft(reversed(_rest(part, seen.ended, fall)))

    def _run(self, part: pa.Table, seen: _Seen) -> Generator[pa.Table, None, _Fall | None]:
        child = _idle_child(self.origins)
        ended = False
        try:
            child.request(self.config, [dict(self.origins), dict(self.sources)], part)
            timeout_s = self.config.limits.decoder_timeout_s
            while True:
                kind, payload = child.answer(timeout_s if seen.current else max(timeout_s, _START_S))
                if kind == END:
                    ended = True
                    return None
                if kind == BEGIN:
                    seen.current = bytes(payload).decode()
                elif kind == TABLE:
                    clips = stream_table(payload)
                    seen.note(clips)
                    yield clips
                elif kind == FAILED:
                    ended = True  # it has closed what was open, and waits for the next
                    raise _SilentError("decoder_failed", bytes(payload).decode())
                elif kind == STORAGE:
                    failure = json.loads(bytes(payload))
                    raise StorageError(str(failure["message"]), transient=bool(failure["transient"]))
                elif kind == REFUSED:
                    refusal = json.loads(bytes(payload))
                    raise ClipmillError(str(refusal["message"]), code=str(refusal["code"]))
                elif kind == STAGE:
                    seen.stage = bytes(payload).decode()
                else:
                    limit = self.config.limits.decoder_memory_mb
                    raise _SilentError(
                        "decoder_crashed", f"decoding it takes more than {limit} MB (limits.decoder_memory_mb)"
                    )
        except _SilentError as error:
            if seen.stage:
                raise StageError(
                    f"stage {seen.stage}: {_of_stage(error)}; no recording is to blame: correct the stage, then build again"
                ) from None
            if seen.current is None:
                raise ClipmillError(f"the decoding process does not work: {error.detail}; {child.report()}") from None
            return _Fall(seen.current, error.reason, error.detail)
        finally:
            if ended:
                _give_back(child)
            else:
                child.end()


def _of_stage(error: _SilentError) -> str:
    return error.detail.replace("decoding it takes", "it takes").replace("nothing was decoded of it", "nothing came")


class _SilentError(Exception):
    """The process died, says nothing any more, or says that it failed."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(detail)


@dataclass(frozen=True)
class _Fall:
    """At which item the process fell, and why."""

    item: str
    reason: str
    detail: str


class _Seen:
    """How far the process has come. current : the item last begun; stage : the clip stage at work;
    ended, unfinished : of those whose rows arrived."""

    def __init__(self) -> None:
        self.current: str | None = None
        self.stage = ""
        self.ended: set[str] = set()
        self.unfinished: set[str] = set()

    def note(self, clips: pa.Table) -> None:
        self.unfinished |= set(clips["item_id"].unique().to_pylist())
        done = set(clips.filter(pc.equal(clips["last"], True))["item_id"].to_pylist())
        self.ended |= done
        self.unfinished -= done


def _rest(part: pa.Table, ended: set[str], fall: _Fall) -> list[pa.Table]:
    """Return what is still to be done, in the plan's order.

    A crash or a failure may have been any of the recordings under way: each is tried alone, and one that fell alone is
    rejected. Silence is always the last one's.
    """
    items = part["item_id"].to_pylist()
    if fall.item not in items or fall.item in ended:
        raise ClipmillError(f"the decoding process names an item that it was not given: {fall.item!r}")
    start = next(i for i, item in enumerate(items) if item not in ended)
    at = items.index(fall.item)
    behind = part.slice(at + 1)
    if fall.reason != "decoder_timeout" and part.num_rows > 1:
        parts = [part.slice(i, 1) for i in range(start, at + 1)]
    elif part["reason"][at].is_valid:
        raise ClipmillError(f"the decoding process does not work: {fall.detail}, without reading anything")
    else:
        parts = [part.slice(start, at - start), _rejected(part.slice(at, 1), fall)]
    return [p for p in (*parts, behind) if p.num_rows]


def _rejected(row: pa.Table, fall: _Fall) -> pa.Table:
    row = replace_column(row, "reason", pa.array([fall.reason], pa.string()))
    return replace_column(row, "detail", pa.array([fall.detail], pa.string()))


def _void(part: pa.Table, items: set[str]) -> pa.Table:
    rows = part.filter(pc.is_in(part["item_id"], pa.array(sorted(items)))).select(ITEM_COLUMNS).to_pylist()
    return pa.Table.from_pylist([{**row, "status": "void"} for row in rows], schema=CLIPS)


class _Child:
    """The process and the pipes to it."""

    def __init__(self) -> None:
        with temporary_file_errors("keep what the decoding process says in a temporary file"):
            self._errors: IO[bytes] = tempfile.TemporaryFile(prefix="clipmill-")  # noqa: SIM115
        self._searched = without_current_folder(sys.path)
        to_child, ours_out = os.pipe()
        ours_in, from_child = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "clipmill.pipelines.run.sandbox_child", str(to_child), str(from_child)],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=(to_child, from_child),
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(self._searched),
                    "OMP_NUM_THREADS": "1",
                },
            )
        finally:
            os.close(to_child)
            os.close(from_child)
        self._requests = itertools.count(1)
        self._request = b""
        self._origins: Mapping[str, str] | None = None
        self._to, self._from = Connection(ours_out, readable=False), Connection(ours_in, writable=False)
        fcntl.fcntl(ours_in, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # the next table is made while this one is worked on

    @property
    def is_fit(self) -> bool:
        """Whether it is alive, and finds the modules that this process finds: a notebook may have added a folder since."""
        return self._process.poll() is None and self._searched == without_current_folder(sys.path)

    def knows(self, origins: Mapping[str, str]) -> bool:
        """Whether it has not loaded another version of a stage: modules stay as they were when they were imported."""
        return self._origins is None or self._origins == origins

    def request(self, config: Config, stages: list[dict[str, str]], plan: pa.Table) -> None:
        self._origins = stages[0]
        self._request = next(self._requests).to_bytes(ID_BYTES, "big")
        try:
            self._to.send_bytes(self._request)
            # Through the pipe alone, since it can hold credentials. Checking how to draw would load matplotlib there.
            told = config.model_dump_json(by_alias=True, exclude_unset=True, exclude={"output": {"images"}})
            self._to.send_bytes(told.encode())
            self._to.send_bytes(json.dumps(stages).encode())
            self._to.send_bytes(stream_bytes(plan))
        except OSError:  # it is gone; the first answer will say so
            return

    def answer(self, timeout_s: float) -> tuple[bytes, memoryview]:
        """Return the kind and the content of the next message about the last request.

        Raises
        ------
        _SilentError : the process is dead, or was silent for too long
        """
        while True:
            try:
                if not self._from.poll(timeout_s):
                    raise _SilentError(
                        "decoder_timeout", f"nothing was decoded of it for {timeout_s:g} s (limits.decoder_timeout_s)"
                    )
                message = self._from.recv_bytes()
            except (EOFError, OSError):
                raise _SilentError("decoder_crashed", self._cause_of_death()) from None
            if message[1 : 1 + ID_BYTES] == self._request:
                return message[:1], memoryview(message)[1 + ID_BYTES :]

    def _cause_of_death(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"the decoding process was ended by {signal.Signals(-code).name}"
        return f"the decoding process ended by itself, with exit code {code}"  # a library can call exit()

    def report(self) -> str:
        """Return the end of what the process wrote to its standard error."""
        self._errors.seek(0)
        return self._errors.read(_REPORT_BYTES).decode("utf-8", "replace").strip()[-2000:]

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._to, self._from):
            pipe.close()
        self._errors.close()


_children: list[_Child] = []
"""This worker's processes that wait for a request."""


def _idle_child(origins: Mapping[str, str]) -> _Child:
    """Return a process that is the caller's until it is given back or ended."""
    while _children:
        child = _children.pop()
        if child.is_fit and child.knows(origins):
            return child
        child.end()
    return _Child()


def _give_back(child: _Child) -> None:
    """Keep a process whose request has ended for the next one. One is enough: two requests at once are rare."""
    if _children:
        child.end()
    else:
        _children.append(child)
