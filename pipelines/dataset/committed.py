"""Find out which planned shards are committed, and which of those are damaged and must be rebuilt."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.index_parts import IndexPart
from clipmill.pipelines.dataset.marks import Mark
from clipmill.pipelines.dataset.records_io import (
    committed_keys,
    read_snapshot,
    readable_commits,
    shard_sizes,
    snapshot_numbers,
)
from clipmill.pipelines.dataset.shard_set import ShardSet, parts_of
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.index import are_whole
from clipmill.schemas.layout import commit_path
from clipmill.schemas.records import Commit
from clipmill.stages.storage.root import Root

_AT_ONCE = 256


@dataclass
class Committed:
    """What exists of planned shards.

    shards : those that are committed and whose files are there
    damaged : records of those that were committed and are damaged, missing or marked, by key: see `Commit.content`
    lost : keys of damaged shards whose records cannot be told any more
    """

    shards: ShardSet
    damaged: dict[str, bytes] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def find_committed(
    root: Root, last: Sequence[IndexPart], keys: Iterable[str], marks: Mapping[str, Mark], newest: int | None
) -> Committed:
    """Return what exists of planned shards. The contents of files are not checked, only their sizes.

    Parameters
    ----------
    last : the index of the newest snapshot
    keys : of the planned shards
    marks : what was found damaged, by path
    newest : number of that snapshot; older ones are only read for shards that are damaged
    """
    found = Committed(ShardSet(root, last))
    wanted = set(keys)
    marked = _Marked(marks)
    sizes = shard_sizes(root) if wanted and (last or committed_keys(root)) else {}
    for i, table in found.shards.known():
        wanted -= _take_known(found, i, table, wanted, sizes, marked)
    there = sorted(key for key in wanted if commit_path(key) in sizes)
    unsound: dict[str, Commit] = {}
    for start in range(0, len(there), _AT_ONCE):  # a record takes some 100 kB of memory until it is added
        for key, commit in readable_commits(root, there[start : start + _AT_ONCE], sizes).items():
            if commit.is_whole(sizes) and not marked.has(key, [output.path for output in commit.outputs]):
                found.shards.add(commit)
            else:
                unsound[key] = commit
    missing = {key for key in there if key not in found.shards}
    if missing:
        _look_in_older(root, found, missing, unsound, newest)
    return found


class _Marked:
    """The shards with a file that is marked as damaged. An audio file with features beside it can belong to several."""

    def __init__(self, marks: Mapping[str, Mark]) -> None:
        self._paths = frozenset(marks)
        self._keys12 = {mark.key12 for mark in marks.values()} - {""}

    def has(self, key: str, paths: Iterable[str]) -> bool:
        """Return whether a shard is one of them. paths : of its files"""
        return bool(self._paths) and (key[:12] in self._keys12 or not self._paths.isdisjoint(paths))


def _take_known(
    found: Committed, part: int, table: pa.Table, wanted: Collection[str], sizes: Mapping[str, int], marked: _Marked
) -> set[str]:
    """Take in the planned shards of a part of the index, and return their keys."""
    taken = set()
    rows = table.select(["key", "split", "bucket", "record_sha256"]).to_pylist()
    paths = pc.list_flatten(table["outputs"].combine_chunks()).field("path").to_pylist()
    ends = table["outputs"].combine_chunks().offsets.to_pylist()
    for i, (row, is_whole) in enumerate(zip(rows, are_whole(table, sizes), strict=True)):
        key = row["key"]
        if key not in wanted:
            continue
        taken.add(key)
        found.shards.add_known(part, row)
        if not is_whole or marked.has(key, paths[ends[i] : ends[i + 1]]):
            try:
                found.damaged[key] = found.shards.content_of(key)
            except ClipmillError:
                found.lost.append(key)
            found.shards.discard([key])
    return taken


def _look_in_older(
    root: Root, found: Committed, unsound: set[str], commits: Mapping[str, Commit], newest: int | None
) -> None:
    """Find the records of damaged shards that the newest snapshot does not name: a published one must not be replaced by another."""
    for number in reversed(snapshot_numbers(root)):
        if number == newest or not unsound:
            continue
        try:
            snapshot = read_snapshot(root, number)
            if snapshot.format_version == 1:  # its shards' records are all that there is
                continue
            parts = parts_of(root, snapshot)
            for part in parts:
                records = {key for key in part.table("shards", ["key"])["key"].to_pylist() if key in unsound}
                if records:
                    table = part.table("records")
                    contents = dict(zip(table["key"].to_pylist(), table["content"].to_pylist(), strict=True))
                    found.damaged |= {key: contents[key] for key in records}
                    unsound -= records
        except ClipmillError:  # of an older snapshot that is damaged itself
            continue
    # No snapshot names these, so they may come out differently. A readable record still says what they were.
    for key in unsound & commits.keys():
        found.damaged[key] = commits[key].content
