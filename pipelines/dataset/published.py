"""The reader's view of a published snapshot: its splits, labels, columns, and the files that hold its clips."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from clipmill.pipelines.dataset.classes import classes_of
from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.duplicates import DUPLICATES
from clipmill.pipelines.dataset.identity import dataset_name
from clipmill.pipelines.dataset.index_parts import IndexPart, in_turn
from clipmill.pipelines.dataset.marks import mark
from clipmill.pipelines.dataset.ray_shards import ShardsInRay
from clipmill.pipelines.dataset.records_io import describe_missing_shards, read_commit, read_snapshot, shard_sizes
from clipmill.pipelines.dataset.shard_columns import columns_of_shards, schema_of_first_tar, schema_of_parquet
from clipmill.pipelines.dataset.shard_set import parts_of, schema_of_manifest
from clipmill.pipelines.dataset.statistics_table import statistics_table
from clipmill.schemas.columns import Column, feature_names, names_beside
from clipmill.schemas.config import check_address
from clipmill.schemas.config.model import did_you_mean
from clipmill.schemas.config.split_config import Split
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.index import Shard, are_whole
from clipmill.schemas.keys import digest
from clipmill.schemas.layout import BESIDE, EXTENSIONS, SNAPSHOTS, commit_path, snapshot_name, snapshot_path
from clipmill.schemas.records import Commit, OutputFile, Snapshot
from clipmill.schemas.tables import REJECTIONS, joined_schema
from clipmill.stages.storage.checked import ChangedBytesError
from clipmill.stages.storage.failures import describe_os_error, repair_hint
from clipmill.stages.storage.root import Root

if TYPE_CHECKING:
    import pandas
    import ray.data


_MARKED = 100
"""Shards that are marked as damaged at a time, at most."""


class Classes(list[str]):
    """Labels in the order of their ids: a list that can be converted to a DataFrame."""

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with the columns `label_id` and `label`."""
        import pandas

        return pandas.DataFrame({"label_id": range(len(self)), "label": list(self)})


