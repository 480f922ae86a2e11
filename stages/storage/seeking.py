"""What read-only streams with a position have in common."""

from __future__ import annotations

import io
from typing import IO, Any


class SeekableReader(io.RawIOBase, IO[bytes]):
    """A stream that can be read from any position. Subclasses have a `size` in bytes, and a `read` that starts at `_at` and moves it."""

    _at = 0

    @property
    def size(self) -> int:
        """The stream's length in bytes."""
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence)
        at = offset + (self.size if base is None else base)  # the size of an object in a store is not always known yet
        if at < 0:
            raise ValueError(f"cannot seek to {at}")
        self._at = at
        return at

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        content = self.read(len(view))
        view[: len(content)] = content
        return len(content)
