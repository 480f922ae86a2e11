"""Parts of a file, presented as a file of their own."""

from __future__ import annotations

from bisect import bisect_right
from typing import IO

from clipmill.stages.decode.containers.structure import Extents
from clipmill.stages.storage.seeking import SeekableReader


class ExtentStream(SeekableReader):
    """Present stretches of a stream as one continuous stream.

    stream : seekable; it stays open when this one is closed
    extents : [start, stop) in bytes, ascending
    """

    def __init__(self, stream: IO[bytes], extents: Extents) -> None:
        self._stream = stream
        self._starts: list[int] = []
        self._places: list[int] = []
        self._size = 0
        for start, stop in extents:
            if stop > start:
                self._starts.append(start)
                self._places.append(self._size)
                self._size += stop - start

    @property
    def size(self) -> int:
        return self._size

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._size - self._at if size is None or size < 0 else min(size, self._size - self._at)
        pieces = []
        while wanted > 0:
            k = bisect_right(self._places, self._at) - 1
            inside = self._at - self._places[k]
            end = self._places[k + 1] if k + 1 < len(self._places) else self._size
            self._stream.seek(self._starts[k] + inside)
            piece = self._stream.read(min(wanted, end - self._at))
            if not piece:
                break
            pieces.append(piece)
            self._at += len(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
