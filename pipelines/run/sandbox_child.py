"""The process in which recordings are decoded. `clipmill.pipelines.run.sandbox` starts it and explains why.

It receives requests, each of an id, a configuration and what else stages need (stages of other packages, files of noises, names of
fields), both as JSON, and a plan as an Arrow stream. It answers a request with messages of one letter, the request's id and content:

B  an item's id, when it begins an item, and every second while it works on it
T  a table of clips
G  a description of the clip stage that begins, for the case that it does not end; empty when it has ended
E  the plan is done: what was spent on it, as JSON
F  an unexpected exception ended the work: its text
S  storage failed: JSON
R  the plan cannot be done: a message to the user, as JSON
M  the memory limit is reached

After E and F it waits for the next request; after S, R and M it exits.
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
from clipmill.pipelines.run.shard_work import Work, apply_stages
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ClipmillError, StorageError
from clipmill.schemas.secret_values import hide_secrets
from clipmill.stages.arrow_rows import stream_bytes, stream_table
from clipmill.stages.clip_chain import ClipChain
from clipmill.stages.decode import Decode
from clipmill.stages.meter import spent

_PR_SET_PDEATHSIG = 1
_PULSE_S = 1.0
_MAX_REPORT_BYTES = 1 << 20
_MAX_TEXT = 500


def main(from_parent: int, to_parent: int) -> None:
    """Serve requests until the pipe is closed. from_parent, to_parent : file descriptors of pipes"""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # even if it is stuck in a decoder
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole process group; the worker decides when this process ends
    requests, answers = Connection(from_parent, writable=False), Connection(to_parent, readable=False)
    request = b""

    def answer(kind: bytes, content: bytes = b"") -> None:
        answers.send_bytes(kind + request + content)

    pulse = _Pulse(answer)
    pa.array([0])  # the first array loads pandas, whose time should not count as decoding
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    limit = _MAX_REPORT_BYTES if hard == resource.RLIM_INFINITY else min(_MAX_REPORT_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # for libraries that print a lot
    last_setup, stages = (b"", b""), list[Work]()
    while True:
        try:
            request = requests.recv_bytes()
            config_json = requests.recv_bytes()
            stages_json = requests.recv_bytes()
            plan = stream_table(requests.recv_bytes())
        except EOFError:
            return
        if (config_json, stages_json) != last_setup:
            config, last_setup = Config.model_validate_json(config_json), (config_json, stages_json)
            origins, sources, noises, field_names = json.loads(stages_json)
            try:
                chain = same_chain(config, origins, sources, noises, field_names)
                stages = _add_heartbeats(chain, pulse, answer)
            except ClipmillError as error:
                answer(REFUSED, json.dumps({"message": str(error), "code": error.code}).encode())
                return
            bound = _data_bytes() + config.limits.decoder_memory_mb * 1_000_000
            resource.setrlimit(resource.RLIMIT_DATA, (bound, resource.RLIM_INFINITY))
        pulse.reset()
        before = spent()
        try:
            for table in apply_stages(stages, [plan]):
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
        # The process boundary: an exception of a library or stage, whatever it is, costs only the recording.
        except Exception as error:  # noqa: BLE001
            with contextlib.suppress(OSError):  # the file of the report may have reached its limit
                print(hide_secrets(traceback.format_exc()), end="", file=sys.stderr)
            answer(FAILED, _describe(error).encode("utf-8", "backslashreplace"))
        else:
            answer(END, (spent() - before).to_json().encode())


def _add_heartbeats(chain: Chain, pulse: _Pulse, answer: Callable[[bytes, bytes], None]) -> list[Work]:
    """Return the stages from a plan to clips, set up to report what they are working on."""
    stages: list[Work] = []
    for stage in chain.to_clips:
        if isinstance(stage, Decode):
            stage.connect()
            stages.append(dataclasses.replace(stage, pulse=pulse))
        elif isinstance(stage, ClipChain):
            stages.append(dataclasses.replace(stage, begin=lambda description: answer(STAGE, description.encode())))
        else:
            stages.append(stage)
    return stages


def _describe(error: Exception) -> str:
    """Return the type, text and place of an exception in one line."""
    text = hide_secrets(" ".join(f"{type(error).__name__}: {error}".split()))[:_MAX_TEXT]
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else text


def _data_bytes() -> int:
    """Return the memory that the process's code and libraries take, in bytes; it does not count as decoding."""
    with open("/proc/self/status") as status:
        return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:")), 0)


class _Pulse:
    """Reports the item that is being decoded: immediately when it changes, else once per second."""

    def __init__(self, answer: Callable[[bytes, bytes], None]) -> None:
        self._answer = answer
        self.reset()

    def reset(self) -> None:
        """Begin a request: its first item is reported immediately, even if the last request ended with the same one."""
        self._item, self._at = "", 0.0

    def __call__(self, item: str) -> None:
        now = time.monotonic()
        if item != self._item or now - self._at >= _PULSE_S:
            self._item, self._at = item, now
            self._answer(BEGIN, item.encode())


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
    os._exit(0)  # without waiting for the threads of libraries
