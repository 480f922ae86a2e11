"""Make the plan's table from its items, shard after shard, so that it need not fit into memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from clipmill.pipelines.plan.spill import RESIDENT_BYTES, SpillStream
from clipmill.schemas.tables import PLAN

_UNSET = ("expected", "donor", "reason", "detail")
_OF_SHARD = ("bucket", "key", "clips_key")


class PlanTable:
    """The plan's table while it is made. What is more than `RESIDENT_BYTES` is in a temporary file without a name."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._n_bytes = 0
        self._stream: SpillStream | None = None

    def add(self, items: pa.Table, shards: Sequence[tuple[int, str, str, str]]) -> None:
        """Add the items of whole shards, which become one chunk. shards : number of items, `bucket`, `key` and `clips_key` of each"""
        of_row = pa.array(np.repeat(np.arange(len(shards)), [n for n, *_ in shards]))
        columns = {name: pa.array([shard[1 + k] for shard in shards], pa.string()) for k, name in enumerate(_OF_SHARD)}
        arrays = [
            pa.nulls(items.num_rows, PLAN.field(name).type)
            if name in _UNSET or name not in (*items.column_names, *_OF_SHARD)
            else columns[name].take(of_row)
            if name in _OF_SHARD
            else items[name].combine_chunks()
            for name in PLAN.names
        ]
        table = pa.Table.from_arrays(arrays, schema=PLAN)
        self._n_bytes += table.nbytes
        if self._stream is None and self._n_bytes > RESIDENT_BYTES:
            self._stream = SpillStream(PLAN)
            for earlier in self._tables:
                self._stream.write(earlier)
            self._tables = []
        if self._stream is not None:
            self._stream.write(table)
        else:
            self._tables.append(table)

    def finish(self) -> pa.Table:
        """Return the table."""
        if self._stream is not None:
            return self._stream.finish()[0]
        return pa.concat_tables(self._tables) if self._tables else PLAN.empty_table()
