"""Write local files that appear complete or not at all, even on file systems without hard links or fsync.

A file that must not replace another is created by the first of three methods that its file system supports:

link
    a hard link to the finished temporary file
rename
    a rename that does not replace (`renameat2`)
claim
    The builder that creates a small claim file next to the target with `O_EXCL` may check that the name is free, and rename. A claim
    whose writer died is not removed, since a slower builder might remove the claim of a third one. Instead the next claim has the next
    number, and only one builder can create it. Claims are removed once the file exists; from then on they have no effect.

The target itself is never opened for writing, so no reader sees a partial file.
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

from clipmill.stages.storage.folder_sync import FolderSync
from clipmill.stages.storage.processes import is_running, machine_digest, process_start

TEMPORARY_PREFIX = ".clipmill-tmp-"
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"([0-9a-f]{8})-(\d+)-")
_CLAIM = re.compile(re.escape(TEMPORARY_PREFIX) + r"claim-\d+-(.+)", re.DOTALL)
LOCK_PREFIX = f"{TEMPORARY_PREFIX}lock-"
"""Of the files whose locks `swapping` holds. They are empty, and stay."""
_ABANDONED_S = 24 * 3600
_NO_LINKS = frozenset(
    {
        errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL,
        errno.EIO,  # from rclone; if the disk fails, the next method fails too
    }
)  # fmt: skip
_NO_RENAMES = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
_NO_FSYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_GIVEN_UP = b"given up\n"
_UNSIGNED_S = 30.0
"""Age from which a claim without a signature counts as left by a killed writer."""
_SILENT_S = 600.0
"""The same for a claim of another machine. Claims are normally held for milliseconds."""
_WAIT_S = 60.0
_LOOK_S = 0.02
_one_claim_at_a_time = threading.Lock()


class LocalFiles:
    """Writes files under one root, and remembers what its file system does not support.

    top : the root's folder
    folders : syncs names
    created_by : link | rename | claim, the method for files that must not replace another; None before the first
    is_synced : False if the file system does not support fsync
    has_swaps : False if a file had to be swapped (`Root.swap_bytes`) without a lock
    """

    def __init__(self, top: str) -> None:
        self.folders = FolderSync(top)
        self.created_by: Literal["link", "rename", "claim"] | None = None
        self.is_synced = True
        self.has_swaps = True

    @property
    def weaknesses(self) -> list[str]:
        """Return warnings about this file system for users; empty if it has all that is needed."""
        warnings = []
        if self.created_by == "claim":
            warnings.append(
                "this file system has neither hard links nor renames that never replace: builds coordinate through claim files"
                " here. That is safe on one machine; build this dataset from one machine at a time"
            )
        if not self.is_synced:
            warnings.append(
                "this file system cannot confirm that a file has reached the disk: after a power failure, run `clipmill verify`"
            )
        elif not self.folders.is_supported:
            warnings.append(
                "this file system cannot confirm that a file's name has reached the disk: after a power failure, run `clipmill verify`"
            )
        if not self.has_swaps:
            warnings.append(
                "this storage can neither lock a file nor compare it before it is replaced: run one `clipmill retry` or `gc` at a time,"
                " or entries of retries.json may be lost"
            )
        return warnings

    @contextlib.contextmanager
    def staged(
        self, target: str, replace: bool, is_record: bool = True
    ) -> Iterator[tuple[IO[bytes], Callable[[], bool]]]:
        """Open a file for writing, and yield it with a function `publish`.

        The file appears when `publish` is called, which returns whether it did: not if the name is taken and `replace` is False.

        is_record : the names of all files that were written or removed before are on the disk before this one appears, and its own
            afterwards; otherwise its name is on the disk when the next record has been written, or after `folders.settle`

        Raises
        ------
        OSError : with `target` as the file's name
        """
        folder, name = os.path.split(target)
        with naming(target):
            self.folders.make(folder)
        temporary = f"{folder}/{TEMPORARY_PREFIX}{machine_digest()}-{os.getpid()}-{uuid.uuid4().hex[:8]}-{name}"

        def publish() -> bool:
            with naming(target):
                stream.flush()
                self._sync(stream.fileno())
                stream.close()  # some network file systems report errors only here, which must be before the file appears
                if is_record:
                    self.folders.settle()
                if replace:
                    os.replace(temporary, target)
                created = replace or self._create(temporary, target)
                self.folders.changed(folder)  # also when another one created it, who may not have come to sync it yet
                if is_record:
                    self.folders.settle()
                return created

        try:
            with naming(target):
                stream = io.BufferedWriter(_TargetNamingFile(temporary, target))
            try:
                yield stream, publish
            finally:
                _close(stream)
        finally:
            with contextlib.suppress(OSError):  # already renamed, or to be removed later as a leftover
                os.unlink(temporary)

    def _sync(self, handle: int) -> None:
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in _NO_FSYNC:
                raise
            self.is_synced = False

    def _create(self, temporary: str, target: str) -> bool:
        """Give a finished file its name unless that is taken; return whether it succeeded."""
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


class _TargetNamingFile(io.FileIO):
    """A raw file whose write errors name the target; those of the operating system name no file."""

    def __init__(self, path: str, target: str) -> None:
        self._target = target
        super().__init__(path, "wb")

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            error.filename = self._target
            raise


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Make an OSError that names no file, or a temporary one, name this file."""
    try:
        yield
    except OSError as error:
        error_path = error.filename
        if error.errno is not None and (error_path is None or TEMPORARY_PREFIX in os.fsdecode(str(error_path))):
            error.filename, error.filename2 = path, None
        raise


