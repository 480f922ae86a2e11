"""CSV: one table a split, for spreadsheets, scripts and databases."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.export_format import Format
from clipmill.pipelines.read.clip_source import clip_rows
from clipmill.schemas.columns import measured_fields
from clipmill.schemas.label_columns import LABELS_COLUMN
from clipmill.schemas.tables import manifest_schema

FORMAT = Format("one table per split: every clip, its fields, and the shard that contains it")


def export(asked: Export) -> list[str]:
    """Write <split>.csv with a row a clip: the manifest's columns, its shard by its address.

    Several labels of a clip stand in one cell with commas between them, or as a JSON array if one of them holds a comma. Events are a JSON
    array.
    """
    written = []
    snapshot = asked.published.snapshot
    names = manifest_schema(
        snapshot.fields, snapshot.has_channel, measured_fields(snapshot.columns), snapshot.label_lists
    ).names
    for split in asked.splits:
        with asked.open(f"{split}.csv") as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
            plain = csv.DictWriter(text, names, lineterminator="\n")
            quoted = csv.DictWriter(text, names, lineterminator="\n", quoting=csv.QUOTE_ALL)
            plain.writeheader()
            for row in clip_rows(asked.published, split, asked.where):
                row["shard"] = asked.published.root.uri(row["shard"])
                row |= {name: list_text(name, row[name]) for name in snapshot.label_lists}
                # Readers take a carriage return for the end of a line, and the writer does not quote for it.
                alone = any("\r" in value for value in row.values() if isinstance(value, str))
                (quoted if alone else plain).writerow(row)
            text.flush()
            text.detach()
        written.append(asked.target.uri(f"{split}.csv"))
    return written


def list_text(name: str, values: list[Any] | None) -> str | None:
    """Return a list of a clip as the text of a cell; None stays None. Labels are what `label: {several: true}` reads back.

    name : of the column, labels | events
    """
    if values is None:
        return None
    is_plain = name == LABELS_COLUMN and not any({*",[\"'"} & {*label} or label != label.strip() for label in values)
    return ",".join(values) if is_plain else json.dumps(values, ensure_ascii=False)
