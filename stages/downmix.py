"""Downmix: any number of channels to one, or left as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.tables import RUNS
from stages.rows import float_lists, list_values, replace_column


@dataclass(frozen=True)
class Downmix:
    """Average the channels of each run. Takes and gives a table of `schemas.tables.RUNS`.

    channels : "mono", or "keep"
    """

    channels: str = "mono"

    version: ClassVar[int] = 1

    def __call__(self, table: pa.Table) -> pa.Table:
        if self.channels == "keep":
            return table
        counts = table["n_channels"].to_pylist()
        if all(n in (1, None) for n in counts):
            return table
        samples = [
            x if n in (1, None) else mono(x.reshape(-1, n))
            for x, n in zip(list_values(table["samples"]), counts, strict=True)
        ]
        table = replace_column(table, "samples", float_lists(samples))
        ones = pa.array([n and 1 for n in counts], type=RUNS.field("n_channels").type)
        return replace_column(table, "n_channels", ones)


def mono(y: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean of the channels.

    Parameters
    ----------
    y : float32 [frames, channels]

    Returns
    -------
    y : float32 [frames]; each frame depends on its own samples alone, to the last bit, wherever it stands in the array
    """
    n = y.shape[1]
    if n == 2:
        # A product with a power of two is exact, so any order of a matrix product gives the same bits; and it is
        # some twenty times faster than mean(axis).
        return y @ np.full(2, 0.5, np.float32)
    total = y[:, 0].astype(np.float64)
    for channel in range(1, n):
        total += y[:, channel]
    mean: npt.NDArray[np.float32] = (total / n).astype(np.float32)
    return mean
