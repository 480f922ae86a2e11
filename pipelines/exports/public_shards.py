"""Shards for others: as they are, or without the addresses of the recordings that they were made of."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.exports import Export
from clipmill.schemas.layout import BESIDE
from clipmill.schemas.records import OutputFile
from clipmill.stages.storage.checked import open_checked

_ADDRESS = "source_uri"


def write_shard(asked: Export, output: OutputFile, path: Path, with_addresses: bool) -> None:
    """Write a Parquet shard to a local file, checked while it is read.

    with_addresses : have it byte for byte; otherwise `source_uri` is null in all rows, and everything else is as it is. A file beside a
        shard has no addresses, and comes byte for byte

    Raises
    ------
    ClipmillError : the shard is missing or damaged
    """
    root = asked.published.root
    with legible(root, output.path), contextlib.closing(open_checked(root, output)) as stream:
        if with_addresses or output.format == BESIDE:
            with path.open("wb") as sink:
                shutil.copyfileobj(stream, sink, 1 << 20)
            return
        file = pq.ParquetFile(stream, pre_buffer=False)
        schema = file.schema_arrow
        place = schema.get_field_index(_ADDRESS)
        text = [f.name for f in schema if pa.types.is_string(f.type) and f.name != "clip_id"]
        with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, use_dictionary=text) as writer:
            for group in range(file.metadata.num_row_groups):
                table = file.read_row_group(group, use_threads=False)
                if place >= 0:
                    table = table.set_column(place, schema.field(place), pa.nulls(table.num_rows, pa.string()))
                writer.write_table(table, row_group_size=max(1, table.num_rows))


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a local file, as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
