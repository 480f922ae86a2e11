"""Balanced epochs: which clips, how often, on which rank, for any labels, temperatures, ranks and loading processes."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.read.epoch_rows import EpochRows
from clipmill.pipelines.read.label_balance import LabelBalance, label_groups, quotas, temperature_of
from clipmill.pipelines.read.sampling import Buffer, Consumer
from clipmill.schemas.errors import ClipmillError

GROUPS = st.lists(st.integers(0, 5), min_size=1, max_size=80)
TEMPERATURE = st.sampled_from([1.0, 2.0, 5.0, math.inf])


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), TEMPERATURE)
def test_quotas_are_shares_of_the_epoch(sizes: list[int], temperature: float) -> None:
    n = np.array(sizes)
    found = quotas(n, temperature)
    weights = n ** (1 / temperature)
    assert found.sum() == n.sum() and found.min() >= 1
    assert (np.abs(found - n.sum() * weights / weights.sum()) < 1 + 1e-6).all()
    if temperature == 1:
        assert found.tolist() == sizes


@given(GROUPS, TEMPERATURE, st.integers(0, 3), st.integers(1, 6))
def test_within_a_label_no_clip_is_given_twice_more_often(
    groups: list[int], temperature: float, seed: int, n_epochs: int
) -> None:
    found = np.array(groups)
    balance = LabelBalance.of(found, temperature, seed)
    counts = np.array([balance.counts(epoch) for epoch in range(n_epochs)])
    assert (counts.sum(1) == len(groups)).all()
    by_label = dict(zip(np.unique(found), balance.quotas, strict=True))
    for label, quota in by_label.items():
        of_label = counts[:, found == label]
        assert (of_label.sum(1) == quota).all()
        assert (np.ptp(of_label, axis=1) <= 1).all() and np.ptp(of_label.sum(0)) <= 1
    if temperature == 1:
        assert (counts == 1).all()


@given(
    GROUPS,
    TEMPERATURE,
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([None, "drop", "repeat"]),
    st.booleans(),
    st.data(),
)
def test_ranks_and_loading_processes_share_the_balanced_epoch(
    groups: list[int],
    temperature: float,
    n_shards: int,
    n_ranks: int,
    n_workers: int,
    even: Any,
    shuffle: bool,
    data: st.DataObject,
) -> None:
    """What they get together is what the balance says, with copies numbered from 0; a process that goes on gets the rest."""
    seed, epoch = 3, data.draw(st.integers(0, 4))
    of_shard = np.sort(
        np.array(data.draw(st.lists(st.integers(0, n_shards - 1), min_size=len(groups), max_size=len(groups))))
    )
    chosen = [7 + 2 * np.arange((of_shard == shard).sum()) for shard in range(n_shards)]  # some rows of each file
    balance = LabelBalance.of(np.array(groups), temperature, seed)
    rows = EpochRows([100] * n_shards, chosen, balance, seed, epoch, shuffle)
    seen: Counter[tuple[int, int, int]] = Counter()
    sizes = []
    for rank in range(n_ranks):
        sizes.append(0)
        for worker in range(n_workers):
            who = Consumer(rank, n_ranks, worker, n_workers)
            stretch = who.stretch(rows.line.n_clips, even)
            places = _drawn(stretch, worker)
            skip = data.draw(st.integers(0, len(places)))
            assert _drawn(stretch, worker, skip) == places[skip:]
            seen.update(rows.at(place) for place in places)
            sizes[-1] += len(places)
    counts = iter(balance.counts(epoch).tolist())
    expected = Counter(
        (shard, int(row), copy) for shard, own in enumerate(chosen) for row in own for copy in range(next(counts))
    )
    if even is None:
        assert seen == expected and max(sizes) - min(sizes) <= 1
    else:
        assert len(set(sizes)) == 1
        assert seen.keys() <= expected.keys() if even == "drop" else seen.keys() == expected.keys()
        assert abs(sum(seen.values()) - len(groups)) < n_ranks


def _drawn(stretch: range, worker: int, skip: int = 0) -> list[int]:
    buffer = Buffer(stretch, 5, [worker])
    buffer.skip(skip)
    found = []
    while True:
        buffer.fill()
        if (place := buffer.draw()) is None:
            return found
        found.append(place)


def test_copies_of_a_rare_clip_are_spread_over_the_epoch() -> None:
    groups = np.array([0] * 1000 + [1] * 10)
    balance = LabelBalance.of(groups, math.inf, 0)
    rows = EpochRows([1010], None, balance, 0, 0, True)
    line = [rows.at(place)[1] for place in range(rows.line.n_clips)]
    for clip in range(1000, 1010):
        places = np.flatnonzero(np.array(line) == clip)
        assert len(places) in (50, 51)
        assert len(set(places * 8 // len(line))) == 8  # some in each eighth


def test_a_clip_counts_for_its_rarest_label() -> None:
    labels = [["a", "b"], ["a"], ["b"], [], None, ["a", "c"], ["a", "b", "c"], ["b", "d", "e"], []]
    groups = label_groups(pa.chunked_array([pa.array(labels, pa.list_(pa.string()))])).tolist()
    # a and b are in four clips each: of equally rare ones the first counts. c is in two, d and e in one.
    assert groups[0] == groups[1] != groups[2]
    assert groups[5] == groups[6] and groups[3] == groups[4] == groups[8]
    assert len(set(groups)) == 5
    single = label_groups(pa.chunked_array([pa.array(["x", None, "y", "x"]), pa.array(["y", None])])).tolist()
    assert single[0] == single[3] and single[2] == single[4] and single[1] == single[5] and len(set(single)) == 3
    assert label_groups(pa.chunked_array([pa.array([], pa.list_(pa.string()))])).tolist() == []


@pytest.mark.parametrize(
    "wrong", ["labels", 5, {"label": 0.5}, {"label": True}, {"label": "5"}, {"speaker": 5}, {"label": math.nan}]
)
def test_other_forms_are_refused(wrong: Any) -> None:
    with pytest.raises(ClipmillError, match=r'balance is .*; it can be "label".*at least 1'):
        temperature_of(wrong)
