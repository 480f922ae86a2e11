"""Reject an item after some of its rows have arrived: its shard is made again without it.

Only limits lead to this. Limits are not part of keys, so the shard keeps its key.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.schemas.errors import ItemRejectedError
from clipmill.stages.arrow_rows import replace_column


def reject_item(shard: pa.Table, bad: ItemRejectedError) -> pa.Table:
    """Return a shard's plan, with the same key, in which an item is rejected without being read."""
    is_it = pc.equal(shard["item_id"], bad.item)
    for name, value in (("reason", bad.reason), ("detail", bad.detail)):
        shard = replace_column(shard, name, pc.if_else(is_it, value, shard[name]))
    return shard


def replace_rows(clips: pa.Table, item: str, rejection: Iterable[pa.Table]) -> pa.Table:
    """Return a shard's clips with the rows of an item replaced by its rejection."""
    is_it = pc.equal(clips["item_id"], item)
    start = pc.index(is_it, True).as_py()
    rest = clips.slice(start).filter(pc.invert(is_it.slice(start)))
    return pa.concat_tables([clips.slice(0, start), *rejection, rest])
