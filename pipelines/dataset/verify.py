"""Verify a snapshot: hash its files, count their rows and repeat the accounting."""

from __future__ import annotations

import contextlib
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.pipelines.dataset.records_io import read_commit, read_snapshot
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.layout import SNAPSHOTS, snapshot_name
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Commit, Counts, OutputFile, Snapshot
from clipmill.schemas.secret_values import hide_secrets
from clipmill.stages.storage.parquet_tables import read_parquet
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.versions import sha256_of


@dataclass
class Verdict:
    """The result of checking a snapshot.

    shards, files, clips, size_bytes : how much was checked
    problems : one line per problem; empty if the snapshot is sound
    """

    snapshot: int
    shards: int = 0
    files: int = 0
    clips: int = 0
    size_bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "ok": not self.problems}


def verify(root: Root, number: int | None = None) -> Iterator[Verdict]:
    """Check a snapshot, by default the newest, and yield the verdict so far after each shard; the last one is complete.

    Raises
    ------
    ClipmillError : the snapshot does not exist or cannot be read
    """
    snapshot = read_snapshot(root, number)
    verdict = Verdict(snapshot.number)
    verdict.problems += snapshot.problems()
    sums = Counts()
    ids: Counter[str] = Counter()
    for key in snapshot.commits:
        verdict.shards += 1
        try:
            commit = read_commit(root, key)
        except ClipmillError as error:
            verdict.problems.append(str(error))
            continue
        verdict.problems += [f"commit {key[:12]}: {p}" for p in commit.counts.problems()]
        if commit.key != key:
            verdict.problems.append(f"commit {key[:12]}: the record belongs to another shard, {commit.key[:12]}")
        sums += commit.counts
        for output in commit.outputs:
            _check_file(root, commit, output, verdict, ids)
        yield verdict
    if not verdict.problems:
        _check_snapshot(root, snapshot, sums, ids, verdict)
    verdict.clips = sum(ids.values())
    yield verdict


def _check_file(root: Root, commit: Commit, output: OutputFile, verdict: Verdict, ids: Counter[str]) -> None:
    verdict.files += 1
    place = root.uri(output.path)
    try:
        sha256 = sha256_of(root, output.path)
    except (FileNotFoundError, ValueError):
        verdict.problems.append(f"{place}: missing")
        return
    except OSError as error:
        verdict.problems.append(f"{place}: cannot be read: {hide_secrets(str(error.strerror or error))}")
        return
    if sha256 != output.sha256:
        verdict.problems.append(f"{place}: its sha256 is {sha256[:12]}…, but the commit says {output.sha256[:12]}…")
        return
    verdict.size_bytes += output.size_bytes
    with contextlib.closing(root.open_read(output.path)) as stream:
        if output.format == "webdataset":
            rows = sum(m.name.endswith(".json") for m in tarfile.open(fileobj=stream, mode="r|"))  # noqa: SIM115
        else:
            rows = pq.ParquetFile(stream).metadata.num_rows
            if output.format == "manifest":
                stream.seek(0)
                ids.update(read_parquet(stream, ["clip_id"])["clip_id"].to_pylist())
    others = {"recordings": commit.n_items, "dropped": min(output.rows, commit.counts.clips_dropped)}
    expected = others.get(output.format, commit.counts.clips_stored)
    if not rows == output.rows == expected:
        verdict.problems.append(
            f"{place}: it has {counted(rows, 'row')}; the commit says {output.rows}, and its counts say {expected}"
        )


def _check_snapshot(root: Root, snapshot: Snapshot, sums: Counts, ids: Counter[str], verdict: Verdict) -> None:
    duplicates = [clip for clip, n in ids.items() if n > 1]
    if duplicates:
        verdict.problems.append(f"clip ids that occur more than once: {len(duplicates):,}, e.g. {duplicates[0]}")
    if not sum(ids.values()) == snapshot.counts.clips_stored == sums.clips_stored:
        verdict.problems.append(
            f"the numbers of clips differ: {sum(ids.values())} in the shards, {sums.clips_stored} in the commits, {snapshot.counts.clips_stored}"
            " in the snapshot"
        )
    folder = f"{SNAPSHOTS}/{snapshot_name(snapshot.number)}"
    for name, expected in (
        ("manifest", snapshot.counts.clips_stored),
        ("rejections", sum(snapshot.counts.rejected.values())),
        *((("duplicates", None),) if "duplicates" in snapshot.files else ()),
    ):
        path = f"{folder}/{name}.parquet"
        try:
            if snapshot.files and sha256_of(root, path) != snapshot.files[name]:
                verdict.problems.append(f"{root.uri(path)}: its sha256 differs from the one in the snapshot")
            with contextlib.closing(root.open_read(path)) as stream:
                rows = pq.ParquetFile(stream).metadata.num_rows
        except (OSError, pa.ArrowInvalid) as error:
            verdict.problems.append(f"{root.uri(path)}: cannot be read: {hide_secrets(' '.join(str(error).split()))}")
            continue
        if expected is not None and rows != expected:
            verdict.problems.append(f"{root.uri(path)}: it has {counted(rows, 'row')}; the snapshot says {expected}")
