"""Small datasets for tests of exports: odd names of classes, clips with several labels, without labels, pictures, features, two snapshots."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from click.testing import CliRunner, Result
from conftest import tone, write_audio

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.run.build import build

RATE = 8000
Rows = dict[str, dict[str, Any]]
ODD_LABELS = [
    "dog", "Dog", "DOG", "a/b", "..", ".hidden", "con", "NUL.txt", "trailing.", "test", "100%", "é", "e\u0301x", "__x", "tab\there",
    "what?[1]*", "x" * 300, "x" * 299 + "y", "colon: semi", " lead",
]  # fmt: skip


def built(place: Path, sources: list[dict[str, Any]], **more: Any) -> Path:
    """Build a dataset of a place; return its root."""
    plain = {
        "name": "exported",
        "sources": sources,
        "output": {"root": str(place / "out"), **more.pop("output", {})},
        **more,
    }
    path = place / "c.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    assert build(load(path), quiet=True).status == "published"
    return place / "out"


def labelled(place: Path, labels: list[str], n_each: int = 2, **more: Any) -> Path:
    """Build a dataset of short tones whose labels are those of a table."""
    lines = [["file", "label"]]
    for i in range(len(labels) * n_each):
        write_audio(place / f"in/r{i}.wav", tone(0.25, RATE, hz=200 + 40 * i, seed=i), RATE)
        lines.append([f"r{i}.wav", labels[i % len(labels)]])
    with (place / "in/table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(lines)
    source = {
        "name": "s",
        "root": str(place / "in"),
        "annotations": {"table": "table.csv", "recording": "file", "columns": {"label": "label"}},
        "label": {"from": "annotation"},
        "segment": {"mode": "annotation"},
    }
    return built(place, [source], **{"audio": {"sample_rate_hz": RATE}, **more})


def rows_of(dataset: Path) -> Rows:
    """Return the rows of all Parquet shards by clip."""
    files = sorted((dataset / "shards").rglob("*.parquet"))
    return {row["clip_id"]: row for file in files for row in pq.ParquetFile(file).read(use_threads=False).to_pylist()}


def export(dataset: Path | str, *words: str, code: int = 0, **more: Any) -> Result:
    done = CliRunner().invoke(main, ["export", str(dataset), *map(str, words)], catch_exceptions=False, **more)
    assert done.exit_code == code, done.output
    return done
