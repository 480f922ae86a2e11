"""Find and remove garbage: files that no kept snapshot needs. Nothing is removed while a build runs."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from clipmill.pipelines.dataset.index_parts import StoredPart, shards_of
from clipmill.pipelines.dataset.kept_parts import unnamed_parts
from clipmill.pipelines.dataset.leases import Lease, read_leases, running_since
from clipmill.pipelines.dataset.marks import read_marks, remove_marks
from clipmill.pipelines.dataset.notes import collecting
from clipmill.pipelines.dataset.outcomes import recordings_of
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.dataset.records_io import (
    committed_keys,
    read_commit,
    read_snapshot,
    shard_sizes,
    snapshot_numbers,
)
from clipmill.pipelines.dataset.stale_exports import find_stale_exports
from clipmill.pipelines.dataset.tries import read_retries, update_retries
from clipmill.schemas.index import Shard
from clipmill.schemas.layout import (
    BESIDE,
    BUILDS,
    COMMITS,
    INDEX,
    OWN_FILES,
    REJECTED_FILE,
    SHARDS,
    SNAPSHOTS,
    Retries,
    commit_path,
    snapshot_name,
    snapshot_path,
)
from clipmill.stages.storage.root import Root

_UNDONE = {None, "interrupted", "failed", "not_published"}


@dataclass
class Garbage:
    """What can be removed. Groups of files map paths to sizes in bytes, in the order of removal.

    snapshots : files of snapshots that are not kept, and of unfinished ones
    exports : files that `clipmill export` made from snapshots that do not exist or are not kept
    shards : records and files of shards that no kept snapshot names
    notes : notes of builds that ended before the last one, and the list of rejections of an unpublished build if a later one has run
    marks : files that were marked as damaged and that nothing needs
    leftovers : files of interrupted writes
    annotations : what annotation files gave, as far as its list does not name it
    kept, dropped : numbers of snapshots
    held : number of shards that are kept for a build that was interrupted, failed or was not published
    retries_removed : entries of `retries.json` for recordings that no kept shard has
    """

    snapshots: dict[str, int] = field(default_factory=dict)
    exports: dict[str, int] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    leftovers: dict[str, int] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)
    annotations: dict[str, int] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    held: int = 0
    retries_removed: Retries = field(default_factory=dict)

    @property
    def retries(self) -> int:
        """Number of entries of `retries.json` that can be removed."""
        return len(self.retries_removed)

    @property
    def _groups(self) -> tuple[dict[str, int], ...]:
        return self.snapshots, self.exports, self.shards, self.notes, self.leftovers, self.annotations

    @property
    def paths(self) -> Iterator[str]:
        """Paths of all files, in the order of the groups."""
        for group in self._groups:
            yield from group

    @property
    def size_bytes(self) -> int:
        """Total size of the files."""
        return sum(sum(group.values()) for group in self._groups)

    def to_dict(self) -> dict[str, Any]:
        plain = {name: value for name, value in self.__dict__.items() if name not in ("retries_removed", "marks")}
        return {**plain, "retries": self.retries, "files": len(list(self.paths)), "size_bytes": self.size_bytes}


def find_garbage(root: Root, keep: int | None = None) -> Garbage:
    """Find what no kept snapshot needs.

    keep : how many of the newest snapshots to keep; None: all

    Raises
    ------
    ClipmillError : a kept snapshot, or a record that it names, cannot be read, so that its files are unknown
    """
    numbers = snapshot_numbers(root)
    return find_garbage_beyond(root, numbers if keep is None else numbers[-keep:])


def find_garbage_beyond(
    root: Root, kept: list[int], excluded: Collection[str] = (), protected: Collection[str] = ()
) -> Garbage:
    """Find what can be removed if only these snapshots are kept.

    excluded : keys of shards that are not kept for an unfinished build either
    protected : keys of shards that are kept although none of these snapshots names them

    Raises
    ------
    ClipmillError : as `find_garbage` does
    """
    needed = _find_needed(root, kept, excluded, protected)
    garbage = Garbage(kept=kept, dropped=[n for n in snapshot_numbers(root) if n not in kept], held=needed.n_held)
    garbage.snapshots = _unnamed_snapshots(root, kept)
    garbage.exports, folders = find_stale_exports(root, needed.identities, needed.files)
    garbage.shards = _unnamed_shards(root, needed.files)
    garbage.marks = _stale_marks(root, needed.files, kept)
    garbage.notes = _ended_notes(root, needed.leases)
    garbage.leftovers = _leftovers(root, folders)
    garbage.annotations = unnamed_parts(root)
    garbage.retries_removed = _unneeded_retries(root, needed.shards, read_retries(root))
    return garbage


@dataclass(frozen=True)
class _Needed:
    """What must not be removed.

    identities : identities of the kept snapshots, as `Published.identity`
    shards : that they name, and those held for a build that was not published
    files : paths of the manifests, commit records and shards
    n_held : number of shards that are held
    leases : notes of builds, oldest first
    """

    identities: set[str]
    shards: list[Shard]
    files: set[str]
    n_held: int
    leases: list[Lease]


def _find_needed(root: Root, kept: list[int], excluded: Collection[str], protected: Collection[str]) -> _Needed:
    published = [Published(root, read_snapshot(root, n)) for n in kept]
    named = {key for p in published for key in p.snapshot.commits} | set(protected)
    leases = read_leases(root)
    planned = {key for lease in leases if (note := lease.note) and note.outcome in _UNDONE for key in note.keys}
    held = planned & committed_keys(root) - named - set(excluded)
    files = {f"{SNAPSHOTS}/{snapshot_name(n)}/manifest.parquet" for n in kept}
    files |= {path for p in published for part in p.snapshot.parts for path in part.paths}
    shards: dict[str, Shard] = {}
    seen: set[str] = set()
    for p in published:
        new = [part for part in p.parts if not (isinstance(part, StoredPart) and part.part.id in seen)]
        seen |= {part.part.id for part in new if isinstance(part, StoredPart)}
        shards |= {shard.key: shard for shard in shards_of(root, new)}
    for key in sorted((named | held) - shards.keys()):
        shards[key] = Shard.of(read_commit(root, key))
    for shard in shards.values():
        files |= {commit_path(shard.key), *(output.path for output in shard.outputs)}
    return _Needed({p.identity for p in published}, list(shards.values()), files, len(held), leases)


def _unnamed_shards(root: Root, needed: Collection[str]) -> dict[str, int]:
    """Return records and files of shards that nothing needs. Records come first, so that an interrupted removal leaves no incomplete shard."""
    loose = {
        path: n
        for path, n in sorted({**shard_sizes(root), **root.sizes(INDEX)}.items())
        if path not in needed and OWN_FILES.fullmatch(path)
    }
    return dict(sorted(loose.items(), key=lambda f: (not f[0].endswith(".json"), f[0])))


def _stale_marks(root: Root, needed: Collection[str], kept: list[int]) -> list[str]:
    """Return the paths of files that are marked as damaged and that nothing needs."""
    folders = tuple(f"{SNAPSHOTS}/{snapshot_name(n)}/" for n in kept)
    return [path for path in read_marks(root) if path not in needed and not (folders and path.startswith(folders))]


def _ended_notes(root: Root, leases: list[Lease]) -> dict[str, int]:
    """Return the notes of completed builds before the last one, those that cannot be read and have run out, and the rejections of an
    unpublished build if a later one has run.
    """
    legible = [lease for lease in leases if lease.note is not None]
    stale = [lease.path for lease in leases if lease.note is None and not lease.is_alive]
    stale += [e.path for e in legible[:-1] if e.note and not e.is_alive and e.note.outcome not in _UNDONE]
    if not legible or not legible[-1].note or legible[-1].note.outcome != "not_published":
        stale.append(REJECTED_FILE)
    sizes = root.sizes(BUILDS)
    return {path: sizes[path] for path in stale if path in sizes}


def _leftovers(root: Root, export_folders: list[str]) -> dict[str, int]:
    """Return the files of interrupted writes, including those of exports that will be removed."""
    exported = "".join(f"|{re.escape(folder)}/.*" for folder in export_folders)
    return root.leftovers(running_since(root), re.compile(f"(?:{OWN_FILES.pattern}){exported}"))


def _unneeded_retries(root: Root, shards: list[Shard], retries: Retries) -> Retries:
    """Return the retries of items that no shard holds; none if a shard of an older clipmill does not list its items."""
    if not retries or any(shard.output("recordings") is None for shard in shards):
        return {}
    items = {row["item_id"] for shard in shards for row in recordings_of(root, shard)}
    return {item: entry for item, entry in retries.items() if item not in items}


def _unnamed_snapshots(root: Root, kept: list[int]) -> dict[str, int]:
    """Return the files of snapshots that are not kept, the snapshots' own records first."""
    needed = {snapshot_path(n) for n in kept}
    folders = tuple(f"{SNAPSHOTS}/{snapshot_name(n)}/" for n in kept)
    sizes = root.sizes(SNAPSHOTS)
    loose = {
        path: n
        for path, n in sizes.items()
        if path not in needed and not path.startswith(folders) and OWN_FILES.fullmatch(path)
    }
    return dict(sorted(loose.items(), key=lambda f: (not f[0].endswith(".json"), f[0])))


