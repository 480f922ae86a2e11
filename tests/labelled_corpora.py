"""Write recordings and annotation tables for tests of clips with several labels, and read what was built of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

RATE = 8000


def write_rows(path: Path, rows: list[tuple[Any, ...]], header: str = "file,start,end,label") -> None:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


def table(**more: Any) -> dict[str, Any]:
    columns = {"start": "start", "end": "end", "label": "label"}
    return {"table": "rows.csv", "recording": "file", "columns": columns, **more}


def stored_rows(root: Path, commits: list[Any]) -> list[dict[str, Any]]:
    """Return the rows of the Parquet shards of commits."""
    return [
        r for c in commits for o in c.outputs if o.format == "parquet" for r in pq.read_table(root / o.path).to_pylist()
    ]


def by_start(root: Path, commits: list[Any]) -> dict[tuple[str, float, int | None], dict[str, Any]]:
    rows = stored_rows(root, commits)
    found = {(Path(r["recording_id"]).stem, round(r["start_s"], 6), r.get("channel")): r for r in rows}
    assert len(found) == len(rows)
    return found


def outcome(commits: list[Any]) -> dict[str, int]:
    counts = [c.counts for c in commits]
    assert not [problem for c in commits for problem in c.problems()]
    return {"used": sum(c.annotations_used for c in counts), "rejected": sum(c.annotations_rejected for c in counts)}
