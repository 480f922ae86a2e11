"""CSV: one table a split, for spreadsheets, scripts and databases."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.export_format import Format
from clipmill.pipelines.read.clip_source import clip_rows
from clipmill.schemas.columns import measured_fields
from clipmill.schemas.label_columns import list_text
from clipmill.schemas.tables import manifest_schema

FORMAT = Format("one table per split: every clip, its fields, and the shard that contains it")

WriteRow = Callable[[dict[str, Any]], None]


def export(asked: Export) -> list[str]:
    """Write <split>.csv with a row a clip: the manifest's columns, its shard by its address.

    Several labels of a clip stand in one cell with commas between them, or as a JSON array if one of them holds a comma. Events are a JSON
    array.
    """
    written = []
    for split in asked.splits:
        with clip_table(asked, f"{split}.csv") as write:
            for row in clip_rows(asked.published, split, asked.where):
                row["shard"] = asked.published.root.uri(row["shard"])
                write(row)
        written.append(asked.target.uri(f"{split}.csv"))
    return written


@contextlib.contextmanager
def clip_table(
    asked: Export, path: str, first: Sequence[str] = (), without: Collection[str] = ()
) -> Iterator[WriteRow]:
    """Open a table of clips; yield the function that writes a row. The file appears when the block ends.

    first : names of columns in front of the manifest's
    without : columns of the manifest that are left out
    """
    snapshot = asked.published.snapshot
    measured = measured_fields(snapshot.columns)
    manifest = manifest_schema(snapshot.fields, snapshot.has_channel, measured, snapshot.label_lists)
    names = [*first, *(name for name in manifest.names if name not in without)]
    with asked.open(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        plain = csv.DictWriter(text, names, lineterminator="\n")
        quoted = csv.DictWriter(text, names, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writeheader()

        def write(row: dict[str, Any]) -> None:
            cells = {name: row[name] for name in names}
            cells |= {name: list_text(name, row[name]) for name in snapshot.label_lists if name in cells}
            # Readers take a carriage return for the end of a line, and the writer does not quote for it.
            alone = any("\r" in value for value in cells.values() if isinstance(value, str))
            (quoted if alone else plain).writerow(cells)

        yield write
        text.flush()
        text.detach()
