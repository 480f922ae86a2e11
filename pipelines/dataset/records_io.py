"""Read and write the records of a dataset. `schemas.layout` defines their paths, `schemas.records` their contents."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from clipmill.pipelines.dataset.damage import damaged
from clipmill.schemas.errors import BadRecordError, ClipmillError, describe_bad_record
from clipmill.schemas.forgotten import Forgotten
from clipmill.schemas.index import record_sha256
from clipmill.schemas.layout import (
    BESIDE,
    COMMITS,
    FORGOTTEN_FILE,
    FORMAT_VERSION,
    SHARDS,
    SNAPSHOTS,
    commit_path,
    snapshot_path,
)
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Commit, Snapshot
from clipmill.schemas.seal import sealed, unsealed
from clipmill.stages.storage.root import Root

_RECORDS_AT_ONCE = 16
_FEW = 100
"""Up to this number of shards are looked up one by one, so that a night with few changes does not list all files once more."""


def snapshot_numbers(root: Root) -> list[int]:
    """Return the numbers of the published snapshots, ascending."""
    stems = [n.removesuffix(".json") for n in root.names(SNAPSHOTS) if n.endswith(".json")]
    return sorted(int(s) for s in stems if s.isascii() and s.isdigit())


def read_snapshot(root: Root, number: int | None = None) -> Snapshot:
    """Read a snapshot, by default the newest.

    Raises
    ------
    ClipmillError : the snapshot does not exist, or its record is damaged
    """
    numbers = snapshot_numbers(root)
    if not numbers:
        raise ClipmillError(
            f"{root.url}: no snapshot has been published here; check that it is the output.root of a build, and that the build has finished",
            code="root.no_snapshot",
        )
    chosen = numbers[-1] if number is None else number
    if chosen not in numbers:
        listed = ("..., " if len(numbers) > 10 else "") + ", ".join(map(str, numbers[-10:]))
        choices = "the only one is" if len(numbers) == 1 else "the snapshots are"
        raise ClipmillError(
            f"{root.url}: snapshot {chosen} does not exist; {choices} {listed}",
            code="root.no_snapshot",
        )
    path = snapshot_path(chosen)
    snapshot = Snapshot.from_json(root.read_bytes(path), root.uri(path))
    if snapshot.number != chosen:
        raise ClipmillError(
            f"{root.uri(path)}: not a snapshot of this number, but number {snapshot.number}; restore the file, or remove it, and the next"
            " build publishes again",
            code="root.damaged",
        )
    return snapshot


def describe_missing_shards(root: Root, snapshot: Snapshot, missing: Sequence[str]) -> str:
    """Return a clause that shards of a snapshot are missing or truncated. missing : their keys, at least one"""
    return (
        f"{root.url}: {len(missing):,} of {counted(len(snapshot.commits), 'shard')} of snapshot {snapshot.number}"
        f" {'is' if len(missing) == 1 else 'are'} missing or truncated, e.g. {missing[0][:12]}"
    )


def newest_readable(root: Root) -> Snapshot | None:
    """Return the newest snapshot that can be read, None if there is none."""
    for number in reversed(snapshot_numbers(root)):
        with contextlib.suppress(ClipmillError, FileNotFoundError):
            return read_snapshot(root, number)
    return None


def read_commit(root: Root, key: str, sha256: str | None = None) -> Commit:
    """Read a commit record.

    sha256 : that the index of a snapshot has for it

    Raises
    ------
    ClipmillError : the record is missing or damaged
    """
    path = commit_path(key)
    try:
        commit = Commit.from_json(root.read_bytes(path), root.uri(path))
    except FileNotFoundError:
        raise damaged(root, path, "the commit record is missing") from None
    except ClipmillError as error:
        raise damaged(root, path, str(error).removeprefix(f"{root.uri(path)}: ")) from None
    if commit.key != key:
        raise damaged(root, path, f"not the commit record of this shard, but of {commit.key[:12]}")
    if sha256 is not None and record_sha256(commit.content) != sha256:
        raise damaged(root, path, "not the commit record that the snapshot names")
    return commit


def _readable_commit(root: Root, key: str) -> Commit | None:
    """Return a record that is there and as it was written, else None; it is not marked, since the calling build repairs it at once."""
    path = commit_path(key)
    try:
        commit = Commit.from_json(root.read_bytes(path), path)
    except (ClipmillError, FileNotFoundError):
        return None
    # A record of format version 1 has no digest, but a changed one may contradict itself.
    return commit if commit.key == key and not commit.problems() else None


def sound_commits(root: Root, keys: Iterable[str], sizes: Mapping[str, int] | None = None) -> dict[str, Commit]:
    """Return the commits of those shards that are committed and whose files exist in full size, by key.

    A shard whose record cannot be read, or with a file that is missing or truncated, counts as not committed and is built again.
    The contents of files are not checked; `clipmill verify` does that.

    sizes : of the files of shards and records, see `shard_sizes`; None: they are listed
    """
    commits = readable_commits(root, keys, sizes)
    if sizes is None and len(commits) <= _FEW:
        return {key: commit for key, commit in commits.items() if _is_whole(root, commit)}
    if sizes is None:
        sizes = shard_sizes(root)
    return {key: commit for key, commit in commits.items() if commit.is_whole(sizes or {})}


def readable_commits(root: Root, keys: Iterable[str], sizes: Mapping[str, int] | None = None) -> dict[str, Commit]:
    """Return those of the shards' records that can be read, by key. sizes : as for `sound_commits`"""
    wanted = set(keys)
    if sizes is not None:
        wanted = {key for key in wanted if commit_path(key) in sizes}
    elif len(wanted) > _FEW:
        wanted &= committed_keys(root)
    listed = sorted(wanted)
    if root.is_local:
        commits = [_readable_commit(root, key) for key in listed]
    else:
        with ThreadPoolExecutor(_RECORDS_AT_ONCE) as pool:  # a store has a delay per request, however small the file
            commits = list(pool.map(lambda key: _readable_commit(root, key), listed))
    return {c.key: c for c in commits if c is not None}


