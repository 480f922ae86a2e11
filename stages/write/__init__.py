"""Write the clips of one shard to its files, and check the sums that must hold before the shard may be committed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.schemas.errors import ClipmillError, DonorError, ItemRejectedError, OtherBytesError
from clipmill.schemas.keys import ConfigDigests, shard_key
from clipmill.schemas.label_columns import label_lists_in
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
from clipmill.schemas.statistics import Statistics
from clipmill.schemas.tables import CHANNEL_COLUMN, PCM_SHA256, RECORDINGS, manifest_schema, part_of_schema
from clipmill.stages.clip_buffer import ClipBuffer
from clipmill.stages.storage.checked import is_as_written
from clipmill.stages.storage.root import Root
from clipmill.stages.stored_clips import StoredClips
from clipmill.stages.write.audio_file import audio_file
from clipmill.stages.write.clip_sums import ShardStatistics
from clipmill.stages.write.encode import codec_of, encode
from clipmill.stages.write.ledger import Ledger, originals
from clipmill.stages.write.shard_files import Nowhere, ParquetFile, ShardFile, TarFile

_ROWS_PER_VIEW = 8  # shorter stretches are cheaper to copy


@dataclass(frozen=True)
class Write:
    """Write one shard from its tables of `clipmill.schemas.tables.CLIPS`, in order; return a `clipmill.schemas.records.Commit`.

    No file of a shard appears under its final name before all of its files are complete. A recording that is rejected at its end
    leaves no clip behind.

    root : of the dataset
    formats : parquet, webdataset
    audio_codec : flac | wav
    sample_format : of the clips' PCM, int16 | float32
    schema : `clipmill.schemas.tables.shard_schema`
    field_names : the corpus's own fields, aligned with the column `fields`
    feature_names : columns of features, each of which has a second column with shapes
    unsummed_names : those of them whose values no statistics are made of
    measured : columns of stages that hold one value per clip
    stage_of_reason : the section of the stage that rejects for a reason, by reason
    stored : the clip stages that work on stored clips, which tell what of the dropped clips is listed
    beside : columns that go into a file of their own, whose row i is about the clip in row i of the audio file
    versions, device : for the commit record
    digests : of the whole configuration and of what concerns clips, as used in the keys; for the commit record
    max_temporary_mb : space that the clips of one item may take on disk until the item has ended; None: no limit
    """

    root: Root
    formats: Sequence[str]
    audio_codec: str
    sample_format: str
    schema: pa.Schema
    field_names: Sequence[str]
    feature_names: Sequence[str]
    versions: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
    max_temporary_mb: int | None = None
    digests: ConfigDigests = ConfigDigests()  # noqa: RUF009 - it is frozen
    measured: Sequence[pa.Field] = ()
    stage_of_reason: Mapping[str, str] = field(default_factory=dict)
    stored: StoredClips | None = None
    unsummed_names: Sequence[str] = ()
    beside: Sequence[str] = ()

    identity: ClassVar[str] = "Write"
    version: ClassVar[int] = 2
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pyarrow", "soundfile")

    def __call__(
        self, plan: pa.Table, tables: Iterable[pa.Table], donor: Commit | None = None, expected: Commit | None = None
    ) -> Commit:
        """Write the shard that a plan describes, and return its commit.

        plan : rows of `clipmill.schemas.tables.PLAN`, all of one shard
        tables : its clips, in order
        donor : the committed shard that the clips were read from, None if they were made from recordings
        expected : the record of a damaged shard, whose files must come out with the same bytes; those that are not damaged are left alone

        Raises
        ------
        OtherBytesError : the files are not as expected; nothing was written
        DonorError : a clip of the donor is rejected now, and the reason cannot be told without its recording; nothing was written
        ClipmillError : the sums do not hold, which is a bug in a stage; nothing was written
        InputChangedError : recordings changed after they were planned; nothing was written
        ItemRejectedError : the clips of an item take too much temporary space; nothing was written
        StorageError : writing temporary files failed
        OSError : storage failed
        """
        ledger = Ledger(plan, self.stage_of_reason)
        whole = (
            frozenset(o.path for o in expected.outputs if is_as_written(self.root, o)) if expected else frozenset[str]()
        )
        audio = self._shared_audio(plan, donor)
        with (
            contextlib.ExitStack() as files,
            ClipBuffer() as buffer,
            self._parts(plan, files, whole, audio is None) as (parts, recordings),
        ):
            statistics = self._fill(parts, ledger, buffer, tables, plan["split"][0].as_py(), audio is None)
            statistics = replace(statistics, saturation=dict(sorted(ledger.saturation.items())))
            self._check(ledger, donor)
            recordings.add(pa.Table.from_pylist(ledger.recordings, schema=RECORDINGS))
            outputs = [part.finish() for part in (*parts, recordings)]
            if audio is not None:
                if audio.rows != ledger.counts.clips_stored:
                    raise DonorError(f"{audio.path} has other clips than the shard that is made of it")
                self.root.sync([audio.path])  # who wrote it may not have got as far
                outputs.insert(0, audio)
            if ledger.dropped_clips:
                outputs.append(self._write_dropped(plan["key"][0].as_py(), ledger.dropped_clips, files, whole))
            if expected is not None and _digests(outputs) != _digests(expected.outputs):
                raise OtherBytesError
        if expected is not None:
            return expected
        return self._commit(
            plan,
            outputs,
            ledger.counts,
            ledger.seconds,
            statistics,
            ledger.rejections,
            ledger.remarks,
            donor.key if donor is not None else None,
        )

    @staticmethod
    def _check(ledger: Ledger, donor: Commit | None) -> None:
        if donor is None:
            ledger.check()
            return
        try:
            ledger.check()
        except ClipmillError as error:
            raise DonorError(str(error)) from None
        if ledger.counts.clips_rejected != donor.counts.clips_rejected:
            raise DonorError(f"not all clips of shard {donor.key[:12]} are usable")

    def _audio_key(self, plan: pa.Table) -> str:
        """Return the key of all that the audio file depends on; empty where features lie in the shard."""
        split, partition = (plan[name][0].as_py() for name in ("split", "bucket"))
        config_digest = self.digests.audio_of(split)
        return shard_key(plan["item_digest"].to_pylist(), config_digest, split, partition) if config_digest else ""

    def _shared_audio(self, plan: pa.Table, donor: Commit | None) -> OutputFile | None:
        """Return the donor's audio file if it is this shard's as well."""
        key = self._audio_key(plan)
        return donor.output("parquet") if donor is not None and key and donor.audio_key == key else None

    def _write_dropped(
        self, key: str, tables: list[pa.Table], files: contextlib.ExitStack, whole: frozenset[str]
    ) -> OutputFile:
        """Write which clips were dropped by what was measured of them."""
        path = commit_dropped_path(key)
        part = ParquetFile("dropped", path, self._sink(path, files, whole), tables[0].schema)
        for table in tables:
            part.add(table)
        return part.finish()

    def _sink(self, path: str, files: contextlib.ExitStack, whole: frozenset[str]) -> Any:
        return Nowhere() if path in whole else files.enter_context(self.root.write(path))

    @contextlib.contextmanager
    def _parts(
        self, plan: pa.Table, files: contextlib.ExitStack, whole: frozenset[str], with_audio: bool
    ) -> Iterator[tuple[list[ShardFile], ShardFile]]:
        """Open the files of a shard, and yield those for clips and the one for recordings. On an error, close them unfinished.

        whole : paths of files that are there already
        with_audio : False if the audio file is there and need not be written
        """
        split, partition, key = (plan[name][0].as_py() for name in ("split", "bucket", "key"))
        names = [*(self.formats if with_audio else ()), *([BESIDE] if self.beside else []), "manifest"]
        parts = [self._open(name, split, partition, key, files, whole) for name in names]
        path = commit_recordings_path(key)
        recordings = ParquetFile("recordings", path, self._sink(path, files, whole), RECORDINGS)
        try:
            yield parts, recordings
        except BaseException:
            for part in (*parts, recordings):
                part.abandon()
            raise

    def _commit(
        self,
        plan: pa.Table,
        outputs: list[OutputFile],
        counts: Counts,
        seconds: Seconds,
        statistics: Statistics,
        rejections: list[dict[str, Any]],
        remarks: list[dict[str, Any]],
        donor: str | None = None,
    ) -> Commit:
        split, partition, key, clips_key = (plan[name][0].as_py() for name in ("split", "bucket", "key", "clips_key"))
        return Commit(
            key=key,
            split=split,
            bucket=partition,
            outputs=outputs,
            counts=counts,
            seconds=seconds,
            statistics=statistics,
            rejections=rejections,
            remarks=remarks,
            versions=self.versions,
            device=self.device,
            n_items=plan.num_rows,
            clips_key=clips_key,
            donor=donor,
            config_digest=self.digests.of(split)[0],
            clips_digest=self.digests.of(split)[1],
            has_pcm_sha256=True,
            audio_key=self._audio_key(plan),
            audio_digest=self.digests.audio_of(split),
        )

    def _fill(
        self,
        parts: list[ShardFile],
        ledger: Ledger,
        buffer: ClipBuffer,
        tables: Iterable[pa.Table],
        split: str,
        with_audio: bool,
    ) -> Statistics:
        """Write all clips, item by item; return the statistics of those that were written."""
        statistics = ShardStatistics([name for name in self.feature_names if name not in self.unsummed_names])
        schema = self.schema if with_audio else part_of_schema(self.schema, {*self.schema.names} - {"audio"})
        for item, rows, is_last in _by_item(tables):
            if (start := ledger.voided_until(rows)) is not None:
                buffer.clear()
                rows = rows.slice(start)
            clips = _clips(rows)
            ledger.count(item, rows, clips)
            if self.stored is not None and (listed := self.stored.dropped_clips(rows)).num_rows:
                ledger.list_dropped(listed)
            if clips.num_rows:
                buffer.add(self._encoded(clips, split, schema))
                self._check_space(item, buffer)
            if is_last:
                ledger.end(item)
                for table in buffer.release():
                    statistics.add(originals(table))
                    for part in parts:
                        part.add(table)
        return statistics.finish()

    def _check_space(self, item: str, buffer: ClipBuffer) -> None:
        if self.max_temporary_mb is not None and buffer.size_bytes > self.max_temporary_mb * 1_000_000:
            detail = f"its clips take more than {self.max_temporary_mb} MB of temporary space (limits.max_temporary_mb)"
            raise ItemRejectedError(item, "recording_too_long", detail)

    def _open(
        self, name: str, split: str, partition: str, key: str, files: contextlib.ExitStack, whole: frozenset[str]
    ) -> ShardFile:
        if name == "manifest":
            path = commit_manifest_path(key)
            has_channel = CHANNEL_COLUMN in self.schema.names and CHANNEL_COLUMN not in self.field_names
            lists = label_lists_in(self.schema, self.field_names)
            every = manifest_schema(self.field_names, has_channel, self.measured, lists)
            fields = [f for f in every if f.name != "shard"]
            manifest = pa.schema([*fields, PCM_SHA256])
            return ParquetFile(name, path, self._sink(path, files, whole), manifest)
        if name == BESIDE:
            path = beside_path(split, partition, key)
            own = part_of_schema(self.schema, ("clip_id", *self.beside))
            return ParquetFile(name, path, self._sink(path, files, whole), own)
        if self.digests.audio:
            own = part_of_schema(self.schema, {*self.schema.names} - {*self.beside})
            return files.enter_context(audio_file(self.root, split, partition, own))
        path = shard_path(split, partition, key, EXTENSIONS[name])
        sink = self._sink(path, files, whole)
        if name == "parquet":
            return ParquetFile(name, path, sink, self.schema)
        lists = label_lists_in(self.schema, self.field_names)
        return TarFile(path, sink, self.schema.names, self.feature_names, lists)

    def _encoded(self, clips: pa.Table, split: str, schema: pa.Schema) -> pa.Table:
        """Return clips as rows of the shard and its manifest: audio encoded unless it already is, and a column for each field."""
        pcm = clips["pcm"].combine_chunks()
        fields = [row or [] for row in clips["fields"].to_pylist()]
        extra = {name: [row[i] if i < len(row) else None for row in fields] for i, name in enumerate(self.field_names)}
        # Features stay views. Other columns are copied, since a view would keep all PCM of its table in memory.
        every_row = np.arange(clips.num_rows)
        columns = []
        for column in schema:
            if column.name == "audio":
                columns.append(self._audio(clips, pcm, column))
            elif column.name == "split":
                columns.append(pa.array([split] * clips.num_rows, pa.string()))
            elif column.name in extra:
                columns.append(pa.array(extra[column.name], pa.string()))
            elif pa.types.is_nested(column.type):
                columns.append(clips[column.name].cast(column.type))
            else:
                columns.append(clips[column.name].cast(column.type).take(every_row))
        hashes = [hashlib.sha256(pcm[i].as_buffer()).hexdigest() for i in range(clips.num_rows)]
        return pa.table([*columns, pa.array(hashes, PCM_SHA256.type)], schema=schema.append(PCM_SHA256))

    def _audio(self, clips: pa.Table, pcm: pa.Array, column: pa.Field) -> pa.Array:
        """Return the clips as audio files; those of a donor as they are."""
        rates, channels = clips["sample_rate_hz"].to_pylist(), clips["n_channels"].to_pylist()
        encoded = clips["encoded"].to_pylist() if "encoded" in clips.column_names else None
        content, names = [], []
        for i, clip_id in enumerate(clips["clip_id"].to_pylist()):
            codec = codec_of(self.audio_codec, channels[i])
            if encoded is not None and encoded[i]["codec"] == codec:
                content.append(encoded[i]["bytes"])
            else:
                content.append(encode(memoryview(pcm[i].as_buffer()), self.sample_format, channels[i], rates[i], codec))
            names.append(f"{clip_id}.{codec}")
        parts = [pa.array(content, pa.binary()), pa.array(names, pa.string())]
        return pa.StructArray.from_arrays(parts, fields=list(column.type))


def _digests(outputs: Iterable[OutputFile]) -> dict[str, str]:
    return {output.path: output.sha256 for output in outputs}


def _clips(rows: pa.Table) -> pa.Table:
    """Return the rows that are clips, as views where they are adjacent: a filter would copy their features."""
    is_clip = np.concatenate([[False], pc.equal(rows["status"], "clip").to_numpy(), [False]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(is_clip)).reshape(-1, 2)
    if len(edges) > rows.num_rows // _ROWS_PER_VIEW + 1:
        return rows.filter(pc.equal(rows["status"], "clip"))
    return pa.concat_tables([rows.slice(0, 0), *(rows.slice(start, stop - start) for start, stop in edges.tolist())])


def _by_item(tables: Iterable[pa.Table]) -> Iterator[tuple[str, pa.Table, bool]]:
    """Yield (item id, rows, whether the item ends with them) for each stretch of rows of one item."""
    for table in tables:
        ids = table["item_id"].to_pylist()
        last = table["last"].to_pylist()
        start = 0
        for i in range(len(ids)):
            if i + 1 == len(ids) or ids[i + 1] != ids[i]:
                yield ids[i], table.slice(start, i + 1 - start), any(last[start : i + 1])
                start = i + 1
