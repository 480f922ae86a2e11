"""Read the small tables of a shard: the outcome of each recording, and the clips."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from clipmill.pipelines.dataset.damage import legible
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.records import Commit
from clipmill.stages.storage.parquet_tables import read_parquet
from clipmill.stages.storage.root import Root


def recordings_of(root: Root, commit: Commit) -> list[dict[str, Any]]:
    """Return the rows of a shard's table `clipmill.schemas.tables.RECORDINGS`; none if an older clipmill wrote the shard without it.

    Raises
    ------
    ClipmillError : the table is missing or damaged
    """
    output = commit.output("recordings")
    rows: list[dict[str, Any]] = _read(root, output.path).to_pylist() if output is not None else []
    return rows


def clips_of(root: Root, commit: Commit) -> pa.Table:
    """Return a shard's part of the manifest.

    Raises
    ------
    ClipmillError : the table is missing or damaged
    """
    output = commit.output("manifest")
    if output is None:
        raise ClipmillError(f"the commit record of shard {commit.key[:12]} names no manifest")
    return _read(root, output.path)


def remarks_of(commits: Iterable[Commit]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the remarks of shards by code and recording: the first one if parts of a recording are in several shards."""
    remarks: dict[str, dict[str, dict[str, Any]]] = {}
    for row in (row for commit in commits for row in commit.remarks):
        remarks.setdefault(row["code"], {}).setdefault(row["recording_id"], row)
    return remarks


def count_remarked(commits: Iterable[Commit]) -> dict[str, int]:
    """Return the number of recordings with remarks, by code. Adding up the counts of shards would count recordings twice."""
    return {code: len(rows) for code, rows in sorted(remarks_of(commits).items())}


def _read(root: Root, path: str) -> pa.Table:
    with legible(root, path), contextlib.closing(root.open_read(path)) as stream:
        return read_parquet(stream)
