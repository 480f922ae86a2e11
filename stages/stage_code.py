"""Carry the code of stages that no package installs to other processes, which do not search the user's folders."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from pathlib import Path, PurePosixPath

from clipmill.schemas.errors import StageError

DIGEST = "__clipmill_digest__"
"""Attribute of a module received from another process: the digest of all its code."""
_MAX_FILES, _MAX_BYTES = 1000, 4_000_000


def code_files(module: types.ModuleType) -> dict[str, bytes]:
    """Return the Python files of a top-level module or package, by their path relative to its parent folder.

    All modules of a package are included, since each can affect what a stage does.

    Raises
    ------
    StageError : the package has too many files or too much code
    """
    name = module.__name__
    folders = [Path(folder) for folder in getattr(module, "__path__", [])]
    if not folders:
        return {f"{name}.py": Path(str(module.__file__)).read_bytes()}
    files: dict[str, bytes] = {}
    size = 0
    for folder in folders:
        for path in folder.rglob("*.py"):
            files[f"{name}/{path.relative_to(folder).as_posix()}"] = content = path.read_bytes()
            size += len(content)
            if len(files) > _MAX_FILES or size > _MAX_BYTES:
                raise StageError(
                    f"the package {name!r} in {folder} contains more than {_MAX_FILES:,} Python files or {_MAX_BYTES // 1_000_000} MB of code;"
                    " put the stage into a smaller package, or install the package on all machines",
                    code="stage.unknown",
                )
    return files


def digest_of(files: Mapping[str, bytes]) -> str:
    """Return 16 hexadecimal digits that identify the content of files."""
    total = hashlib.sha256()
    for path in sorted(files, key=lambda p: PurePosixPath(p).parts):
        total.update(files[path])
    return total.hexdigest()[:16]


def receive(sources: Mapping[str, str]) -> bool:
    """Make modules importable that another process sent.

    Parameters
    ----------
    sources : result of `code_files`, decoded as Latin-1, which keeps every byte in JSON

    Returns
    -------
    whether any of the modules is new or has changed
    """
    tops: dict[str, dict[str, bytes]] = {}
    for path, text in sources.items():
        tops.setdefault(path.partition("/")[0].removesuffix(".py"), {})[path] = text.encode("latin-1")
    is_new = False
    for top, files in tops.items():
        finder = _Finder(top, files)
        if not any(isinstance(f, _Finder) and (f.top, f.digest) == (top, finder.digest) for f in sys.meta_path):
            sys.meta_path[:] = [f for f in sys.meta_path if not (isinstance(f, _Finder) and f.top == top)]
            sys.meta_path.insert(0, finder)
            for name in [n for n in sys.modules if n == top or n.startswith(f"{top}.")]:
                del sys.modules[name]
            is_new = True
    return is_new


class _Finder(MetaPathFinder, InspectLoader):
    """Import the modules of one package from memory."""

    def __init__(self, top: str, files: Mapping[str, bytes]) -> None:
        self.top, self.files, self.digest = top, files, digest_of(files)
        self._packages = _folders(files)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != self.top:
            return None
        place = fullname.replace(".", "/")
        if place not in self._packages and f"{place}.py" not in self.files:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=place, is_package=place in self._packages)

    def is_package(self, fullname: str) -> bool:
        return fullname.replace(".", "/") in self._packages

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._content(fullname))

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__[DIGEST] = self.digest
        exec(compile(self._content(module.__name__), f"{module.__name__}.py", "exec"), module.__dict__)  # noqa: S102 - the user's own stage, from the user's own process

    def _content(self, fullname: str) -> bytes:
        place = fullname.replace(".", "/")
        return self.files.get(f"{place}/__init__.py" if place in self._packages else f"{place}.py", b"")


def _folders(paths: Iterable[str]) -> frozenset[str]:
    """Return all folders that contain files, directly or in subfolders."""
    return frozenset(str(parent) for path in paths for parent in PurePosixPath(path).parents if str(parent) != ".")
