"""CSV: one table a split, for spreadsheets, scripts and databases."""

from __future__ import annotations

import csv
import io

from pipelines.clip_source import clip_rows
from pipelines.exports import Export


def export(asked: Export) -> list[str]:
    """Write <split>.csv with a row a clip: the manifest's columns and the address of its shard."""
    written = []
    for split in asked.published.splits:
        with asked.target.write(f"{split}.csv") as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
            table = None
            for row in clip_rows(asked.published, split):
                row["shard"] = asked.published.root.uri(row["shard"])
                if table is None:
                    table = csv.DictWriter(text, list(row), lineterminator="\n")
                    table.writeheader()
                table.writerow(row)
            text.flush()
            text.detach()
        written.append(asked.target.uri(f"{split}.csv"))
    return written
