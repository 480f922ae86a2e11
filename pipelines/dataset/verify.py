"""Verify a snapshot: hash its files, count their rows and repeat the accounting. What is damaged is marked for the next build."""

from __future__ import annotations

import contextlib
import hashlib
import random
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.pipelines.dataset.index_parts import IndexPart, StoredPart, versions_of
from clipmill.pipelines.dataset.marks import mark
from clipmill.pipelines.dataset.publish import sum_up
from clipmill.pipelines.dataset.records_io import read_commit, read_forgotten, read_snapshot
from clipmill.pipelines.dataset.shard_set import parts_of
from clipmill.pipelines.dataset.tries import read_generations, read_retries
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.index import Shard
from clipmill.schemas.layout import BESIDE, SNAPSHOTS, commit_path, snapshot_name
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
    of_shards : number of shards of the snapshot; more than `shards` if a sample was checked
    problems : one line per problem; empty if the snapshot is sound
    not_marked : damaged files that could not be marked for the next build
    versions : by library, the versions that made the shards, with the number of shards of each
    """

    snapshot: int
    shards: int = 0
    files: int = 0
    clips: int = 0
    size_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    of_shards: int = 0
    not_marked: int = 0
    versions: dict[str, dict[str, int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "ok": not self.problems}


class _Check:
    """One check of a snapshot."""

    def __init__(self, root: Root, snapshot: Snapshot) -> None:
        self.root, self.snapshot = root, snapshot
        self.verdict = Verdict(snapshot.number, of_shards=len(snapshot.commits))
        self.counts = Counts()
        self.ids: Counter[str] = Counter()

    def damage(self, path: str, why: str) -> None:
        """Report a damaged file, and mark it."""
        self.verdict.problems.append(f"{self.root.uri(path)}: {why}")
        self.verdict.not_marked += not mark(self.root, path, why)

    def shard(self, key: str, expected: Shard | None) -> None:
        """Check a shard's record and files. expected : what the index says of it"""
        self.verdict.shards += 1
        try:
            commit = read_commit(self.root, key, expected.record_sha256 if expected is not None else None)
        except ClipmillError as error:
            self.verdict.problems.append(str(error))
            return
        for problem in commit.problems():
            self.damage(commit_path(key), problem)
        self.counts += commit.counts
        ids = {output.format: self._file(commit, output) for output in commit.outputs}
        beside = commit.output(BESIDE)
        if beside is not None and None not in (ids[BESIDE], ids.get("manifest")) and ids[BESIDE] != ids["manifest"]:
            self.verdict.problems.append(f"{self.root.uri(beside.path)}: its rows are not about the clips of the shard")

    def _file(self, commit: Commit, output: OutputFile) -> list[str] | None:
        """Check a file; return the ids of its clips in the order of its rows, if it is sound and they are needed."""
        self.verdict.files += 1
        ids: list[str] | None = None
        try:
            sha256 = sha256_of(self.root, output.path)
        except (FileNotFoundError, ValueError):
            self.damage(output.path, "missing")
            return None
        except OSError as error:
            self.verdict.problems.append(
                f"{self.root.uri(output.path)}: cannot be read: {hide_secrets(str(error.strerror or error))}"
            )
            return None
        if sha256 != output.sha256:
            self.damage(output.path, f"its sha256 is {sha256[:12]}…, but the commit says {output.sha256[:12]}…")
            return None
        self.verdict.size_bytes += output.size_bytes
        with contextlib.closing(self.root.open_read(output.path)) as stream:
            if output.format == "webdataset":
                rows = sum(m.name.endswith(".json") for m in tarfile.open(fileobj=stream, mode="r|"))  # noqa: SIM115
            else:
                rows = pq.ParquetFile(stream, pre_buffer=False).metadata.num_rows
                if output.format in ("manifest", BESIDE):
                    stream.seek(0)
                    ids = read_parquet(stream, ["clip_id"])["clip_id"].to_pylist()
                if output.format == "manifest":
                    self.ids.update(ids or ())
        others = {"recordings": commit.n_items, "dropped": min(output.rows, commit.counts.clips_dropped)}
        expected = others.get(output.format, commit.counts.clips_stored)
        if not rows == output.rows == expected:
            self.verdict.problems.append(
                f"{self.root.uri(output.path)}: it has {counted(rows, 'row')}; the commit says {output.rows}, and its counts say {expected}"
            )
        return ids

    def part(self, part: StoredPart) -> dict[str, Shard]:
        """Check the files of a part of the index, and return its shards by key."""
        for name, file in part.part.tables.items():
            path = part.part.path(name)
            self.verdict.files += 1
            try:
                content = self.root.read_bytes(path)
            except FileNotFoundError:
                self.damage(path, "missing")
                continue
            self.verdict.size_bytes += len(content)
            if (sha256 := hashlib.sha256(content).hexdigest()) != file.sha256:
                self.damage(path, f"its sha256 is {sha256[:12]}…, but the snapshot says {file.sha256[:12]}…")
        with contextlib.suppress(ClipmillError):  # reported above
            return {row["key"]: Shard.of_row(row) for row in part.table("shards").to_pylist()}
        return {}

    def tables(self) -> None:
        """Check the tables of the snapshot beside its index."""
        counts = self.snapshot.counts
        rows_of = {"manifest": counts.clips_stored, "rejections": sum(counts.rejected.values())}
        names = self.snapshot.files or (("manifest", "rejections") if self.snapshot.format_version == 1 else ())
        for name in names:
            path = f"{SNAPSHOTS}/{snapshot_name(self.snapshot.number)}/{name}.parquet"
            self.verdict.files += 1
            try:
                if self.snapshot.files and sha256_of(self.root, path) != self.snapshot.files[name]:
                    self.damage(path, "its sha256 differs from the one in the snapshot")
                    continue
                with contextlib.closing(self.root.open_read(path)) as stream:
                    rows = pq.ParquetFile(stream, pre_buffer=False).metadata.num_rows
            except (OSError, pa.ArrowInvalid) as error:
                self.damage(path, f"cannot be read: {hide_secrets(' '.join(str(error).split()))}")
                continue
            if rows_of.get(name, rows) != rows:
                self.damage(path, f"it has {counted(rows, 'row')}; the snapshot says {rows_of[name]}")

    def sums(self, parts: Sequence[IndexPart]) -> None:
        """Repeat the sums of a snapshot over its shards, all of which were checked."""
        snapshot, verdict = self.snapshot, self.verdict
        duplicates = [clip for clip, n in self.ids.items() if n > 1]
        if duplicates:
            verdict.problems.append(f"clip ids that occur more than once: {len(duplicates):,}, e.g. {duplicates[0]}")
        n_clips = sum(self.ids.values())
        if not n_clips == snapshot.counts.clips_stored == self.counts.clips_stored:
            verdict.problems.append(
                f"the numbers of clips differ: {n_clips} in the shards, {self.counts.clips_stored} in the commits, {snapshot.counts.clips_stored}"
                " in the snapshot"
            )
        if snapshot.format_version > 1:  # sums of older snapshots were added up in another order
            total = sum_up(self.root, parts, Counts())
            for name in ("seconds", "by_split", "labels", "statistics", "bytes_stored"):
                if getattr(total, name) != getattr(snapshot, name):
                    verdict.problems.append(f"snapshot {snapshot.number}: {name} is not the sum over its shards")
            keys = sorted(key for part in parts for key in part.table("shards", ["key"])["key"].to_pylist())
            if keys != snapshot.commits:
                verdict.problems.append(f"snapshot {snapshot.number}: its shards are not those of its index")


