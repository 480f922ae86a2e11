"""Read files of shards and check what is read against the digests in their record."""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections import OrderedDict
from typing import IO

from clipmill.schemas.records import OutputFile
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.seeking import SeekableReader
from clipmill.stages.storage.versions import sha256_of

_HELD = 3
"""Ranges in memory at a time: that of the column that is read, those beside it, and the footer's."""


class ChangedBytesError(ValueError):
    """A file's bytes are not those that were written."""


def open_checked(root: Root, output: OutputFile, whole: bool = True) -> IO[bytes]:
    """Open a file of a shard for reading, seekable. What is read of it has been checked. The caller closes it.

    A shard that is older than digests of ranges is read once to check all of it.

    whole : whether all of it will be read, as far as is known

    Raises
    ------
    ChangedBytesError : the file, or while reading a range of it, is not what was written
    OSError : storage failed
    """
    if not output.range_ends:
        if sha256_of(root, output.path) != output.sha256:
            raise ChangedBytesError(f"its sha256 is not {output.sha256[:12]}…, which its record names")
        return root.open_read(output.path, whole)
    stream = root.open_read(output.path, whole, output.size_bytes)
    return CheckedStream(stream, output.range_ends, output.range_sha256)


def read_checked(root: Root, output: OutputFile) -> io.BytesIO:
    """Return the content of a small file of a record, checked.

    Raises
    ------
    ChangedBytesError : the content is not what was written
    FileNotFoundError, OSError : it is missing, or storage failed
    """
    content = root.read_bytes(output.path)
    if hashlib.sha256(content).hexdigest() != output.sha256:
        raise ChangedBytesError(f"its sha256 is not {output.sha256[:12]}…, which its record names")
    return io.BytesIO(content)


def is_as_written(root: Root, output: OutputFile) -> bool:
    """Return whether a file is there with the bytes that its record names; all of it is read, unless its size differs.

    Raises
    ------
    OSError : storage failed
    """
    try:
        return root.size(output.path) == output.size_bytes and sha256_of(root, output.path) == output.sha256
    except FileNotFoundError:
        return False


class CheckedStream(SeekableReader):
    """A file whose ranges are read as a whole and checked before any byte of them is handed on.

    Parameters
    ----------
    stream : the open file, which is closed with this one
    ends, sha256 : where each range stops, in bytes, ascending, and its sha256
    """

    def __init__(self, stream: IO[bytes], ends: list[int], sha256: list[str]) -> None:
        self._stream, self._ends, self._sha256 = stream, ends, sha256
        self._held: OrderedDict[int, bytes] = OrderedDict()

    @property
    def size(self) -> int:
        return self._ends[-1]

    def _range(self, i: int) -> bytes:
        held = self._held.get(i)
        if held is not None:
            self._held.move_to_end(i)
            return held
        start = self._ends[i - 1] if i else 0
        self._stream.seek(start)
        content = self._stream.read(self._ends[i] - start)
        if hashlib.sha256(content).hexdigest() != self._sha256[i]:
            raise ChangedBytesError(f"bytes {start:,} to {self._ends[i]:,} are not those that were written")
        self._held[i] = content
        if len(self._held) > _HELD:
            self._held.popitem(last=False)
        return content

    def read(self, size: int = -1, /) -> bytes:
        stop = self._ends[-1] if size is None or size < 0 else min(self._at + size, self._ends[-1])
        pieces = []
        while self._at < stop:
            i = bisect_right(self._ends, self._at)
            start = self._ends[i - 1] if i else 0
            piece = self._range(i)[self._at - start : stop - start]
            pieces.append(piece)
            self._at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        if not self.closed:
            self._held.clear()
            self._stream.close()
        super().close()
