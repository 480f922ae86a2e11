"""Garbage: what no kept snapshot names. Found first, removed on request, and never while a build runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipelines.notes import collecting, read_notes, running_since
from schemas.layout import (
    OURS,
    SNAPSHOTS,
    commit_path,
    committed_keys,
    read_commit,
    read_snapshot,
    shard_sizes,
    snapshot_name,
    snapshot_numbers,
    snapshot_path,
)
from schemas.storage import Root

_UNDONE = {None, "interrupted", "failed", "not_published"}


@dataclass
class Garbage:
    """What can go. Each maps paths to sizes in bytes, in the order in which they are removed.

    snapshots : files of snapshots that are not kept, and of unfinished ones
    shards : records and files of shards that no kept snapshot names
    leftovers : files of writes that were cut off
    kept, dropped : numbers of snapshots
    held : shards that are kept for a build that was interrupted, or not published
    """

    snapshots: dict[str, int] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    leftovers: dict[str, int] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    held: int = 0

    @property
    def paths(self) -> Iterator[str]:
        yield from (*self.snapshots, *self.shards, *self.leftovers)

    @property
    def size_bytes(self) -> int:
        return sum(sum(group.values()) for group in (self.snapshots, self.shards, self.leftovers))

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "files": len(list(self.paths)), "size_bytes": self.size_bytes}


def find_garbage(root: Root, keep: int | None = None) -> Garbage:
    """List what no kept snapshot names.

    keep : how many of the newest snapshots; None: all

    Raises
    ------
    ClipmillError : a kept snapshot, or a record that it names, cannot be read, so that nothing can be said of its files
    """
    numbers = snapshot_numbers(root)
    kept = numbers if keep is None else numbers[-keep:]
    found = Garbage(kept=kept, dropped=[n for n in numbers if n not in kept])
    named = {key for n in kept for key in read_snapshot(root, n).commits}
    there = committed_keys(root)
    held = {key for note in read_notes(root) if note.outcome in _UNDONE for key in note.keys} & there - named
    found.held = len(held)
    needed = set()
    for key in sorted(named | held):
        needed |= {commit_path(key), *(o.path for o in read_commit(root, key).outputs)}
    found.snapshots = _unnamed_snapshots(root, kept)
    loose = {path: n for path, n in sorted(shard_sizes(root).items()) if path not in needed and OURS.fullmatch(path)}
    # Records first: a shard must not count when the removal is cut off.
    found.shards = dict(sorted(loose.items(), key=lambda f: (not f[0].endswith(".json"), f[0])))
    found.leftovers = root.leftovers(running_since(root), OURS)
    return found


def _unnamed_snapshots(root: Root, kept: list[int]) -> dict[str, int]:
    needed = {snapshot_path(n) for n in kept}
    folders = tuple(f"{SNAPSHOTS}/{snapshot_name(n)}/" for n in kept)
    sizes = root.sizes(SNAPSHOTS)
    loose = {
        path: n
        for path, n in sizes.items()
        if path not in needed and not path.startswith(folders) and OURS.fullmatch(path)
    }
    return dict(sorted(loose.items(), key=lambda f: (not f[0].endswith(".json"), f[0])))


def collect(root: Root, keep: int | None = None) -> Garbage:
    """Remove what `find_garbage` finds, while holding the root so that no build begins meanwhile.

    Raises
    ------
    ClipmillError : a build or another gc is running; nothing was removed
    """
    with collecting(root):
        found = find_garbage(root, keep)
        for path in (*found.snapshots, *found.shards):
            root.remove(path)
        for name in found.leftovers:
            root.remove_leftover(name)
    return found
