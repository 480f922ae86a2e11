"""In which order to build shards."""

from __future__ import annotations

import random


def work_order(shard_s: list[float]) -> list[int]:
    """Return the order in which to build shards of these lengths in seconds.

    The order is random, so that two builders on one root start with different shards and find each other's done. But the shortest
    third comes last, longest first, so that the workers end at about the same time.
    """
    order = sorted(range(len(shard_s)), key=lambda i: -shard_s[i])
    last = max(1, len(order) // 3)
    first = order[:-last]
    random.shuffle(first)
    return first + order[-last:]
