"""Canonical PCM: round clips to the stored format once, after all stages that change samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.schemas.config import Config
from clipmill.schemas.units import level_dbfs, to_pcm16
from clipmill.stages.arrow_rows import list_values, pcm_samples, replace_column
from clipmill.stages.stage import Stage, is_clip


@dataclass(frozen=True)
class CanonicalPcm(Stage):
    """Round clips that are still float32 to PCM, and measure the level of the stored samples.

    Takes and returns a table of `clipmill.schemas.tables.CLIPS`. The column `samples` is null afterwards.

    sample_format : int16 | float32
    """

    sample_format: str = "int16"

    section = "audio"
    identity = "Gate"
    scope = "clip"

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        return cls(config.audio.sample_format)

    def __call__(self, table: pa.Table) -> pa.Table:
        if table.num_rows == 0:
            return table
        levels, clipped_samples = table["level_dbfs"].to_pylist(), table["n_clipped"].to_pylist()
        is_float, floats = table["samples"].is_valid().to_pylist(), list_values(table["samples"])
        pcm = table["pcm"].combine_chunks()
        rounded: dict[int, bytes] = {}
        for i in np.flatnonzero(is_clip(table)).tolist():
            if is_float[i]:
                samples: Any = floats[i]
                if self.sample_format == "int16":
                    samples, clipped_samples[i] = to_pcm16(floats[i])
                rounded[i] = samples.tobytes()
                levels[i] = level_dbfs(samples)
            elif levels[i] is None:
                levels[i] = level_dbfs(pcm_samples(pcm[i].as_buffer(), self.sample_format))
        if rounded:
            payloads = pa.array([rounded.get(i) for i in range(table.num_rows)], pa.large_binary())
            is_rounded = pa.array([i in rounded for i in range(table.num_rows)])
            table = replace_column(table, "pcm", pc.if_else(is_rounded, payloads, pcm))
            table = replace_column(table, "samples", pa.nulls(table.num_rows, table.schema.field("samples").type))
            table = replace_column(table, "n_clipped", pa.array(clipped_samples, pa.int64()))
        return replace_column(table, "level_dbfs", pa.array(levels, pa.float64()))
