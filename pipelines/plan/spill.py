"""Put tables into temporary files without names, from which they are mapped into memory page by page as they are read."""

from __future__ import annotations

import mmap
import tempfile
from typing import IO

import pyarrow as pa

from clipmill.schemas.errors import ClipmillError

RESIDENT_BYTES = 32 << 20
"""Tables up to this size together stay in memory."""


class Spill:
    """Tables of a plan, the first ones in memory, and those after them in temporary files, which vanish with their tables."""

    def __init__(self) -> None:
        self._resident_bytes = 0
        self._maps: list[mmap.mmap] = []

    def put(self, table: pa.Table) -> pa.Table:
        """Return a table with the same content, whose memory is reclaimable unless it is small.

        Raises
        ------
        ClipmillError : the temporary folder has no room
        """
        self._resident_bytes += table.nbytes
        if self._resident_bytes <= RESIDENT_BYTES:
            return table
        stream = SpillStream(table.schema)
        stream.write(table)
        spilled, mapped = stream.finish()
        self._maps.append(mapped)
        return spilled

    def let_go(self) -> None:
        """Release the pages that were read; they are read again if they are needed."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)


class SpillStream:
    """A table in a temporary file that is written piece by piece."""

    def __init__(self, schema: pa.Schema) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="clipmill-plan-")  # noqa: SIM115 - closed by `finish`
        self._writer = pa.ipc.new_file(self._file, schema)

    def write(self, table: pa.Table) -> None:
        """Write rows; each chunk becomes one of the table that `finish` returns. Raises ClipmillError if there is no room."""
        try:
            self._writer.write_table(table)
        except OSError as error:
            raise _no_room(error) from None

    def finish(self) -> tuple[pa.Table, mmap.mmap]:
        """Return the whole table and the memory that it is mapped to."""
        try:
            self._writer.close()
            self._file.flush()
        except OSError as error:
            raise _no_room(error) from None
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file.close()
        return pa.ipc.open_file(pa.py_buffer(mapped)).read_all(), mapped


def _no_room(error: OSError) -> ClipmillError:
    return ClipmillError(
        f"cannot write the plan to the temporary folder {tempfile.gettempdir()}: {error.strerror or error}; a million recordings take about"
        " 1 GB of it; TMPDIR names another folder"
    )
