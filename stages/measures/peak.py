"""Measure the sample peak of clips."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.columns import column
from clipmill.stages.measures.declaration import Measure


def compute_peak(y: npt.NDArray[np.float32], sample_rate_hz: int) -> Sequence[float | None]:
    """Return the sample peak in dB relative to full scale, 20 log10(max |y|).

    It is the peak of the samples, not of the waveform between them (the true peak of ITU-R BS.1770-5, which can be higher).

    Parameters
    ----------
    y : float32 [channels, samples], full scale 1.0; the peak is that over all channels

    Returns
    -------
    peak_dbfs : 0 for full scale, above 0 beyond it, -inf for digital silence, None for a clip without samples
    """
    if y.size == 0:
        return (None,)
    peak = max(float(y.max()), -float(y.min()))
    return (20.0 * math.log10(peak) if peak > 0.0 else -math.inf,)


MEASURE = Measure(
    name="peak",
    columns=(column("peak_dbfs", pa.float64(), "largest magnitude of a sample, -inf for digital silence", "dBFS"),),
    compute=compute_peak,
)
