"""The process in which headers are read for `clipmill plan`. `clipmill.pipelines.run.header_process` starts it.

It receives JSON: first the roots and the memory limit, then a list of recordings. It answers one message for each recording, as soon as
its header is read, and ends when the pipe is closed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from clipmill.schemas.config.raw_config import Raw
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.decode.header_length import header_length
from clipmill.stages.storage.root import Root

_PR_SET_PDEATHSIG = 1


def main(from_parent: int, to_parent: int) -> None:
    """Answer one request. from_parent, to_parent : file descriptors of pipes"""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = Connection(from_parent, writable=False), Connection(to_parent, readable=False)
    with contextlib.suppress(EOFError, BrokenPipeError):
        about: dict[str, Any] = json.loads(requests.recv_bytes())
        wanted: list[list[Any]] = json.loads(requests.recv_bytes())
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        bound = _data_bytes() + about["memory_mb"] * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (bound, resource.RLIM_INFINITY))
        roots = {name: Root(*place) for name, place in about["roots"].items()}
        raws = {name: Raw.model_validate(raw) for name, raw in about["raws"].items()}
        with ThreadPoolExecutor(about["threads"]) as pool:
            for answer in pool.map(lambda one: _read(one, roots, raws), wanted):
                answers.send_bytes(json.dumps(answer).encode())


def _read(one: list[Any], roots: dict[str, Root], raws: dict[str, Raw]) -> list[Any]:
    """Return the number of a recording, and what its header says or None."""
    number, source, path, size_bytes = one
    root = roots[source]
    expected: tuple[type[Exception], ...] = (OSError, ClipmillError, *root.errors)
    try:
        with contextlib.closing(root.open_read(path, whole=False, size_bytes=size_bytes)) as stream:
            found = header_length(stream, size_bytes, raws.get(source))
    except expected:
        return [number, None]
    return [number, asdict(found) if found is not None else None]


def _data_bytes() -> int:
    """Return the memory that the process's code and libraries take, in bytes."""
    with open("/proc/self/status") as status:
        return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:")), 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
