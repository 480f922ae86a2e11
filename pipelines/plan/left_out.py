"""Left out: what of a plan no shard covers, as one digest, and the recordings that a dataset is to do without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from clipmill.pipelines.plan.annotations.annotated import Annotated
from clipmill.pipelines.plan.inventory import Inventory
from clipmill.schemas.config import Source
from clipmill.schemas.forgotten import Forgotten
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


def leave_out_forgotten(source: Source, forgotten: Forgotten, inventory: Inventory, annotated: Annotated) -> int:
    """Leave out the recordings of a source that are forgotten; return how many there are.

    Their annotations go with them, unread: also those by which a table goes on naming a recording that is in the source no more, since
    the rejection of such a row would bring its name back.
    """
    gone = {path for path in inventory.paths if forgotten.holds(f"{source.name}/{path}")}
    n_listed = len(inventory.recordings) + len(inventory.refusals)
    inventory.recordings[:] = [r for r in inventory.recordings if r.path not in gone]
    inventory.refusals[:] = [r for r in inventory.refusals if r.path not in gone]
    for path in gone:
        annotated.by_path.pop(path, None)
    annotated.strays[:] = [s for s in annotated.strays if not any(forgotten.names_one(source.name, n) for n in s.names)]
    return n_listed - len(inventory.recordings) - len(inventory.refusals)
