"""Gate: the level of every clip, and the rule that drops the quiet ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.units import level_dbfs
from stages.rows import pcm_samples, replace_column


@dataclass(frozen=True)
class Gate:
    """Measure each clip's level and drop those under a threshold. Takes and gives a table of `schemas.tables.CLIPS`.

    min_dbfs : clips at or above it are kept; None keeps all
    sample_format : of the clips' PCM, int16 | float32
    """

    min_dbfs: float | None = None
    sample_format: str = "int16"

    version: ClassVar[int] = 1

    def __call__(self, table: pa.Table) -> pa.Table:
        status, rules, counts = (table[n].to_pylist() for n in ("status", "rule", "count"))
        levels: list[float | None] = [None] * table.num_rows
        pcm = table["pcm"].combine_chunks() if table.num_rows else table["pcm"]
        quiet = np.zeros(table.num_rows, bool)
        for i, state in enumerate(status):
            if state != "clip":
                continue
            level = level_dbfs(pcm_samples(pcm[i].as_buffer(), self.sample_format))
            levels[i] = level
            if self.min_dbfs is not None and level < self.min_dbfs:
                status[i], rules[i], counts[i], quiet[i] = "dropped", "silence", 1, True
        if quiet.any():
            empty = pa.scalar(None, type=table.schema.field("pcm").type)
            table = replace_column(table, "pcm", pc.if_else(pa.array(quiet), empty, pcm))
        for name, values in (("status", status), ("rule", rules), ("count", counts), ("level_dbfs", levels)):
            table = replace_column(table, name, pa.array(values, type=table.schema.field(name).type))
        return table
