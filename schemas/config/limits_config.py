"""Define the configuration of limits on the result of a build and on each recording."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from clipmill.schemas.config.model import Frozen, Positive, Share, later


class Limits(Frozen):
    """Configure when a finished build is not published, and when a recording is rejected for its size or time."""

    max_rejected_share: Share = Field(0.01, description="share of the recordings that may be rejected")
    min_clips: Annotated[int, Field(ge=0)] = Field(1, description="clips that there must be")
    allow_empty_splits: bool = Field(False, description="publish although a configured split has no clip")
    missing_classes: Literal["warn", "hold", "ignore"] | None = Field(
        None,
        description="when a split has no clip of a class that another has; default: hold with `classes`, else warn",
    )
    max_side_changes: Annotated[int, Field(ge=0)] = Field(
        0, description="recordings that may move between training and evaluation splits since the last snapshot"
    )
    max_shrink_share: Share | None = Field(
        None, description="share by which the number of clips may fall below that of the last snapshot"
    )
    max_label_drift: Share | None = Field(
        None, description="how much each label's share of the clips may differ from the last snapshot"
    )
    max_saturated_share: Share | None = Field(
        None, description="share of each source's samples that may be at full scale, as in recordings that were clipped"
    )
    max_duplicate_share: Share | None = Field(
        None, description="share of the clips that may be exact copies of an earlier one"
    )
    decoder_timeout_s: Annotated[float, Field(gt=0, le=86400)] = Field(
        300.0, description="a recording is rejected when nothing of it was decoded for this long"
    )
    decoder_memory_mb: Annotated[int, Field(ge=100, le=1_000_000)] = Field(
        4000, description="a recording is rejected when decoding it takes more memory"
    )
    max_recording_s: Positive = later(86400.0, description="a longer recording is rejected")
    max_temporary_mb: Annotated[int, Field(ge=1, le=1_000_000_000)] = later(
        50_000, description="a recording is rejected when its clips take more temporary disk space"
    )