@dataclass(frozen=True, repr=False)
class Published:
    """A snapshot of a dataset, returned by `open_dataset`. It is plain data and can be sent to other processes.

    root : root of the dataset
    snapshot : the snapshot's record
    """

    root: Root
    snapshot: Snapshot

    def __repr__(self) -> str:
        snapshot = self.snapshot
        splits = ", ".join(f"{name} {int(sums['clips']):,}" for name, sums in sorted(snapshot.by_split.items()))
        return f"Published({self.root.url!r}, snapshot {snapshot.number} of {snapshot.name}; clips: {splits or 'none'})"

    def manifest(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the manifest: one row per clip, with its id, recording, range in seconds, label, level, fields and the shard that holds it.

        Use `.to_pandas()` for a DataFrame.

        columns : names of the columns to read, by default all

        Raises
        ------
        ClipmillError : a column does not exist, or the file is missing or damaged
        """
        if "manifest" in self.snapshot.files or self.snapshot.format_version == 1:
            return self._table("manifest", columns)
        schema = schema_of_manifest(self.snapshot)
        if columns is not None:
            self.check_columns(columns, schema.names)
            columns = list(dict.fromkeys(columns))
            schema = pa.schema([schema.field(name) for name in columns])
        return pa.concat_tables(
            [schema.empty_table(), *in_turn(self.root, lambda p: p.table("manifest", columns), self.parts)]
        )

    def rejections(self) -> pa.Table:
        """Return what was rejected: one row per recording, part of a recording, or annotation, with the reason, a detail and the source.

        Raises
        ------
        ClipmillError : the file is missing or damaged
        """
        if "rejections" in self.snapshot.files or self.snapshot.format_version == 1:
            return self._table("rejections", None)
        planned = [self._table("left_out", None)] if "left_out" in self.snapshot.files else []
        tables = in_turn(self.root, lambda part: part.table("rejections"), self.parts)
        return pa.concat_tables([REJECTIONS.empty_table(), *planned, *tables])

    def iter_rejections(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of `rejections` without having all of them in memory. Raises as `rejections` does."""
        if self.snapshot.format_version == 1:
            yield from self._table("rejections", None).to_pylist()
            return
        if "left_out" in self.snapshot.files:
            yield from self._table("left_out", None).to_pylist()
        for part in self.parts:
            yield from part.table("rejections").to_pylist()

    @property
    def manifest_uri(self) -> str | None:
        """The address of the manifest's file; None if the dataset is so large that its manifest has many, see `manifest`."""
        if "manifest" not in self.snapshot.files and self.snapshot.format_version > 1:
            return None
        return self.root.uri(f"{SNAPSHOTS}/{snapshot_name(self.snapshot.number)}/manifest.parquet")

    def duplicates(self) -> pa.Table:
        """Return the clips whose samples are those of another clip: one row per clip, the first of each group marked by `first`.

        Raises
        ------
        ClipmillError : the file is missing or damaged
        """
        return self._table("duplicates", None) if "duplicates" in self.snapshot.files else DUPLICATES.empty_table()

    def statistics(self) -> pa.Table:
        """Return the statistics of the clips, one row per split.

        Columns are `split`, `clips`, `shards`, the total and the distribution of lengths in seconds (`duration_s`, `mean_duration_s`,
        `std_duration_s`, `min_duration_s`, `max_duration_s`), and for each feature its mean and standard deviation over all values
        (`<feature>_mean`, `<feature>_std`) and by bin (`<feature>_mean_by_bin`, `<feature>_std_by_bin`, lists of float64). Unknown
        values are null.
        """
        return statistics_table(self.snapshot, self.feature_names)

    def _table(self, name: str, columns: Sequence[str] | None) -> pa.Table:
        path = f"{SNAPSHOTS}/{snapshot_name(self.snapshot.number)}/{name}.parquet"
        with legible(self.root, path):
            content = self.root.read_bytes(path)
            expected = self.snapshot.files.get(name)  # not in the oldest snapshots
            if expected is not None and hashlib.sha256(content).hexdigest() != expected:
                raise ChangedBytesError("it does not have the sha256 that its snapshot names")
            file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)
            if columns is not None:
                self.check_columns(columns, file.schema_arrow.names)
            return file.read(columns=list(columns) if columns is not None else None, use_threads=False)

    @cached_property
    def parts(self) -> list[IndexPart]:
        """The parts of the snapshot's index, sorted by split and partition; see `clipmill.schemas.index`.

        Raises
        ------
        ClipmillError : a record of a shard that an older clipmill published is missing or damaged
        """
        return parts_of(self.root, self.snapshot)

    @cached_property
    def _shards(self) -> list[Shard]:
        """The shards with clips or without, sorted by split and partition.

        Raises
        ------
        ClipmillError : the index is damaged, or shards are missing or truncated
        """
        sizes = shard_sizes(self.root)
        shards: list[Shard] = []
        missing: list[str] = []
        for table in in_turn(self.root, lambda part: part.table("shards"), self.parts):
            shards += map(Shard.of_row, table.to_pylist())
            is_whole = are_whole(table, sizes, self.snapshot.format_version > 1)
            missing += [key for key, there in zip(table["key"].to_pylist(), is_whole, strict=True) if not there]
        if missing:
            for key in missing[:_MARKED]:
                mark(self.root, commit_path(key), "files of this shard are missing or truncated")
            raise ClipmillError(
                f"{describe_missing_shards(self.root, self.snapshot, missing)}; {repair_hint(self.root.url)}",
                code="root.damaged",
            )
        return shards

    def all_shards(self, split: str | None = None) -> list[Shard]:
        """Return the shards of a split, or of all, sorted by split and partition.

        Raises
        ------
        ClipmillError : the index is damaged, or shards are missing or truncated
        """
        return [shard for shard in self._shards if split in (None, shard.split)]

    @cached_property
    def commits(self) -> list[Commit]:
        """The commit records of the shards, sorted by split and partition. They take much memory: `all_shards` is enough for most uses.

        Raises
        ------
        ClipmillError : a record is missing or damaged
        """
        return [read_commit(self.root, shard.key, shard.record_sha256) for shard in self._shards]

    @cached_property
    def identity(self) -> str:
        """A text that identifies this snapshot, also among snapshots of the same number and name under other roots."""
        return f"{self.snapshot.number} of {self.snapshot.name}, {digest(sorted(self.snapshot.commits))[:16]}"

    @property
    def splits(self) -> list[str]:
        """Names of the splits that have shards, sorted."""
        return sorted(self.snapshot.by_split)

    @property
    def splits_without_clips(self) -> list[str]:
        """Names of the splits that the configuration asks for, or that have shards, but that have no clips; sorted."""
        try:
            expected = Split.model_validate(self.snapshot.config.get("split") or {"train": 1.0}).expected
        except ValidationError:  # of an older clipmill, or with a variable as a share: use the shards alone
            expected = []
        return [s for s in sorted({*expected, *self.splits}) if not self.snapshot.by_split.get(s, {}).get("clips")]

    def _no_such_split(self, split: object) -> str:
        """Return a message that a split does not exist, and why."""
        if not self.splits:
            return f"snapshot {self.snapshot.number} has no clips and therefore no splits; see `clipmill failures {self.root.url}`"
        if split in self.splits_without_clips:
            return f"split {split!r} has no clips; the splits with clips are {', '.join(self.splits)}"
        return (
            f"split {split!r} does not exist; the splits are {', '.join(self.splits)}{did_you_mean(split, self.splits)}"
        )

    @cached_property
    def classes(self) -> Classes:
        """All labels of the snapshot in its fixed order, else sorted. A label's position is its `label_id`."""
        return Classes(classes_of(self.snapshot))

    @cached_property
    def columns(self) -> list[Column]:
        """The columns of the shards, see `clipmill.schemas.columns`. For a snapshot of an older clipmill they are read from its shards.

        Raises
        ------
        ClipmillError : the snapshot's description of its columns is damaged, or a shard cannot be read
        """
        columns = self.snapshot.columns
        if not columns:
            return columns_of_shards(self.root, self.snapshot, self._shards)
        if not isinstance(columns, list) or any(
            not isinstance(c, dict) or {"name", "type"} - c.keys() for c in columns
        ):
            path = self.root.uri(snapshot_path(self.snapshot.number))
            raise ClipmillError(
                f"{path}: `columns` must be a list of columns with name and type; restore the file, or remove it: the next build then"
                " publishes the snapshot again"
            )
        return columns

    @cached_property
    def feature_names(self) -> list[str]:
        """Names of the features of clips, in the order of the columns."""
        return feature_names(self.columns)

    @cached_property
    def names_beside(self) -> frozenset[str]:
        """Names of the columns that lie in files beside the shards; none where features lie in them."""
        return frozenset(names_beside(self.snapshot.columns))

    @cached_property
    def _beside(self) -> dict[str, OutputFile]:
        files = ((shard.output("parquet"), shard.output(BESIDE)) for shard in self._shards)
        return {file.path: beside for file, beside in files if file is not None and beside is not None}

    def beside(self, file: OutputFile) -> OutputFile | None:
        """Return the file with the features of a Parquet shard, None where these lie in the shard. file : one of `shards`"""
        return self._beside.get(file.path) if self.names_beside else None

    @cached_property
    def audio_codec(self) -> str:
        """The codec of the stored audio, flac or wav. For a snapshot of an older clipmill it is read from a shard, see `columns`."""
        for column in self.columns:
            if column["name"] == "audio" and "codec" in column.get("settings", {}):
                return str(column["settings"]["codec"])
        schema = schema_of_first_tar(self.root, self.snapshot, self._shards)
        return str(schema.metadata[b"codec"].decode()) if schema is not None else "flac"

    @property
    def has_images(self) -> bool:
        """Whether clips have pictures. A column of that name may also be a field of the corpus."""
        return any(column.get("kind") == "image" for column in self.columns)

    @property
    def has_unlabelled(self) -> bool:
        """Whether there are clips without a label."""
        return "" in self.snapshot.seconds.clips_by_label

    def huggingface_features(self) -> dict[str, dict[str, Any]]:
        """Return the columns of the Parquet shards, and of the files beside them, as Hugging Face `datasets` describes them."""
        features: dict[str, dict[str, Any]] = json.loads(self.schema.metadata[b"huggingface"])["info"]["features"]
        return features

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the Parquet shards, which is the same for all; with the columns of the files beside them where there are any.

        Raises
        ------
        ClipmillError : the snapshot has no clips, or a shard cannot be read
        """
        first = next((f for split in self.splits for f in self.shards(split)), None)
        if first is None:
            raise ClipmillError(f"{self.root.url}: snapshot {self.snapshot.number} has no clips")
        if (beside := self.beside(first)) is None:
            return schema_of_parquet(self.root, first)
        order = [column["name"] for column in self.columns]
        return joined_schema([schema_of_parquet(self.root, file) for file in (first, beside)], order)

    def check_columns(self, requested: Sequence[str], known: Sequence[str]) -> None:
        """Raise ClipmillError unless the requested columns are a list of known names."""
        if isinstance(requested, str) or not isinstance(requested, Sequence):
            raise ClipmillError(f"columns is {requested!r}; give a list of names; the columns are {', '.join(known)}")
        if unknown := [c for c in requested if c not in known]:
            raise ClipmillError(
                f"{self.root.url}: column {unknown[0]!r} does not exist; the columns are {', '.join(known)}"
            )

    def shards(self, split: str, format: str = "parquet") -> list[OutputFile]:
        """Return the files of a split that hold clips, sorted by path.

        format : "parquet" or "webdataset"; "features" for the files beside Parquet shards, in the order of these

        Raises
        ------
        ClipmillError : the split does not exist, or its shards are not stored in this format
        """
        if format == BESIDE and not self.names_beside:
            raise ClipmillError(
                f"{self.root.url}: nothing lies beside its shards; features are in them, unless it is built with output.features: beside"
            )
        if split not in self.splits:
            raise ClipmillError(f"{self.root.url}: {self._no_such_split(split)}")
        outputs = [s.output(format) for s in self.all_shards(split)]
        if any(output is None for output in outputs):
            formats = sorted({o.format for s in self._shards for o in s.outputs} & {*EXTENSIONS})
            raise ClipmillError(
                f"{self.root.url}: its shards are stored as {', '.join(formats)}, not as {format}; add {format} to output.formats and"
                " build again, which makes the files from the committed clips"
            )
        return sorted((output for output in outputs if output is not None and output.rows), key=lambda o: o.path)

    def uris(self, split: str, format: str = "parquet") -> list[str]:
        """Return the addresses of a split's files: absolute paths, or s3://... Raises as `shards` does."""
        return [self.root.uri(output.path) for output in self.shards(split, format)]

    def to_ray_dataset(self, split: str, columns: Sequence[str] | None = None) -> ray.data.Dataset:
        """Return a split as a Ray dataset, for `streaming_split` and Ray Train: one row per clip, as stored.

        columns : names of columns of the Parquet files, and of those beside them, by default all

        Raises
        ------
        ClipmillError : as `shards` does; also if the split has no clips, or a column does not exist
        """
        import ray.data

        outputs = self.shards(split)
        if not outputs:
            raise ClipmillError(f"{self.root.url}: split {split!r} has no clips")
        if columns is not None:
            self.check_columns(columns, self.schema.names)
        if self.names_beside and (columns is None or not self.names_beside.isdisjoint(columns)):
            pairs = [(output, self.beside(output)) for output in outputs]
            wanted = columns if columns is not None else self.schema.names
            return ShardsInRay(self.root, pairs, wanted, self.names_beside).dataset()
        files = [self.root.full(output.path) for output in outputs]
        import fsspec.implementations.local
        import pyarrow.fs

        fs = fsspec.implementations.local.LocalFileSystem() if self.root.is_local else self.root.fs
        wrapped = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))
        return ray.data.read_parquet(files, filesystem=wrapped, columns=list(columns) if columns is not None else None)


def open_dataset(
    root: str | os.PathLike[str], snapshot: int | None = None, storage_options: Mapping[str, Any] | None = None
) -> Published:
    """Open a published dataset for reading.

    Parameters
    ----------
    root : a folder or s3://...
    snapshot : its number, by default that of the newest
    storage_options : options for fsspec, as in a configuration

    Raises
    ------
    ClipmillError : the root is not a dataset, or the snapshot does not exist or cannot be read
    """
    if snapshot is not None and (not isinstance(snapshot, int) or isinstance(snapshot, bool)):
        raise ClipmillError(f"snapshot must be a number, not {snapshot!r}")
    if not isinstance(storage_options, Mapping | None):
        raise ClipmillError("storage_options must be a mapping, as in a configuration")
    try:
        place = Root(check_address(os.fspath(root)), dict(storage_options or {}))
    except ValueError as error:
        raise ClipmillError(f"the dataset's root {error}") from None
    try:
        dataset_name(place)
        return Published(place, read_snapshot(place, snapshot))
    except OSError as error:
        raise describe_os_error(error, place, "open", then="open it again") from None
