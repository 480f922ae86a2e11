"""Local files that appear whole or not at all, also where the file system knows neither hard links nor fsync.

A file that must not replace another appears in the first of three ways that its file system takes:

link
    a hard link to the finished temporary file
rename
    a rename that does not replace (`renameat2`)
claim
    Whoever creates a small file beside it with `O_EXCL` may look whether the name is free, and rename. A claim whose writer died
    is not removed, since a slower builder might remove the claim of a third one: the next claim has the next number, and only
    one builder gets that. Claims go when the file is there; from then on they decide nothing.

The name itself is never opened for writing, so that no reader finds a part of a file.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import io
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import IO, Literal

from clipmill.stages.storage.processes import is_running, machine_digest, process_start

TEMPORARY_PREFIX = ".clipmill-tmp-"
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"([0-9a-f]{8})-(\d+)-")
_CLAIM = re.compile(re.escape(TEMPORARY_PREFIX) + r"claim-\d+-(.+)", re.DOTALL)
_ABANDONED_S = 24 * 3600
_NO_LINKS = frozenset(
    {
        errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL,
        errno.EIO,  # rclone's; a disk that fails will also refuse what is tried next
    }
)  # fmt: skip
_NO_RENAMES = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
_NO_FSYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_GIVEN_UP = b"given up\n"
_UNSIGNED_S = 30.0
"""So long after it was made, a claim that does not say whose it is counts as left by a writer that was killed."""
_SILENT_S = 600.0
"""The same for a claim of another machine; for who holds it, it is a matter of milliseconds."""
_WAIT_S = 60.0
_LOOK_S = 0.02
_one_claim_at_a_time = threading.Lock()


class LocalFiles:
    """How files are written under one root. What its file system refuses shows at the first write, and is remembered.

    created_by : link | rename | claim, how a file appears that must not replace another; None before the first
    is_synced : False when the file system refused to say that a file has reached the disk
    """

    def __init__(self) -> None:
        self.created_by: Literal["link", "rename", "claim"] | None = None
        self.is_synced = True

    @property
    def weaknesses(self) -> list[str]:
        """What users should know of this file system, in sentences; empty for one that has what is needed."""
        found = []
        if self.created_by == "claim":
            found.append(
                "this file system has no hard links, and no renaming that never replaces: builds keep apart by files that they create"
                " here. That is safe on one machine; build this dataset from one machine at a time"
            )
        if not self.is_synced:
            found.append(
                "this file system cannot say that a file has reached the disk: if the power fails, run `clipmill verify`"
            )
        return found

    @contextlib.contextmanager
    def staged(self, target: str, replace: bool) -> Iterator[tuple[IO[bytes], Callable[[], bool]]]:
        """Open a file that appears when `publish` is called, which returns whether it did. An OSError names the file."""
        folder, name = os.path.split(target)
        os.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/{TEMPORARY_PREFIX}{machine_digest()}-{os.getpid()}-{uuid.uuid4().hex[:8]}-{name}"

        def publish() -> bool:
            with naming(target):
                stream.flush()
                self._sync(stream.fileno())
                stream.close()  # what some network file systems report no earlier must not come after the file is there
                if replace:
                    os.replace(temporary, target)
                    return True
                return self._create(temporary, target)

        try:
            with naming(target):
                stream = io.BufferedWriter(_Named(temporary, target))
            try:
                yield stream, publish
            finally:
                _close(stream)
        finally:
            with contextlib.suppress(OSError):  # it is renamed, or is swept later
                os.unlink(temporary)

    def _sync(self, handle: int) -> None:
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in _NO_FSYNC:
                raise
            self.is_synced = False

    def _create(self, temporary: str, target: str) -> bool:
        """Give a finished file its name unless that is taken; return whether it got it."""
        if self.created_by in (None, "link"):
            try:
                os.link(temporary, target)
                self.created_by = "link"
                return True
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
        if self.created_by != "claim":
            try:
                _rename_without_replacing(temporary, target)
                self.created_by = "rename"
                return True
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_RENAMES:
                    raise
        created = _create_by_claim(temporary, target)
        self.created_by = "claim"
        return created


class _Named(io.FileIO):
    """A raw file whose errors name what it becomes; the operating system's do not say which file was written to."""

    def __init__(self, path: str, becomes: str) -> None:
        self._becomes = becomes
        super().__init__(path, "wb")

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            error.filename = self._becomes
            raise


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Have an OSError that names no file, or a temporary one, name this file."""
    try:
        yield
    except OSError as error:
        named = error.filename
        if error.errno is not None and (named is None or TEMPORARY_PREFIX in os.fsdecode(str(named))):
            error.filename, error.filename2 = path, None
        raise


def _close(stream: IO[bytes]) -> None:
    """Close a file that was published, or is of no use any more: then it does not matter whether the rest could be written."""
    with contextlib.suppress(OSError):
        stream.close()


def _rename_without_replacing(source: str, target: str) -> None:
    """Rename unless the name is taken.

    Raises
    ------
    FileExistsError : it is
    OSError : with EINVAL or ENOSYS where the file system, the kernel or the C library cannot
    """
    renameat2 = _renameat2()
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), source, None, target)
    if renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, target)


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
        function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


def _create_by_claim(temporary: str, target: str) -> bool:
    """Rename unless the name is taken, with one process at a time that may.

    Raises
    ------
    TimeoutError : another one that lives has held the claim for a minute
    """
    with _one_claim_at_a_time:
        number = 0
        while not os.path.lexists(target):
            number = _claim(target, number)
            try:
                if os.path.lexists(target):
                    break
                if os.path.lexists(_claim_path(target, number + 1)):  # we were slow, and are taken for dead
                    continue
                os.rename(temporary, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    _sign(os.open(_claim_path(target, number), os.O_WRONLY | os.O_TRUNC), _GIVEN_UP)
                raise
            _remove_claims(target)
            return True
        _remove_claims(target)
        return False


def _claim_path(target: str, number: int) -> str:
    folder, name = os.path.split(target)
    return f"{folder}/{TEMPORARY_PREFIX}claim-{number}-{name}"


def _signature() -> bytes:
    return f"{machine_digest()} {os.getpid()} {process_start(os.getpid())}\n".encode()


def _sign(handle: int, text: bytes) -> None:
    """Say in a claim whose it is, and close it."""
    try:
        os.write(handle, text)
    finally:
        os.close(handle)


def _claim(target: str, number: int) -> int:
    """Make the first claim from a number on that is not held; return its number, or one that no longer matters as the file is there."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        path = _claim_path(target, number)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            if os.path.lexists(target):
                return number
            if _is_given_up(path):
                number += 1
            elif time.monotonic() > deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT, "another build is about to create it and does not", target
                ) from None
            else:
                time.sleep(_LOOK_S)
            continue
        try:
            _sign(handle, _signature())
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(path)  # which nobody can have passed over yet
            raise
        return number


