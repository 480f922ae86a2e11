"""Read and write the records of a dataset. `schemas.layout` defines their paths, `schemas.records` their contents."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from clipmill.schemas.errors import BadRecordError, ClipmillError, StorageError, describe_bad_record
from clipmill.schemas.forgotten import Forgotten
from clipmill.schemas.keys import FORMAT_VERSION
from clipmill.schemas.layout import (
    COMMITS,
    DATASET_FILE,
    FORGOTTEN_FILE,
    RETRIES_FILE,
    SNAPSHOTS,
    Retries,
    commit_path,
    snapshot_path,
)
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Commit, Snapshot
from clipmill.stages.storage.root import Root

_RECORDS_AT_ONCE = 16
_SWAPS = 200


def claim_root(root: Root, name: str) -> None:
    """Make a root the dataset of this name, or check that it already is.

    Raises
    ------
    ClipmillError : the root holds another dataset, or one of another format version
    """
    content = json.dumps({"format_version": FORMAT_VERSION, "name": name}, indent=1) + "\n"
    if root.create_bytes(DATASET_FILE, content.encode()):
        return
    _check_name(root, name)


def check_name(root: Root, name: str) -> None:
    """Raise ClipmillError if a root holds another dataset, as `claim_root` does, but do not make it one."""
    if root.exists(DATASET_FILE):
        _check_name(root, name)


def _check_name(root: Root, name: str) -> None:
    other = dataset_name(root)
    if other != name:
        raise ClipmillError(
            f"{root.url} holds the dataset {other!r}, not {name!r}; choose another output.root or name",
            code="root.other_dataset",
        )


def dataset_name(root: Root) -> str:
    """Return the name of the dataset under a root.

    Raises
    ------
    ClipmillError : the root is not a dataset, or of a format version that this clipmill cannot read
    """
    try:
        record = json.loads(root.read_bytes(DATASET_FILE))
        version, name = int(record["format_version"]), str(record["name"])
    except FileNotFoundError:
        raise ClipmillError(
            f"{root.url} is not a clipmill dataset: it has no {DATASET_FILE}; give the output.root of a build",
            code="root.not_a_dataset",
        ) from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ClipmillError(
            f"{root.uri(DATASET_FILE)}: damaged; it must contain format_version and name, as in"
            f' {{"format_version": {FORMAT_VERSION}, "name": "dogs"}}; restore the original file',
            code="root.damaged",
        ) from None
    if version != FORMAT_VERSION:
        raise ClipmillError(
            f"{root.url}: it has format version {version}, but this clipmill reads {FORMAT_VERSION}; use a newer clipmill",
            code="root.newer_format",
        )
    return name


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
    return Snapshot.from_json(root.read_bytes(snapshot_path(chosen)), root.uri(snapshot_path(chosen)))


def describe_missing_shards(root: Root, snapshot: Snapshot, missing: Sequence[str]) -> str:
    """Return a clause that shards of a snapshot are missing or truncated. missing : their keys, at least one"""
    return (
        f"{root.url}: {len(missing):,} of {counted(len(snapshot.commits), 'shard')} of snapshot {snapshot.number}"
        f" {'is' if len(missing) == 1 else 'are'} missing or truncated, e.g. {missing[0][:12]}"
    )


def read_commit(root: Root, key: str) -> Commit:
    """Read a commit record.

    Raises
    ------
    ClipmillError : the record is missing or damaged
    """
    try:
        content = root.read_bytes(commit_path(key))
    except FileNotFoundError:
        raise ClipmillError(
            f"{root.uri(commit_path(key))}: the commit record is missing", code="root.damaged"
        ) from None
    return Commit.from_json(content, root.uri(commit_path(key)))


def sound_commits(root: Root, keys: Iterable[str]) -> dict[str, Commit]:
    """Return the commits of those shards that are committed and whose files exist in full size, by key.

    A shard whose record cannot be read, or with a file that is missing or truncated, counts as not committed and is built again.
    The contents of files are not checked; `clipmill verify` does that.
    """
    listed = sorted(committed_keys(root) & set(keys))
    sizes = shard_sizes(root) if listed else {}

    def read(key: str) -> Commit | None:
        try:
            return read_commit(root, key)
        except ClipmillError:
            return None

    if root.is_local:
        commits = [read(key) for key in listed]
    else:
        with ThreadPoolExecutor(_RECORDS_AT_ONCE) as pool:  # a store has a delay per request, however small the file
            commits = list(pool.map(read, listed))
    return {c.key: c for c in commits if c is not None and c.is_whole(sizes)}


def sound_commit(root: Root, key: str) -> Commit | None:
    """Return a shard's commit if it exists with complete files, as `sound_commits` does for many; else None."""
    if not root.exists(commit_path(key)):
        return None
    try:
        commit = read_commit(root, key)
        is_sound = all(root.size(o.path) == o.size_bytes for o in commit.outputs)
    except (ClipmillError, FileNotFoundError):
        return None
    return commit if is_sound else None


