"""Decode recordings in a separate process, since a decoder can crash, use up all memory, or never end.

The process lives as long as the worker that started it, and works on one plan after the other. If it dies or stops responding, the
recording at fault is rejected and a new process continues with the others. To find that recording after a crash, or after an unexpected
exception, the recordings in progress are tried one by one, and only one that fails alone is rejected.

A process serves one request at a time. It is used again only after it has reported the end of a request: a late answer to an earlier
request, whose consumer may have stopped reading or may resume, must not be taken for an answer to the next one.

`clipmill.pipelines.run.sandbox_child` describes the messages between the two processes. Only Arrow tables and plain text are read
from the decoding process; nothing is unpickled.
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
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.run.search_path import without_current_folder
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ClipmillError, StageError, StorageError
from clipmill.schemas.tables import CLIPS, ITEM_COLUMNS, PLAN
from clipmill.stages.arrow_rows import replace_column, stream_bytes, stream_table
from clipmill.stages.clip_buffer import temporary_file_errors
from clipmill.stages.meter import Spent, add_spent, count_retry
from clipmill.stages.noise_library import Noises

BEGIN, TABLE, END, STORAGE, MEMORY, REFUSED, FAILED, STAGE = b"B", b"T", b"E", b"S", b"M", b"R", b"F", b"G"
ID_BYTES = 8
"""Size of a request's id, which precedes its configuration and plan, and follows the letter of each answer."""
_PIPE_BYTES = 1 << 20
_REPORT_BYTES = 1 << 16
_START_S = 120.0
"""Time that a busy machine may need to start a process and load its libraries, in seconds; it is not charged to a recording."""


@dataclass(frozen=True)
class Sandbox:
    """Makes clips of recordings in a separate process. Takes a plan, returns an iterator of `clipmill.schemas.tables.CLIPS`.

    A row with the status `void` cancels the rows of its item so far; the item follows again.

    config : of the build; its limits bound a decoder's silence, in seconds, and its memory
    origins, sources : of stages of other packages, see `clipmill.pipelines.chain.Chain`
    noises : files of the trees of noises that stages use
    field_names : the corpus's own fields
    """

    config: Config
    origins: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    noises: Noises = field(default_factory=dict)
    field_names: Sequence[str] = ()

    def start(self) -> None:
        """Start the process, which otherwise starts with the first plan, and wait until it is ready."""
        for _ in self(PLAN.empty_table()):
            pass

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        waiting = deque([table])
        while waiting:
            part = waiting.popleft()
            state = _Progress()
            failure = yield from self._run(part, state)
            if failure is None:
                continue
            count_retry()
            if state.unfinished:
                yield _void_rows(part, state.unfinished)
            waiting.extendleft(reversed(_remaining_parts(part, state.ended, failure)))

    def _run(self, part: pa.Table, state: _Progress) -> Generator[pa.Table, None, _Failure | None]:
        child = _idle_child(self.origins)
        is_reusable = False
        try:
            about = [dict(self.origins), dict(self.sources), dict(self.noises), list(self.field_names)]
            child.request(self.config, about, part)
            timeout_s = self.config.limits.decoder_timeout_s
            while True:
                kind, payload = child.answer(timeout_s if state.current else max(timeout_s, _START_S))
                if kind == END:
                    is_reusable = True
                    add_spent(Spent.from_json(bytes(payload)))
                    return None
                if kind == BEGIN:
                    state.current = bytes(payload).decode()
                elif kind == TABLE:
                    clips = stream_table(payload)
                    state.add(clips)
                    yield clips
                elif kind == FAILED:
                    is_reusable = True  # it has closed its files, and waits for the next request
                    raise _SilentError("decoder_failed", bytes(payload).decode())
                elif kind == STORAGE:
                    error = json.loads(bytes(payload))
                    raise StorageError(str(error["message"]), transient=bool(error["transient"]))
                elif kind == REFUSED:
                    refusal = json.loads(bytes(payload))
                    raise ClipmillError(str(refusal["message"]), code=str(refusal["code"]))
                elif kind == STAGE:
                    state.stage = bytes(payload).decode()
                else:
                    limit = self.config.limits.decoder_memory_mb
                    raise _SilentError(
                        "decoder_crashed",
                        f"decoding it needs more than {limit} MB of memory (limits.decoder_memory_mb)",
                    )
        except _SilentError as error:
            if state.stage:
                raise StageError(
                    f"stage {state.stage}: {_stage_detail(error)}; no recording is at fault: correct the stage, then build again"
                ) from None
            if state.current is None:
                raise ClipmillError(f"the decoding process does not work: {error.detail}; {child.report()}") from None
            return _Failure(state.current, error.reason, error.detail)
        finally:
            if is_reusable:
                _give_back(child)
            else:
                child.end()


def _stage_detail(error: _SilentError) -> str:
    return error.detail.replace("decoding it needs", "it needs").replace("nothing was decoded", "it returned nothing")


