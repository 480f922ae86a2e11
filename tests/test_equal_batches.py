"""Batches of models: which clips stand together depends on the clips alone, not on the tables that they come in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from clipmill.schemas.tables import CLIPS
from clipmill.stages.models.equal_batches import AHEAD_BATCHES, EqualBatches
from clipmill.stages.models.settled_clips import settled

SIZES = st.lists(st.integers(1, 4), max_size=120)


def batches_of(sizes: list[int], batch: int, max_ahead: int) -> tuple[list[list[int]], int]:
    """Return the batches, and the most clips that waited at once."""
    batches, taken, most = EqualBatches[int](batch, max_ahead), [], 0
    for i, size in enumerate(sizes):
        taken += batches.add(i, size, size)
        waiting = set(range(i + 1)) - {clip for one in taken for clip in one}
        most = max(most, i - min(waiting) + 1 if waiting else 0)
    return taken + batches.finish(), most


@given(SIZES, st.integers(1, 5), st.integers(0, 60))
def test_each_clip_is_in_one_batch_with_others_of_its_size(sizes: list[int], batch: int, max_ahead: int) -> None:
    taken, most = batches_of(sizes, batch, max_ahead)
    assert sorted(clip for one in taken for clip in one) == list(range(len(sizes)))
    for one in taken:
        assert len(one) <= batch and len({sizes[clip] for clip in one}) == 1 and one == sorted(one)
    assert most <= AHEAD_BATCHES * batch
    for size in set(sizes):
        own = [one for one in taken if sizes[one[0]] == size]
        assert all(a[-1] < b[0] for a, b in pairwise(own)), "in their order"
        assert (
            max_ahead < 60
            or sum(sizes) > 60
            or len(sizes) > AHEAD_BATCHES
            or all(len(one) == batch for one in own[:-1])
        )


def test_only_the_last_batch_of_a_size_is_not_full() -> None:
    taken, _ = batches_of([1, 1, 2, 1, 1, 2, 1], 2, 100)
    assert taken == [[0, 1], [3, 4], [2, 5], [6]]


def test_a_rare_clip_does_not_wait_for_the_end() -> None:
    taken, most = batches_of([2] + [1] * 100, 3, 10_000)
    assert [0] in taken[: AHEAD_BATCHES + 1] and most <= 3 * AHEAD_BATCHES
    taken, _ = batches_of([2] + [1] * 30, 3, 12)
    assert [0] in taken[:5]


ITEMS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["plain", "void", "rejected"]), st.integers(0, 3)),
    min_size=1,
    max_size=8,
)


def rows_of(items: list[tuple[int, str, int]]) -> tuple[list[dict[str, object]], list[str]]:
    """Return the rows of items, and the ids of clips that stay. An item has clips, and can be repeated or rejected after some."""
    rows, stay = [], []
    for i, (n, fate, again) in enumerate(items):
        own = [f"{i}-{k}" for k in range(n)]
        rows += [{"item_id": str(i), "status": "clip", "clip_id": clip} for clip in own]
        if fate == "void":
            rows.append({"item_id": str(i), "status": "void"})
            own = [f"{i}-again-{k}" for k in range(again)]
            rows += [{"item_id": str(i), "status": "clip", "clip_id": clip} for clip in own]
        if fate == "rejected":
            rows.append({"item_id": str(i), "status": "rejected", "kind": "recording"})
            own = []
        rows.append({"item_id": str(i), "status": "account", "last": True})
        stay += own
    return rows, stay


@given(ITEMS, st.lists(st.integers(0, 60), max_size=8))
def test_clips_that_stay_are_known_however_tables_are_cut(items: list[tuple[int, str, int]], cuts: list[int]) -> None:
    rows, stay = rows_of(items)
    table = pa.Table.from_pylist(rows, schema=CLIPS)
    edges = sorted({0, table.num_rows, *(cut for cut in cuts if cut < table.num_rows)})
    tables = [table.slice(a, b - a) for a, b in pairwise(edges)]
    found = list(settled(tables))
    assert pa.concat_tables([part for part, _ in found]).equals(table)
    ids = [clip for part, mask in found for clip in part.filter(pa.array(mask))["clip_id"].to_pylist()]
    assert ids == stay


def test_tables_without_rows_pass() -> None:
    ((table, mask),) = settled([CLIPS.empty_table()])
    assert table.num_rows == 0 and mask.dtype == np.bool_
