"""Trim: cut silence off the start and the end of clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.config.trim_config import Trim
from clipmill.schemas.units import to_samples
from clipmill.stages.arrow_rows import replace_column
from clipmill.stages.clip_samples import waveforms, with_waveforms
from clipmill.stages.event_times import Retime, with_event_times
from clipmill.stages.stage import Stage, dropped

FRAME_S = 0.01


@dataclass(frozen=True)
class TrimClips(Stage):
    """Cut off leading and trailing frames of 10 ms whose level is below a threshold, as pydub's `detect_leading_silence` finds them.

    Clips keep their ids and labels; `start_s`, `duration_s`, `n_samples` and `events` follow. A clip without any louder frame is dropped.
    """

    spec: Trim

    section = "trim"
    scope = "clip"
    settings = Trim
    drops: ClassVar[Mapping[str, str]] = {"silent_throughout": "no 10 ms of the clip are as loud as trim.below_dbfs"}
    changes_samples = True

    def __call__(self, table: pa.Table) -> pa.Table:
        rates_hz, starts_s = table["sample_rate_hz"].to_pylist(), table["start_s"].to_pylist()
        trimmed: dict[int, npt.NDArray[np.float32]] = {}
        moved: dict[int, tuple[Retime, float]] = {}
        silent = np.zeros(table.num_rows, bool)
        for row, y in waveforms(table):
            first, last = heard_range(y, rates_hz[row], self.spec.below_dbfs, self.spec.pad_s)
            silent[row] = first == last
            if 0 < last - first < y.shape[1]:
                trimmed[row] = y[:, first:last]
                by_s = first / rates_hz[row]
                starts_s[row] += by_s
                moved[row] = partial(_earlier, by_s), (last - first) / rates_hz[row]
        table = with_event_times(with_waveforms(table, trimmed), moved)
        table = replace_column(table, "start_s", pa.array(starts_s, pa.float64()))
        return dropped(table, silent, "silent_throughout")


def _earlier(by_s: float, time_s: float) -> float:
    return time_s - by_s


def heard_range(y: npt.NDArray[np.float32], sample_rate_hz: int, below_dbfs: float, pad_s: float) -> tuple[int, int]:
    """Return the range of a clip without the silence at its ends: samples, half-open; equal if all of it is silent.

    Parameters
    ----------
    y : float32 [channels, samples]
    below_dbfs : frames of 10 ms below this level are silent. They are counted from the start, and from the end for the end
    pad_s : silence that stays on each side
    """
    n, size = y.shape[1], max(1, to_samples(FRAME_S, sample_rate_hz))
    power = np.einsum("ij,ij->j", y, y, dtype=np.float64) / y.shape[0]
    first = _leading(power, size, below_dbfs)
    if first >= n:
        return 0, 0
    last = n - _leading(power[::-1], size, below_dbfs)
    pad = to_samples(pad_s, sample_rate_hz)
    return max(0, first - pad), min(n, last + pad)


def _leading(power: npt.NDArray[np.float64], size: int, below_dbfs: float) -> int:
    """Return the number of samples in the silent frames at the start."""
    edges = np.arange(0, len(power), size)
    energy = np.add.reduceat(power, edges)
    loud = np.flatnonzero(energy >= 10 ** (below_dbfs / 10) * np.diff([*edges, len(power)]))
    return int(edges[loud[0]]) if len(loud) else len(power)