def committed_keys(root: Root) -> set[str]:
    """Return the keys of all committed shards under a root."""
    return {n.removesuffix(".json") for n in root.names(COMMITS) if n.endswith(".json")}


def shard_sizes(root: Root) -> dict[str, int]:
    """Return the sizes in bytes of all files of shards, and of all commit records, by path."""
    return {**root.sizes("shards"), **root.sizes(COMMITS)}


def remove_shard(root: Root, commit: Commit) -> None:
    """Remove a shard that no snapshot names: first its record, so that it never counts as committed without its files."""
    root.remove(commit_path(commit.key))
    root.sync()
    for output in commit.outputs:
        root.remove(output.path)


def read_retries(root: Root) -> Retries:
    """Return which rejected items were tried again; empty if the file is missing.

    Raises
    ------
    ClipmillError : the file is damaged
    """
    return _retries_of(root, _read_if_there(root, RETRIES_FILE))


def update_retries(root: Root, change: Callable[[Retries], Retries]) -> Retries:
    """Change which rejected items were tried again, and return the result. Entries that others write at the same time are kept.

    change : returns the new entries for the present ones; called again when somebody else was faster

    Raises
    ------
    ClipmillError : the file is damaged
    StorageError : others change the file all the time
    """
    for attempt in range(_SWAPS):
        before = _read_if_there(root, RETRIES_FILE)
        retries = _retries_of(root, before)
        changed = change(retries)
        content = (json.dumps(changed, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
        if changed == retries or root.swap_bytes(RETRIES_FILE, before, content):
            return changed
        time.sleep(random.uniform(0, min(0.01 * 2**attempt, 1.0)))
    raise StorageError(
        f"{root.uri(RETRIES_FILE)}: other commands have changed it {_SWAPS} times in a row before this one could; run this one again",
        transient=True,
    )


def _read_if_there(root: Root, path: str) -> bytes | None:
    try:
        return root.read_bytes(path)
    except FileNotFoundError:
        return None


def _retries_of(root: Root, content: bytes | None) -> Retries:
    if content is None:
        return {}
    try:
        return {str(item): (str(version), int(n)) for item, (version, n) in json.loads(content).items()}
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ClipmillError(
            f"{root.uri(RETRIES_FILE)}: not a record of retries ({describe_bad_record(error)}); restore the file, or remove it and run"
            " retry again: clipmill then no longer knows what was retried before",
            code="root.damaged",
        ) from None


def read_forgotten(root: Root) -> Forgotten:
    """Return what a dataset has forgotten; nothing if the file is missing.

    Raises
    ------
    ClipmillError : the file is damaged; builds must not go on without it, because they would add forgotten recordings again
    """
    try:
        plain = json.loads(root.read_bytes(FORGOTTEN_FILE))
        if not isinstance(plain, dict):
            raise BadRecordError("it must be a JSON object")
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
    root.write_bytes(FORGOTTEN_FILE, (json.dumps(plain, indent=1) + "\n").encode())