def sound_commit(root: Root, key: str) -> Commit | None:
    """Return a shard's commit if it exists with complete files, as `sound_commits` does for many; else None."""
    if not root.exists(commit_path(key)) or (commit := _readable_commit(root, key)) is None:
        return None
    return commit if _is_whole(root, commit) else None


def _is_whole(root: Root, commit: Commit) -> bool:
    try:
        return all(root.size(output.path) == output.size_bytes for output in commit.outputs)
    except FileNotFoundError:
        return False


def committed_keys(root: Root) -> set[str]:
    """Return the keys of all committed shards under a root."""
    return {n.removesuffix(".json") for n in root.names(COMMITS) if n.endswith(".json")}


def shard_sizes(root: Root) -> dict[str, int]:
    """Return the sizes in bytes of all files of shards, and of all commit records, by path."""
    return {path: n for folder in (SHARDS, BESIDE, COMMITS) for path, n in root.sizes(folder).items()}


def remove_shard(root: Root, commit: Commit, other: Commit) -> None:
    """Remove a shard that no snapshot names: first its record, so that it never counts as committed without its files.

    other : a shard that stays, with the files that both have
    """
    root.remove(commit_path(commit.key))
    root.sync()
    shared = {output.path for output in other.outputs}
    for output in commit.outputs:
        if output.path not in shared:
            root.remove(output.path)


def read_forgotten(root: Root) -> Forgotten:
    """Return what a dataset has forgotten; nothing if the file is missing.

    Raises
    ------
    ClipmillError : the file is damaged; builds must not go on without it, because they would add forgotten recordings again
    """
    try:
        plain = unsealed(root.read_bytes(FORGOTTEN_FILE))
        salt, lists = plain["salt"], [plain[name] for name in ("recordings", "names")]
        if not isinstance(salt, str) or not all(
            isinstance(v, list) and all(isinstance(h, str) for h in v) for v in lists
        ):
            raise BadRecordError("it must contain a salt and two lists of hashes")
        return Forgotten(salt, frozenset(lists[0]), frozenset(lists[1]))
    except FileNotFoundError:
        return Forgotten()
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ClipmillError(
            f"{root.uri(FORGOTTEN_FILE)}: not a record of forgotten recordings ({describe_bad_record(error)}); restore the file."
            " Without it, builds would add forgotten recordings again that are still in a source",
            code="root.damaged",
        ) from None


def write_forgotten(root: Root, forgotten: Forgotten) -> None:
    """Write what a dataset has forgotten, atomically."""
    plain = {"salt": forgotten.salt, "recordings": sorted(forgotten.recordings), "names": sorted(forgotten.names)}
    root.write_bytes(FORGOTTEN_FILE, sealed({"format_version": FORMAT_VERSION, **plain}))
