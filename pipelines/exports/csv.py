"""CSV: one table a split, for spreadsheets, scripts and databases."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from clipmill.pipelines.exports import Export
from clipmill.pipelines.read.clip_source import clip_rows
from clipmill.schemas.columns import measured_fields
from clipmill.schemas.tables import manifest_schema


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
                row |= {name: list_text(row[name]) for name in snapshot.label_lists}
                # Readers take a carriage return for the end of a line, and the writer does not quote for it.
                alone = any("\r" in value for value in row.values() if isinstance(value, str))
                (quoted if alone else plain).writerow(row)
            text.flush()
            text.detach()
        written.append(asked.target.uri(f"{split}.csv"))
    return written


def list_text(values: list[Any] | None) -> str | None:
    """Return a list of a clip as the text of a cell, which `label: {several: true}` reads back; None stays None."""
    if values is None:
        return None
    if all(
        isinstance(value, str) and not {",", "[", '"', "'"} & set(value) and value == value.strip() for value in values
    ):
        return ",".join(values)
    return json.dumps(values, ensure_ascii=False)
