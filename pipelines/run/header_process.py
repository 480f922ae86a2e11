"""Read the headers of recordings in a separate process, since a damaged file can crash a library, use up memory, or never end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from clipmill.pipelines.plan.header_sample import Wanted
from clipmill.pipelines.run.search_path import without_current_folder
from clipmill.schemas.config import Config
from clipmill.stages.decode.header_length import HeaderLength
from clipmill.stages.storage.root import Root

_START_S, _EACH_S, _ALL_S = 60.0, 10.0, 120.0
_MEMORY_MB = 1000
_THREADS = 16
_MOST_CRASHES = 5


def read_headers(
    config: Config, wanted: Sequence[Wanted], all_s: float = _ALL_S, each_s: float = _EACH_S
) -> dict[str, HeaderLength]:
    """Return what the headers of recordings say, by id. A recording that cannot be read, or takes too long, is left out.

    all_s, each_s : time for all of them, and for one
    """
    found: dict[str, HeaderLength] = {}
    deadline = time.monotonic() + all_s
    waiting = list(enumerate(wanted))
    threads = 1 if all(Root(s.root, s.storage_options).is_local for s in config.sources) else _THREADS
    for _ in range(_MOST_CRASHES + 1):
        if not waiting:
            break
        answered = _try(config, waiting, found, threads, deadline, each_s)
        waiting = [(i, one) for i, one in waiting if i not in answered]
        if threads == 1:
            waiting = waiting[1:]  # at which the process ended
        threads = 1
        if time.monotonic() >= deadline:
            break
    return found


def _try(
    config: Config,
    waiting: list[tuple[int, Wanted]],
    found: dict[str, HeaderLength],
    threads: int,
    deadline: float,
    each_s: float,
) -> set[int]:
    """Read headers in one process until all are read or it fails. Returns the numbers of those that it answered."""
    by_number = dict(waiting)
    names = {one.source for one in by_number.values()}
    about = {
        "roots": {s.name: [s.root, s.storage_options] for s in config.sources if s.name in names},
        "raws": {s.name: s.raw.model_dump() for s in config.sources if s.name in names and s.raw is not None},
        "memory_mb": _MEMORY_MB,
        "threads": threads,
    }
    answered: set[int] = set()
    to_child, ours_out = os.pipe()
    ours_in, from_child = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", "clipmill.pipelines.run.header_child", str(to_child), str(from_child)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(to_child, from_child),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(without_current_folder(sys.path)), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    finally:
        os.close(to_child)
        os.close(from_child)
    requests, answers = Connection(ours_out, readable=False), Connection(ours_in, writable=False)
    try:
        # Only through the pipe, since storage_options can contain credentials.
        requests.send_bytes(json.dumps(about).encode())
        plain: list[list[Any]] = [[i, one.source, one.path, one.size_bytes] for i, one in waiting]
        requests.send_bytes(json.dumps(plain).encode())
        patience_s = _START_S
        while len(answered) < len(by_number):
            if not answers.poll(max(0.0, min(patience_s, deadline - time.monotonic()))):
                break
            number, length = json.loads(answers.recv_bytes())
            answered.add(number)
            if length is not None:
                found[by_number[number].recording_id] = HeaderLength(**length)
            patience_s = each_s
    except (EOFError, OSError):
        pass  # it has died
    finally:
        process.kill()
        process.wait()
        requests.close()
        answers.close()
    return answered
