"""Read and write the records of a dataset. `schemas.layout` says where they are, `schemas.records` what stands in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from clipmill.schemas.errors import BadRecordError, ClipmillError, describe_bad_record
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
from clipmill.schemas.records import Commit, Snapshot
from clipmill.stages.storage.root import Root

_RECORDS_AT_ONCE = 16


def claim_root(root: Root, name: str) -> None:
    """Make a root a dataset of this name, or check that it is one.

    Raises
    ------
    ClipmillError : the root holds another dataset, or one of a newer format
    """
    content = json.dumps({"format_version": FORMAT_VERSION, "name": name}, indent=1) + "\n"
    if root.create_bytes(DATASET_FILE, content.encode()):
        return
    _check_name(root, name)


def check_name(root: Root, name: str) -> None:
    """Raise ClipmillError where a root holds another dataset, as `claim_root` does, without making it one."""
    if root.exists(DATASET_FILE):
        _check_name(root, name)


def _check_name(root: Root, name: str) -> None:
    other = dataset_name(root)
    if other != name:
        raise ClipmillError(
            f"{root.url} holds the dataset {other!r}, not {name!r}: choose another output.root or name",
            code="root.other_dataset",
        )


def dataset_name(root: Root) -> str:
    """Return the name of the dataset under a root.

    Raises
    ------
    ClipmillError : it is none, or of a format that this clipmill does not know
    """
    try:
        found = json.loads(root.read_bytes(DATASET_FILE))
        version, name = int(found["format_version"]), str(found["name"])
    except FileNotFoundError:
        raise ClipmillError(
            f"{root.url} is no dataset: there is no {DATASET_FILE}; give the output.root of a build",
            code="root.not_a_dataset",
        ) from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ClipmillError(
            f"{root.uri(DATASET_FILE)}: damaged; it should hold format_version and name, as in"
            f' {{"format_version": {FORMAT_VERSION}, "name": "dogs"}}: put it back as it was',
            code="root.damaged",
        ) from None
    if version != FORMAT_VERSION:
        raise ClipmillError(
            f"{root.url}: format version {version}, this clipmill knows {FORMAT_VERSION}; take a newer clipmill",
            code="root.newer_format",
        )
    return name


def snapshot_numbers(root: Root) -> list[int]:
    """Return the numbers of the published snapshots, ascending."""
    stems = [n.removesuffix(".json") for n in root.names(SNAPSHOTS) if n.endswith(".json")]
    return sorted(int(s) for s in stems if s.isascii() and s.isdigit())


def read_snapshot(root: Root, number: int | None = None) -> Snapshot:
    """Read a snapshot, the newest by default. Raises ClipmillError when there is none."""
    numbers = snapshot_numbers(root)
    if not numbers:
        raise ClipmillError(
            f"{root.url}: no snapshot is published here; is it a dataset, and did its build finish?",
            code="root.no_snapshot",
        )
    chosen = numbers[-1] if number is None else number
    if chosen not in numbers:
        there = ", ".join(map(str, numbers[-10:]))
        which = f"snapshot {there}" if len(numbers) == 1 else f"snapshots {'..., ' if len(numbers) > 10 else ''}{there}"
        raise ClipmillError(
            f"{root.url}: there is no snapshot {chosen}, but {which}",
            code="root.no_snapshot",
        )
    return Snapshot.from_json(root.read_bytes(snapshot_path(chosen)), root.uri(snapshot_path(chosen)))


def read_commit(root: Root, key: str) -> Commit:
    """Read a commit record. Raises ClipmillError when it is not there or not readable."""
    try:
        content = root.read_bytes(commit_path(key))
    except FileNotFoundError:
        raise ClipmillError(
            f"{root.uri(commit_path(key))}: the commit record is missing", code="root.damaged"
        ) from None
    return Commit.from_json(content, root.uri(commit_path(key)))


def sound_commits(root: Root, keys: Iterable[str]) -> dict[str, Commit]:
    """Return those of the shards that are committed and whose files are there in their full size.

    A record that cannot be read, or a file that is missing or cut, is as good as no commit: the shard is to be built anew.
    Contents are not read; `clipmill verify` does that.
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
        with ThreadPoolExecutor(_RECORDS_AT_ONCE) as pool:  # a store takes its time for each, however small
            commits = list(pool.map(read, listed))
    return {c.key: c for c in commits if c is not None and c.is_whole(sizes)}


def sound_commit(root: Root, key: str) -> Commit | None:
    """Return a shard's commit if there is one and its files are there, as `sound_commits` does for many."""
    if not root.exists(commit_path(key)):
        return None
    try:
        commit = read_commit(root, key)
        sound = all(root.size(o.path) == o.size_bytes for o in commit.outputs)
    except (ClipmillError, FileNotFoundError):
        return None
    return commit if sound else None


def committed_keys(root: Root) -> set[str]:
    """Return the keys of all shards that are committed under a root."""
    return {n.removesuffix(".json") for n in root.names(COMMITS) if n.endswith(".json")}


def shard_sizes(root: Root) -> dict[str, int]:
    """Return the sizes in bytes of all files of shards and their records, by path."""
    return {**root.sizes("shards"), **root.sizes(COMMITS)}


def remove_shard(root: Root, commit: Commit) -> None:
    """Remove a shard that no snapshot names: its record first, so that it never counts without its files."""
    for path in (commit_path(commit.key), *(o.path for o in commit.outputs)):
        root.remove(path)


def read_retries(root: Root) -> Retries:
    """Return which rejected items were tried again; a file that is not there says none."""
    try:
        plain = json.loads(root.read_bytes(RETRIES_FILE))
        return {str(item): (str(version), int(n)) for item, (version, n) in plain.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ClipmillError(
            f"{root.uri(RETRIES_FILE)}: not a record of retries ({describe_bad_record(error)}); put the file back as it was, or remove it and retry"
            " again: what was retried before is then as if it had not been",
            code="root.damaged",
        ) from None


def write_retries(root: Root, retries: Retries) -> None:
    root.write_bytes(RETRIES_FILE, (json.dumps(retries, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read_forgotten(root: Root) -> Forgotten:
    """Return what a dataset has forgotten; a file that is not there says nothing.

    Raises
    ------
    ClipmillError : the file is not what `clipmill forget` writes; without it forgotten recordings would come back
    """
    try:
        plain = json.loads(root.read_bytes(FORGOTTEN_FILE))
        if not isinstance(plain, dict):
            raise BadRecordError("an object is expected")
        salt, lists = plain["salt"], [plain[name] for name in ("recordings", "names")]
        if not isinstance(salt, str) or not all(
            isinstance(v, list) and all(isinstance(h, str) for h in v) for v in lists
        ):
            raise BadRecordError("it should hold a salt and two lists of hashes")
        return Forgotten(salt, frozenset(lists[0]), frozenset(lists[1]))
    except FileNotFoundError:
        return Forgotten()
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ClipmillError(
            f"{root.uri(FORGOTTEN_FILE)}: not a record of forgotten recordings ({describe_bad_record(error)}); put the file back as it was."
            " Without it forgotten recordings that are still in a source come back",
            code="root.damaged",
        ) from None


def write_forgotten(root: Root, forgotten: Forgotten) -> None:
    """Write the record, whole or not at all."""
    plain = {"salt": forgotten.salt, "recordings": sorted(forgotten.recordings), "names": sorted(forgotten.names)}
    root.write_bytes(FORGOTTEN_FILE, (json.dumps(plain, indent=1) + "\n").encode())
