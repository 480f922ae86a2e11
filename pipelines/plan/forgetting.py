"""Leave out of a plan the recordings that were forgotten."""

from __future__ import annotations

from clipmill.pipelines.plan.annotations.annotated import Annotated
from clipmill.pipelines.plan.inventory import Inventory
from clipmill.schemas.config import Source
from clipmill.schemas.forgotten import Forgotten


def leave_out_forgotten(source: Source, forgotten: Forgotten, inventory: Inventory, annotated: Annotated) -> int:
    """Remove the forgotten recordings of a source and their annotations; return the number of recordings removed.

    Rows of a table that name a forgotten recording are removed even if the source no longer has it: rejecting such a row would
    write its name into the dataset again.
    """
    paths = {path for path in inventory.paths if forgotten.holds(f"{source.name}/{path}")}
    n_listed = len(inventory.recordings) + len(inventory.refusals)
    inventory.recordings.keep_if(lambda path: path not in paths)
    inventory.refusals[:] = [r for r in inventory.refusals if r.path not in paths]
    for part in {id(part): part for part in (annotated, *annotated.parts)}.values():
        for path in paths:
            part.by_path.pop(path, None)
        part.strays[:] = [s for s in part.strays if not any(forgotten.names_one(source.name, n) for n in s.names)]
    return n_listed - len(inventory.recordings) - len(inventory.refusals)
