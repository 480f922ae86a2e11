"""Leave out of a plan the recordings that were forgotten."""

from __future__ import annotations

from clipmill.pipelines.plan.annotations.annotated import Annotated
from clipmill.pipelines.plan.inventory import Inventory
from clipmill.schemas.config import Source
from clipmill.schemas.forgotten import Forgotten


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
