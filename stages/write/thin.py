"""Make a shard without some recordings of a committed one, from its files alone.

Audio, pictures, features and metadata of the other recordings are copied with the writers that wrote them, so the files are those of a
shard that never had the removed recordings. No recording is opened, and only the statistics are computed.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmill.schemas.account import Account
from clipmill.schemas.errors import DonorError
from clipmill.schemas.keys import clips_digest_of, digest, shard_key
from clipmill.schemas.layout import (
    BESIDE,
    EXTENSIONS,
    beside_path,
    commit_dropped_path,
    commit_manifest_path,
    commit_recordings_path,
    shard_path,
)
from clipmill.schemas.records import Commit, Counts, OutputFile, Seconds
from clipmill.schemas.statistics import Saturation, Statistics
from clipmill.schemas.tables import AUGMENTED_FROM, RECORDINGS
from clipmill.stages.arrow_rows import float_lists
from clipmill.stages.storage.parquet_tables import read_parquet
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.versions import sha256_of
from clipmill.stages.write.audio_file import audio_file
from clipmill.stages.write.clip_sums import ShardStatistics
from clipmill.stages.write.ledger import originals
from clipmill.stages.write.shard_files import ParquetFile, ShardFile, TarFile

_ROWS = 100
_SHAPE = "_shape"


@dataclass(frozen=True)
class ThinnedShard:
    """A new shard. is_exact : its key and sums equal those of a build without the removed recordings

    If it is not exact, the old shard was written by a version of clipmill that did not store each recording's part of the sums. Then
    annotations, dropped clips and decoded seconds of the removed recordings are still counted, and the next build makes the shard
    again from its recordings.
    """

    commit: Commit
    is_exact: bool


@dataclass(frozen=True)
class Thin:
    """Makes a shard from a committed one, without some recordings. No file appears before all of the shard's files are complete.

    root : of the dataset
    removed_ids : ids of the recordings to leave out
    """

    root: Root
    removed_ids: frozenset[str]

    def remaining_rows(self, commit: Commit) -> pa.Table:
        """Return the rows of a shard's `clipmill.schemas.tables.RECORDINGS` that remain; columns that an older shard lacks are null.

        Raises
        ------
        DonorError : the table is missing or differs from the one that was committed
        """
        output = commit.output("recordings")
        if output is None:
            raise DonorError(
                f"shard {commit.key[:12]} was built by an older version of clipmill and has no table of its recordings"
            )
        self._check(commit, output)
        with contextlib.closing(self.root.open_read(output.path)) as stream:
            table = read_parquet(stream)
        for name in RECORDINGS.names[table.num_columns :]:
            table = table.append_column(RECORDINGS.field(name), pa.nulls(table.num_rows, pa.string()))
        return table.filter(self._is_kept(table["recording_id"]))

    def key_of(self, commit: Commit, kept: pa.Table) -> tuple[str, str, bool]:
        """Return the key and the clips key of the shard with the remaining items, and whether a plan without the others has the same."""
        digests = kept["item_digest"].to_pylist()
        if not commit.config_digest or None in digests:
            return digest([commit.key, "without", sorted(kept["item_id"].to_pylist())]), "", False
        key = shard_key(digests, commit.config_digest, commit.split, commit.bucket)
        # Clips that do not follow from the plan alone have no key, and get none here.
        clips = (
            shard_key(map(clips_digest_of, digests), commit.clips_digest, commit.split, commit.bucket)
            if commit.clips_key
            else ""
        )
        return key, clips, True

    def __call__(self, commit: Commit, kept: pa.Table) -> ThinnedShard:
        """Write the shard. kept : the result of `remaining_rows`, with at least one row

        Raises
        ------
        DonorError : a file is missing or differs from the one that was committed
        OSError : storage failed
        """
        key, clips_key, is_exact = self.key_of(commit, kept)
        with contextlib.ExitStack() as files:
            statistics: Statistics | None = None
            outputs: list[OutputFile] = []
            parts: list[ShardFile] = []
            try:
                for output in commit.outputs:
                    if output.format in ("recordings", "dropped"):
                        continue
                    self._check(commit, output)
                    if output.format == BESIDE:
                        part, copied = self._copy_beside(commit, output, key, files)
                    else:
                        part, copied = self._copy(commit, output, key, files, statistics is None)
                    parts.append(part)
                    statistics = copied if copied is not None else statistics
                path = commit_recordings_path(key)
                sheet = ParquetFile("recordings", path, files.enter_context(self.root.write(path)), RECORDINGS)
                parts.append(sheet)
                sheet.add(kept)
                parts += self._copy_dropped(commit, key, files)
                outputs = [part.finish() for part in parts]
            except (FileNotFoundError, pa.ArrowInvalid, tarfile.TarError, KeyError, ValueError) as error:
                _abandon(parts)
                raise DonorError(f"shard {commit.key[:12]} cannot be read: {error}") from None
            except BaseException:
                _abandon(parts)
                raise
        new_commit = replace(
            commit, key=key, clips_key=clips_key, audio_key=_audio_key(commit, kept), outputs=outputs, n_items=kept.num_rows,
            donor=commit.key,
            rejections=[r for r in commit.rejections if r["recording_id"] not in self.removed_ids],
            remarks=[r for r in commit.remarks if r["recording_id"] not in self.removed_ids],
        )  # fmt: skip
        if kept["account"].null_count:
            return ThinnedShard(self._with_sums_of_files(new_commit, commit, statistics or Statistics()), False)
        return ThinnedShard(_with_sums(new_commit, kept, statistics or Statistics()), is_exact)

    def _is_kept(self, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.invert(pc.is_in(ids, pa.array(sorted(self.removed_ids), pa.string())))

    def _check(self, commit: Commit, output: OutputFile) -> None:
        try:
            if sha256_of(self.root, output.path) == output.sha256:
                return
        except FileNotFoundError:
            pass
        raise DonorError(f"{self.root.uri(output.path)} of shard {commit.key[:12]} is missing or damaged")

    def _copy(
        self, commit: Commit, output: OutputFile, key: str, files: contextlib.ExitStack, with_statistics: bool
    ) -> tuple[ShardFile, Statistics | None]:
        """Copy the remaining rows of one file; return the new file, not finished, and statistics if it has all data for them."""
        is_manifest = output.format == "manifest"
        path = (
            commit_manifest_path(key)
            if is_manifest
            else shard_path(commit.split, commit.bucket, key, EXTENSIONS[output.format])
        )
        part: ParquetFile
        with contextlib.closing(self.root.open_read(output.path)) as stream:
            if output.format == "webdataset":
                return self._copy_tar(commit, path, stream, files, with_statistics)
            file = pq.ParquetFile(stream, pre_buffer=False)
            schema = _as_written(file.schema_arrow)
            if commit.audio_key and not is_manifest:
                part = files.enter_context(audio_file(self.root, commit.split, commit.bucket, schema))
            else:
                part = ParquetFile(output.format, path, files.enter_context(self.root.write(path)), schema)
            names = [name for name in _features_of(schema) if _is_summed(commit, name)]
            sums = ShardStatistics(names) if with_statistics and not is_manifest else None
            for batch in file.iter_batches(batch_size=_ROWS, use_threads=False):
                rows = pa.Table.from_batches([batch]).cast(schema)
                rows = rows.filter(self._is_kept(rows["recording_id"]))
                if rows.num_rows:
                    part.add(rows)
                    if sums is not None:
                        sums.add(originals(rows))
            return part, sums.finish() if sums is not None else None

    def _copy_beside(
        self, commit: Commit, output: OutputFile, key: str, files: contextlib.ExitStack
    ) -> tuple[ShardFile, Statistics | None]:
        """Copy what lies beside the remaining clips; return the new file, not finished, and statistics.

        Rows do not name their recordings: those of the manifest do, which are about the same clips in the same order.
        """
        manifest = commit.output("manifest")
        if manifest is None:
            raise DonorError(f"shard {commit.key[:12]} has no manifest")
        self._check(commit, manifest)
        with contextlib.closing(self.root.open_read(manifest.path)) as stream:
            clips = read_parquet(stream)
        path = beside_path(commit.split, commit.bucket, key)
        with contextlib.closing(self.root.open_read(output.path)) as stream:
            file = pq.ParquetFile(stream, pre_buffer=False)
            schema = _as_written(file.schema_arrow)
            part = ParquetFile(output.format, path, files.enter_context(self.root.write(path)), schema)
            names = [name for name in _features_of(schema) if _is_summed(commit, name)]
            sums, start = ShardStatistics(names), 0
            for batch in file.iter_batches(batch_size=_ROWS, use_threads=False):
                rows = pa.Table.from_batches([batch]).cast(schema)
                about = clips.slice(start, rows.num_rows)
                start += rows.num_rows
                if rows["clip_id"].to_pylist() != about["clip_id"].to_pylist():
                    raise ValueError(f"{output.path} is not about the clips of its shard")
                is_kept = self._is_kept(about["recording_id"])
                rows = rows.filter(is_kept)
                if rows.num_rows:
                    part.add(rows)
                    counted = [name for name in ("duration_s", AUGMENTED_FROM) if name in about.column_names]
                    for name in counted:
                        rows = rows.append_column(name, about[name].filter(is_kept))
                    sums.add(originals(rows))
        return part, sums.finish()

    def _copy_dropped(self, commit: Commit, key: str, files: contextlib.ExitStack) -> list[ShardFile]:
        """Copy the remaining rows of the dropped clips; return the new file, not finished, or nothing if no rows remain."""
        output = commit.output("dropped")
        if output is None:
            return []
        self._check(commit, output)
        with contextlib.closing(self.root.open_read(output.path)) as stream:
            rows = read_parquet(stream)
        rows = rows.cast(_as_written(rows.schema)).filter(self._is_kept(rows["recording_id"]))
        if not rows.num_rows:
            return []
        path = commit_dropped_path(key)
        part = ParquetFile("dropped", path, files.enter_context(self.root.write(path)), rows.schema)
        part.add(rows)
        return [part]

    def _copy_tar(
        self, commit: Commit, path: str, stream: Any, files: contextlib.ExitStack, with_statistics: bool
    ) -> tuple[ShardFile, Statistics | None]:
        part = TarFile(path, files.enter_context(self.root.write(path)), [], [])
        sums: ShardStatistics | None = None
        for members in _samples(stream):
            row = json.loads(next(content for name, content in members.items() if name.endswith(".json")))
            if row["recording_id"] in self.removed_ids:
                continue
            part.copy(members)
            if with_statistics:
                features = {
                    n.split(".", 1)[1].removesuffix(".npy"): c for n, c in members.items() if n.endswith(".npy")
                }
                features = {name: content for name, content in features.items() if _is_summed(commit, name)}
                sums = sums or ShardStatistics(list(features))
                if row.get(AUGMENTED_FROM) is None:
                    sums.add(_row_of(row, features))
        if not with_statistics:
            return part, None
        return part, (sums or ShardStatistics([])).finish()

    def _with_sums_of_files(self, commit: Commit, old: Commit, statistics: Statistics) -> Commit:
        """Return the commit with sums derived from the files. Sums that no file has by recording stay as they were."""
        path = commit_manifest_path(commit.key)
        with contextlib.closing(self.root.open_read(path)) as stream:
            clips = read_parquet(stream, ["label", "duration_s"])
        by_label: dict[str, float] = {}
        clips_by_label: Counter[str] = Counter()
        for label, duration in zip(clips["label"].to_pylist(), clips["duration_s"].to_pylist(), strict=True):
            by_label[label or ""] = by_label.get(label or "", 0.0) + duration
            clips_by_label[label or ""] += 1
        n_by_kind = Counter(row["kind"] for row in commit.rejections)
        n_by_reason = Counter(row["reason"] for row in commit.rejections)
        n_clips_rejected = sum(n for kind, n in n_by_kind.items() if kind not in ("recording", "span", "annotation"))
        rejected_ids = {r["recording_id"] for r in old.rejections if r["kind"] == "recording"}
        with contextlib.closing(self.root.open_read(old.output("recordings").path)) as stream:  # type: ignore[union-attr]
            items = read_parquet(stream, ["item_id", "recording_id"]).to_pylist()
        n_removed = sum(
            row["recording_id"] in self.removed_ids - rejected_ids
            and row["item_id"] in (row["recording_id"], f"{row['recording_id']}#0")
            for row in items
        )
        counts = replace(
            old.counts,
            recordings_used=old.counts.recordings_used - n_removed,
            recordings_rejected=n_by_kind["recording"],
            spans_rejected=n_by_kind["span"],
            annotations_rejected=n_by_kind["annotation"],
            clips_kept=clips.num_rows,
            clips_rejected=n_clips_rejected,
            clips_candidates=clips.num_rows + old.counts.clips_dropped + n_clips_rejected,
            rejected=dict(sorted(n_by_reason.items())),
            remarked=_count_remarks(commit),
        )
        seconds = replace(
            old.seconds,
            kept_s=sum(by_label.values()),
            by_label=dict(sorted(by_label.items())),
            clips_by_label=dict(sorted(clips_by_label.items())),
        )
        return replace(commit, counts=counts, seconds=seconds, statistics=replace(statistics, saturation={}))


def _with_sums(commit: Commit, kept: pa.Table, statistics: Statistics) -> Commit:
    """Return the commit with sums over the remaining items, added in order as when a shard is built."""
    counts, seconds = Counts(), Seconds()
    saturation: dict[str, Saturation] = {}
    for recording, text in zip(kept["recording_id"].to_pylist(), kept["account"].to_pylist(), strict=True):
        account = Account.from_json(text)
        counts += account.counts
        seconds += account.seconds
        if account.saturation.clips:
            source = recording.split("/", 1)[0]
            saturation[source] = saturation.get(source, Saturation()) + account.saturation
    counts = replace(counts, remarked=_count_remarks(commit))
    statistics = replace(statistics, saturation=dict(sorted(saturation.items())))
    return replace(commit, counts=counts, seconds=seconds, statistics=statistics)


def _is_summed(commit: Commit, name: str) -> bool:
    """Return whether statistics were made of a feature: of all, where a shard's record is from before there were any."""
    return not commit.statistics.lengths.clips or name in commit.statistics.features


