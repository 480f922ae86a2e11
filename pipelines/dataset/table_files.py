"""Write the manifest or the rejections of a snapshot as one file, for programs that read a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.dataset.shard_set import schema_of_manifest
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.label_columns import list_text
from clipmill.schemas.layout import OWN_FILES
from clipmill.schemas.tables import REJECTIONS
from clipmill.stages.storage.root import Root

_KINDS = (".parquet", ".csv")


def write_manifest(published: Published, path: str) -> int:
    """Write a snapshot's manifest, a row a clip, and return the number of rows. path : of a local file, *.parquet or *.csv

    Raises
    ------
    ConfigError : the file's name has another ending
    ClipmillError : the snapshot's manifest is damaged
    OSError : the file cannot be written
    """
    if published.snapshot.format_version == 1:
        return _write(published.root, [published.manifest()], None, path)
    parts = (part.table("manifest") for part in published.parts)
    return _write(published.root, parts, schema_of_manifest(published.snapshot), path)


def write_rejections(published: Published, path: str) -> int:
    """Write what a snapshot rejected, a row a thing, and return the number of rows. Parameters and errors as for `write_manifest`."""
    return _write(published.root, [published.rejections()], REJECTIONS, path)


def _write(root: Root, tables: Iterator[pa.Table] | list[pa.Table], schema: pa.Schema | None, path: str) -> int:
    place = Path(os.path.abspath(os.path.expanduser(path)))
    if root.is_local and OWN_FILES.fullmatch(os.path.relpath(os.path.realpath(place), os.path.realpath(root.full()))):
        raise ConfigError(f"{path} is a file of the dataset itself; give another name", code="usage")
    if place.suffix not in _KINDS:
        raise ConfigError(f"{path}: give a name that ends in {' or '.join(_KINDS)}", code="usage")
    tables = iter(tables)
    if schema is None:
        first = next(tables)
        schema, tables = first.schema, iter([first])
    n_rows = 0
    csv = place.suffix == ".csv"
    written = _of_cells(schema) if csv else schema
    with (
        Root(str(place.parent)).write(place.name) as stream,
        pacsv.CSVWriter(stream, written) if csv else pq.ParquetWriter(stream, written, compression="zstd") as writer,
    ):
        for table in tables:
            own = table.cast(schema)
            writer.write_table(_as_cells(own) if csv else own)
            n_rows += table.num_rows
    return n_rows


def _of_cells(schema: pa.Schema) -> pa.Schema:
    """Return the schema of the same table as CSV, which has no lists."""
    return pa.schema([pa.field(f.name, pa.string()) if pa.types.is_list(f.type) else f for f in schema])


def _as_cells(table: pa.Table) -> pa.Table:
    """Return a table in which lists are text, as in the export to CSV."""
    for i, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            cells = [list_text(field.name, values) for values in table[field.name].to_pylist()]
            table = table.set_column(i, field.name, pa.array(cells, pa.string()))
    return table
