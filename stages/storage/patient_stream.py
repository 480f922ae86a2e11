"""Files of remote stores, open for reading, whose failures may pass."""

from __future__ import annotations

import io
from typing import IO, Any

from clipmill.stages.storage.patience import patient


class PatientStream(io.RawIOBase, IO[bytes]):
    """A remote file, open for reading, whose reads are tried again while their failure may pass."""

    is_local = False

    def __init__(self, inner: Any, errors: tuple[type[Exception], ...]) -> None:
        self._inner, self.errors = inner, errors

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    @patient
    def read(self, size: int = -1, /) -> bytes:
        return bytes(self._inner.read(size))

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        content = self.read(len(view))
        view[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return int(self._inner.seek(offset, whence))

    def tell(self) -> int:
        return int(self._inner.tell())

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()
