"""CSV: one table a split, for spreadsheets, scripts and databases."""

from __future__ import annotations

import csv
import io

from clipmill.pipelines.exports import Export
from clipmill.pipelines.read.clip_source import clip_rows
from clipmill.schemas.columns import measured_fields
from clipmill.schemas.tables import manifest_schema


def export(asked: Export) -> list[str]:
    """Write <split>.csv with a row a clip: the manifest's columns, its shard by its address."""
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
                # Readers take a carriage return for the end of a line, and the writer does not quote for it.
                alone = any("\r" in value for value in row.values() if isinstance(value, str))
                (quoted if alone else plain).writerow(row)
            text.flush()
            text.detach()
        written.append(asked.target.uri(f"{split}.csv"))
    return written
