"""Who gets which clips: for any numbers of shards, ranks and loading processes, all of them, each once."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.read.sampling import Buffer, Consumer, Line, shard_order

ROWS = st.lists(st.integers(1, 40), max_size=12)


def drawn(stretch: range, size: int, seed: list[int], skip: int = 0) -> list[int]:
    buffer = Buffer(stretch, size, seed)
    buffer.skip(skip)
    found = []
    while True:
        buffer.fill()
        place = buffer.draw()
        if place is None:
            return found
        found.append(place)


@given(ROWS, st.integers(1, 9), st.integers(0, 4), st.integers(1, 30), st.integers(0, 3), st.booleans())
def test_every_clip_is_given_once(
    rows: list[int], n_ranks: int, n_workers: int, size: int, epoch: int, shuffle: bool
) -> None:
    workers = max(1, n_workers)
    line = Line(rows, shard_order(len(rows), 7, epoch, shuffle))
    seen: Counter[tuple[int, int]] = Counter()
    lengths = []
    for rank in range(n_ranks):
        mine = 0
        for worker in range(workers):
            who = Consumer(rank, n_ranks, worker, workers)
            places = drawn(who.stretch(line.n_clips), size, [7, epoch, rank, worker])
            mine += len(places)
            seen.update(line.find(p) for p in places)
        lengths.append(mine)
    assert seen == Counter((s, r) for s, n in enumerate(rows) for r in range(n))
    assert max(lengths) - min(lengths) <= 1


@given(st.integers(0, 200), st.integers(1, 9), st.integers(1, 4), st.sampled_from(["drop", "repeat"]))
def test_ranks_get_equally_many_on_request(n_clips: int, n_ranks: int, n_workers: int, even: str) -> None:
    by_rank = [
        [len(Consumer(r, n_ranks, w, n_workers).stretch(n_clips, even)) for w in range(n_workers)]
        for r in range(n_ranks)
    ]
    assert all(sizes == by_rank[0] for sizes in by_rank)  # so each gives as many batches, whatever their size
    places = Counter(
        p % n_clips for r in range(n_ranks) for w in range(n_workers) for p in Consumer(r, n_ranks, w, n_workers).stretch(n_clips, even)
    )  # fmt: skip
    if even == "drop":
        assert len(places) > n_clips - n_ranks and set(places.values()) <= {1}
    else:
        assert len(places) == n_clips and sum(places.values()) - n_clips < n_ranks


@given(st.integers(0, 120), st.integers(1, 50), st.integers(0, 120), st.integers(0, 5))
def test_what_is_skipped_is_what_was_drawn_before(n: int, size: int, skip: int, seed: int) -> None:
    whole = drawn(range(3, 3 + n), size, [seed])
    assert drawn(range(3, 3 + n), size, [seed], skip) == whole[skip:]
    assert sorted(whole) == list(range(3, 3 + n))


def test_a_buffer_mixes_and_differs_by_seed_and_a_buffer_of_one_keeps_the_order() -> None:
    one, two = drawn(range(1000), 200, [0, 0]), drawn(range(1000), 200, [0, 1])
    assert one != two != list(range(1000))
    moved = np.abs(np.argsort(one) - np.arange(1000))
    assert moved.mean() > 50
    assert drawn(range(1000), 1, [0]) == list(range(1000))


def test_an_epoch_has_an_order_of_its_own() -> None:
    orders = {tuple(shard_order(20, 1, epoch, True)) for epoch in range(10)}
    assert len(orders) == 10
    assert tuple(shard_order(20, 1, 3, True)) in orders
    assert tuple(shard_order(20, 1, 3, False)) == tuple(range(20))


def test_a_consumer_must_be_one_of_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="no worker 2 of 2"):
        Consumer(0, 1, 2, 2)