def _is_given_up(path: str) -> bool:
    """Return whether nobody will act on a claim any more."""
    try:
        with open(path, "rb") as file:
            said = file.read(200)
        age_s = time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return False
    if said in (_GIVEN_UP, _signature()):  # ours is of an attempt before, since this process makes one at a time
        return True
    signed = re.fullmatch(rb"([0-9a-f]{8}) (\d+) (\d+)\n", said)
    if signed is None:
        return age_s > _UNSIGNED_S
    if signed[1].decode() == machine_digest():
        pid = int(signed[2])
        return not (is_running(pid) and process_start(pid) == int(signed[3]))
    return age_s > _SILENT_S


def _remove_claims(target: str) -> None:
    """Remove the claims of a file that is there."""
    number = 0
    with contextlib.suppress(
        OSError
    ):  # ends with the first that is not there; what another one removes at the same time is gone
        while True:
            os.unlink(_claim_path(target, number))
            number += 1


def leftover_sizes(top: str) -> dict[str, int]:
    """Return the temporary files under a folder that nobody will finish, by path, with their sizes in bytes."""
    found: dict[str, int] = {}
    for place, _, names in os.walk(top):
        for name in names:
            path = f"{place}/{name}"
            if name.startswith(TEMPORARY_PREFIX) and _is_abandoned(place, name):
                with contextlib.suppress(FileNotFoundError):
                    found[path] = os.stat(path).st_size
    return found


def _is_abandoned(place: str, name: str) -> bool:
    """Return whether a temporary file's writer is gone: known of processes on this machine, assumed of others after a day.

    A claim is abandoned when the file that it is for is there: before that, one that is removed could be made a second time.
    """
    claimed = _CLAIM.fullmatch(name)
    if claimed is not None and os.path.lexists(f"{place}/{claimed[1]}"):
        return True
    made = _TEMPORARY.match(name)
    if made is not None and made[1] == machine_digest():
        return not is_running(int(made[2]))
    try:
        return time.time() - os.stat(f"{place}/{name}").st_mtime > _ABANDONED_S
    except FileNotFoundError:
        return False