def _as_written(schema: pa.Schema) -> pa.Schema:
    """Return the schema with which a file was written. Reading renames the values of lists, and the name is part of the bytes."""
    fields = [pa.field(f.name, pa.list_(f.type.value_type)) if pa.types.is_list(f.type) else f for f in schema]
    return pa.schema(fields, metadata=schema.metadata)


def _features_of(schema: pa.Schema) -> list[str]:
    return [f.name for f in schema if pa.types.is_list(f.type) and f"{f.name}{_SHAPE}" in schema.names]


def _audio_key(commit: Commit, kept: pa.Table) -> str:
    """Return the key of the audio file of the remaining items; empty where features lie in the shard."""
    digests = kept["item_digest"].to_pylist()
    if not commit.audio_digest or None in digests:
        return ""
    return shard_key(digests, commit.audio_digest, commit.split, commit.bucket)


def _abandon(parts: list[ShardFile]) -> None:
    """Close files without finishing them."""
    for part in parts:
        part.abandon()


def _count_remarks(commit: Commit) -> dict[str, int]:
    """Return the number of remarks by code."""
    counts: dict[str, int] = {}
    for row in commit.remarks:
        counts[row["code"]] = counts.get(row["code"], 0) + 1
    return dict(sorted(counts.items()))


def _samples(stream: Any) -> Iterator[dict[str, bytes]]:
    """Yield the members of each sample of a tar: contents by name, in their order."""
    members: dict[str, bytes] = {}
    key = None
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            file = tar.extractfile(member)
            stem = member.name.split(".", 1)[0]
            if stem != key and members:
                yield members
                members = {}
            key = stem
            members[member.name] = file.read() if file is not None else b""
    if members:
        yield members


def _row_of(row: dict[str, Any], features: dict[str, bytes]) -> pa.Table:
    """Return a table of one clip with the columns that statistics need."""
    columns: dict[str, Any] = {"duration_s": pa.array([row["duration_s"]], pa.float64())}
    for name, content in features.items():
        values = np.load(io.BytesIO(content), allow_pickle=False)
        columns[name] = float_lists([values.reshape(-1)], str(values.dtype))
        columns[f"{name}{_SHAPE}"] = pa.array([list(values.shape)], pa.list_(pa.int32()))
    return pa.table(columns)
