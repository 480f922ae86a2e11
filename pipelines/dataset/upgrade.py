"""Bring the records of a dataset to the present format version. Files of shards stay as they are."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from clipmill.pipelines.dataset.identity import upgrade_identity
from clipmill.pipelines.dataset.index_parts import in_turn
from clipmill.pipelines.dataset.records_io import read_forgotten, snapshot_numbers, write_forgotten
from clipmill.pipelines.dataset.tries import update_retries
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.layout import FORGOTTEN_FILE, FORMAT_VERSION, RETRIES_FILE, commit_path, snapshot_path
from clipmill.schemas.records import Commit, Snapshot
from clipmill.schemas.seal import sealed, unsealed
from clipmill.stages.storage.root import Root


def check_old_sums(root: Root, last: Snapshot, now: Snapshot) -> None:
    """Check that the records of a dataset of format version 1 add up to its newest snapshot, before they get digests.

    Raises
    ------
    ClipmillError : they do not, so a record was changed since
    """
    for name in ("counts", "seconds", "statistics", "labels", "by_split", "bytes_stored"):
        before, sums = _plain(getattr(last, name)), _plain(getattr(now, name))
        # Statistics were added later, so old snapshots lack some, and floats were added up in another order.
        if before and not _agree(before, sums):
            raise ClipmillError(
                f"{root.url}: the records of its shards do not add up to snapshot {last.number} ({name}), so one of them was changed; nothing is"
                f" published. Restore {root.uri('commits')} from a backup, or remove its .json files, and the next build makes the shards again",
                code="root.damaged",
            )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=vars))


def _agree(before: Any, now: Any) -> bool:
    """Return whether two values are equal, floats but for rounding. Keys that only one side has do not count."""
    if isinstance(before, dict) and isinstance(now, dict):
        return all(_agree(before[key], now[key]) for key in before.keys() & now.keys())
    if isinstance(before, list) and isinstance(now, list):
        return len(before) == len(now) and all(map(_agree, before, now))
    if isinstance(before, float) or isinstance(now, float):
        return math.isclose(before, now, rel_tol=1e-9, abs_tol=1e-6) or (before != before and now != now)
    return bool(before == now)


def upgrade(root: Root, keys: Sequence[str]) -> None:
    """Give records of format version 1 their digests: those of shards, snapshots, retries and what was forgotten, and at last the dataset's own.

    It can be interrupted at any point, since records of both versions are read. keys : of the shards of the newest snapshot
    """
    for _ in in_turn(root, lambda key: _upgrade_commit(root, key), keys):
        pass
    for number in snapshot_numbers(root):
        _seal_snapshot(root, snapshot_path(number))
    if root.exists(RETRIES_FILE):
        update_retries(root, lambda known: known, always=True)
    if root.exists(FORGOTTEN_FILE):
        write_forgotten(root, read_forgotten(root))
    upgrade_identity(root)


def _seal_snapshot(root: Root, path: str) -> None:
    """Give an older snapshot its digest. What it says stays, and so does its format version."""
    try:
        content = root.read_bytes(path)
        record = unsealed(content)
    except (FileNotFoundError, ValueError, RecursionError):
        return  # it is damaged, which readers of it will say
    if record.get("format_version", 1) == 1 and (seal := sealed(record)) != content:
        root.write_bytes(path, seal)


def _upgrade_commit(root: Root, key: str) -> None:
    path = commit_path(key)
    try:
        commit = Commit.from_json(root.read_bytes(path), root.uri(path))
    except (ClipmillError, FileNotFoundError):
        return  # the next build repairs it
    if commit.format_version < FORMAT_VERSION:
        root.write_bytes(path, replace(commit, format_version=FORMAT_VERSION).to_json())
