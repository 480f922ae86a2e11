"""Compute a digest of what a plan leaves out, which no shard's key covers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from clipmill.schemas.keys import digest


class _LeftOut(Protocol):
    """The counts that plans and snapshots have in common."""

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
    @property
    def annotations_merged(self) -> int: ...
    @property
    def limited(self) -> Mapping[str, int]: ...


def digest_of_left_out(plan: _LeftOut, rejections: list[dict[str, Any]]) -> str:
    """Return the digest of what a plan itself left out or rejected. rejections : its rows, in the plan's order"""
    left_out = {
        "recordings_forgotten": plan.recordings_forgotten,
        "recordings_dropped": dict(plan.recordings_dropped),
        "annotations_dropped": dict(plan.annotations_dropped),
        "annotations_ignored": plan.annotations_ignored,
        "annotations_merged": plan.annotations_merged,
        "limited": dict(plan.limited),
    }
    # An older clipmill did not have these counts: only those that are not zero change the digest.
    nonzero = {name: n for name, n in left_out.items() if n}
    return digest(
        [rejections, plan.recordings_listed, plan.recordings_without_annotations, *([nonzero] if nonzero else [])]
    )
