"""The index: parts that successive snapshots share, and sums that do not depend on the order of nights."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from conftest import tone, write_audio
from export_corpora import several_labels
from hypothesis import given
from hypothesis import strategies as st

import clipmill
from clipmill.pipelines.cli.main import main
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.run.build import build
from clipmill.schemas.index_part import divide
from clipmill.schemas.seal import unsealed
from clipmill.stages.storage.root import Root

RATE = 8000


def prefix_free(draw: random.Random, n: int) -> list[str]:
    """Return n partitions, none of which begins with another."""
    leaves = ["b"]
    while len(leaves) < n:
        leaf = leaves.pop(draw.randrange(len(leaves)))
        leaves += [f"{leaf}0", f"{leaf}1"]
    return sorted(leaves)


@given(st.integers(0, 200), st.integers(1, 20), st.integers(0, 1000))
def test_division(n: int, limit: int, seed: int) -> None:
    """Every shard is in one part, a part is not too large, and a change touches the parts that hold it."""
    draw = random.Random(seed)
    partitions = prefix_free(draw, n) if n else []
    parts = divide(partitions, limit)
    assert sum(size for _, size in parts) == len(partitions)
    start = 0
    for prefix, size in parts:
        own = partitions[start : start + size]
        start += size
        assert 0 < size <= limit and all(name.startswith(prefix) for name in own)
    assert [prefix for prefix, _ in parts] == sorted(prefix for prefix, _ in parts)
    kept = [name for name in partitions if draw.random() < 0.9]
    assert sum(size for _, size in divide(kept, limit)) == len(kept)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make parts of two shards, so that few recordings make a large dataset."""
    monkeypatch.setattr("clipmill.schemas.index_part.MAX_SHARDS", 2)
    monkeypatch.setattr("clipmill.pipelines.dataset.publish.MAX_SHARDS", 2)


def configured(place: Path, out: str = "out") -> dict[str, Any]:
    return {
        "name": "nights",
        "sources": [{"name": "s", "root": str(place / "in"), "label": {"from": "path", "regex": "(?P<label>[a-z])"}}],
        "audio": {"sample_rate_hz": RATE},
        "features": {"log_mel": {"n_mels": 16}},
        "limits": {"max_rejected_share": 1.0, "max_shrink_share": 1.0, "max_label_drift": 1.0},
        "split": {"train": 0.6, "test": 0.4},
        "output": {"root": str(place / out), "shard_seconds": 2},
    }


def record(root: Path) -> dict[str, Any]:
    """Return what the newest snapshot says, without what depends on the day."""
    found = unsealed(max((root / "snapshots").glob("*.json")).read_bytes())
    for name in ("created", "number", "parent", "side_changes"):
        found.pop(name, None)
    found["config"].pop("output")
    return found


def test_nights_end_where_a_build_from_nothing_does(tmp_path: Path, small_parts: None) -> None:
    draw = random.Random(1)
    for i in range(12):
        write_audio(tmp_path / f"in/{'ab'[i % 2]}{i}.wav", tone(1.0, RATE, seed=i), RATE)
    (tmp_path / "in/bad.wav").write_bytes(b"none")
    build(configured(tmp_path), quiet=True).raise_for_status()
    n_files = []
    for night in range(6):
        before = {p.name for p in (tmp_path / "out/index").iterdir()}
        path = tmp_path / f"in/{draw.choice('ab')}{draw.randrange(12)}.wav"
        if night % 3 == 2 and path.exists():
            path.unlink()
        else:
            write_audio(path, tone(1.0, RATE, seed=100 + night), RATE)
        build(configured(tmp_path), quiet=True).raise_for_status()
        n_files.append(len({p.name for p in (tmp_path / "out/index").iterdir()} - before))
        *_, verdict = verify(Root(str(tmp_path / "out")))
        assert verdict.problems == []
    n_parts = len(clipmill.open_dataset(tmp_path / "out").snapshot.parts)
    assert n_parts >= 3 and max(n_files) < n_parts * 4, "a night writes the parts that changed"
    build(configured(tmp_path, "again"), quiet=True).raise_for_status()
    assert record(tmp_path / "out") == record(tmp_path / "again"), "parts, with their digests, sums and statistics"
    (tmp_path / "in/bad.wav").unlink()


