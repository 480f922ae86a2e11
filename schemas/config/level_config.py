"""Define the settings of the clip stage `level`, which brings clips to a peak, a level or a loudness."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from clipmill.schemas.config.model import Frozen

_LOWEST_LUFS = -60.0
"""A lower target would be too near to -70 LUFS, under which sound does not count in loudness."""


class Level(Frozen):
    """Configure the level of clips."""

    example: ClassVar[str] = "{to: lufs, target: -23, true_peak_dbtp: -1}"

    to: Literal["peak", "rms", "lufs"] = Field(
        description="peak: of the samples; rms: as in `level_dbfs`; lufs: integrated loudness after ITU-R BS.1770"
    )
    target: Annotated[float, Field(ge=-100, le=0)] = Field(description="dBFS, or LUFS with `to: lufs`")
    of: Literal["clip", "recording"] = Field("clip", description="what has one gain: each clip, or each recording")
    true_peak_dbtp: Annotated[float, Field(ge=-60, le=0)] | None = Field(
        None,
        description="a limiter keeps true peaks under this; default: no limiter, and samples beyond full scale clip",
    )
    max_gain_db: Annotated[float, Field(ge=0, le=200)] = Field(
        40.0, description="clips are not made louder than by this"
    )

    @model_validator(mode="after")
    def _check(self) -> Level:
        if self.to == "lufs" and self.target < _LOWEST_LUFS:
            raise ValueError(f"`target` must be at least {_LOWEST_LUFS:g} with `to: lufs`, not {self.target:g}")
        if self.to == "peak" and self.true_peak_dbtp is not None and self.target > self.true_peak_dbtp:
            raise ValueError(
                f"`target` {self.target:g} is over `true_peak_dbtp` {self.true_peak_dbtp:g}, so that no clip could reach it; lower it, or leave"
                " `true_peak_dbtp` out"
            )
        return self