def verify(root: Root, number: int | None = None, sample: Callable[[str], bool] | None = None) -> Iterator[Verdict]:
    """Check a snapshot, by default the newest, and yield the verdict so far after each shard; the last one is complete.

    sample : whether to check a shard, by its key; None: check all, and the sums over them

    Raises
    ------
    ClipmillError : the snapshot does not exist or cannot be read
    """
    snapshot = read_snapshot(root, number)
    check = _Check(root, snapshot)
    verdict = check.verdict
    verdict.problems += snapshot.problems()
    for read in (read_retries, read_generations, read_forgotten):
        try:
            read(root)
        except ClipmillError as error:
            verdict.problems.append(str(error))
    expected: dict[str, Shard] = {}
    parts: list[IndexPart] = []
    if snapshot.format_version > 1:
        parts = parts_of(root, snapshot)
        for part in parts:
            assert isinstance(part, StoredPart)  # noqa: S101 - as all of a published index
            expected |= check.part(part)
    for key in snapshot.commits:
        if sample is None or sample(key):
            check.shard(key, expected.get(key))
            yield verdict
    check.tables()
    if not verdict.problems and sample is None:
        check.sums(parts)
    if not verdict.problems and parts:
        verdict.versions = versions_of(root, parts)
    verdict.clips = sum(check.ids.values())
    yield verdict


def sample_of(keys: Sequence[str], text: str) -> Callable[[str], bool]:
    """Return which shards belong to a random sample. text : a number of shards, or a share of them as in 5%

    Raises
    ------
    ValueError : it is neither
    """
    share = text.endswith("%")
    value = float(text.removesuffix("%"))
    if not (0 < value <= 100 if share else value >= 1 and value.is_integer()):
        raise ValueError(f"{text} is neither a number of shards nor a share of them, as in 5%")
    n = max(1, round(len(keys) * value / 100)) if share else int(value)
    return frozenset(random.sample(sorted(keys), min(n, len(keys)))).__contains__
