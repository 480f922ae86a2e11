"""Measure levels of stored clips with pydub."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.audits.audit_kinds import LEVEL, PEAK, Finding
from clipmill.pipelines.audits.recording_reading import pydub_segment

_HALF_DB = 20 * math.log10(2.0)


def compare_levels(
    row: Mapping[str, Any], samples: npt.NDArray[Any], rate_hz: int, with_peak: bool
) -> Iterator[Finding]:
    """Yield how a clip's level_dbfs, and its peak_dbfs where it is of these samples, differ from what pydub measures.

    pydub truncates the rms to a whole number, which is 0.03 dB at -40 dBFS. It gets the samples in 32 bits here, so that this does not
    count: 16-bit ones times 2¹⁶, and floats divided by the power of two above their peak, since they may be beyond full scale.

    samples : int16 or float32 [frames, channels]
    """
    is_whole = samples.dtype == np.int16
    if is_whole:
        wide, offset_db = samples.astype(np.int32) << 16, 0.0
    else:
        _, exponent = np.frexp(np.abs(samples).max(initial=0.0))
        halvings = max(1, int(exponent) + 1)  # one more than are needed, so that nothing is rounded to full scale
        wide = np.rint(samples.astype(np.float64) * 2.0 ** (31 - halvings)).astype(np.int32)
        offset_db = halvings * _HALF_DB
    segment = pydub_segment()(
        data=wide.astype("<i4").tobytes(), sample_width=4, frame_rate=rate_hz, channels=samples.shape[1]
    )
    if row.get("level_dbfs") is not None:
        yield Finding(LEVEL, _apart(row["level_dbfs"], segment.dBFS + offset_db))
    if with_peak and row.get("peak_dbfs") is not None:
        yield Finding(PEAK, _apart(row["peak_dbfs"], segment.max_dBFS + offset_db))


def _apart(one: float, other: float) -> float:
    return 0.0 if one == other else abs(one - other)
