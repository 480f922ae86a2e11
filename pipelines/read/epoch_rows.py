"""Say which rows of a selection's shards an epoch gives, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.read.label_balance import LabelBalance
from clipmill.pipelines.read.sampling import Line, first_place, shard_order

_MOST_ROUNDS = 8
Whole = npt.NDArray[np.int64]


class EpochRows:
    """The clips of an epoch as a line that all consumers share, and the row that is at each place of it.

    n_rows : number of rows of each shard's file
    chosen : the rows of each file that are selected; None: all of them
    balance : how often each selected clip is given, by the epoch; None: once
    seed, epoch, shuffle : what the order depends on

    Without `balance` the line goes through the shards once. With it, clips that are given several times would follow each other, so the
    line goes through the shards in up to 8 rounds, and a clip's copies are spread over the rounds.
    """

    def __init__(
        self,
        n_rows: Sequence[int],
        chosen: Sequence[Whole] | None,
        balance: LabelBalance | None,
        seed: int,
        epoch: int,
        shuffle: bool,
    ) -> None:
        self._chosen, self._copies, self._n_shards = chosen, None, len(n_rows)
        lengths = list(n_rows) if chosen is None else [len(rows) for rows in chosen]
        n_rounds = 1
        if balance is not None:
            n_rounds = max(1, min(_MOST_ROUNDS, round(balance.most_copies))) if shuffle else 1
            self._copies = _copies(lengths, balance.counts(epoch), n_rounds, [seed, epoch, 3])
            lengths = self._copies.lengths
        orders = [shard_order(self._n_shards, seed, epoch, shuffle, i) + i * self._n_shards for i in range(n_rounds)]
        self.line = Line(lengths, np.concatenate(orders), first_place(sum(lengths), seed, epoch, shuffle))

    def at(self, place: int) -> tuple[int, int, int]:
        """Return the shard, the row in its file, and how many times the clip was counted before in this epoch."""
        part, i = self.line.find(place)
        shard, copy = part, 0
        if self._copies is not None:
            shard, i, copy = part % self._n_shards, *self._copies.at(part, i)
        return shard, i if self._chosen is None else int(self._chosen[shard][i]), copy


@dataclass(frozen=True)
class _Copies:
    """Clips in the order of rounds and shards, a clip as often as a round gives it.

    lengths : number of clips of each shard in each round
    """

    lengths: list[int]
    starts: Whole
    rows: Whole
    copies: Whole

    def at(self, part: int, i: int) -> tuple[int, int]:
        place = int(self.starts[part]) + i
        return int(self.rows[place]), int(self.copies[place])


def _copies(lengths: Sequence[int], counts: Whole, n_rounds: int, seed: Sequence[int]) -> _Copies:
    """Divide copies among rounds. counts : how often each clip is given, shard by shard"""
    first = np.cumsum([0, *lengths])[:-1]
    shards = np.repeat(np.arange(len(lengths)), lengths)
    clips = np.repeat(np.arange(len(counts)), counts)
    copies = np.arange(len(clips)) - np.repeat(np.cumsum(counts) - counts, counts)
    # A clip's copies are n_rounds / count rounds apart, and begin at random.
    begin = np.random.default_rng(list(seed)).random(len(counts))
    rounds = ((copies + begin[clips]) * n_rounds / counts[clips]).astype(np.int64).clip(0, n_rounds - 1)
    parts = rounds * len(lengths) + shards[clips]
    order = np.argsort(parts, kind="stable")
    found = np.bincount(parts, minlength=n_rounds * len(lengths))
    rows = (clips - first[shards[clips]])[order]
    return _Copies(found.tolist(), np.cumsum(found) - found, rows, copies[order])
