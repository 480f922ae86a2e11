"""Read the small tables of a shard: the outcome of each recording, and the clips."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from clipmill.pipelines.dataset.damage import legible
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.index import Shard
from clipmill.schemas.records import Commit, OutputFile
from clipmill.stages.storage.checked import read_checked
from clipmill.stages.storage.parquet_tables import read_parquet
from clipmill.stages.storage.root import Root


def recordings_of(root: Root, commit: Commit | Shard) -> list[dict[str, Any]]:
    """Return the rows of a shard's table `clipmill.schemas.tables.RECORDINGS`; none if an older clipmill wrote the shard without it.

    Raises
    ------
    ClipmillError : the table is missing or damaged
    """
    output = commit.output("recordings")
    rows: list[dict[str, Any]] = _read(root, output).to_pylist() if output is not None else []
    return rows


def clips_of(root: Root, commit: Commit | Shard) -> pa.Table:
    """Return a shard's part of the manifest.

    Raises
    ------
    ClipmillError : the table is missing or damaged
    """
    output = commit.output("manifest")
    if output is None:
        raise ClipmillError(f"the commit record of shard {commit.key[:12]} names no manifest")
    return _read(root, output)


def remarks_by_code(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return remarks by code and recording: the first one if parts of a recording are in several shards."""
    remarks: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        remarks.setdefault(row["code"], {}).setdefault(row["recording_id"], row)
    return remarks


def _read(root: Root, output: OutputFile) -> pa.Table:
    with legible(root, output.path):
        return read_parquet(read_checked(root, output))
