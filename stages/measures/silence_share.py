"""Measure how much of a clip is silence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.columns import column
from clipmill.stages.measures.declaration import Measure
from clipmill.stages.measures.frame_power import frame_power, mean_of_channels

SILENCE_DBFS = -50.0
_SILENCE_POWER = 10.0 ** (SILENCE_DBFS / 10.0)


def compute_silence_share(y: npt.NDArray[np.float32], sample_rate_hz: int) -> Sequence[float | None]:
    """Return the share of a clip's time in 20-ms frames whose level, 20 log10(rms), is below -50 dBFS.

    Parameters
    ----------
    y : float32 [channels, samples], full scale 1.0; the level is that of the mean of the channels

    Returns
    -------
    silence_share : 0 to 1; a last frame of less than 20 ms counts by its length. None for a clip without samples
    """
    if y.size == 0:
        return (None,)
    power, lengths = frame_power(mean_of_channels(y), sample_rate_hz)
    return (float(lengths[power < _SILENCE_POWER].sum() / lengths.sum()),)


MEASURE = Measure(
    name="silence",
    columns=(column("silence_share", pa.float64(), "share of the time in 20-ms frames below -50 dBFS rms, 0 to 1"),),
    compute=compute_silence_share,
)
