"""Divide the hash space into partitions, one per shard."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def partition_hashes(
    hashes: npt.NDArray[np.uint64], weights: npt.NDArray[np.int64], budget: int
) -> list[tuple[str, int, int]]:
    """Divide sorted hashes into partitions by their leading bits, each of at most `budget` in total weight.

    Returns
    -------
    (name, start, stop) : ``b`` and the bits that its members share, and the range of its members; partitions without members
    are left out. A partition over the budget has one member, or members with equal hashes.
    """
    total = np.concatenate([[0], np.cumsum(weights)])
    partitions: list[tuple[str, int, int]] = []
    waiting = [("b", 0, len(hashes), 0)]
    while waiting:
        name, start, stop, low = waiting.pop()
        if start == stop:
            continue
        depth = len(name) - 1
        if total[stop] - total[start] <= budget or stop - start == 1 or depth == 64:
            partitions.append((name, start, stop))
            continue
        middle = low | 1 << (63 - depth)
        cut = int(start + np.searchsorted(hashes[start:stop], np.uint64(middle)))
        waiting.append((name + "1", cut, stop, middle))
        waiting.append((name + "0", start, cut, low))
    return partitions
