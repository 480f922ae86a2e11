"""Read and make the parts of an index: those of a published snapshot from their files, new ones from the records of shards."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmill.pipelines.dataset.damage import legible
from clipmill.schemas.index import (
    PCM,
    PCM_HASH_BYTES,
    RECORDS,
    REMARKS,
    SCHEMAS,
    SHARDS,
    SUMS,
    TABLES,
    Shard,
    Sums,
    shard_row,
)
from clipmill.schemas.index_part import Part, TableFile
from clipmill.schemas.keys import digest
from clipmill.schemas.layout import index_path
from clipmill.schemas.records import Commit
from clipmill.schemas.tables import PCM_SHA256, REJECTIONS
from clipmill.stages.storage.checked import ChangedBytesError
from clipmill.stages.storage.parquet_tables import read_parquet
from clipmill.stages.storage.root import Root
from clipmill.stages.write.ledger import originals

_TABLES_VERSION = 1
"""Raised when the same records give other tables, so that no part of an older clipmill is taken for one of these."""
_AT_ONCE = 32
_ROWS = 50_000
T = TypeVar("T")
R = TypeVar("R")


class IndexPart(Protocol):
    """A part of an index: the shards of a split whose partitions begin with the same bits."""

    @property
    def split(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def schema(self) -> pa.Schema:
        """The schema of its manifest."""
        ...

    @property
    def sums(self) -> Sums:
        """The sums of its records."""
        ...

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one of its tables, see `clipmill.schemas.index`; without rows if there are none.

        columns : to read, None for all

        Raises
        ------
        ClipmillError : a file is missing or damaged
        """
        ...


@dataclass(frozen=True)
class StoredPart:
    """A part of a published snapshot.

    schema : of the manifest
    """

    root: Root
    part: Part
    schema: pa.Schema

    @property
    def split(self) -> str:
        return self.part.split

    @property
    def prefix(self) -> str:
        return self.part.prefix

    @cached_property
    def sums(self) -> Sums:
        path = self.part.path("shards")
        with legible(self.root, path):
            metadata = pq.read_schema(self._content("shards")).metadata or {}
            return Sums.from_json(metadata[SUMS])

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        if name not in self.part.tables:
            empty = (self.schema if name == "manifest" else SCHEMAS[name]).empty_table()
            return empty if columns is None else empty.select(list(columns))
        with legible(self.root, self.part.path(name)):
            table = read_parquet(self._content(name), columns)
            if name == "shards":
                self.__dict__.setdefault("sums", Sums.from_json((table.schema.metadata or {})[SUMS]))
        return table

    def _content(self, name: str) -> io.BytesIO:
        content = self.root.read_bytes(self.part.path(name))
        if hashlib.sha256(content).hexdigest() != self.part.tables[name].sha256:
            raise ChangedBytesError("it does not have the sha256 that its snapshot names")
        return io.BytesIO(content)


@dataclass(frozen=True)
class Entry:
    """A shard of a snapshot that is being made: its key, its place, and the digest of its record."""

    key: str
    split: str
    bucket: str
    record_sha256: str


@dataclass(frozen=True)
class FreshPart:
    """A part that is made from records.

    entries : its shards, sorted by partition
    content_of : returns a record's `Commit.content` by key
    clips_of : returns a shard's rows of the manifest
    schema : of the manifest, which shards that have fewer columns fill with nulls
    """

    split: str
    prefix: str
    entries: Sequence[Entry]
    content_of: Callable[[str], bytes]
    clips_of: Callable[[Commit], pa.Table]
    schema: pa.Schema

    @property
    def id(self) -> str:
        """Digest of what the part holds."""
        return part_id(self.schema, self.entries)

    @cached_property
    def sums(self) -> Sums:
        return Sums.of(Commit.from_content(self.content_of(entry.key)) for entry in self.entries)

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        table = self._tables({name})[name]
        return table if columns is None else table.select(list(columns))

    def _tables(self, names: Collection[str]) -> dict[str, pa.Table]:
        """Return tables, made in one pass over the records."""
        commits, contents = [], []
        rows: dict[str, list[dict[str, Any]]] = {"shards": [], "rejections": [], "remarks": []}
        hashes: list[bytes | None] = []
        manifests = [self.schema.empty_table()]
        for entry in self.entries:
            content = self.content_of(entry.key)
            commit = Commit.from_content(content)
            if "records" in names:
                contents.append(content)
            if "shards" in names:
                commits.append(commit)
                rows["shards"].append(shard_row(commit, content))
            rows["rejections"] += commit.rejections if "rejections" in names else []
            rows["remarks"] += commit.remarks if "remarks" in names else []
            if {"pcm", "manifest"} & set(names):
                clips = self.clips_of(commit)
                hashes.append(_pcm_hashes(clips))
                if "manifest" in names:
                    manifests.append(_as_manifest(clips, commit, self.schema))
        if commits:
            self.__dict__.setdefault("sums", Sums.of(commits))
        keys = [entry.key for entry in self.entries]
        made: dict[str, Callable[[], pa.Table]] = {
            "shards": lambda: _table(rows["shards"], SHARDS.with_metadata({SUMS: self.sums.to_json()})),
            "records": lambda: pa.table([keys, contents], schema=RECORDS),
            "pcm": lambda: pa.table([keys, hashes], schema=PCM),
            "manifest": lambda: pa.concat_tables(manifests),
            "rejections": lambda: _table(rows["rejections"], REJECTIONS),
            "remarks": lambda: _table(rows["remarks"], REMARKS),
        }
        return {name: made[name]() for name in names}

    def write(self, root: Root) -> Part:
        """Write the tables that have rows, and return the description of the part. Equal tables are one file, whoever wrote it."""
        tables = self._tables(TABLES)
        n_clips = tables["manifest"].num_rows
        files: dict[str, TableFile] = {}
        for name in TABLES:
            table = tables.pop(name)
            if table.num_rows:
                files[name], content = _file(table)
                put(root, index_path(self.split, self.prefix, files[name].sha256, name), content)
        return Part(self.split, self.prefix, self.id, len(self.entries), n_clips, files)


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema)


