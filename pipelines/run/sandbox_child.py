"""The process in which recordings are decoded. `clipmill.pipelines.run.sandbox` starts it and says why.

It is told a request's id, a configuration, as JSON, and a plan, as an Arrow stream, over and over. It answers each with messages
of one letter, the request's id and a content: B, an item's id, when it begins an item and every second while it is at it; T, a
table of clips; E, the plan is done; F, an exception that no stage expects ended it, in words; S, storage failed, as JSON; R, a
message to the user, as JSON; G, what to say if the clip stage that begins does not end, "" when it has; M, memory is at
its limit. After E and F it waits for the next request, after the others it is of no more use.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

import pyarrow as pa

from clipmill.pipelines.chain import Chain, same_chain
from clipmill.pipelines.run.sandbox import BEGIN, END, FAILED, MEMORY, REFUSED, STAGE, STORAGE, TABLE
from clipmill.pipelines.run.shard_work import Work, through
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ClipmillError, StorageError
from clipmill.stages.arrow_rows import stream_bytes, stream_table
from clipmill.stages.clip_chain import ClipChain
from clipmill.stages.decode import Decode

_PR_SET_PDEATHSIG = 1
_PULSE_S = 1.0
_MAX_REPORT_BYTES = 1 << 20
_MAX_TEXT = 500


def main(from_parent: int, to_parent: int) -> None:
    """Serve plans until the pipe is closed. from_parent, to_parent : file descriptors of pipes."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # also when it is stuck in a decoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the worker decides when to end
    asked, answers = Connection(from_parent, writable=False), Connection(to_parent, readable=False)
    request = b""

    def answer(kind: bytes, content: bytes = b"") -> None:
        answers.send_bytes(kind + request + content)

    pulse = _Pulse(answer)
    pa.array([0])  # the first one loads pandas, which should not take its time from a recording
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    most = _MAX_REPORT_BYTES if allowed == resource.RLIM_INFINITY else min(_MAX_REPORT_BYTES, allowed)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # for libraries that chatter
    told, stages = (b"", b""), list[Work]()
    while True:
        try:
            request = asked.recv_bytes()
            config_json = asked.recv_bytes()
            stages_json = asked.recv_bytes()
            plan = stream_table(asked.recv_bytes())
        except EOFError:
            return
        if (config_json, stages_json) != told:
            config, told = Config.model_validate_json(config_json), (config_json, stages_json)
            origins, sources = json.loads(stages_json)
            try:
                stages = _with_signs_of_life(same_chain(config, origins, sources), pulse, answer)
            except ClipmillError as error:
                answer(REFUSED, json.dumps({"message": str(error), "code": error.code}).encode())
                return
            bound = _data_bytes() + config.limits.decoder_memory_mb * 1_000_000
            resource.setrlimit(resource.RLIMIT_DATA, (bound, resource.RLIM_INFINITY))
        pulse.forget()
        try:
            for table in through(stages, [plan]):
                answer(TABLE, stream_bytes(table))
        except MemoryError:
            answer(MEMORY)
            return
        except StorageError as error:
            answer(STORAGE, json.dumps({"message": str(error), "transient": error.transient}).encode())
            return
        except ClipmillError as error:
            answer(REFUSED, json.dumps({"message": str(error), "code": error.code}).encode())
            return
        # The process boundary: whatever content makes a library or a stage raise costs its recording.
        except Exception as error:  # noqa: BLE001
            with contextlib.suppress(OSError):  # the report may be at its limit
                traceback.print_exc()
            answer(FAILED, _in_words(error).encode("utf-8", "backslashreplace"))
        else:
            answer(END)


def _with_signs_of_life(chain: Chain, pulse: _Pulse, answer: Callable[[bytes, bytes], None]) -> list[Work]:
    """Return the stages from a plan to clips, which say what they are at."""
    stages: list[Work] = []
    for stage in chain.to_clips:
        if isinstance(stage, Decode):
            stage.connect()
            stages.append(dataclasses.replace(stage, pulse=pulse))
        elif isinstance(stage, ClipChain):
            stages.append(dataclasses.replace(stage, begin=lambda said: answer(STAGE, said.encode())))
        else:
            stages.append(stage)
    return stages


def _in_words(error: Exception) -> str:
    """Return an exception's type, text and place in one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_TEXT]
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else text


def _data_bytes() -> int:
    """Return what the process's own code and libraries take, which is not counted as decoding."""
    with open("/proc/self/status") as status:
        return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:")), 0)


class _Pulse:
    """Says which item is being decoded: at once when it is another, else once a second."""

    def __init__(self, answer: Callable[[bytes, bytes], None]) -> None:
        self._answer = answer
        self.forget()

    def forget(self) -> None:
        """Begin a request: its first item is told at once, also when it is the last request's."""
        self._item, self._at = "", 0.0

    def __call__(self, item: str) -> None:
        now = time.monotonic()
        if item != self._item or now - self._at >= _PULSE_S:
            self._item, self._at = item, now
            self._answer(BEGIN, item.encode())


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
    os._exit(0)  # libraries' threads need no farewell
