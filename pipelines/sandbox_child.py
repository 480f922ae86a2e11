"""The process in which recordings are decoded. `pipelines.sandbox` starts it and says why.

It is told a configuration, as JSON, and a plan, as an Arrow stream, over and over. It answers each with messages of one letter
and a content: B, an item's id, when it begins an item and every second while it is at it; T, a table of clips; S,
storage failed, as JSON; M, memory is at its limit; E, the plan is done.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import resource
import signal
import sys
import time
from multiprocessing.connection import Connection

import pyarrow as pa

from pipelines.graph import Stage, clip_stages, through
from pipelines.sandbox import BEGIN, END, MEMORY, STORAGE, TABLE
from schemas.config import Config
from schemas.errors import StorageError
from stages.decode import Decode
from stages.rows import stream_bytes, stream_table

_PR_SET_PDEATHSIG = 1
_PULSE_S = 1.0
_MAX_REPORT_BYTES = 1 << 20


def main(from_parent: int, to_parent: int) -> None:
    """Serve plans until the pipe is closed. from_parent, to_parent : file descriptors of pipes."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # also when it is stuck in a decoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the worker decides when to end
    asked, answers = Connection(from_parent, writable=False), Connection(to_parent, readable=False)
    pulse = _Pulse(answers)
    pa.array([0])  # the first one loads pandas, which should not take its time from a recording
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_REPORT_BYTES, _MAX_REPORT_BYTES))  # for libraries that chatter
    told, stages = b"", list[Stage]()
    while True:
        try:
            config_json = asked.recv_bytes()
            plan = stream_table(asked.recv_bytes())
        except EOFError:
            return
        if config_json != told:
            config, told = Config.model_validate_json(config_json), config_json
            stages = [dataclasses.replace(s, pulse=pulse) if isinstance(s, Decode) else s for s in clip_stages(config)]
            for stage in stages:
                if isinstance(stage, Decode):
                    stage.connect()
            bound = _data_bytes() + config.limits.decoder_memory_mb * 1_000_000
            resource.setrlimit(resource.RLIMIT_DATA, (bound, resource.RLIM_INFINITY))
        try:
            for table in through(stages, [plan]):
                answers.send_bytes(TABLE + stream_bytes(table))
        except MemoryError:
            answers.send_bytes(MEMORY)
            return
        except StorageError as error:
            answers.send_bytes(STORAGE + json.dumps({"message": str(error), "transient": error.transient}).encode())
            return
        answers.send_bytes(END)


def _data_bytes() -> int:
    """Return what the process's own code and libraries take, which is not counted as decoding."""
    with open("/proc/self/status") as status:
        return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:")), 0)


class _Pulse:
    """Says which item is being decoded: at once when it is another, else once a second."""

    def __init__(self, answers: Connection) -> None:
        self._answers = answers
        self._item, self._at = "", 0.0

    def __call__(self, item: str) -> None:
        now = time.monotonic()
        if item != self._item or now - self._at >= _PULSE_S:
            self._item, self._at = item, now
            self._answers.send_bytes(BEGIN + item.encode())


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
    os._exit(0)  # libraries' threads need no farewell