def _as_manifest(clips: pa.Table, commit: Commit, schema: pa.Schema) -> pa.Table:
    """Return a shard's clips as rows of the manifest, with null for what an older shard does not say."""
    if "shard" not in clips.column_names:
        output = commit.output("parquet", "webdataset")  # the file that a manifest names for a shard's clips
        shard = pa.array([output.path if output else None] * clips.num_rows, pa.string())
        clips = clips.append_column("shard", shard)
    for field in schema:
        if field.name not in clips.column_names:
            clips = clips.append_column(field, pa.nulls(clips.num_rows, field.type))
    return clips.select(schema.names).cast(schema)


def stored(root: Root, parts: Sequence[IndexPart], schema: pa.Schema) -> list[StoredPart]:
    """Write the parts that are new, each in one pass over its records, and return all parts as those of a published snapshot.

    They are named by their digests, so parts that no snapshot names in the end are garbage and nothing else. schema : of the manifest
    """

    def store(part: IndexPart) -> StoredPart:
        if isinstance(part, StoredPart):
            return part
        assert isinstance(part, FreshPart)  # noqa: S101 - there is no third kind
        written = StoredPart(root, part.write(root), schema)
        written.__dict__["sums"] = part.sums
        return written

    return list(in_turn(root, store, parts))


def part_id(schema: pa.Schema, entries: Sequence[Entry]) -> str:
    """Return the digest of what a part holds. schema : of the manifest"""
    columns = [[field.name, str(field.type)] for field in schema]
    return digest([_TABLES_VERSION, columns, [[entry.key, entry.record_sha256] for entry in entries]])


def put(root: Root, path: str, content: bytes) -> None:
    """Write a file that is named by its digest. If it exists with another content, that is damaged, and is replaced."""
    if not root.create_bytes(path, content):
        root.write_bytes(path, content)


def _file(table: pa.Table) -> tuple[TableFile, bytes]:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROWS)
    content = sink.getvalue()
    return TableFile(hashlib.sha256(content).hexdigest(), len(content), table.num_rows), content


def _pcm_hashes(clips: pa.Table) -> bytes | None:
    """Return the first bytes of each clip's `pcm_sha256`, without copies; None if the shard is older than these."""
    if PCM_SHA256.name not in clips.column_names:
        return None
    values = originals(clips)[PCM_SHA256.name]
    if values.null_count:
        return None
    texts = pc.utf8_slice_codeunits(values, 0, 2 * PCM_HASH_BYTES).to_pylist()
    return bytes.fromhex("".join(texts))


def in_turn(root: Root, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield the results of work on items, in their order; on a store, several requests are on their way at a time."""
    if root.is_local or len(items) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(work, items)


def shards_of(root: Root, parts: Sequence[IndexPart]) -> Iterator[Shard]:
    """Yield the shards of an index, sorted by split and partition. Raises ClipmillError as `IndexPart.table` does."""
    for table in in_turn(root, lambda part: part.table("shards"), parts):
        yield from map(Shard.of_row, table.to_pylist())


def versions_of(root: Root, parts: Sequence[IndexPart]) -> dict[str, dict[str, int]]:
    """Return by library the versions that made the shards, with the number of shards of each."""
    counts: dict[str, dict[str, int]] = {}
    for table in in_turn(root, lambda part: part.table("shards", ["versions"]), parts):
        for row in pc.value_counts(table["versions"].combine_chunks()).to_pylist():
            for library, version in json.loads(row["values"]).items():
                of_library = counts.setdefault(library, {})
                of_library[version] = of_library.get(version, 0) + row["counts"]
    return {library: dict(sorted(found.items())) for library, found in sorted(counts.items())}
