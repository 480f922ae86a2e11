"""A file system that fails like an object store, by a plan that a test may change during a build. URLs: ``flaky:///folder``.

Files are stored in a local folder. The plan is a JSON file named by FLAKY_PLAN: `rate`, the share of calls that fail; `only`, a
regular expression that a path must match to fail; `beyond`, an offset before which reads succeed. A written file appears
when it is closed, complete or not at all.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

_draw = random.Random(os.getpid())


def maybe_fail(path: str, offset: int = 1 << 62) -> None:
    """Raise TimeoutError if the plan and chance say so."""
    plan = json.loads(Path(os.environ["FLAKY_PLAN"]).read_text())
    if offset < plan.get("beyond", 0):
        return
    if re.search(plan.get("only", ""), path) and _draw.random() < plan["rate"]:
        raise TimeoutError(f"no answer from the store about {Path(path).name}")


class _Reading:
    def __init__(self, path: str) -> None:
        self._path, self._file = path, open(path, "rb")  # noqa: SIM115

    def read(self, size: int = -1) -> bytes:
        # A read without a size reaches to the end.
        maybe_fail(self._path, self._file.tell() if size >= 0 else os.fstat(self._file.fileno()).st_size)
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Writing:
    def __init__(self, path: str, exclusive: bool) -> None:
        self._path, self._exclusive, self._content, self.closed = path, exclusive, io.BytesIO(), False

    def write(self, data: Any) -> int:
        return self._content.write(data)

    def discard(self) -> None:
        self.closed = True

    def close(self) -> None:
        if self.closed:
            return
        maybe_fail(self._path)
        if self._exclusive and os.path.exists(self._path):
            raise FileExistsError(self._path)
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        staged = f"{self._path}.{os.getpid()}.part"
        Path(staged).write_bytes(self._content.getvalue())
        os.replace(staged, self._path)
        self.closed = True

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FlakyFileSystem(LocalFileSystem):
    """The local file system, with failures."""

    protocol = "flaky"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, str) and path.startswith("flaky://"):
            path = path.removeprefix("flaky://")
        return LocalFileSystem._strip_protocol(path)

    def info(self, path: str, **kwargs: Any) -> Any:
        maybe_fail(str(path), 0)
        return super().info(path, **kwargs)

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> Any:
        maybe_fail(path)
        with os.scandir(self._strip_protocol(path)) as entries:
            infos = [super(FlakyFileSystem, self).info(entry) for entry in entries]
        return infos if detail else [info["name"] for info in infos]

    def cat_file(self, path: str, **kwargs: Any) -> bytes:
        maybe_fail(path)
        return Path(self._strip_protocol(path)).read_bytes()[: kwargs.get("end")]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        with self.open(path, "xb" if mode == "create" else "wb") as file:
            file.write(value)

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        place = self._strip_protocol(path)
        maybe_fail(place, 0)
        return _Reading(place) if mode == "rb" else _Writing(place, "x" in mode)


def register() -> None:
    """Make the file system known to fsspec."""
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)


SITECUSTOMIZE = """
import sys
if "clipmill.pipelines.run.sandbox_child" in sys.orig_argv:
    import flaky
    from clipmill.stages.storage import patience as retry
    flaky.register()
    retry.FIRST_WAIT_S = 0.001
"""
