"""Collect rows into Arrow tables without turning samples into Python objects, and read them back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class RowBuffer:
    """Collect rows as dictionaries until `table` turns them into an Arrow table and empties the buffer.

    schema : of the table; a column that a row lacks is null
    values_column : a `large_list<float32>` column whose values are given as numpy arrays
    """

    def __init__(self, schema: pa.Schema, values_column: str) -> None:
        self._schema, self._values_column = schema, values_column
        self._rows: list[dict[str, Any]] = []
        self._values: list[npt.NDArray[np.float32]] = []
        self.n_values = 0

    @property
    def n_rows(self) -> int:
        """Return the number of rows in the buffer."""
        return len(self._rows)

    def add(self, row: dict[str, Any]) -> None:
        """Add a row. Its array of values is taken out of the dictionary."""
        values = row.pop(self._values_column, None)
        flat = np.empty(0, np.float32) if values is None else values.reshape(-1)
        self._rows.append(row)
        self._values.append(flat)
        self.n_values += len(flat)

    def table(self) -> pa.Table:
        """Return the rows as a table of the schema, and empty the buffer."""
        columns = []
        for field in self._schema:
            if field.name == self._values_column:
                columns.append(float_lists(self._values))
            else:
                columns.append(pa.array([row.get(field.name) for row in self._rows], type=field.type))
        self._rows, self._values, self.n_values = [], [], 0
        return pa.table(columns, schema=self._schema)


def float_lists(values: list[npt.NDArray[Any]], dtype: str = "float32") -> pa.LargeListArray:
    """Return float arrays as one Arrow list column; a single array is not copied. dtype : float32 | float16."""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(v) for v in values], out=offsets[1:])
    flat = values[0] if len(values) == 1 else np.concatenate(values) if values else np.empty(0, dtype)
    flat = np.ascontiguousarray(flat, dtype=dtype)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat, type=pa.from_numpy_dtype(flat.dtype)))


def list_values(column: pa.ChunkedArray) -> list[npt.NDArray[Any]]:
    """Return each row of a list column as a numpy view without a copy. A null row is an empty array."""
    rows: list[npt.NDArray[Any]] = []
    for chunk in column.chunks:
        values = chunk.values.to_numpy(zero_copy_only=True)
        offsets = chunk.offsets.to_numpy()
        valid = chunk.is_valid().to_pylist() if chunk.null_count else [True] * len(chunk)
        rows.extend(values[offsets[i] : offsets[i + 1]] if valid[i] else values[:0] for i in range(len(chunk)))
    return rows


def pcm_samples(payload: Any, sample_format: str) -> npt.NDArray[np.int16] | npt.NDArray[np.float32]:
    """Return a clip's payload as a flat view of its samples, int16 or float32."""
    if sample_format == "int16":
        return np.frombuffer(payload, np.dtype("<i2"))
    return np.frombuffer(payload, np.dtype("<f4"))


def stream_bytes(table: pa.Table) -> bytes:
    """Return a table as an Arrow stream, for another process."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def stream_table(stream: Any) -> pa.Table:
    """Return the table in an Arrow stream, as a view of its bytes."""
    return pa.ipc.open_stream(pa.py_buffer(stream)).read_all()


def replace_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Return a table with new values in a column, whose type does not change."""
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)
