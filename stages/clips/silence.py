"""Silence: drop clips below a level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from clipmill.schemas.config import Config, Silence
from clipmill.schemas.units import level_dbfs, to_pcm16
from clipmill.stages.arrow_rows import list_values, pcm_samples, replace_column
from clipmill.stages.stage import Stage, dropped, is_clip


@dataclass(frozen=True)
class SilenceFilter(Stage):
    """Drop clips whose level is below a threshold. The level is that of the clip rounded to the stored format.

    min_dbfs : clips at or above this level are kept; None keeps all
    sample_format : of stored clips, int16 | float32
    """

    min_dbfs: float | None = None
    sample_format: str = "int16"

    section = "silence"
    scope = "clip"
    settings = Silence
    keeps_lengths = True
    suits_stored = True
    drops: ClassVar[Mapping[str, str]] = {"silence": "level below silence.min_dbfs"}

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        min_dbfs = (settings or config.silence).min_dbfs
        return None if min_dbfs is None else cls(min_dbfs, config.audio.sample_format)

    def __call__(self, table: pa.Table) -> pa.Table:
        levels = table["level_dbfs"].to_pylist()
        is_float, floats = table["samples"].is_valid().to_pylist(), list_values(table["samples"])
        pcm = table["pcm"].combine_chunks() if table.num_rows else table["pcm"]
        quiet = np.zeros(table.num_rows, bool)
        for i in np.flatnonzero(is_clip(table)).tolist():
            if is_float[i]:
                level = level_dbfs(to_pcm16(floats[i])[0] if self.sample_format == "int16" else floats[i])
            else:
                level = levels[i] = level_dbfs(pcm_samples(pcm[i].as_buffer(), self.sample_format))
            quiet[i] = self.min_dbfs is not None and level < self.min_dbfs
        table = replace_column(table, "level_dbfs", pa.array(levels, pa.float64()))
        return dropped(table, quiet, "silence")