class _SilentError(Exception):
    """The process died, stopped responding, or reported a failure."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(detail)


@dataclass(frozen=True)
class _Failure:
    """The item at which the process failed, and why."""

    item: str
    reason: str
    detail: str


class _Progress:
    """How far the process is with a part of a plan.

    current : id of the item that it began last
    stage : description of the running clip stage; empty without one
    ended, unfinished : ids of items whose rows arrived completely, and in part
    """

    def __init__(self) -> None:
        self.current: str | None = None
        self.stage = ""
        self.ended: set[str] = set()
        self.unfinished: set[str] = set()

    def add(self, clips: pa.Table) -> None:
        """Record the rows that arrived."""
        self.unfinished |= set(clips["item_id"].unique().to_pylist())
        ended = set(clips.filter(pc.equal(clips["last"], True))["item_id"].to_pylist())
        self.ended |= ended
        self.unfinished -= ended


def _remaining_parts(part: pa.Table, ended: set[str], failure: _Failure) -> list[pa.Table]:
    """Return what remains to be done, in the plan's order.

    Any recording in progress can have caused a crash or an exception: each is tried alone, and rejected if it fails alone. A timeout
    is always caused by the last one.
    """
    items = part["item_id"].to_pylist()
    if failure.item not in items or failure.item in ended:
        raise ClipmillError(f"the decoding process reports an item that it was not given: {failure.item!r}")
    start = next(i for i, item in enumerate(items) if item not in ended)
    at = items.index(failure.item)
    rest = part.slice(at + 1)
    if failure.reason != "decoder_timeout" and part.num_rows > 1:
        parts = [part.slice(i, 1) for i in range(start, at + 1)]
    elif part["reason"][at].is_valid:
        raise ClipmillError(f"the decoding process does not work: {failure.detail}, without reading anything")
    else:
        parts = [part.slice(start, at - start), _reject(part.slice(at, 1), failure)]
    return [p for p in (*parts, rest) if p.num_rows]


def _reject(row: pa.Table, failure: _Failure) -> pa.Table:
    row = replace_column(row, "reason", pa.array([failure.reason], pa.string()))
    return replace_column(row, "detail", pa.array([failure.detail], pa.string()))


def _void_rows(part: pa.Table, items: set[str]) -> pa.Table:
    rows = part.filter(pc.is_in(part["item_id"], pa.array(sorted(items)))).select(ITEM_COLUMNS).to_pylist()
    return pa.Table.from_pylist([{**row, "status": "void"} for row in rows], schema=CLIPS)


class _Child:
    """The decoding process and the pipes to it."""

    def __init__(self) -> None:
        with temporary_file_errors("keep the output of the decoding process in a temporary file"):
            self._errors: IO[bytes] = tempfile.TemporaryFile(prefix="clipmill-")  # noqa: SIM115
        self._search_path = without_current_folder(sys.path)
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
                    "PYTHONPATH": os.pathsep.join(self._search_path),
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
        fcntl.fcntl(ours_in, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # room for the next table while this one is processed

    @property
    def is_fit(self) -> bool:
        """Whether it is alive, and has this process's module search path: a notebook may have added a folder since."""
        return self._process.poll() is None and self._search_path == without_current_folder(sys.path)

    def knows(self, origins: Mapping[str, str]) -> bool:
        """Return whether it has loaded no other versions of stages: modules are not imported again."""
        return self._origins is None or self._origins == origins

    def request(self, config: Config, stages: list[Any], plan: pa.Table) -> None:
        """Send a plan. stages : origins and sources of stages of other packages, the files of noises, and the names of fields"""
        self._origins = stages[0]
        self._request = next(self._requests).to_bytes(ID_BYTES, "big")
        try:
            self._to.send_bytes(self._request)
            # Only through the pipe, since it can contain credentials. Validating `images` would load matplotlib in the process.
            config_json = config.model_dump_json(by_alias=True, exclude_unset=True, exclude={"output": {"images"}})
            self._to.send_bytes(config_json.encode())
            self._to.send_bytes(json.dumps(stages).encode())
            self._to.send_bytes(stream_bytes(plan))
        except OSError:  # it has died, which `answer` reports
            return

    def answer(self, timeout_s: float) -> tuple[bytes, memoryview]:
        """Return the kind and the content of the next message that answers the last request.

        Raises
        ------
        _SilentError : the process is dead, or sent nothing for `timeout_s` seconds
        """
        while True:
            try:
                if not self._from.poll(timeout_s):
                    raise _SilentError(
                        "decoder_timeout", f"nothing was decoded for {timeout_s:g} s (limits.decoder_timeout_s)"
                    )
                message = self._from.recv_bytes()
            except (EOFError, OSError):
                raise _SilentError("decoder_crashed", self._cause_of_death()) from None
            if message[1 : 1 + ID_BYTES] == self._request:
                return message[:1], memoryview(message)[1 + ID_BYTES :]

    def _cause_of_death(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"the decoding process was killed by {signal.Signals(-code).name}"
        return f"the decoding process exited with code {code}"  # a library can call exit()

    def report(self) -> str:
        """Return the end of what the process wrote to its standard error."""
        self._errors.seek(0)
        return self._errors.read(_REPORT_BYTES).decode("utf-8", "replace").strip()[-2000:]

    def end(self) -> None:
        """Kill the process and close its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._to, self._from):
            pipe.close()
        self._errors.close()


_children: list[_Child] = []
"""Idle processes of this worker."""


def launch_decoder() -> None:
    """Start a process ahead of the first plan, without waiting for it, so that it loads its libraries while this one loads others."""
    if not _children:
        _children.append(_Child())


def _idle_child(origins: Mapping[str, str]) -> _Child:
    """Return an idle process, or a new one. The caller gives it back or ends it."""
    while _children:
        child = _children.pop()
        if child.is_fit and child.knows(origins):
            return child
        child.end()
    return _Child()


def _give_back(child: _Child) -> None:
    """Keep a process whose request has ended for the next one. Only one is kept, since two requests at once are rare."""
    if _children:
        child.end()
    else:
        _children.append(child)
