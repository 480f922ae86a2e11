"""Published: a snapshot as its readers see it: its splits, its files, its labels, and where they are."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from clipmill.pipelines.dataset.classes import classes_of
from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.records_io import dataset_name, read_snapshot, sound_commits
from clipmill.pipelines.dataset.shard_columns import columns_of_shards, schema_of_first_tar, schema_of_parquet
from clipmill.pipelines.dataset.statistics_table import statistics_table
from clipmill.schemas.columns import Column, feature_names
from clipmill.schemas.config import check_address
from clipmill.schemas.config.model import did_you_mean
from clipmill.schemas.config.split_config import Split
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.keys import digest
from clipmill.schemas.layout import SNAPSHOTS, snapshot_name, snapshot_path
from clipmill.schemas.records import Commit, OutputFile, Snapshot
from clipmill.stages.storage.failures import describe_os_error, repair_hint
from clipmill.stages.storage.root import Root

if TYPE_CHECKING:
    import pandas
    import ray.data


class Classes(list[str]):
    """Labels in the order of their ids: a list, which can also come as a DataFrame."""

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with the columns `label_id` and `label`."""
        import pandas

        return pandas.DataFrame({"label_id": range(len(self)), "label": list(self)})


@dataclass(frozen=True, repr=False)
class Published:
    """A snapshot of a dataset. Made by `open_dataset`; plain data, so that it can be handed to other processes.

    root : of the dataset
    snapshot : its record
    """

    root: Root
    snapshot: Snapshot

    def __repr__(self) -> str:
        snapshot = self.snapshot
        splits = ", ".join(f"{name} {int(sums['clips']):,}" for name, sums in sorted(snapshot.by_split.items()))
        return f"Published({self.root.url!r}, snapshot {snapshot.number} of {snapshot.name}; clips: {splits or 'none'})"

    def manifest(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the manifest: a row a clip, with its id, recording, range in seconds, label, level, fields and the shard that holds it.

        `.to_pandas()` makes a DataFrame of it.

        columns : to read, all by default

        Raises
        ------
        ClipmillError : there is no such column, or the file is missing or damaged
        """
        return self._table("manifest", columns)

    def rejections(self) -> pa.Table:
        """Return what was rejected: a row a recording, part of a recording or annotation, with the reason, a detail and its place.

        Raises
        ------
        ClipmillError : the file is missing or damaged
        """
        return self._table("rejections", None)

    def statistics(self) -> pa.Table:
        """Return what the clips of each split sum up to, a row a split.

        Columns are `split`, `clips`, `shards`, the total and the distribution of lengths (`duration_s`, `mean_duration_s`,
        `std_duration_s`, `min_duration_s`, `max_duration_s`), and for each feature its mean and standard deviation over all values
        (`<feature>_mean`, `<feature>_std`) and by bin (`<feature>_mean_by_bin`, `<feature>_std_by_bin`, lists of float64). Null
        where it is not known.
        """
        return statistics_table(self.snapshot, self.feature_names)

    def _table(self, name: str, columns: Sequence[str] | None) -> pa.Table:
        path = f"{SNAPSHOTS}/{snapshot_name(self.snapshot.number)}/{name}.parquet"
        with legible(self.root, path), contextlib.closing(self.root.open_read(path)) as stream:
            file = pq.ParquetFile(stream)
            if columns is not None:
                self.check_columns(columns, file.schema_arrow.names)
            return file.read(columns=list(columns) if columns is not None else None)

    @cached_property
    def commits(self) -> list[Commit]:
        """The records of its shards, by split and partition.

        Raises
        ------
        ClipmillError : shards are missing or cut
        """
        found = sound_commits(self.root, self.snapshot.commits)
        if missing := [key for key in self.snapshot.commits if key not in found]:
            raise ClipmillError(
                f"{self.root.url}: {len(missing)} of {len(self.snapshot.commits)} shards of snapshot {self.snapshot.number} are missing or"
                f" cut, as {missing[0][:12]}; {repair_hint(self.root.url)}",
                code="root.damaged",
            )
        return sorted(found.values(), key=lambda c: (c.split, c.bucket, c.key))

    @cached_property
    def identity(self) -> str:
        """Tells this snapshot from any other, also from one of the same number and name under another root."""
        return f"{self.snapshot.number} of {self.snapshot.name}, {digest(sorted(self.snapshot.commits))[:16]}"

    @property
    def splits(self) -> list[str]:
        return sorted(self.snapshot.by_split)

    @property
    def splits_without_clips(self) -> list[str]:
        """Those that the configuration asks for, or that have shards, and no clip; sorted."""
        try:
            asked = Split.model_validate(self.snapshot.config.get("split") or {"train": 1.0}).expected
        except ValidationError:  # of an older clipmill, or with a variable for a share: then shards alone say it
            asked = []
        return [s for s in sorted({*asked, *self.splits}) if not self.snapshot.by_split.get(s, {}).get("clips")]

    def _no_such_split(self, split: object) -> str:
        """Say that there is no such split, and why."""
        if not self.splits:
            return f"snapshot {self.snapshot.number} has no clips, and so no splits; see `clipmill failures {self.root.url}`"
        if split in self.splits_without_clips:
            return f"split {split!r} got no clips; there are {', '.join(self.splits)}"
        return f"there is no split {split!r}; there are {', '.join(self.splits)}{did_you_mean(split, self.splits)}"

    @cached_property
    def classes(self) -> Classes:
        """All labels of the snapshot, in the order that it fixes, else sorted. A label's place in it is its `label_id`."""
        return Classes(classes_of(self.snapshot))

    @cached_property
    def columns(self) -> list[Column]:
        """What the columns of the shards are, see `clipmill.schemas.columns`. A snapshot of an older clipmill does not say; then its shards do.

        Raises
        ------
        ClipmillError : the snapshot's own description is none, or, where it has none, a shard cannot be read
        """
        found = self.snapshot.columns
        if not found:
            return columns_of_shards(self.root, self.snapshot, self.commits)
        if not isinstance(found, list) or any(not isinstance(c, dict) or {"name", "type"} - c.keys() for c in found):
            path = self.root.uri(snapshot_path(self.snapshot.number))
            raise ClipmillError(
                f"{path}: `columns` is no list of columns with name and type; put the file back as it was, or remove it: the next build"
                " publishes again"
            )
        return found

    @cached_property
    def feature_names(self) -> list[str]:
        """Names of the features that clips have, in the order of the columns."""
        return feature_names(self.columns)

    @cached_property
    def audio_codec(self) -> str:
        """The codec that clips are stored in, flac or wav; see `columns` for snapshots that do not say."""
        for column in self.columns:
            if column["name"] == "audio" and "codec" in column.get("settings", {}):
                return str(column["settings"]["codec"])
        schema = schema_of_first_tar(self.root, self.snapshot, self.commits)
        return str(schema.metadata[b"codec"].decode()) if schema is not None else "flac"

    @property
    def has_images(self) -> bool:
        """Whether clips have pictures; a field of the corpus can have their column's name where there are none."""
        return any(column.get("kind") == "image" for column in self.columns)

    @property
    def has_unlabelled(self) -> bool:
        """Whether there are clips without a label."""
        return "" in self.snapshot.seconds.clips_by_label

    def huggingface_features(self) -> dict[str, dict[str, Any]]:
        """Return the columns of the Parquet shards as `datasets` describes them."""
        found: dict[str, dict[str, Any]] = json.loads(self.schema.metadata[b"huggingface"])["info"]["features"]
        return found

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the Parquet shards, which all have the same.

        Raises
        ------
        ClipmillError : there are no clips, or a shard cannot be read
        """
        first = next((f for split in self.splits for f in self.shards(split)), None)
        if first is None:
            raise ClipmillError(f"{self.root.url}: snapshot {self.snapshot.number} has no clips")
        return schema_of_parquet(self.root, first.path)

    def check_columns(self, asked: Sequence[str], known: Sequence[str]) -> None:
        """Raise a ClipmillError where columns are none of those that a reader knows."""
        if isinstance(asked, str) or not isinstance(asked, Sequence):
            raise ClipmillError(f"columns is {asked!r}; give a list of names; there are {', '.join(known)}")
        if unknown := [c for c in asked if c not in known]:
            raise ClipmillError(f"{self.root.url}: there is no column {unknown[0]!r}; there are {', '.join(known)}")

    def shards(self, split: str, format: str = "parquet") -> list[OutputFile]:
        """Return the files of a split that hold clips, in the order of their names.

        Raises
        ------
        ClipmillError : there is no such split, or its shards are not stored in this format
        """
        if split not in self.splits:
            raise ClipmillError(f"{self.root.url}: {self._no_such_split(split)}")
        found = [(c, c.output(format)) for c in self.commits if c.split == split]
        if any(output is None for _, output in found):
            formats = sorted({o.format for c in self.commits for o in c.outputs} & {"parquet", "webdataset"})
            raise ClipmillError(
                f"{self.root.url}: its shards are stored as {', '.join(formats)}, not as {format}: add {format} to output.formats and"
                " build again, which makes the files from the committed clips"
            )
        return sorted((output for _, output in found if output is not None and output.rows), key=lambda o: o.path)

    def uris(self, split: str, format: str = "parquet") -> list[str]:
        """Return the addresses of a split's files: absolute paths, or s3://..."""
        return [self.root.uri(output.path) for output in self.shards(split, format)]

    def to_ray_dataset(self, split: str, columns: Sequence[str] | None = None) -> ray.data.Dataset:
        """Return a split as a Ray dataset, for `streaming_split` and Ray Train; a row a clip, as stored.

        columns : of the Parquet files, all by default

        Raises
        ------
        ClipmillError : as `shards` does
        """
        import ray.data

        outputs = self.shards(split)
        if not outputs:
            raise ClipmillError(f"{self.root.url}: split {split!r} has no clips")
        if columns is not None:
            self.check_columns(columns, self.schema.names)
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
    snapshot : its number, the newest by default
    storage_options : for fsspec, as in a configuration

    Raises
    ------
    ClipmillError : there is no dataset, or no such snapshot
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
