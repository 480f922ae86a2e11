"""Tell which clips of a shard are certain to stay in it, as far as stages before this one decide.

Rows of an item can be cancelled by later ones: the item is repeated after a crash, or its recording is rejected at its end. A clip of such
rows must not decide with which others a model sees a clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.stages.clip_buffer import ClipBuffer
from clipmill.stages.stage import is_clip

Settled = tuple[pa.Table, npt.NDArray[np.bool_]]
_OF_WHOLE_ITEM = ("recording", "span")


def settled(tables: Iterable[pa.Table]) -> Iterator[Settled]:
    """Yield the tables of a shard again, possibly divided, once their items have ended: each with a mask of the clips that stay.

    Memory does not grow with an item, since its tables wait in a `ClipBuffer`.
    """
    with ClipBuffer() as waiting:
        item, n_waiting, n_void = "", 0, 0
        for table in tables:
            mask, done = is_clip(table), 0
            for own, start, stop, is_last in _by_item(table):
                part = table.slice(start, stop - start)
                until = _voided_until(part)
                if n_waiting and own != item:
                    yield from _released(waiting, n_void)
                    n_waiting = n_void = 0
                if n_waiting or not is_last:
                    if start > done:
                        yield table.slice(done, start - done), mask[done:start]
                    item, done = own, stop
                    n_void = n_void if until is None else n_waiting + until
                    waiting.add(part)
                    n_waiting += part.num_rows
                    if is_last:
                        yield from _released(waiting, n_void)
                        n_waiting = n_void = 0
                elif until is not None:
                    mask[start : start + until] = False
            if done < table.num_rows or not table.num_rows:
                yield table.slice(done), mask[done:]
        yield from _released(waiting, n_void)


def _released(waiting: ClipBuffer, n_void: int) -> Iterator[Settled]:
    start = 0
    for table in waiting.release():
        yield table, is_clip(table) & (np.arange(start, start + table.num_rows) >= n_void)
        start += table.num_rows
    waiting.clear()


def _by_item(table: pa.Table) -> Iterator[tuple[str, int, int, bool]]:
    """Yield stretches of rows of one item: its id, the first row, the row behind the last, and whether the item ends with them."""
    ids, last = table["item_id"].to_pylist(), table["last"].to_pylist()
    start = 0
    for i in range(len(ids)):
        if i + 1 == len(ids) or ids[i + 1] != ids[i]:
            yield ids[i], start, i + 1, any(last[start : i + 1])
            start = i + 1


def _voided_until(rows: pa.Table) -> int | None:
    """Return the first row that counts if those before it are cancelled, None if none are."""
    kinds, states = rows["kind"].to_pylist(), rows["status"].to_pylist()
    places = [i for i, kind in enumerate(kinds) if kind in _OF_WHOLE_ITEM]
    places += [i + 1 for i, status in enumerate(states) if status == "void"]
    return max(places) if places else None
