"""Clipping: find samples at full scale before mixing and resampling hide them, for the measure `clipping`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.config import Config
from clipmill.schemas.config.audio_config import Channels
from clipmill.schemas.units import SATURATED, to_samples
from clipmill.stages.arrow_rows import list_values
from clipmill.stages.downmix import channel_numbers
from clipmill.stages.stage import Stage

COLUMNS = pa.schema(
    [
        ("full_scale_at", pa.large_list(pa.int64())),  # of samples at full scale: frame * channels + channel, see below
        ("full_scale_channels", pa.int32()),  # channels that clips are made of
        ("decoder_rate_hz", pa.int32()),
    ]
)
"""Columns that are added to chunks. Frames count from the chunk's `start_s`, channels from 0 among those that clips are made of."""


@dataclass(frozen=True)
class Clipping(Stage):
    """Note which samples of each chunk are at full scale. Takes chunks as decoded and adds `COLUMNS`.

    channels : of sources that are not in `sources`
    sources : channels by the source's name
    """

    channels: Channels = "mono"
    sources: Mapping[str, Channels] | None = None

    section = "clipping"
    identity = "Clipping"
    scope = "chunk"

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        return cls(config.audio.channels, {s.name: config.channels_of(s) for s in config.sources})

    def __call__(self, table: pa.Table) -> pa.Table:
        places, widths = [], []
        rows = table.select(["source", "n_channels", "lead"]).to_pylist()
        for row, samples in zip(rows, list_values(table["samples"]), strict=True):
            n = row["n_channels"] or 1
            numbers = channel_numbers((self.sources or {}).get(row["source"], self.channels))
            used = list(range(n)) if numbers is None else [number for number in numbers if number < n]
            places.append(_full_scale(samples.reshape(-1, n), used, row["lead"] or 0))
            widths.append(len(used))
        offsets = np.zeros(len(places) + 1, np.int64)
        np.cumsum([len(p) for p in places], out=offsets[1:])
        flat = np.concatenate([np.empty(0, np.int64), *places])
        columns = [
            pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat)),
            pa.array(widths, pa.int32()),
            table["sample_rate_hz"],
        ]
        for field, values in zip(COLUMNS, columns, strict=True):
            table = table.append_column(field, values)
        return table


def _full_scale(y: npt.NDArray[np.float32], used: list[int], lead: int) -> npt.NDArray[np.int64]:
    """Return where samples are at full scale, ascending. y : float32 [frames, channels]; used : channels to look at"""
    limit = np.float32(SATURATED)
    if y.size == 0 or not (y.max() >= limit or y.min() <= -limit):  # nearly every chunk
        return np.empty(0, np.int64)
    chosen = y if len(used) == y.shape[1] else y[:, used]
    return np.flatnonzero(np.abs(chosen) >= limit) - lead * len(used)


@dataclass(frozen=True)
class FullScale:
    """Hold where the samples of a chunk are at full scale, and count them in clips. See `COLUMNS`."""

    places: npt.NDArray[np.int64]
    n_channels: int
    decoder_rate_hz: int
    offset_s: int

    def share(self, start_s: float, stop_s: float, channel: int | None) -> float:
        """Return the share of samples at full scale in a range of the recording, 0 to 1. channel : None for all"""
        first, last = (
            to_samples(t, self.decoder_rate_hz) - self.offset_s * self.decoder_rate_hz for t in (start_s, stop_s)
        )
        within = self.places[slice(*np.searchsorted(self.places, (first * self.n_channels, last * self.n_channels)))]
        count = len(within) if channel is None else int(np.count_nonzero(within % self.n_channels == channel))
        return count / max(1, (last - first) * (self.n_channels if channel is None else 1))