def _close(stream: IO[bytes]) -> None:
    """Close a file that was published or is discarded; errors of the last writes do not matter then."""
    with contextlib.suppress(OSError):
        stream.close()


def _rename_without_replacing(source: str, target: str) -> None:
    """Rename a file unless the name is taken.

    Raises
    ------
    FileExistsError : the name is taken
    OSError : EINVAL or ENOSYS if the file system, the kernel or the C library does not support it
    """
    renameat2 = _renameat2()
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), source, None, target)
    if renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, target)


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """Return the C library's function, None if it has none."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
        function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


def _create_by_claim(temporary: str, target: str) -> bool:
    """Rename a file unless the name is taken, under a claim; return whether it succeeded.

    Raises
    ------
    TimeoutError : another running process has held the claim for a minute
    """
    with _one_claim_at_a_time:
        number = 0
        while not os.path.lexists(target):
            number = _claim(target, number)
            try:
                if os.path.lexists(target):
                    break
                # A next claim shows that this process was so slow that it is taken for dead.
                if os.path.lexists(_claim_path(target, number + 1)):
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
    """Write a signature into a claim, and close it."""
    try:
        os.write(handle, text)
    finally:
        os.close(handle)


def _claim(target: str, number: int) -> int:
    """Create the first claim, from a number on, that nobody holds. Return its number, or any if the file exists by then."""
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
                    errno.ETIMEDOUT, "another build has claimed this file for a minute without creating it", target
                ) from None
            else:
                time.sleep(_LOOK_S)
            continue
        try:
            _sign(handle, _signature())
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(path)  # nobody can have skipped it yet
            raise
        return number


def _is_given_up(path: str) -> bool:
    """Return whether a claim has no holder any more."""
    try:
        with open(path, "rb") as file:
            content = file.read(200)
        age_s = time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return False
    # Our own is from an earlier attempt, since this process makes one claim at a time.
    if content in (_GIVEN_UP, _signature()):
        return True
    signature = re.fullmatch(rb"([0-9a-f]{8}) (\d+) (\d+)\n", content)
    if signature is None:
        return age_s > _UNSIGNED_S
    if signature[1].decode() == machine_digest():
        pid = int(signature[2])
        return not (is_running(pid) and process_start(pid) == int(signature[3]))
    return age_s > _SILENT_S


def _remove_claims(target: str) -> None:
    """Remove the claims of a file that exists."""
    number = 0
    # The first missing claim ends the loop. Claims that another process removes at the same time are gone as well.
    with contextlib.suppress(OSError):
        while True:
            os.unlink(_claim_path(target, number))
            number += 1


def clock_of(folder: str) -> float:
    """Return what a file system's clock says now, in seconds since 1970; this machine's if nothing can be written there.

    On a network file system that is the server's clock, by which other machines' files are dated as well.
    """
    path = f"{folder}/{TEMPORARY_PREFIX}{machine_digest()}-{os.getpid()}-{uuid.uuid4().hex[:8]}-clock"
    try:
        with open(path, "xb") as stream:
            now_s = os.fstat(stream.fileno()).st_mtime
        os.unlink(path)
    except OSError:
        return time.time()
    return now_s


def leftover_sizes(top: str) -> dict[str, int]:
    """Return the abandoned temporary files under a folder: sizes in bytes, by path."""
    sizes: dict[str, int] = {}
    for folder, _, names in os.walk(top):
        for name in names:
            path = f"{folder}/{name}"
            if name.startswith(TEMPORARY_PREFIX) and _is_abandoned(folder, name):
                with contextlib.suppress(FileNotFoundError):
                    sizes[path] = os.stat(path).st_size
    return sizes


def _is_abandoned(folder: str, name: str) -> bool:
    """Return whether a temporary file's writer has ended. For writers on other machines this is assumed after a day.

    A claim is abandoned only when its file exists: if it were removed before, it could be created a second time. Locks never are.
    """
    if name.startswith(LOCK_PREFIX):
        return False
    claim = _CLAIM.fullmatch(name)
    if claim is not None and os.path.lexists(f"{folder}/{claim[1]}"):
        return True
    temporary = _TEMPORARY.match(name)
    if temporary is not None and temporary[1] == machine_digest():
        return not is_running(int(temporary[2]))
    try:
        return time.time() - os.stat(f"{folder}/{name}").st_mtime > _ABANDONED_S
    except FileNotFoundError:
        return False
