"""Gather the shards of a snapshot that is to be made: most of them from the index of the last one, the others from their records."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.index_parts import Entry, FreshPart, IndexPart, StoredPart, part_id
from clipmill.pipelines.dataset.outcomes import clips_of
from clipmill.pipelines.dataset.records_io import read_commit
from clipmill.schemas.columns import measured_fields
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.index import record_sha256
from clipmill.schemas.index_part import divide
from clipmill.schemas.layout import INDEX
from clipmill.schemas.records import Commit, Snapshot
from clipmill.schemas.tables import PCM_SHA256, manifest_schema
from clipmill.stages.storage.root import Root

_PLACE_COLUMNS = ["key", "split", "bucket", "record_sha256"]


def schema_of_manifest(snapshot: Snapshot) -> pa.Schema:
    """Return the schema of a snapshot's manifest."""
    measured = measured_fields(snapshot.columns)
    return manifest_schema(snapshot.fields, snapshot.has_channel, measured, snapshot.label_lists).append(PCM_SHA256)


def parts_of(root: Root, snapshot: Snapshot) -> list[IndexPart]:
    """Return the index of a published snapshot. That of format version 1 is made from the shards' records, all of which are read.

    Raises
    ------
    ClipmillError : records of a snapshot of format version 1 are missing or damaged
    """
    if snapshot.format_version > 1 or not snapshot.commits:
        schema = schema_of_manifest(snapshot)
        return [StoredPart(root, part, schema) for part in snapshot.parts]
    shards = ShardSet(root)
    for key in snapshot.commits:
        shards.add(read_commit(root, key))
    return shards.parts(schema_of_manifest(snapshot))


class ShardSet:
    """The shards of a snapshot that is to be made. A few hundred bytes are kept of each, and the records of new ones, compressed.

    last : the index of the last snapshot, whose unchanged parts are used again
    damaged : paths of files of that index that could not be read
    """

    def __init__(self, root: Root, last: Sequence[IndexPart] = ()) -> None:
        self._root = root
        self._last = [part for part in last if isinstance(part, StoredPart)]
        self._entries: dict[str, Entry] = {}
        self._fresh: dict[str, bytes] = {}
        self._places: dict[str, int] = {}
        self._tables: dict[str, tuple[int, dict[str, Any]]] = {}
        self.damaged: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    @property
    def keys(self) -> list[str]:
        """Keys of the shards, sorted."""
        return sorted(self._entries)

    @property
    def fresh_keys(self) -> list[str]:
        """Keys of the shards that the last index does not have, sorted."""
        return sorted(self._fresh)

    def add(self, commit: Commit) -> None:
        """Add a shard by its record."""
        content = commit.content
        self._entries[commit.key] = Entry(commit.key, commit.split, commit.bucket, record_sha256(content))
        self._fresh[commit.key] = zlib.compress(content, 1)

    def known(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield the number of each part of the last index that can be read, with its table `shards`."""
        for i, part in enumerate(self._last):
            try:
                yield i, part.table("shards")
            except ClipmillError as error:
                self.damaged[part.part.path("shards")] = str(error)

    def add_known(self, part: int, shard: Mapping[str, str]) -> None:
        """Add a shard by its row of the last index. part : the number of its part"""
        self._entries[shard["key"]] = Entry(*(shard[name] for name in _PLACE_COLUMNS))
        self._places[shard["key"]] = part

    def discard(self, keys: Collection[str]) -> None:
        """Take shards out again."""
        for key in keys:
            self._entries.pop(key, None)
            self._fresh.pop(key, None)
            self._places.pop(key, None)

    def parts(self, schema: pa.Schema, but: Collection[str] = ()) -> list[IndexPart]:
        """Divide the shards into parts, and return those of the last index where nothing has changed.

        schema : of the manifest
        but : paths of files that must be written again
        """
        sizes = self._root.sizes(INDEX) if self._last else {}
        stored = {p.part.id: p for p in self._last if p.schema.equals(schema)}
        entries = sorted(self._entries.values(), key=lambda e: (e.split, e.bucket))
        parts: list[IndexPart] = []
        for split, group in groupby(entries, key=lambda e: e.split):
            members = list(group)
            start = 0
            for prefix, n in divide([entry.bucket for entry in members]):
                own = members[start : start + n]
                start += n
                same = stored.get(part_id(schema, own))
                if same is not None and _is_there(same, sizes, {*but, *self.damaged}):
                    parts.append(same)
                else:
                    parts.append(FreshPart(split, prefix, own, self.content_of, self.clips_of, schema))
        return parts

    def content_of(self, key: str) -> bytes:
        """Return a shard's `Commit.content`."""
        if key in self._fresh:
            return zlib.decompress(self._fresh[key])
        if key in self._places and (found := self._from_last(key, "records")) is not None:
            return bytes(found)
        return read_commit(self._root, key, self._entries[key].record_sha256).content

    def clips_of(self, commit: Commit) -> pa.Table:
        """Return a shard's rows of the manifest."""
        if commit.key in self._places:
            output = commit.output("parquet", "webdataset")
            if output is not None and (found := self._from_last(commit.key, "manifest")) is not None:
                return found
        return clips_of(self._root, commit)

    def _from_last(self, key: str, name: str) -> Any:
        """Return what a table of the last index has of a shard; None if the table is damaged. One table is held at a time."""
        place = self._places[key]
        held = self._tables.get(name)
        if held is None or held[0] != place:
            part = self._last[place]
            try:
                table = part.table(name)
            except ClipmillError as error:
                self.damaged[part.part.path(name)] = str(error)
                return None
            rows = _by_key(table) if name == "records" else _by_shard(table, part)
            held = self._tables[name] = (place, rows)
        return held[1].get(key)


def _is_there(part: StoredPart, sizes: Mapping[str, int], but: Collection[str]) -> bool:
    return all(sizes.get(path) == size and path not in but for path, size in part.part.paths.items())


def _by_key(records: pa.Table) -> dict[str, Any]:
    return dict(zip(records["key"].to_pylist(), records["content"].to_pylist(), strict=True))


def _by_shard(manifest: pa.Table, part: StoredPart) -> dict[str, Any]:
    """Return a part's clips by the key of their shard. The clips of a shard are adjacent, and the manifest names its file."""
    shards = part.table("shards", ["key", "outputs"]).to_pylist()
    path_of = {row["key"]: _clips_path(row["outputs"]) for row in shards}
    counts = pc.value_counts(manifest["shard"].combine_chunks()).to_pylist()  # in the order of appearance
    starts, start = {}, 0
    for row in counts:
        starts[row["values"]] = (start, row["counts"])
        start += row["counts"]
    return {key: manifest.slice(*starts.get(path, (0, 0))) for key, path in path_of.items()}


def _clips_path(outputs: Iterable[Mapping[str, str]]) -> str | None:
    by_format = {output["format"]: output["path"] for output in outputs}
    return by_format.get("parquet", by_format.get("webdataset"))
