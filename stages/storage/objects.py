"""Objects of an S3 store, open for reading: ranged requests, the next of which is on its way while the last is used."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from clipmill.schemas.errors import StorageError
from clipmill.stages.storage.patience import code_of, patiently
from clipmill.stages.storage.s3_private import begin, request
from clipmill.stages.storage.seeking import SeekableReader

T = TypeVar("T")
FIRST_BYTES = 1 << 20
LARGEST_BYTES = 8 << 20
PROBE_BYTES = 1 << 17
"""Of the first request when few parts of an object are wanted."""
_DEADLINE_S = 30.0
_PROBES = 16
_SLOWEST_BYTES_PER_S = 250_000


class ObjectChangedError(OSError):
    """The object is another one than when it was opened."""


class _Answer(NamedTuple):
    """What a request for a range brought. size : of the whole object in bytes."""

    content: bytes
    etag: str
    size: int


class _Request(NamedTuple):
    """A range [start, stop) that is on its way."""

    start: int
    stop: int
    future: Future[_Answer]


class ObjectStream(SeekableReader):
    """An object, open for reading. The first request leaves at once; its answer is waited for when it is needed.

    All requests after the first one demand the same content (by its ETag). As long as reading goes on without gaps, requests
    grow and each is sent before its bytes are wanted; after a jump they start small again.

    fs : s3fs's file system
    path : bucket/key
    errors : what it can raise
    whole : whether all of the object will be read, as far as is known
    size_bytes : of the object when it was listed, so that one request brings all of a small one
    """

    def __init__(
        self, fs: Any, path: str, errors: tuple[type[Exception], ...], whole: bool = True, size_bytes: int | None = None
    ) -> None:
        self._fs, self._errors = fs, errors
        self._bucket, self._key = bucket_and_key(path)
        self._etag: str | None = None
        self._size: int | None = None
        self._at = 0
        self._held_start, self._held = 0, b""
        self._n_in_row = 1 if whole else 0
        self._n_bytes = _first_bytes(whole, size_bytes)
        self._ahead: _Request | None = self._ask(0, self._n_bytes)

    @property
    def etag(self) -> str:
        """The object's ETag, without quotes."""
        self._open()
        return (self._etag or "").strip('"')

    @property
    def size(self) -> int:
        """The object's length in bytes."""
        self._open()
        return self._size or 0

    def _open(self) -> None:
        if self._size is None:
            self._hold(0)

    def _ask(self, start: int, n_bytes: int) -> _Request:
        stop = start + n_bytes if self._size is None else min(start + n_bytes, self._size)
        coroutine = _get(self._fs, self._bucket, self._key, start, stop, self._etag)
        return _Request(start, stop, begin(self._fs, coroutine))

    def _hold(self, at: int) -> None:
        """Have the block that begins at a place, or holds it, in memory."""
        request = self._ahead
        if request is None or not request.start <= at < request.stop:
            if request is not None:
                request.future.cancel()
            in_row = at == self._held_start + len(self._held)
            self._n_in_row = self._n_in_row + 1 if in_row else 0
            self._n_bytes = self._grown() if in_row else PROBE_BYTES
            request = self._ask(at, self._n_bytes)
        self._ahead = None
        answer = self._answer(request)
        self._size, self._etag = answer.size, answer.etag
        self._held_start, self._held = request.start, answer.content
        stop = request.start + len(answer.content)
        if self._n_in_row and stop < answer.size:
            self._n_bytes = self._grown()
            self._ahead = self._ask(stop, self._n_bytes)

    def _grown(self) -> int:
        return min(2 * self._n_bytes, LARGEST_BYTES)

    def _answer(self, request: _Request) -> _Answer:
        """Wait for what is on its way, and ask again while a failure may pass."""
        n_bytes = request.stop - request.start
        asked = [request.future]

        def once() -> _Answer:
            return awaited(asked.pop() if asked else self._ask(request.start, n_bytes).future, n_bytes)

        return patiently(once, self._errors, False)

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer as far as the object goes; never less."""
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self._at < self.size:
            if not self._held_start <= self._at < self._held_start + len(self._held):
                self._hold(self._at)
            part = memoryview(self._held)[self._at - self._held_start :][: len(view) - filled]
            view[filled : filled + len(part)] = part
            filled += len(part)
            self._at += len(part)
        return filled

    def read(self, size: int = -1, /) -> bytes:
        rest = max(0, self.size - self._at)
        n = rest if size is None or size < 0 else min(size, rest)
        inside = self._at - self._held_start
        if inside >= 0 and inside + n <= len(self._held):  # the usual case, in one copy
            self._at += n
            return self._held[inside : inside + n]
        content = bytearray(n)
        self.readinto(content)
        return bytes(content)

    def close(self) -> None:
        if not self.closed and self._ahead is not None:
            self._ahead.future.cancel()
        self._held = b""
        super().close()


def _first_bytes(whole: bool, size_bytes: int | None) -> int:
    if size_bytes is not None and 0 < size_bytes <= (LARGEST_BYTES if whole else FIRST_BYTES):
        return size_bytes
    return FIRST_BYTES if whole else PROBE_BYTES


def awaited(future: Future[T], n_bytes: int = 0) -> T:
    """Return the answer to a request.

    n_bytes : that it moves

    Raises
    ------
    TimeoutError : it did not come. The library's own limits are on reading and connecting; it waits for a store that is to say whether
        it wants a request's body, and says nothing, forever.
    """
    limit_s = _DEADLINE_S + n_bytes / _SLOWEST_BYTES_PER_S
    try:
        return future.result(limit_s)
    except TimeoutError as error:
        future.cancel()
        raise TimeoutError(errno.ETIMEDOUT, f"the store did not answer for {limit_s:.0f} s") from error


async def _get(fs: Any, bucket: str, key: str, start: int, stop: int, etag: str | None) -> _Answer:
    condition = {"IfMatch": etag} if etag else {}
    try:
        answer = await request(fs, "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}", **condition)
    except OSError as error:
        code = code_of(error)
        if code in ("InvalidRange", "416") and start == 0:  # it is empty
            head = await request(fs, "head_object", Bucket=bucket, Key=key)
            return _Answer(b"", head["ETag"], int(head["ContentLength"]))
        if code in ("PreconditionFailed", "412"):
            raise ObjectChangedError(errno.ESTALE, "the object is another one than before", f"{bucket}/{key}") from None
        raise
    async with answer["Body"] as body:
        content = await body.read()
    size = int(str(answer["ContentRange"]).rpartition("/")[2]) if "ContentRange" in answer else len(content)
    if len(content) != min(stop, size) - start:
        raise StorageError(f"{bucket}/{key}: {len(content)} bytes came of [{start}, {stop})", transient=True)
    return _Answer(content, answer["ETag"], size)


def any_readable(fs: Any, paths: Sequence[str], errors: tuple[type[Exception], ...]) -> bool:
    """Return whether a store lets us read one of these objects, of which a few are tried. paths : bucket/key"""
    return any(_is_readable(fs, path, errors) for path in paths[:: max(1, len(paths) // _PROBES)])


def _is_readable(fs: Any, path: str, errors: tuple[type[Exception], ...]) -> bool:
    try:
        with contextlib.closing(ObjectStream(fs, path, errors, size_bytes=1)) as stream:
            return stream.size >= 0
    except (PermissionError, FileNotFoundError):
        return False


def bucket_and_key(path: str) -> tuple[str, str]:
    """Divide bucket/key. Not by s3fs, which takes `?versionId=` in a key for a version; the bucket may be an access point's ARN."""
    parts = path.split("/", 2 if path.startswith("arn:") and ":accesspoint/" in path else 1)
    bucket, key = (
        ("/".join(parts[:2]), parts[2:]) if path.startswith("arn:") and len(parts) > 1 else (parts[0], parts[1:])
    )
    return bucket, key[0] if key else ""
