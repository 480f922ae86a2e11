"""Find and remove garbage: files that no kept snapshot needs. Nothing is removed while a build runs."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from clipmill.pipelines.dataset.kept_parts import unnamed_parts
from clipmill.pipelines.dataset.notes import Note, collecting, read_notes, running_since
from clipmill.pipelines.dataset.outcomes import recordings_of
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.dataset.records_io import (
    committed_keys,
    read_commit,
    read_retries,
    read_snapshot,
    shard_sizes,
    snapshot_numbers,
    write_retries,
)
from clipmill.pipelines.dataset.stale_exports import find_stale_exports
from clipmill.schemas.layout import (
    BUILDS,
    OWN_FILES,
    REJECTED_FILE,
    SNAPSHOTS,
    Retries,
    commit_path,
    snapshot_name,
    snapshot_path,
)
from clipmill.schemas.records import Commit
from clipmill.stages.storage.root import Root

_UNDONE = {None, "interrupted", "failed", "not_published"}


@dataclass
class Garbage:
    """What can be removed. Groups of files map paths to sizes in bytes, in the order of removal.

    snapshots : files of snapshots that are not kept, and of unfinished ones
    exports : files that `clipmill export` made from snapshots that do not exist or are not kept
    shards : records and files of shards that no kept snapshot names
    notes : notes of builds that ended before the last one, and the list of rejections of an unpublished build if a later one has run
    leftovers : files of interrupted writes
    annotations : what annotation files gave, as far as its list does not name it
    kept, dropped : numbers of snapshots
    held : number of shards that are kept for a build that was interrupted, failed or was not published
    retries : number of entries of `retries.json` for recordings that no kept shard has
    retries_left : the other entries
    """

    snapshots: dict[str, int] = field(default_factory=dict)
    exports: dict[str, int] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    leftovers: dict[str, int] = field(default_factory=dict)
    annotations: dict[str, int] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    held: int = 0
    retries: int = 0
    retries_left: Retries = field(default_factory=dict)

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
        plain = {name: value for name, value in self.__dict__.items() if name != "retries_left"}
        return {**plain, "files": len(list(self.paths)), "size_bytes": self.size_bytes}


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
    garbage.notes = _ended_notes(root, needed.notes)
    garbage.leftovers = _leftovers(root, folders)
    garbage.annotations = unnamed_parts(root)
    retries = read_retries(root)
    garbage.retries_left = _needed_retries(root, needed.commits, retries)
    garbage.retries = len(retries) - len(garbage.retries_left)
    return garbage


@dataclass(frozen=True)
class _Needed:
    """What must not be removed.

    identities : identities of the kept snapshots, as `Published.identity`
    commits : commits of the shards that they name, and of those held for a build that was not published
    files : paths of the manifests, commit records and shards
    n_held : number of shards that are held
    notes : notes of builds, oldest first
    """

    identities: set[str]
    commits: list[Commit]
    files: set[str]
    n_held: int
    notes: list[Note]


def _find_needed(root: Root, kept: list[int], excluded: Collection[str], protected: Collection[str]) -> _Needed:
    published = [Published(root, read_snapshot(root, n)) for n in kept]
    named = {key for p in published for key in p.snapshot.commits} | set(protected)
    notes = read_notes(root)
    planned = {key for note in notes if note.outcome in _UNDONE for key in note.keys}
    held = planned & committed_keys(root) - named - set(excluded)
    commits = [read_commit(root, key) for key in sorted(named | held)]
    files = {f"{SNAPSHOTS}/{snapshot_name(n)}/manifest.parquet" for n in kept}
    files |= {path for c in commits for path in (commit_path(c.key), *(o.path for o in c.outputs))}
    return _Needed({p.identity for p in published}, commits, files, len(held), notes)


def _unnamed_shards(root: Root, needed: Collection[str]) -> dict[str, int]:
    """Return records and files of shards that nothing needs. Records come first, so that an interrupted removal leaves no incomplete shard."""
    loose = {
        path: n for path, n in sorted(shard_sizes(root).items()) if path not in needed and OWN_FILES.fullmatch(path)
    }
    return dict(sorted(loose.items(), key=lambda f: (not f[0].endswith(".json"), f[0])))


def _ended_notes(root: Root, notes: list[Note]) -> dict[str, int]:
    """Return the notes of completed builds before the last one, and the rejections of an unpublished build if a later one has run."""
    stale = [f"{BUILDS}/{n.id}.json" for n in notes[:-1] if not n.is_alive and n.outcome not in _UNDONE]
    if not notes or notes[-1].outcome != "not_published":
        stale.append(REJECTED_FILE)
    sizes = root.sizes(BUILDS)
    return {path: sizes[path] for path in stale if path in sizes}


def _leftovers(root: Root, export_folders: list[str]) -> dict[str, int]:
    """Return the files of interrupted writes, including those of exports that will be removed."""
    exported = "".join(f"|{re.escape(folder)}/.*" for folder in export_folders)
    return root.leftovers(running_since(root), re.compile(f"(?:{OWN_FILES.pattern}){exported}"))


def _needed_retries(root: Root, commits: list[Commit], retries: Retries) -> Retries:
    """Return the retries of items that the shards hold; all retries if a shard of an older clipmill does not list its items."""
    if not retries or any(c.output("recordings") is None for c in commits):
        return retries
    items = {row["item_id"] for commit in commits for row in recordings_of(root, commit)}
    return {item: entry for item, entry in retries.items() if item in items}


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
    for path in (*garbage.snapshots, *garbage.exports, *garbage.shards, *garbage.notes, *garbage.annotations):
        root.remove(path)
    for name in garbage.leftovers:
        root.remove_leftover(name)
    if garbage.retries:
        write_retries(root, garbage.retries_left)
    _remove_empty_folders(root, (*garbage.snapshots, *garbage.exports, *garbage.shards, *garbage.annotations))


def _remove_empty_folders(root: Root, paths: Collection[str]) -> None:
    """Remove the folders of removed files that are empty now. Object stores have no empty folders either."""
    if not root.is_local:
        return
    folders = {path.rpartition("/")[0] for path in paths}
    folders |= {"/".join(f.split("/")[:k]) for f in folders for k in range(1, len(f.split("/")))}
    for folder in sorted(folders, key=len, reverse=True):
        if folder and folder not in ("shards", "commits", SNAPSHOTS):
            with contextlib.suppress(OSError):  # it holds other files
                os.rmdir(root.full(folder))
