"""Reread: read the clips of a committed shard, for a shard that differs from it only in features, pictures or file formats."""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf

from clipmill.schemas.account import Account
from clipmill.schemas.errors import DonorError
from clipmill.schemas.records import Commit, OutputFile
from clipmill.schemas.tables import CHANNEL_COLUMN, CLIPS, manifest_schema
from clipmill.stages.arrow_rows import replace_column
from clipmill.stages.closing_rows import ClosingRows
from clipmill.stages.storage.checked import open_checked, read_checked
from clipmill.stages.storage.parquet_tables import read_parquet
from clipmill.stages.storage.root import Root
from clipmill.stages.stored_clips import StoredClips
from clipmill.stages.write.encode import decode_clip

TABLE_ROWS = 256
_ENCODED = pa.struct([("codec", pa.string()), ("bytes", pa.binary())])
_STORED = [n for n in manifest_schema([]).names if n not in ("split", "shard")]
SCHEMA = CLIPS.append(pa.field("encoded", _ENCODED))
"""Clips with their stored audio files."""


@dataclass(frozen=True)
class Reread:
    """Read the clips of a committed shard. Takes its `clipmill.schemas.records.Commit` and yields tables of `schema`.

    The tables have what the recordings gave when the shard was built: its clips in their order, with their PCM, bit for bit, and the
    stored audio file, and behind the clips of each item what was dropped or rejected of it, and its account. Clips that were dropped
    by what was measured of them have the rule that applies to them now. The shard's files are hashed first.

    root : of the dataset
    sample_format : of the clips' PCM, int16 | float32
    field_names : the corpus's own fields
    fields : columns of clip stages that the stored clips have, which are kept
    label_lists : the columns of several labels that the clips have
    has_channel : whether the clips have a column `channel`; otherwise a field may have this name
    stored : the clip stages that work on stored clips
    """

    root: Root
    sample_format: str
    field_names: Sequence[str]
    has_channel: bool = False
    fields: Sequence[pa.Field] = ()
    stored: StoredClips = StoredClips({}, {})  # noqa: RUF009 - it is frozen
    label_lists: Sequence[str] = ()

    version: ClassVar[int] = 1

    @property
    def schema(self) -> pa.Schema:
        """Return the schema of the tables that it yields."""
        plain = [field.remove_metadata() for field in self.fields]
        listed = [f for f in self.stored.schema if f.name not in {g.name for g in (*SCHEMA, *plain)}]
        return pa.schema([*SCHEMA, *plain, *listed])

    def __call__(self, commit: Commit) -> Iterator[pa.Table]:
        """Yield the rows of a shard, in tables of at most `TABLE_ROWS` rows.

        Raises
        ------
        DonorError : a file is missing or differs from the committed one, or does not say enough for the shard that is to be made
        """
        rows: list[dict[str, Any]] = []
        try:
            for row in self._rows(commit):
                rows.append(row)
                if len(rows) == TABLE_ROWS:
                    yield pa.Table.from_pylist(rows, schema=self.schema)
                    rows = []
        except (
            FileNotFoundError,
            sf.LibsndfileError,
            pa.ArrowInvalid,
            tarfile.TarError,
            KeyError,
            ValueError,
        ) as error:
            raise DonorError(f"shard {commit.key[:12]} cannot be read again: {error}") from None
        if rows:
            yield pa.Table.from_pylist(rows, schema=self.schema)

    def dropped(self, commit: Commit) -> pa.Table | None:
        """Return the clips that a shard dropped by what was measured of them; None if there are none.

        `rule` is the rule that applies to a clip now, null if the clip may be kept now; `rule_then` is the one in the shard's records.

        Raises
        ------
        DonorError : the file is missing or differs from the committed one
        """
        if commit.output("dropped") is None:
            return None
        table = self.stored.completed(self._table(commit, "dropped"))
        table = table.append_column("rule_then", table["rule"])
        return replace_column(table, "rule", self.stored.rules_of(table))

    def _rows(self, commit: Commit) -> Iterator[dict[str, Any]]:
        items = self._table(commit, "recordings").to_pylist()
        closing = ClosingRows(commit, items, self.dropped(commit))
        clips = self._clip_rows(commit)
        for item in items:
            account = self._account(closing, item)
            # Older records do not say which clips the saturated samples are in, which is of no consequence if all clips stay.
            elsewhere = account.saturation.n_saturated - sum(account.saturated_clips.values())
            for i in range(account.counts.clips_stored):
                row = next(clips, None)
                if row is None:
                    raise DonorError(f"shard {commit.key[:12]} has fewer clips than its record says")
                clip = self._clip(row, item["item_id"])
                n_saturated = account.saturated_clips.get(clip["clip_id"], 0) + (0 if i else elsewhere)
                yield {**clip, "saturated_samples": n_saturated}
            yield from closing.rows(item, account)

    def _account(self, closing: ClosingRows, item: dict[str, Any]) -> Account:
        account = closing.account(item)
        if account.saturation.n_saturated and not account.saturated_clips and any(self.stored.stages.values()):
            raise DonorError(f"{item['item_id']}: which of its clips are saturated was not recorded")
        return account

    def _table(self, commit: Commit, format: str) -> pa.Table:
        try:
            return read_parquet(read_checked(self.root, self._output(commit, format)))
        except (FileNotFoundError, ValueError, pa.ArrowException) as error:
            raise DonorError(f"the {format} of shard {commit.key[:12]} cannot be read: {error}") from None

    @staticmethod
    def _output(commit: Commit, *formats: str) -> OutputFile:
        output = commit.output(*formats)
        if output is None:
            raise DonorError(f"shard {commit.key[:12]} has no file of {' or '.join(formats)}")
        return output

    def _clip_rows(self, commit: Commit) -> Iterator[dict[str, Any]]:
        output = self._output(commit, "parquet", "webdataset")
        with contextlib.closing(open_checked(self.root, output)) as stream:
            if output.format == "parquet":
                yield from self._parquet_rows(stream)
            else:
                yield from self._tar_rows(stream)

    def _parquet_rows(self, stream: Any) -> Iterator[dict[str, Any]]:
        file = pq.ParquetFile(stream, pre_buffer=False)
        kept = {"audio", *self.label_lists, *(field.name for field in self.fields)}
        plain = [f.name for f in file.schema_arrow if f.name in kept or not pa.types.is_nested(f.type)]
        for batch in file.iter_batches(batch_size=TABLE_ROWS, columns=plain, use_threads=False):
            yield from batch.to_pylist()

    @staticmethod
    def _tar_rows(stream: Any) -> Iterator[dict[str, Any]]:
        audio: dict[str, Any] = {}
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                extension = member.name.split(".", 1)[1]
                if extension not in ("flac", "wav", "json"):
                    continue
                file = tar.extractfile(member)
                content = file.read() if file is not None else b""
                if extension == "json":
                    yield {**json.loads(content), "audio": audio}
                else:
                    audio = {"bytes": content, "path": member.name}

    def _clip(self, row: dict[str, Any], item_id: str) -> dict[str, Any]:
        content = row["audio"]["bytes"]
        y, _ = decode_clip(content)
        dtype = "<i2" if self.sample_format == "int16" else "<f4"
        if y.dtype != np.dtype(dtype):
            raise ValueError(f"clip {row['clip_id']} has {y.dtype} samples, not {dtype}")
        codec = row["audio"]["path"].rsplit(".", 1)[-1]
        return {
            **{name: row[name] for name in _STORED},
            **{field.name: row[field.name] for field in self.fields},
            "item_id": item_id,
            **{name: row[name] for name in self.label_lists},
            CHANNEL_COLUMN: row[CHANNEL_COLUMN] if self.has_channel else None,
            "fields": [row[name] for name in self.field_names],
            "status": "clip",
            "level_dbfs": float("-inf") if row["level_dbfs"] is None else row["level_dbfs"],
            "pcm": np.ascontiguousarray(y, dtype=dtype).tobytes(),
            "encoded": {"codec": codec, "bytes": content},
        }
