"""Measure the DC offset of clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.columns import column
from clipmill.stages.measures.declaration import Measure


def compute_dc(y: npt.NDArray[np.float32], sample_rate_hz: int) -> Sequence[float | None]:
    """Return the DC offset, the mean of the samples.

    Parameters
    ----------
    y : float32 [channels, samples], full scale 1.0; of several channels, the one with the largest offset counts

    Returns
    -------
    dc_offset : with its sign, full scale 1.0; None for a clip without samples
    """
    if y.size == 0:
        return (None,)
    means = y.mean(axis=1, dtype=np.float64)
    return (float(means[np.abs(means).argmax()]),)


MEASURE = Measure(
    name="dc",
    columns=(
        column("dc_offset", pa.float64(), "mean of the samples, of the channel where it is largest", "full scale"),
    ),
    compute=compute_dc,
)
