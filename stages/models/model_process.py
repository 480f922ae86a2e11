"""Run a model in a process of its own, since it is a program of others: it can crash, never end, or use up all memory.

There also is one thread in that process, however this one is set up, and its settings of torch are nobody else's. The process gets samples
and gives arrays, both as plain bytes through pipes; nothing is unpickled. It ends with the process that started it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

import clipmill
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.models.model_child import LOADED, MEMORY, RAISED, RESULT, UNUSABLE
from clipmill.stages.models.unusable import ModelDiedError, ModelRaisedError, UnusableModelError
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

Arrays = dict[str, npt.NDArray[Any]]
_LOAD_S = 600.0
_MAX_BYTES = 8 << 30
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}  # fmt: skip


@dataclass(frozen=True)
class ModelSource:
    """Where a model is, and how it is run.

    url : path or address of its file
    device : cpu | cuda | auto
    sha256 : of the content that is expected; None: any
    timeout_s, memory_mb : for a batch
    """

    url: str
    device: str
    timeout_s: float
    memory_mb: int
    sha256: str | None = None
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells processes apart. One that was forked has none of its parent's."""
        return (os.getpid(), self.url, self.device, self.sha256, self.timeout_s, self.memory_mb)

    @property
    def place(self) -> tuple[Root, str]:
        """The folder of the file, and its name."""
        folder, _, name = self.url.rpartition("/")
        return Root(folder or "/", self.storage_options if "://" in self.url else {}), name

    def open(self) -> IO[bytes]:
        """Open the file, copied to a temporary one if it is in a store.

        Raises
        ------
        UnusableModelError : there is no such file, or it may not be read
        ClipmillError : the storage failed
        """
        root, name = self.place
        try:
            if root.is_local:
                stream: IO[bytes] = open(root.full(name), "rb")  # noqa: SIM115 - the caller closes it
                if os.fstat(stream.fileno()).st_size <= _MAX_BYTES:
                    return stream
                stream.close()
                raise UnusableModelError(f"has more than {_MAX_BYTES >> 30} GiB, the most that is read")
            copy = tempfile.TemporaryFile(prefix="clipmill-")  # noqa: SIM115
            with root.open_read(name) as stream:
                shutil.copyfileobj(stream, copy, 1 << 20)
            copy.seek(0)
            return copy
        except FileNotFoundError:
            raise UnusableModelError("does not exist") from None
        except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
            raise UnusableModelError(f"cannot be read: {error.strerror}") from None
        except OSError as error:
            raise describe_os_error(error, root, f"read the model {name} at") from None


class ModelProcess:
    """A running model.

    about : what the process found out when it loaded the model, see `clipmill.stages.models.model_child`

    Raises
    ------
    UnusableModelError : the file is no model that can be run here
    ClipmillError : the storage failed
    """

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        self._start()

    def _start(self) -> None:
        to_child, ours_out = os.pipe()
        ours_in, from_child = os.pipe()
        try:
            with self.source.open() as stream:
                fd = stream.fileno()
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-P", "-m", "clipmill.stages.models.model_child", str(to_child), str(from_child)],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    pass_fds=(to_child, from_child, fd), env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": _search_path()},
                )  # fmt: skip
        except BaseException:
            os.close(ours_out)
            os.close(ours_in)
            raise
        finally:
            os.close(to_child)
            os.close(from_child)
        self._to, self._from = Connection(ours_out, readable=False), Connection(ours_in, writable=False)
        about = {"device": self.source.device, "memory_mb": self.source.memory_mb, "sha256": self.source.sha256}
        try:
            self._send(json.dumps({"fd": fd, **about}).encode())
            kind, content = self._answer(_LOAD_S)
        except ModelDiedError as error:
            raise UnusableModelError(f"cannot be loaded: {error}") from None
        if kind == UNUSABLE:
            self.end()
            raise UnusableModelError(str(content))
        assert kind == LOADED  # noqa: S101
        self.about: dict[str, Any] = content

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def run(
        self, x: npt.NDArray[np.float32], lengths: Sequence[int] | None, wanted: Sequence[str] | None = None
    ) -> Arrays:
        """Return the outputs of a batch by name: float32 or int64.

        Parameters
        ----------
        x : the input
        lengths : of the clips, for a model that takes them
        wanted : names of outputs; None: all

        Raises
        ------
        ModelRaisedError : the model raised an error
        ModelDiedError : it crashed, took too long, or too much memory; the next call starts it again
        UnusableModelError : its file has changed meanwhile
        """
        if not self.is_alive:
            self._restart()
        request = json.dumps({"shape": x.shape, "lengths": lengths, "wanted": wanted}).encode()
        try:
            kind, content = self._ask(request, x)
        except ModelDiedError:
            if self._process.returncode != 0:
                raise
            self._restart()  # it had nothing to do for long, and ended just before it was asked
            kind, content = self._ask(request, x)
        if kind == RAISED:
            raise ModelRaisedError(str(content))
        if kind == MEMORY:
            self.end()
            raise ModelDiedError(
                f"it needs more memory than there is, or than memory_mb {self.source.memory_mb} allows"
            )
        if kind != RESULT:
            raise ClipmillError(f"the process of the model {self.source.url} gave an invalid answer")
        found: Arrays = {}
        for name, dtype, shape in content:
            try:
                found[name] = np.frombuffer(self._from.recv_bytes(), dtype).reshape(shape)
            except (EOFError, OSError):
                raise self._died() from None
        return found

    def _restart(self) -> None:
        self.end()
        self._start()

    def _ask(self, request: bytes, x: npt.NDArray[np.float32]) -> tuple[bytes, Any]:
        self._send(request)
        self._send(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
        return self._answer(self.source.timeout_s)

    def _send(self, content: Any) -> None:
        try:
            self._to.send_bytes(content)
        except OSError:  # it has died
            raise self._died() from None

    def _answer(self, timeout_s: float) -> tuple[bytes, Any]:
        try:
            if not self._from.poll(timeout_s):
                self.end()
                raise ModelDiedError(f"it gave no answer for {timeout_s:g} s")
            message = self._from.recv_bytes()
        except (EOFError, OSError):
            raise self._died() from None
        return message[:1], json.loads(message[1:])

    def _died(self) -> ModelDiedError:
        self.end()
        code = self._process.returncode
        return ModelDiedError(
            f"its process was killed by {_signal_name(-code)}" if code < 0 else f"its process exited with code {code}"
        )

    def end(self) -> None:
        """End the process."""
        if not self._to.closed:
            self._to.close()
            try:
                self._process.wait(0.5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._from.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _search_path() -> str:
    """Return where the process finds modules: clipmill, and what this process finds, but not in the current folder."""
    here = os.path.realpath(os.curdir)
    own = str(Path(clipmill.__file__).parents[1])
    return os.pathsep.join([own, *(p for p in sys.path if p and os.path.realpath(p) != here and p != own)])


_running: dict[tuple[Any, ...], ModelProcess] = {}
"""The processes of models that this process has started."""


def running(source: ModelSource) -> ModelProcess:
    """Return the process of a model, which is started if there is none. Raises UnusableModelError, ClipmillError."""
    if source.key not in _running:
        _running[source.key] = ModelProcess(source)
    return _running[source.key]


def keep_running(process: ModelProcess, source: ModelSource) -> None:
    """Keep a process for `running`. source : that of the process, with what it has found out"""
    process.source = source
    _running[source.key] = process
