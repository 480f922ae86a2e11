"""Replace a small file only if its content is still what was read, so that of several writers none loses what another wrote.

On a local disk writers hold a lock (`flock`) on an empty file in the same folder. The kernel frees it when its holder dies. The file itself
stays: if it were removed, one writer could lock the removed file while another locks a new one. In S3 the store compares: a request carries
the ETag of what was read.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import time
from collections.abc import Iterator
from typing import Any

from clipmill.stages.storage.local_files import LOCK_PREFIX, LocalFiles, naming
from clipmill.stages.storage.objects import ObjectStream, awaited, bucket_and_key
from clipmill.stages.storage.patience import code_of, patiently
from clipmill.stages.storage.s3_private import begin, request

_NO_LOCKS = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EBADF})
_WAIT_S = 60.0
_LOOK_S = 0.01
_REFUSED = ("PreconditionFailed", "412")


def swap_here(files: LocalFiles, target: str, before: bytes | None, content: bytes) -> bool:
    """Write a local file only if its content is still `before`; return whether this call did.

    target : absolute path
    before : None: the file must not exist

    Raises
    ------
    TimeoutError : another process has held the lock for a minute
    OSError : storage failed
    """
    files.folders.make(os.path.dirname(target))
    with _lock(files, target):
        if _content(target) != before:
            return False
        with files.staged(target, True) as (stream, publish):
            stream.write(content)
            return publish()


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _lock(files: LocalFiles, target: str) -> Iterator[None]:
    """Hold the lock of a file. Where the file system has no locks, hold none, and remember that."""
    folder, name = os.path.split(target)
    with naming(target):
        handle = os.open(f"{folder}/{LOCK_PREFIX}{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _wait_for_lock(files, handle, target)
        yield
    finally:
        # A process that was forked meanwhile has the lock as well, which closing alone would leave it.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _wait_for_lock(files: LocalFiles, handle: int, target: str) -> None:
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT, "another process has locked this file for a minute", target
                ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            files.has_swaps = False
            return
        time.sleep(random.uniform(0, _LOOK_S))


def swap_object(fs: Any, path: str, before: bytes, content: bytes, errors: tuple[type[Exception], ...]) -> bool:
    """Write an object of S3 only if its content is still `before`; return whether this call did.

    fs : s3fs's file system
    path : bucket/key
    errors : what it can raise

    Raises
    ------
    OSError, StorageError : storage failed
    """
    n_asked = 0

    def once() -> bool:
        nonlocal n_asked
        found = _object(fs, path, errors)
        if n_asked and found is not None and found[0] == content:
            return True  # an attempt before has succeeded without our hearing of it
        if found is None or found[0] != before:
            return False
        n_asked += 1
        etag = found[1]
        if _put_if_match(fs, path, content, etag):
            return True
        # Ceph compares the header as it comes with an ETag without quotes; HTTP wants them.
        return _etag(fs, path) == etag and _put_if_match(fs, path, content, f'"{etag}"')

    return patiently(once, errors, False)


def _object(fs: Any, path: str, errors: tuple[type[Exception], ...]) -> tuple[bytes, str] | None:
    """Return an object's content and ETag, without quotes; None if there is none."""
    try:
        with contextlib.closing(ObjectStream(fs, path, errors)) as stream:
            return stream.read(), stream.etag
    except FileNotFoundError:
        return None


def _etag(fs: Any, path: str) -> str | None:
    try:
        return str(_ask(fs, "head_object", path)["ETag"]).strip('"')
    except FileNotFoundError:
        return None


def _put_if_match(fs: Any, path: str, content: bytes, etag: str) -> bool:
    try:
        _ask(fs, "put_object", path, Body=content, IfMatch=etag)
    except FileNotFoundError:  # removed since; stores answer 404 or 412
        return False
    except OSError as error:
        if code_of(error) in _REFUSED:
            return False
        raise
    return True


def _ask(fs: Any, method: str, path: str, **more: Any) -> Any:
    bucket, key = bucket_and_key(path)
    return awaited(begin(fs, request(fs, method, Bucket=bucket, Key=key, **more)), len(more.get("Body", b"")))
