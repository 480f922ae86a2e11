"""Objects of an S3 store that are written: whole or not at all, in parts that travel while the next one is filled."""

from __future__ import annotations

import errno
import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import datetime
from typing import IO, Any, NamedTuple

from clipmill.schemas.errors import StorageError
from clipmill.stages.storage.objects import awaited, bucket_and_key
from clipmill.stages.storage.patience import code_of, patiently
from clipmill.stages.storage.s3_private import begin, request

PART_BYTES = 8 << 20
_IN_FLIGHT = 2
_PARTS_BEFORE_DOUBLING = 1000  # a store takes 10,000 parts: these hold over 8 TB, more than it takes


class _Part(NamedTuple):
    """A part that is on its way."""

    number: int
    content: bytes
    future: Future[str]


class ObjectUpload(io.RawIOBase, IO[bytes]):
    """An object, open for writing. It appears with `finish`; what ends without it leaves nothing behind but for `abandon` failing.

    fs : s3fs's file system
    path : bucket/key
    errors : what it can raise
    replace : False has `finish` raise FileExistsError when there is an object of this name
    """

    def __init__(self, fs: Any, path: str, errors: tuple[type[Exception], ...], replace: bool = True) -> None:
        self._fs, self._path, self._errors, self._replace = fs, path, errors, replace
        bucket, key = bucket_and_key(path)
        self._place = {"Bucket": bucket, "Key": key}
        self._waiting = bytearray()
        self._upload_id: str | None = None
        self._on_their_way: deque[_Part] = deque()
        self._done: list[dict[str, Any]] = []
        self._n_parts = 0
        self._n_bytes = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._n_bytes

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        self._waiting += view
        self._n_bytes += len(view)
        size = PART_BYTES << (self._n_parts // _PARTS_BEFORE_DOUBLING)
        # What must not replace another object goes in one request: the Ceph gateway overlooks the condition on parts.
        if self._replace and len(self._waiting) >= size:
            self._send()
        return len(view)

    def finish(self) -> None:
        """Make the object appear.

        Raises
        ------
        FileExistsError : there is one, and it is not to be replaced
        """
        condition = {} if self._replace else {"IfNoneMatch": "*"}
        try:
            if self._upload_id is None:
                self._ask("put_object", Body=bytes(self._waiting), **condition)
            else:
                if self._waiting:
                    self._send()
                while self._on_their_way:
                    self._receive()
                self._complete(condition)
        except OSError as error:
            if code_of(error) in ("PreconditionFailed", "412"):
                raise FileExistsError(errno.EEXIST, "exists already", self._path) from None
            raise
        self._upload_id = None
        self._waiting.clear()

    def _complete(self, condition: dict[str, str]) -> None:
        try:
            self._ask(
                "complete_multipart_upload",
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._done},
                **condition,
            )
        except FileNotFoundError:  # NoSuchUpload
            # An attempt before may have succeeded without our hearing of it.
            if self._length_there() != self._n_bytes:
                raise self._ended_by_others() from None

    def _length_there(self) -> int | None:
        try:
            return int(self._ask("head_object")["ContentLength"])
        except FileNotFoundError:
            return None

    def _ended_by_others(self) -> StorageError:
        return StorageError(f"the upload of {self._path} was ended by somebody else", transient=True)

    def abandon(self) -> None:
        """Have the store forget what was sent."""
        for part in self._on_their_way:
            part.future.cancel()
        self._on_their_way.clear()
        self._waiting.clear()
        if self._upload_id is not None:
            upload_id, self._upload_id = self._upload_id, None
            self._ask("abort_multipart_upload", UploadId=upload_id)

    def _send(self) -> None:
        if self._upload_id is None:
            self._upload_id = self._ask("create_multipart_upload")["UploadId"]
        if len(self._on_their_way) >= _IN_FLIGHT:
            self._receive()
        self._n_parts += 1
        content = bytes(self._waiting)
        self._waiting.clear()
        self._on_their_way.append(_Part(self._n_parts, content, self._begin(self._n_parts, content)))

    def _begin(self, number: int, content: bytes) -> Future[str]:
        return begin(self._fs, self._put_part(number, content))

    async def _put_part(self, number: int, content: bytes) -> str:
        answer = await request(
            self._fs, "upload_part", **self._place, UploadId=self._upload_id, PartNumber=number, Body=content
        )
        return str(answer["ETag"])

    def _receive(self) -> None:
        """Wait for the oldest part that is on its way."""
        part = self._on_their_way.popleft()
        asked = [part.future]

        def once() -> str:
            return awaited(asked.pop() if asked else self._begin(part.number, part.content), len(part.content))

        try:
            etag = patiently(once, self._errors, False)
        except FileNotFoundError:
            raise self._ended_by_others() from None
        self._done.append({"PartNumber": part.number, "ETag": etag})

    def _ask(self, method: str, **more: Any) -> Any:
        def once() -> Any:
            work = request(self._fs, method, **self._place, **more)
            return awaited(begin(self._fs, work), len(more.get("Body", b"")))

        return patiently(once, self._errors, False)


class Unfinished(NamedTuple):
    """An upload in parts that was neither finished nor abandoned. begun : when, by the store's clock."""

    path: str
    upload_id: str
    begun: datetime
    size_bytes: int


def unfinished(fs: Any, folder: str) -> Iterator[Unfinished]:
    """Yield the uploads under a folder, bucket/prefix, that a store holds parts of."""
    bucket, key = bucket_and_key(folder)
    marks: dict[str, str] = {}
    while True:
        page = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{key}/" if key else "", **marks)
        for entry in page.get("Uploads", ()):
            place = {"Bucket": bucket, "Key": entry["Key"], "UploadId": entry["UploadId"]}
            try:
                size = sum(p["Size"] for p in fs.call_s3("list_parts", **place).get("Parts", ()))
            except FileNotFoundError:  # it ended just now
                continue
            yield Unfinished(f"{bucket}/{entry['Key']}", entry["UploadId"], entry["Initiated"], size)
        if not page.get("IsTruncated"):
            return
        marks = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def forget(fs: Any, path: str, upload_id: str) -> None:
    """Abort an upload; do nothing if the store does not know it."""
    bucket, key = bucket_and_key(path)
    try:
        fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload_id)
    except FileNotFoundError:  # what s3fs makes of NoSuchUpload
        return
