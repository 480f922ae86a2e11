"""Define the settings of the clip stage `trim`, which cuts silence off the ends of clips."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from clipmill.schemas.config.model import Frozen


class Trim(Frozen):
    """Configure what counts as silence at the ends of clips."""

    below_dbfs: Annotated[float, Field(ge=-200, le=0)] = Field(-50.0, description="level of silence, over 10 ms")
    pad_s: Annotated[float, Field(ge=0, le=60)] = Field(0.0, description="how much of the silence stays on each side")
