"""Form batches of clips of one size, in an order that depends on the clips alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
MAX_AHEAD_BYTES = 32 << 20
"""How much of what follows a clip may arrive before its batch is taken as it is, by the size of inputs."""
AHEAD_BATCHES = 16
"""The same, in full batches of clips."""


class EqualBatches(Generic[T]):
    """Collects clips by size. A batch is taken when it is full, when too much has followed its first clip, and at the end.

    It follows from the sizes of the clips in their order, not from how they arrive. What waits is bounded.

    batch : clips of a full batch
    """

    def __init__(self, batch: int, max_ahead_bytes: int = MAX_AHEAD_BYTES) -> None:
        self._batch, self._max_bytes = batch, max_ahead_bytes
        self._groups: dict[Hashable, list[T]] = {}
        self._order: deque[tuple[int, int, Hashable, T]] = deque()
        self._n = self._bytes = 0
        self._taken: set[T] = set()

    def add(self, clip: T, size: Hashable, n_bytes: int) -> list[list[T]]:
        """Add a clip, and return the batches that are due, in their order.

        size : what clips of a batch have in common
        n_bytes : of its input
        """
        group = self._groups.setdefault(size, [])
        group.append(clip)
        self._order.append((self._n, self._bytes, size, clip))
        self._n += 1
        self._bytes += n_bytes
        due = [self._take(size)] if len(group) == self._batch else []
        while self._order:
            number, before, oldest, first = self._order[0]
            if first in self._taken:
                self._order.popleft()
                self._taken.discard(first)
            elif self._n - number >= AHEAD_BATCHES * self._batch or self._bytes - before > self._max_bytes:
                due.append(self._take(oldest))
            else:
                break
        return due

    def finish(self) -> list[list[T]]:
        """Return what is left, by the order of the first clips."""
        return [self._take(size) for size in list(self._groups)]

    def _take(self, size: Hashable) -> list[T]:
        clips = self._groups.pop(size)
        self._taken.update(clips)
        return clips
