"""Make stretches of audio out of points in time, which have no length and so give no clip."""

from __future__ import annotations

from clipmill.schemas.config.model import Frozen, Positive, later
from clipmill.stages.annotations.rows import HINT
from clipmill.stages.annotations.times import plain_number

POINT = (
    f"a point in time, which has no length{HINT}set annotations.points_s to the length of the stretch around each point"
)
"""What is wrong with a record that is a point, unless the configuration gives points a length."""
_DECIMALS = 9


class PointOptions(Frozen):
    """Configure what becomes of points in time."""

    points_s: Positive | None = later(
        None,
        description="length of the stretch around each point, which is its middle; without it, points are rejected",
    )


def around(time: str, points_s: float | None) -> tuple[str, str] | None:
    """Return start and end of the stretch around a point, as text; None if points have no length or the time is not a number."""
    middle = plain_number(time)
    if middle is None or points_s is None:
        return None
    return (
        repr(round(middle - points_s / 2, _DECIMALS)),
        repr(round(middle + points_s / 2, _DECIMALS)),
    )
