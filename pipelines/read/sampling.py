"""Sampling: which clips of a split each of many consumers gets, and in which order. Integers only; nothing is read here.

All shards of a split, one behind the other in an order drawn for each epoch, make one line of clips. Each rank gets a stretch of the
line, and each of its loading processes a stretch of that. So the stretches are disjoint, together they are the whole, and none is
longer than another by more than a clip, however few the shards are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Even = Literal["drop", "repeat"]


@dataclass(frozen=True)
class Consumer:
    """One of those that share a split: a loading process of a rank.

    rank, n_ranks : of the training job's processes
    worker, n_workers : of the rank's loading processes
    """

    rank: int = 0
    n_ranks: int = 1
    worker: int = 0
    n_workers: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.n_ranks and 0 <= self.worker < self.n_workers):
            raise ValueError(
                f"there is no worker {self.worker} of {self.n_workers} in rank {self.rank} of {self.n_ranks}"
            )

    def stretch(self, n_clips: int, even: Even | None = None, batch_size: int = 1) -> range:
        """Return the places in the line that this consumer gets. With "repeat" the last ranks' may be beyond its end, which
        stands for its beginning.

        even : have all ranks get the same number: "drop" leaves out the line's last clips, fewer than there are ranks; "repeat" gives
            as many of its first ones twice
        batch_size : give each of a rank's loading processes whole batches, the last one the rest
        """
        if even is None or n_clips == 0:
            start, stop = _part(0, n_clips, self.rank, self.n_ranks)
        else:
            each = n_clips // self.n_ranks if even == "drop" else -(-n_clips // self.n_ranks)
            start, stop = self.rank * each, (self.rank + 1) * each
        first, last = _part(0, -(-(stop - start) // batch_size), self.worker, self.n_workers)
        return range(start + first * batch_size, min(start + last * batch_size, stop))


def _part(start: int, stop: int, i: int, n: int) -> tuple[int, int]:
    return start + (stop - start) * i // n, start + (stop - start) * (i + 1) // n


def shard_order(n_shards: int, seed: int, epoch: int, shuffle: bool) -> npt.NDArray[np.int64]:
    """Return the order of the shards in an epoch: the same for all consumers."""
    if not shuffle:
        return np.arange(n_shards)
    return np.random.default_rng([seed, epoch]).permutation(n_shards)


def first_place(n_clips: int, seed: int, epoch: int, shuffle: bool) -> int:
    """Return where the line begins in an epoch, the same for all consumers: so that each gets others of few shards' clips."""
    return int(np.random.default_rng([seed, epoch, 1]).integers(n_clips)) if shuffle and n_clips else 0


class Line:
    """The clips of a split, one shard behind the other, in a circle.

    rows : of each shard
    order : of the shards
    first : which of the clips so arranged is at place 0
    """

    def __init__(self, rows: Sequence[int], order: npt.NDArray[np.int64], first: int = 0) -> None:
        self._order, self._first = order, first
        self._ends = np.cumsum([rows[i] for i in order], dtype=np.int64)
        self.n_clips = int(self._ends[-1]) if len(rows) else 0

    def find(self, place: int) -> tuple[int, int]:
        """Return the shard and the row in it at a place of the line, which begins anew behind its end."""
        place = (place + self._first) % self.n_clips
        k = int(np.searchsorted(self._ends, place, side="right"))
        start = int(self._ends[k - 1]) if k else 0
        return int(self._order[k]), place - start


class Buffer:
    """Draws from a stretch of places at random, out of the next `size` of them; with a size of 1 in their order.

    What it draws depends on nothing but the stretch, the size and the seed, so that a reader that was interrupted can go on: it `skip`s
    what was drawn before.

    waiting : what may be drawn next; `fill` returns what came in
    """

    def __init__(self, stretch: range, size: int, seed: Sequence[int]) -> None:
        self.waiting: list[int] = []
        self._coming: Iterator[int] = iter(stretch)
        self._size = max(1, size)
        self._random = np.random.default_rng(list(seed))
        self._draws: npt.NDArray[np.float64] = np.empty(0)
        self._drawn = 0

    def fill(self) -> list[int]:
        """Take in as many places as there is room for; return them."""
        came: list[int] = []
        while len(self.waiting) + len(came) < self._size and (place := next(self._coming, None)) is not None:
            came.append(place)
        self.waiting += came
        return came

    def draw(self) -> int | None:
        """Return one of the waiting places, None when there is none."""
        if not self.waiting:
            return None
        if self._size == 1:
            return self.waiting.pop()
        if self._drawn == len(self._draws):
            self._draws, self._drawn = self._random.random(1024), 0
        i = int(self._draws[self._drawn] * len(self.waiting))
        self._drawn += 1
        self.waiting[i], self.waiting[-1] = self.waiting[-1], self.waiting[i]
        return self.waiting.pop()

    def skip(self, n: int) -> None:
        """Draw so many and forget them."""
        for _ in range(n):
            self.fill()
            self.draw()
