"""Left out: what of a plan no shard covers, as one digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from clipmill.schemas.keys import digest


class _LeftOut(Protocol):
    """What plans and snapshots both say."""

    @property
    def recordings_listed(self) -> int: ...
    @property
    def recordings_without_annotations(self) -> int: ...
    @property
    def recordings_forgotten(self) -> int: ...
    @property
    def recordings_dropped(self) -> Mapping[str, int]: ...
    @property
    def annotations_dropped(self) -> Mapping[str, int]: ...
    @property
    def annotations_ignored(self) -> int: ...


def digest_of_left_out(plan: _LeftOut, rejections: list[dict[str, Any]]) -> str:
    """Return the digest of what a plan left out or rejected itself. rejections : its rows, in its order."""
    left_out = {
        "recordings_forgotten": plan.recordings_forgotten,
        "recordings_dropped": dict(plan.recordings_dropped),
        "annotations_dropped": dict(plan.annotations_dropped),
        "annotations_ignored": plan.annotations_ignored,
    }
    came_later = [given] if (given := {name: n for name, n in left_out.items() if n}) else []
    return digest([rejections, plan.recordings_listed, plan.recordings_without_annotations, *came_later])