def test_the_manifest_of_clips_with_several_labels_as_csv_is_that_of_the_export(tmp_path: Path) -> None:
    out = several_labels(tmp_path)
    done = CliRunner().invoke(main, ["show", str(out), "--manifest", str(tmp_path / "m.csv")])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(main, ["export", str(out), "csv", "--to", str(tmp_path / "to")]).exit_code == 0
    with (tmp_path / "m.csv").open(newline="") as one, (tmp_path / "to/train.csv").open(newline="") as other:
        cells, exported = list(csv.DictReader(one)), list(csv.DictReader(other))
    assert [row["labels"] for row in cells] == [row["labels"] for row in exported] == ["cat,dog", "dog", ""]
    assert [row["events"] for row in cells] == [row["events"] for row in exported]
    assert json.loads(cells[1]["events"]) == [{"label": "dog", "onset_s": 0.0, "offset_s": 1.0}]


def test_large_datasets_have_no_file_for_all(tmp_path: Path, small_parts: None) -> None:
    for i in range(8):
        write_audio(tmp_path / f"in/{'ab'[i % 2]}{i}.wav", tone(1.0, RATE, seed=i), RATE)
    (tmp_path / "in/bad.wav").write_bytes(b"none")
    build(configured(tmp_path), quiet=True).raise_for_status()
    out = str(tmp_path / "out")
    assert not list((tmp_path / "out/snapshots").glob("*/manifest.parquet"))
    published = clipmill.open_dataset(out)
    assert published.manifest().num_rows == 8 and published.manifest(["clip_id"]).column_names == ["clip_id"]
    assert [row["recording_id"] for row in published.rejections().to_pylist()] == ["s/bad.wav"]
    run = CliRunner()
    for name, rows in (("manifest", 8), ("rejections", 1)):
        for kind in ("parquet", "csv"):
            file = tmp_path / f"{name}.{kind}"
            command = ["show", out, "--manifest"] if name == "manifest" else ["failures", out, "--output"]
            done = run.invoke(main, [*command, str(file), "--json"])
            assert done.exit_code == 0 and json.loads(done.output)["rows"] == rows, done.output
        assert pq.read_table(tmp_path / f"{name}.parquet").equals(getattr(published, name)())
        assert len((tmp_path / f"{name}.csv").read_text().splitlines()) == rows + 1
    done = run.invoke(main, ["show", out, "--manifest", str(tmp_path / "m.xlsx")])
    assert done.exit_code == 2 and ".parquet or .csv" in done.output
    assert "in parts" in run.invoke(main, ["show", out]).output
    assert "/bad.wav" in run.invoke(main, ["failures", out]).output
    for format in ("csv", "kaldi", "nemo", "croissant"):
        to = [] if format == "croissant" else ["--to", str(tmp_path / format)]
        done = run.invoke(main, ["export", out, format, *to])
        assert done.exit_code == 0, done.output
    assert len(clipmill.ClipDataset(out, "train")) == published.snapshot.by_split["train"]["clips"]
    done = run.invoke(main, ["forget", out, "s/a0.wav", "--yes"])
    assert done.exit_code == 0, done.output
    after = clipmill.open_dataset(out)
    assert after.manifest().num_rows == 7 and "s/a0.wav" not in after.manifest()["recording_id"].to_pylist()
    assert build(configured(tmp_path), quiet=True).status == "unchanged"


def test_a_build_that_was_overtaken_plans_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lists, a recording comes, B lists and publishes, A finishes: what B saw stays."""
    from clipmill.pipelines.run import build as building

    for i in range(4):
        write_audio(tmp_path / f"in/a{i}.wav", tone(1.0, RATE, seed=i), RATE)
    publish = building.publish_built
    overtaken = []

    def late(*args: Any) -> bool:
        if not overtaken:
            overtaken.append(1)
            write_audio(tmp_path / "in/late.wav", tone(1.0, RATE, seed=50), RATE)
            assert build(configured(tmp_path), quiet=True).status == "published"
        return publish(*args)

    monkeypatch.setattr(building, "publish_built", late)
    report = build(configured(tmp_path), quiet=True)
    assert report.status == "unchanged"
    published = clipmill.open_dataset(tmp_path / "out")
    assert published.snapshot.number == 1 and "s/late.wav" in published.manifest()["recording_id"].to_pylist()
