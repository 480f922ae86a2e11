"""An item that turns out to be bad when rows of it were there already: its shard is made again without it.

For what a limit decides. Limits stand in no key, so the shard keeps the one that it has.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.schemas.errors import ItemRejectedError
from clipmill.stages.arrow_rows import replace_column


def rejecting(shard: pa.Table, bad: ItemRejectedError) -> pa.Table:
    """Return a shard's plan in which the item is rejected unread, under the key that it has."""
    is_it = pc.equal(shard["item_id"], bad.item)
    for name, value in (("reason", bad.reason), ("detail", bad.detail)):
        shard = replace_column(shard, name, pc.if_else(is_it, value, shard[name]))
    return shard


def exchanged(clips: pa.Table, item: str, rejection: Iterable[pa.Table]) -> pa.Table:
    """Return a shard's clips with the rejection of an item in the place of its rows."""
    is_it = pc.equal(clips["item_id"], item)
    start = pc.index(is_it, True).as_py()
    behind = clips.slice(start).filter(pc.invert(is_it.slice(start)))
    return pa.concat_tables([clips.slice(0, start), *rejection, behind])
