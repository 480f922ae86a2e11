"""Choose a few of a plan's items, so that a configuration can be tried before all recordings are read.

The whole corpus is listed and its annotations are read, so each item has the split, the labels and the rows that it has in a whole build.
What is left out is counted.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

_ROUND = 4
"""So many times more candidates than are wanted are held before those that cannot be chosen are forgotten."""
_MOST_GROUPS = 2_000
_OTHERS = ""
Group = tuple[str, str, str]
"""Source, split and label."""


class Choice(Protocol):
    """What chooses the items of a plan. by : the column whose values say which; asked : how many of them were asked for, at most"""

    by: Literal["recording_id", "item_id"]
    asked: int

    def choose(self, items: Iterable[pa.Table]) -> set[str]:
        """Return the values in the column `by` of what is chosen. items : rows of `ITEMS`"""
        ...


class FewRecordings:
    """Choose so many recordings: as many of each source, as far as it has them, and in it those whose names have the least hashes.

    So the same recordings are chosen each time, among them most of those that a smaller number gives, and new recordings seldom change it.
    """

    by: Literal["recording_id", "item_id"] = "recording_id"

    def __init__(self, asked: int) -> None:
        self.asked = asked

    def choose(self, items: Iterable[pa.Table]) -> set[str]:
        """Return the ids of recordings."""
        least: dict[str, dict[str, bytes]] = defaultdict(dict)
        for table in items:
            for source, name in zip(table["source"].to_pylist(), table["recording_id"].to_pylist(), strict=True):
                own = least[source]
                own[name] = _chance("limit", name)
                if len(own) >= _ROUND * self.asked + 1000:
                    least[source] = _least(own, self.asked)
        lists = [list(_least(least[source], self.asked)) for source in sorted(least)]
        numbers = divided(self.asked, [len(own) for own in lists])
        return {name for own, n in zip(lists, numbers, strict=True) for name in own[:n]}


def _least(chances: dict[str, bytes], n: int) -> dict[str, bytes]:
    return dict(heapq.nsmallest(n, chances.items(), key=lambda pair: (pair[1], pair[0])))


def divided(n: int, sizes: Sequence[int]) -> list[int]:
    """Return how many of `n` each of several things gets: as many as any other, or all it has room for. sizes : their room"""
    given = [0] * len(sizes)
    open_ = [i for i, size in enumerate(sizes) if size > 0]
    while n > 0 and open_:
        each = max(1, n // len(open_))
        for i in open_:
            more = min(each, sizes[i] - given[i], n)
            given[i] += more
            n -= more
        open_ = [i for i in open_ if given[i] < sizes[i]]
    return given


class VariedItems:
    """Choose so many items at random: of as many sources, splits and labels as there are, and of different recordings.

    asked : number of items
    most_s : estimated seconds of their clips, beyond which no further ones are chosen
    seed : of the choice
    """

    by: Literal["recording_id", "item_id"] = "item_id"

    def __init__(self, asked: int, most_s: float, seed: int) -> None:
        self.asked, self._most_s, self._seed = asked, most_s, seed

    def choose(self, items: Iterable[pa.Table]) -> set[str]:
        """Return the ids of items."""
        groups = self._groups(items)
        turns = sorted(groups, key=lambda group: _chance(str(self._seed), "\n".join(group)))
        chosen: set[str] = set()
        recordings: set[str] = set()
        seconds = 0.0
        for is_new in (True, False):  # parts of a recording that has been met only where there are no others
            lines = {group: iter(heapq.nsmallest(self.asked, groups[group])) for group in turns}
            turn = turns
            while turn and len(chosen) < self.asked:
                left = []
                for group in turn:
                    for _, item, recording, weight_s in lines[group]:
                        is_wanted = item not in chosen and not (is_new and recording in recordings)
                        if is_wanted and (not chosen or seconds + weight_s <= self._most_s):
                            chosen.add(item)
                            recordings.add(recording)
                            seconds += weight_s
                            left.append(group)
                            break
                    if len(chosen) == self.asked:
                        break
                turn = left
        return chosen

    def _groups(self, items: Iterable[pa.Table]) -> dict[Group, list[tuple[bytes, str, str, float]]]:
        """Return of each group the items that come first by chance: the chance, the item, its recording and its seconds."""
        groups: dict[Group, list[tuple[bytes, str, str, float]]] = {}
        for table in items:
            names = [table[name].to_pylist() for name in ("item_id", "recording_id", "source", "split", "weight_ms")]
            for i, labels in enumerate(_labels(table)):
                item, recording, source, split, weight_ms = (column[i] for column in names)
                one = (_chance(str(self._seed), item), item, recording, weight_ms / 1000)
                for label in labels:
                    group = (source, split, label)
                    if group not in groups and len(groups) >= _MOST_GROUPS:
                        group = (source, split, _OTHERS)
                    own = groups.setdefault(group, [])
                    own.append(one)
                    if len(own) >= _ROUND * self.asked + 1000:
                        own[:] = heapq.nsmallest(self.asked, own)
        return groups


def _labels(table: pa.Table) -> Iterator[set[str]]:
    """Yield the labels that the clips of each item can have, or one that is empty."""
    for batch in table.select(["label", "annotations", "events"]).to_batches():
        found: list[set[str]] = [{label} if label is not None else set() for label in batch["label"].to_pylist()]
        lists = batch["annotations"]
        rows = lists.flatten()
        if len(rows):
            pairs = pa.table({"of": pc.list_parent_indices(lists), "label": rows.field("label")}).drop_null()
            for pair in pairs.group_by(["of", "label"]).aggregate([]).to_pylist():
                found[pair["of"]].add(pair["label"])
        events = batch["events"]
        if events.null_count < len(events):
            for i, own in enumerate(events.to_pylist()):
                found[i].update(label for event in own or () for label in event["labels"])
        yield from (own or {_OTHERS} for own in found)


def _chance(salt: str, name: str) -> bytes:
    """Return 8 bytes by which names are put in a random order; that of a split is another one, since it has no salt."""
    return hashlib.sha256(struct.pack(">I", len(salt)) + f"{salt}{name}".encode()).digest()[:8]
