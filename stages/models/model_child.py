"""The process in which a model runs. `clipmill.stages.models.model_process` starts it and explains why.

It reads a setup as JSON: the file descriptor of the model's file, the device, and the limits. It answers with one letter and JSON:

L  the model is loaded: what is known of it
X  the file is no model that can be run here: why

Then it reads requests: JSON with the shape of the input, the lengths or null, and the names of wanted outputs or null, and behind it the
input as bytes. It answers:

R  the outputs' names, types and shapes; each output follows as bytes
F  the model raised an error: its text
M  there was not enough memory; the process ends

It ends when the pipe is closed, or after a while without requests.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from clipmill.stages.models.model_format import checked_format
from clipmill.stages.models.unusable import UnusableModelError

LOADED, UNUSABLE, RESULT, RAISED, MEMORY = b"L", b"X", b"R", b"F", b"M"
MAX_OUTPUT_BYTES = 512 << 20
"""Size of the outputs of a batch. More is taken for an error of the model."""
IDLE_S = {"cpu": 120.0, "cuda": 20.0}
"""How long the process waits for a request, by device: memory of a GPU is scarce."""

_PR_SET_PDEATHSIG = 1
_MAX_FILE_BYTES = 1 << 20
_MAX_TEXT = 400
_OUT_OF_MEMORY = ("can't allocate memory", "bad_alloc", "bad allocation", "out of memory", "failed to allocate")


def main(from_parent: int, to_parent: int) -> None:
    """Serve requests. from_parent, to_parent : file descriptors of pipes"""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when this process ends
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_FSIZE, _MAX_FILE_BYTES)  # models write no files
    requests, answers = Connection(from_parent, writable=False), Connection(to_parent, readable=False)
    try:
        runner = _load(json.loads(requests.recv_bytes()))
    except UnusableModelError as error:
        answers.send_bytes(UNUSABLE + json.dumps(str(error)).encode())
        return
    except (ImportError, OSError) as error:  # of the library that is to run it
        text = f"cannot be loaded: {type(error).__name__}: {_describe(error)}"
        answers.send_bytes(UNUSABLE + json.dumps(text).encode())
        return
    except MemoryError:
        answers.send_bytes(
            UNUSABLE + json.dumps("needs more memory to be loaded than memory_mb allows: raise it").encode()
        )
        return
    answers.send_bytes(LOADED + json.dumps(runner.about).encode())
    while requests.poll(IDLE_S[runner.about["device"]]):
        try:
            request = json.loads(requests.recv_bytes())
            content = requests.recv_bytes()
        except EOFError:
            return
        if not _serve(runner, request, content, answers):
            return


def _load(setup: dict[str, Any]) -> Any:
    """Return the model, checked, loaded and ready."""
    with open(setup["fd"], "rb") as stream:
        content = stream.read()
    sha256 = hashlib.sha256(content).hexdigest()
    if setup["sha256"] not in (None, sha256):
        raise UnusableModelError("has changed since the build was planned: build again")
    format = checked_format(content)
    runner: Any
    if format == "torchscript":
        from clipmill.stages.models import torchscript_runner as own

        kind: Any = own.TorchScriptRunner
    else:
        from clipmill.stages.models import onnx_runner as own  # type: ignore[no-redef]

        kind = own.OnnxRunner  # type: ignore[attr-defined]
    device = own.device_for(setup["device"])
    if device == "cpu":  # CUDA reserves much more than it uses
        _lower(resource.RLIMIT_DATA, _data_bytes() + setup["memory_mb"] * 1_000_000)
    runner = kind(content, device)
    runner.about |= {"sha256": sha256, "size_bytes": len(content)}
    return runner


def _serve(runner: Any, request: dict[str, Any], content: bytes, answers: Connection) -> bool:
    """Answer one request. Returns False if the process should end."""
    x = np.frombuffer(content, np.float32).reshape(request["shape"]).copy()
    lengths = np.array(request["lengths"], np.int64) if request["lengths"] is not None else None
    try:
        outputs = runner.run(x, lengths, request["wanted"])
        if sum(values.nbytes for values in outputs.values()) > MAX_OUTPUT_BYTES:
            raise ValueError(f"its outputs have more than {MAX_OUTPUT_BYTES >> 20} MiB")
    # The boundary to other people's programs: whatever it raises is an answer.
    except Exception as error:  # noqa: BLE001
        text = _describe(error)
        is_memory = isinstance(error, MemoryError) or any(part in text.lower() for part in _OUT_OF_MEMORY)
        answers.send_bytes((MEMORY if is_memory else RAISED) + json.dumps(text).encode())
        return not is_memory
    about = [[name, str(values.dtype), list(values.shape)] for name, values in outputs.items()]
    answers.send_bytes(RESULT + json.dumps(about).encode())
    for values in outputs.values():
        answers.send_bytes(values.reshape(-1).view(np.uint8).data if values.size else b"")
    return True


def _describe(error: BaseException) -> str:
    """Return what went wrong in one line, without the places in the program that torch tells before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    useful = [
        line
        for line in lines
        if not line.startswith(("Traceback", "File ", "...", "~", "<", "return ", "The following"))
    ]
    text = " ".join(useful[-2:] or lines[-2:]) or type(error).__name__
    return " ".join(text.split())[:_MAX_TEXT]


def _lower(kind: int, wanted: int) -> None:
    hard = resource.getrlimit(kind)[1]
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (limit, hard))


def _data_bytes() -> int:
    """Return the memory that the process's code and libraries take, in bytes; it does not count."""
    with open("/proc/self/status") as status:
        return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:")), 0)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
    os._exit(0)  # without waiting for the threads of libraries
