"""Buffer the clips of an item until its end is decoded, in memory and, beyond 64 MiB, in a temporary file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from clipmill.schemas.errors import StorageError, os_error_code
from clipmill.stages.storage.failures import temporary_remedy

MEMORY_BYTES = 64 << 20
_PURPOSE = "keep clips in temporary files"


class ClipBuffer:
    """Hold tables of one schema, and return them in order or drop them.

    size_bytes : size of the temporary file
    """

    def __init__(self) -> None:
        self._file: Any = None
        self.clear()

    def __enter__(self) -> ClipBuffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Drop all tables and remove the temporary file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # of a full disk, which was reported before; the content is not needed
                self._file.close()
        self._file = None
        self._writer: Any = None
        self._tables: list[pa.Table] = []
        self._n_bytes = 0
        self.size_bytes = 0

    def add(self, table: pa.Table) -> None:
        """Add a table.

        Raises
        ------
        StorageError : the temporary file cannot be written
        """
        self._tables.append(table)
        self._n_bytes += (
            table.get_total_buffer_size()
        )  # counts whole buffers, even when the table uses a small part of them
        if self._n_bytes < MEMORY_BYTES:
            return
        with temporary_file_errors(_PURPOSE):
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="clipmill-")  # noqa: SIM115
                self._writer = pa.ipc.new_stream(self._file, table.schema)
            for buffered in self._tables:
                self._writer.write_table(buffered)
            self._file.flush()
            self.size_bytes = self._file.tell()
        self._tables, self._n_bytes = [], 0

    def release(self) -> Iterator[pa.Table]:
        """Yield all tables in order, and empty the buffer.

        Raises
        ------
        StorageError : the temporary file cannot be written or read
        """
        if self._file is not None:
            with temporary_file_errors(_PURPOSE):
                self._writer.close()
                self._file.seek(0)
                batches = iter(pa.ipc.open_stream(self._file))
            while True:
                with temporary_file_errors(_PURPOSE):
                    batch = next(batches, None)
                if batch is None:
                    break
                yield pa.Table.from_batches([batch])
        yield from self._tables
        self.clear()


@contextlib.contextmanager
def temporary_file_errors(purpose: str) -> Iterator[None]:
    """Raise errors of the operating system as StorageError about temporary files, which are neither the corpus nor the dataset."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot {purpose} under {_temporary_folder()}: {error.strerror or error} ({temporary_remedy(error)})",
            code=os_error_code(error),
        ) from None


def _temporary_folder() -> str:
    """Return the folder of temporary files, or, where none is writable, the folders that were tried."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # gettempdir tries to write, and no folder is writable
        return os.environ.get("TMPDIR") or "/tmp, /var/tmp and /usr/tmp"  # noqa: S108
