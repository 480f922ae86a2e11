"""Buckets: the parts of the hash space that shards stand for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def buckets(hashes: npt.NDArray[np.uint64], weights: npt.NDArray[np.int64], budget: int) -> list[tuple[str, int, int]]:
    """Divide sorted hashes into buckets of the hash space, each of at most `budget`, by bits from the top.

    Returns
    -------
    (name, start, stop) : ``b`` and the bits that its members share, and which members these are; only buckets that hold
    something. A bucket over the budget has one member, or members with equal hashes.
    """
    total = np.concatenate([[0], np.cumsum(weights)])
    found: list[tuple[str, int, int]] = []
    waiting = [("b", 0, len(hashes), 0)]
    while waiting:
        name, start, stop, low = waiting.pop()
        if start == stop:
            continue
        depth = len(name) - 1
        if total[stop] - total[start] <= budget or stop - start == 1 or depth == 64:
            found.append((name, start, stop))
            continue
        middle = low | 1 << (63 - depth)
        cut = int(start + np.searchsorted(hashes[start:stop], np.uint64(middle)))
        waiting.append((name + "1", cut, stop, middle))
        waiting.append((name + "0", start, cut, low))
    return found
