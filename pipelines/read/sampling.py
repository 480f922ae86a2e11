"""Divide the clips of a split among consumers, and order them. Integers only; nothing is read here.

The shards of a split, in an order drawn for each epoch, form one line of clips. Each rank gets a stretch of the line, and each of its
loading processes a part of that. So the stretches are disjoint and cover everything, and their lengths differ by at most one clip,
however few shards there are.
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
    """One of the processes that share a split: a loading process of a rank.

    rank, n_ranks : index and number of the training job's processes
    worker, n_workers : index and number of the rank's loading processes
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
        """Return this consumer's places in the line. With "repeat" the last ones can lie beyond its end, which means its beginning.

        even : give all ranks the same number of clips: "drop" leaves out the last clips of the line (fewer than there are ranks),
            "repeat" gives some of the first ones twice
        batch_size : give each loading process of a rank whole batches, and the last one the rest
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


def shard_order(n_shards: int, seed: int, epoch: int, shuffle: bool, n_before: int = 0) -> npt.NDArray[np.int64]:
    """Return the order of the shards in an epoch, which is the same for all consumers.

    n_before : how often the epoch went through the shards before; each time the order is another one
    """
    if not shuffle:
        return np.arange(n_shards)
    return np.random.default_rng([seed, epoch, *((2, n_before) if n_before else ())]).permutation(n_shards)


def first_place(n_clips: int, seed: int, epoch: int, shuffle: bool) -> int:
    """Return where the line begins in an epoch, the same for all consumers, so that a rank sees other clips even if there are few shards."""
    return int(np.random.default_rng([seed, epoch, 1]).integers(n_clips)) if shuffle and n_clips else 0


class Line:
    """The clips of a split as a circle, one shard after the other.

    rows : number of rows of each shard
    order : order of the shards
    first : the clip at place 0, counted in that order
    """

    def __init__(self, rows: Sequence[int], order: npt.NDArray[np.int64], first: int = 0) -> None:
        self._order, self._first = order, first
        self._ends = np.cumsum([rows[i] for i in order], dtype=np.int64)
        self.n_clips = int(self._ends[-1]) if len(rows) else 0

    def find(self, place: int) -> tuple[int, int]:
        """Return the shard and its row at a place of the line. The line is a circle: it starts again after its end."""
        place = (place + self._first) % self.n_clips
        k = int(np.searchsorted(self._ends, place, side="right"))
        start = int(self._ends[k - 1]) if k else 0
        return int(self._order[k]), place - start


class Buffer:
    """Draw places from a stretch at random, always from the next `size` of them; with a size of 1 in order.

    The draws depend only on the stretch, the size and the seed. So an interrupted reader can continue: it `skip`s the places that were
    drawn before.

    waiting : the places that can be drawn next
    """

    def __init__(self, stretch: range, size: int, seed: Sequence[int]) -> None:
        self.waiting: list[int] = []
        self._coming: Iterator[int] = iter(stretch)
        self._size = max(1, size)
        self._random = np.random.default_rng(list(seed))
        self._draws: npt.NDArray[np.float64] = np.empty(0)
        self._drawn = 0

    def fill(self) -> list[int]:
        """Add as many places as there is room for, and return them."""
        added: list[int] = []
        while len(self.waiting) + len(added) < self._size and (place := next(self._coming, None)) is not None:
            added.append(place)
        self.waiting += added
        return added

    def draw(self) -> int | None:
        """Draw one of the waiting places; return None if there are none."""
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
