"""Small datasets for tests of exports: odd names of classes, clips with several labels, without labels, pictures, features, two snapshots."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from click.testing import CliRunner, Result
from conftest import tone, write_audio
from labelled_corpora import write_rows

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


def windows(place: Path, recordings: dict[str, float], **more: Any) -> Path:
    """Build a dataset of half-second windows of recordings, whose folders are their labels. recordings : lengths in seconds by path"""
    for i, (path, seconds) in enumerate(recordings.items()):
        write_audio(place / "in" / path, tone(seconds, RATE, hz=150 + 37 * i, seed=i), RATE)
    source = {
        "name": "s",
        "root": str(place / "in"),
        "label": {"from": "folder"},
        "segment": {"mode": "window", "length_s": 0.5},
    }
    output = {"shard_seconds": 1, **more.pop("output", {})}
    return built(place, [source], **{"audio": {"sample_rate_hz": RATE}, "output": output, **more})


def several_labels(place: Path) -> Path:
    """Build a dataset of windows of a second: with two labels, with one, and with none; the events are known."""
    write_audio(place / "in/a.wav", tone(3, RATE), RATE)
    write_rows(place / "in/rows.csv", [("a.wav", 0, 1, "dog"), ("a.wav", 0.2, 0.8, "cat"), ("a.wav", 1, 2, "dog")])
    columns = {"start": "start", "end": "end", "label": "label"}
    source = {
        "name": "s", "root": str(place / "in"), "segment": {"mode": "window", "length_s": 1},
        "annotations": {"table": "rows.csv", "recording": "file", "columns": columns},
        "label": {"by_overlap": {"min_s": 0.1}},
    }  # fmt: skip
    return built(place, [source], audio={"sample_rate_hz": RATE})


def labelled(
    place: Path, labels: list[str], n_each: int = 2, seconds: tuple[float, ...] = (0.25,), **more: Any
) -> Path:
    """Build a dataset of short tones whose labels are those of a table. seconds : their lengths, in turn"""
    lines = [["file", "label"]]
    for i in range(len(labels) * n_each):
        write_audio(place / f"in/r{i}.wav", tone(seconds[i % len(seconds)], RATE, hz=200 + 40 * i, seed=i), RATE)
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
    """Return the rows of all Parquet shards by clip; of a clip in several, that with the most columns."""
    files = sorted((dataset / "shards").rglob("*.parquet"))
    rows = [row for file in files for row in pq.ParquetFile(file).read(use_threads=False).to_pylist()]
    return {row["clip_id"]: row for row in sorted(rows, key=len)}


def export(dataset: Path | str, *words: str, code: int = 0, **more: Any) -> Result:
    done = CliRunner().invoke(main, ["export", str(dataset), *map(str, words)], catch_exceptions=False, **more)
    assert done.exit_code == code, done.output
    return done
