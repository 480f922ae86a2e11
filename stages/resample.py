"""Resample: convert chunks to the target rate cell by cell, so that samples do not depend on how a recording was divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import soxr

from clipmill.schemas.config import Config
from clipmill.schemas.units import resampled_length
from clipmill.stages.arrow_rows import float_lists, list_values, replace_column
from clipmill.stages.spans import CELL_S, margin_frames
from clipmill.stages.stage import Stage

QUALITY = {"soxr_hq": "HQ", "soxr_vhq": "VHQ", "soxr_mq": "MQ"}


@dataclass(frozen=True)
class Resample(Stage):
    """Resample each chunk to the target rate. Takes and returns a table of `clipmill.schemas.tables.CHUNKS`, and removes the margins.

    sample_rate_hz : target rate
    resampler : soxr_hq | soxr_vhq | soxr_mq
    """

    sample_rate_hz: int
    resampler: str = "soxr_hq"

    section = "resample"
    identity = "Resample"
    scope = "chunk"
    libraries = ("soxr",)

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        return cls(config.audio.sample_rate_hz, config.audio.resampler)

    def __call__(self, table: pa.Table) -> pa.Table:
        rates = table["sample_rate_hz"].to_pylist()
        if all(rate in (self.sample_rate_hz, None) for rate in rates):
            return table
        quality = QUALITY[self.resampler]
        channels, leads, cores = (table[n].to_pylist() for n in ("n_channels", "lead", "core_frames"))
        totals = table["total_frames"].to_pylist()
        samples = []
        for i, x in enumerate(list_values(table["samples"])):
            if rates[i] in (self.sample_rate_hz, None) or channels[i] is None:
                samples.append(x)
                continue
            y = resample_cells(x.reshape(-1, channels[i]), leads[i], cores[i], rates[i], self.sample_rate_hz, quality)
            samples.append(y.reshape(-1))
            leads[i], cores[i] = 0, len(y)
            if totals[i] is not None:
                totals[i] = resampled_length(totals[i], rates[i], self.sample_rate_hz)
            rates[i] = self.sample_rate_hz
        table = replace_column(table, "samples", float_lists(samples))
        for name, values in (
            ("sample_rate_hz", rates),
            ("lead", leads),
            ("core_frames", cores),
            ("total_frames", totals),
        ):
            table = replace_column(table, name, pa.array(values, type=table.schema.field(name).type))
        return table


def resample_cells(
    x: npt.NDArray[np.float32], lead: int, core: int, source_rate_hz: int, target_rate_hz: int, quality: str
) -> npt.NDArray[np.float32]:
    """Resample a chunk whose first sample after the lead begins a cell.

    Parameters
    ----------
    x : float32 [frames, channels], with margins before (`lead` frames) and, unless the recording ends, after the core
    core : frames to keep, after the lead; the last cell of a recording may be incomplete
    quality : soxr's HQ, VHQ or MQ

    Returns
    -------
    y : float32 [frames, channels] at the target rate, without margins
    """
    cell, margin = CELL_S * source_rate_hz, margin_frames(source_rate_hz, target_rate_hz)
    out = np.empty((resampled_length(core, source_rate_hz, target_rate_hz), x.shape[1]), np.float32)
    done = 0
    for start in range(0, core, cell):
        stop = min(start + cell, core)
        # A cell has the same margin wherever the chunk begins. There is none before the recording's first sample.
        first = max(0, lead + start - margin)
        y = soxr.resample(x[first : lead + stop + margin], source_rate_hz, target_rate_hz, quality=quality)
        skip = resampled_length(lead + start - first, source_rate_hz, target_rate_hz)
        n = min(resampled_length(stop, source_rate_hz, target_rate_hz), len(out)) - done
        part = y[skip : skip + n]
        out[done : done + len(part)] = part
        out[done + len(part) : done + n] = 0
        done += n
    return out
