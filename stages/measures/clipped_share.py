"""Clipping: the share of a clip's samples that were at full scale in its recording.

Mixing, resampling and rounding hide clipping, so the samples are counted before: see `clipmill.stages.clipping`.
"""

from __future__ import annotations

import pyarrow as pa

from clipmill.schemas.columns import column
from clipmill.stages.measures.declaration import Measure

MEASURE = Measure(
    "clipping",
    (
        column(
            "clipped_share",
            pa.float64(),
            "share of the clip's samples that are at full scale in the decoded recording, in the channels that the clip is made of",
        ),
    ),
    None,
)
