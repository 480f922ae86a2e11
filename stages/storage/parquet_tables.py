"""Read Parquet files in the thread that asks for them.

`pyarrow.parquet.read_table` scans with threads of Arrow's, also with `use_threads=False`. One that still frees a buffer of Python's while
Python ends takes the process with it: "terminate called without an active exception", exit code 134.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(stream: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table in a Parquet file. stream : open, with random access; columns : names of those to read, None for all

    Raises
    ------
    pyarrow.ArrowInvalid : the content is no Parquet file, or damaged
    """
    with pq.ParquetFile(stream, pre_buffer=False) as file:
        return file.read(columns=None if columns is None else list(columns), use_threads=False)