def collect(root: Root, keep: int | None = None) -> Garbage:
    """Remove what `find_garbage` finds, and hold the root so that no build starts meanwhile.

    Raises
    ------
    ClipmillError : a build, or another `gc` or `forget`, is running; nothing was removed
    """
    with collecting(root):
        garbage = find_garbage(root, keep)
        remove(root, garbage)
    return garbage


def remove(root: Root, garbage: Garbage) -> None:
    """Remove garbage, in an order that never leaves incomplete content valid. The root must be held by `collecting`."""
    for group in (garbage.snapshots, garbage.exports, garbage.shards, garbage.notes, garbage.annotations):
        # A power failure must not bring back a record whose files are gone.
        for is_record in (True, False):
            for path in group:
                if path.endswith(".json") == is_record:
                    root.remove(path)
            root.sync()
    remove_marks(root, garbage.marks)
    for name in garbage.leftovers:
        root.remove_leftover(name)
    if gone := garbage.retries_removed:
        # An entry that a retry has changed since is needed again.
        update_retries(root, lambda now: {item: entry for item, entry in now.items() if gone.get(item) != entry})
    _remove_empty_folders(root, (*garbage.snapshots, *garbage.exports, *garbage.shards, *garbage.annotations))


def _remove_empty_folders(root: Root, paths: Collection[str]) -> None:
    """Remove the folders of removed files that are empty now. Object stores have no empty folders either."""
    if not root.is_local:
        return
    folders = {path.rpartition("/")[0] for path in paths}
    folders |= {"/".join(f.split("/")[:k]) for f in folders for k in range(1, len(f.split("/")))}
    for folder in sorted(folders, key=len, reverse=True):
        if folder and folder not in (SHARDS, BESIDE, COMMITS, SNAPSHOTS, INDEX):
            with contextlib.suppress(OSError):  # it holds other files
                os.rmdir(root.full(folder))
