"""Builds whose clips have several labels, one of each kind, read back by everything that reads datasets."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import run, tone, write_audio
from labelled_corpora import RATE, table, write_rows

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.published import Published, open_dataset
from clipmill.pipelines.read.training import ClipDataset, padded
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import ClipmillError

pytestmark = pytest.mark.usefixtures("in_process")
ROWS = [
    ("a", 0.2, 1.4, "dog"),
    ("a", 1.0, 1.2, "cat"),
    ("a", 2.0, 3.0, "dog"),
    ("b", 0.5, 2.5, "bird"),
    ("c", 3.5, 4.0, "cat"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of windows labelled by overlap, one with several labels in its folders, and one with one label a clip."""
    place = tmp_path_factory.mktemp("labelled")
    for i, name in enumerate("abcd"):
        write_audio(place / f"in/{name}.wav", tone(4.0, RATE, seed=i), RATE)
    write_rows(place / "in/rows.csv", [*ROWS, ("d", 0, 0.001, "x")])
    for i, folder in enumerate(("dog;bird", "bird", "noise;dog", "noise")):
        write_audio(place / f"folders/{folder}/r{i}.wav", tone(0.6, RATE, seed=10 + i), RATE)
    for i in range(2):
        write_audio(place / f"single/cow/s{i}.wav", tone(0.7, RATE, seed=20 + i), RATE)
    config = place / "c.yaml"
    plain = {
        "name": "labelled",
        "sources": [
            {
                "name": "windows", "root": str(place / "in"), "annotations": table(),
                "segment": {"mode": "window", "length_s": 1.0},
                "label": {"by_overlap": {"min_s": 0.25}, "none": "nothing", "map": {n: n for n in ("dog", "cat", "bird")}, "default": "cat"},
            },
            {
                "name": "folders", "root": str(place / "folders"),
                "label": {"from": "folder", "several": True, "separator": ";", "drop": "noise"},
            },
            {"name": "single", "root": str(place / "single"), "label": {"from": "folder"}},
        ],
        "audio": {"sample_rate_hz": RATE},
        "features": {"log_mel": {"n_fft": 256, "hop_length": 128, "n_mels": 8}},
        "split": {"train": 0.6, "test": 0.4, "by": "recording", "balance": True},
        "output": {"root": str(place / "out"), "formats": ["parquet", "webdataset"], "shard_seconds": 5},
        "limits": {"missing_classes": "ignore"},
    }  # fmt: skip
    config.write_text(yaml.safe_dump(plain))
    done = build(load(config), quiet=True)
    assert done.status == "published"
    return place / "out"


@pytest.fixture(scope="module")
def published(dataset: Path) -> Published:
    return open_dataset(dataset)


@pytest.fixture(scope="module")
def rows(dataset: Path) -> dict[str, dict[str, Any]]:
    found = {r["clip_id"]: r for f in (dataset / "shards").rglob("*.parquet") for r in pq.read_table(f).to_pylist()}
    assert len(found) == 16 + 3 + 2
    return found


def labels_by_place(rows: dict[str, dict[str, Any]], source: str) -> dict[tuple[str, float], list[str]]:
    return {(Path(r["recording_id"]).stem, r["start_s"]): r["labels"] for r in rows.values() if r["source"] == source}


def test_shards_have_the_labels_that_hands_would_write(rows: dict[str, dict[str, Any]]) -> None:
    found = labels_by_place(rows, "windows")
    labelled = {place: labels for place, labels in found.items() if labels != ["nothing"]}
    assert labelled == {
        ("a", 0.0): ["dog"],
        ("a", 1.0): ["dog"],
        ("a", 2.0): ["dog"],
        ("b", 0.0): ["bird"],
        ("b", 1.0): ["bird"],
        ("b", 2.0): ["bird"],
        ("c", 3.0): ["cat"],
    }
    assert labels_by_place(rows, "folders") == {
        ("r0", 0.0): ["bird", "dog"],
        ("r1", 0.0): ["bird"],
        ("r2", 0.0): ["dog"],
    }
    assert labels_by_place(rows, "single") == {("s0", 0.0): ["cow"], ("s1", 0.0): ["cow"]}
    for row in rows.values():
        assert (row["label"] == "cow") == (row["source"] == "single")
        assert row["label"] in ("cow", None)
        assert (row["events"] is None) == (row["source"] != "windows")
        for event in row["events"] or ():
            assert 0 <= event["onset_s"] < event["offset_s"] <= row["duration_s"]
    at = next(r for r in rows.values() if r["recording_id"] == "windows/a.wav" and r["start_s"] == 1.0)
    assert at["events"] == [
        {"label": "cat", "onset_s": 0.0, "offset_s": 0.2},
        {"label": "dog", "onset_s": 0.0, "offset_s": 0.4},
    ]


def test_sums_count_a_clip_for_each_of_its_labels(published: Published, rows: dict[str, dict[str, Any]]) -> None:
    snapshot = published.snapshot
    expected: dict[str, int] = {}
    for row in rows.values():
        for label in row["labels"]:
            expected[label] = expected.get(label, 0) + 1
    assert snapshot.seconds.clips_by_label == expected
    assert sum(expected.values()) == len(rows) + 1
    assert not snapshot.problems()
    assert published.classes == sorted(expected)
    assert snapshot.label_lists == ["labels", "events"]
    assert run("verify", published.root.url)
    shown = run("show", published.root.url, "--clips", "30")
    assert "labels: (a clip with several counts for each)" in shown
    assert "bird, dog" in shown


def test_manifest_and_tars_have_the_same_lists(
    published: Published, dataset: Path, rows: dict[str, dict[str, Any]]
) -> None:
    import webdataset

    for row in published.manifest().to_pylist():
        stored = rows[row["clip_id"]]
        assert (row["labels"], row["events"], row["label"]) == (stored["labels"], stored["events"], stored["label"])
    tars = sorted(str(p) for p in (dataset / "shards").rglob("*.tar"))
    seen = {s["__key__"]: json.loads(s["json"]) for s in webdataset.WebDataset(tars, shardshuffle=False)}
    assert seen.keys() == rows.keys()
    for name, plain in seen.items():
        assert (plain["labels"], plain["events"]) == (rows[name]["labels"], rows[name]["events"])


def test_clip_dataset_gives_multi_hot_vectors(dataset: Path, rows: dict[str, dict[str, Any]]) -> None:
    seen = 0
    for split in ("train", "test"):
        clips = ClipDataset(dataset, split, ("clip_id", "labels", "events", "log_mel"))
        for sample in clips:
            row = rows[sample["clip_id"]]
            hot = sample["labels"]
            assert hot.dtype == torch.float32 and hot.shape == (len(clips.classes),)
            assert [clips.classes[i] for i in hot.nonzero().flatten().tolist()] == row["labels"]
            assert sample["events"] == row["events"]
            seen += 1
    assert seen == len(rows)
    batch = next(iter(torch.utils.data.DataLoader(ClipDataset(dataset, "train"), batch_size=4, collate_fn=padded)))
    assert set(batch) == {"audio", "audio_length", "labels", "labels_length"}
    assert batch["labels"].shape == (4, len(clips.classes))
    with pytest.raises(ClipmillError, match="ask for labels"):
        ClipDataset(dataset, "train", ("audio", "label_id"))


def test_hugging_face_reads_lists_of_class_labels(
    dataset: Path, rows: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    from datasets import Audio, ClassLabel, List, Value, load_dataset

    files = [str(p) for p in (dataset / "shards").rglob("*.parquet")]
    plain = load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "plain"))["train"]
    assert plain.features["labels"] == List(Value("string"))
    assert plain.features["events"] == List(
        {"label": Value("string"), "onset_s": Value("float64"), "offset_s": Value("float64")}
    )
    run("export", dataset, "huggingface")
    for clips in load_dataset(str(dataset), cache_dir=str(tmp_path / "cache")).values():
        kind = clips.features["labels"]
        assert isinstance(kind, List) and isinstance(kind.feature, ClassLabel)
        assert kind.feature.names == ["bird", "cat", "cow", "dog", "nothing"]
        for clip in clips.cast_column("audio", Audio(decode=False)):
            row = rows[clip["clip_id"]]
            assert [kind.feature.int2str(i) for i in clip["labels"]] == row["labels"]
            assert clip["events"] == row["events"]
            assert clip["label"] == row["label"]


def test_croissant_has_lists(dataset: Path, rows: dict[str, dict[str, Any]]) -> None:
    import mlcroissant

    run("export", dataset, "croissant")
    found = mlcroissant.Dataset(jsonld=dataset / "croissant.json")
    assert not found.metadata.ctx.issues.errors, found.metadata.ctx.issues.report()
    seen = 0
    for record in found.records("clips"):
        row = rows[record["clips/clip_id"].decode()]
        assert [label.decode() if isinstance(label, bytes) else label for label in record["clips/labels"]] == row[
            "labels"
        ]
        seen += 1
    assert seen == len(rows)


def test_other_exports_have_lists(dataset: Path, rows: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    for kind in ("csv", "nemo", "lhotse", "kaldi"):
        run("export", dataset, kind, "--to", tmp_path / kind)
    seen = {}
    for path in (tmp_path / "csv").glob("*.csv"):
        with path.open() as stream:
            seen |= {r["clip_id"]: r for r in csv.DictReader(stream)}
    assert seen.keys() == rows.keys()
    for name, row in seen.items():
        assert row["labels"].split(",") == rows[name]["labels"]
        assert (json.loads(row["events"]) if row["events"] else None) == rows[name]["events"]
    lines = [json.loads(line) for p in (tmp_path / "nemo").glob("t*.json") for line in p.read_text().splitlines()]
    assert len(lines) == len(rows)
    for line in lines:
        row = rows[Path(line["audio_filepath"]).stem]
        assert (line["labels"], line["events"], line["text"]) == (row["labels"], row["events"], " ".join(row["labels"]))
    from lhotse import CutSet

    n_cuts = 0
    for folder in (tmp_path / "lhotse").iterdir():
        if not folder.is_dir():
            continue
        for cut in CutSet.from_shar(in_dir=folder):
            custom = cut.supervisions[0].custom
            assert (custom["labels"], custom["events"]) == (rows[cut.id]["labels"], rows[cut.id]["events"])
            n_cuts += 1
    assert n_cuts == len(rows)
    texts = [line for p in (tmp_path / "kaldi").glob("*/text") for line in p.read_text().splitlines()]
    assert any(line.endswith(" bird dog") for line in texts)


def test_other_features_come_from_the_stored_clips(dataset: Path) -> None:
    config = dataset.parent / "c.yaml"
    plain = yaml.safe_load(config.read_text())
    other = config.with_name("other.yaml")
    before = {r["clip_id"]: (r["labels"], r["events"]) for r in open_dataset(dataset).manifest().to_pylist()}
    plain["features"]["log_mel"]["n_mels"] = 9
    for formats in (["webdataset"], ["parquet"]):
        copy = dataset.parent / f"copy-{formats[0]}"
        shutil.copytree(dataset, copy)
        plain["output"] |= {"formats": formats, "root": str(copy)}
        for source in plain["sources"]:
            assert Path(source["root"]).exists()
        other.write_text(yaml.safe_dump(plain))
        done = build(load(other), quiet=True)
        assert done.status == "published"
        commits = open_dataset(copy).commits
        assert all(commit.donor for commit in commits)
        after = {r["clip_id"]: (r["labels"], r["events"]) for r in open_dataset(copy).manifest().to_pylist()}
        assert after == before


def test_diff_and_duplicates_compare_lists(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    same = tone(1.0, RATE)
    for name in "ab":
        write_audio(tmp_path / f"in/{name}.wav", same, RATE)
    write_audio(tmp_path / "in/c.wav", tone(1.0, RATE, seed=2), RATE)
    write_rows(tmp_path / "in/rows.csv", [("a", 0, 1, "dog"), ("b", 0, 1, "cat"), ("c", 0, 0.5, "dog")])
    source = {"root": tmp_path / "in", "annotations": table(), "label": {"by_overlap": True}}
    config = make_config(source)
    assert build(load(config), quiet=True).status == "published"
    duplicates = open_dataset(tmp_path / "out").duplicates().to_pylist()
    assert [row["label"] for row in sorted(duplicates, key=lambda r: r["recording_id"])] == ["dog", "cat"]
    assert open_dataset(tmp_path / "out").snapshot.duplicates["labels"] == 1
    write_rows(tmp_path / "in/rows.csv", [("a", 0, 1, "dog"), ("b", 0, 1, "dog"), ("c", 0, 0.25, "dog")])
    assert build(load(config), quiet=True).status == "published"
    plain = json.loads(run("diff", tmp_path / "out", 1, 2, "--json"))
    assert len(plain["clips"]["changed"]) == 2 and not plain["clips"]["added"]


def test_a_forgotten_recording_leaves_the_lists_of_the_others(dataset: Path, rows: dict[str, dict[str, Any]]) -> None:
    copy = dataset.parent / "forgetting"
    shutil.copytree(dataset, copy)
    run("forget", copy, "windows/a.wav", "--yes")
    left = open_dataset(copy)
    found = {row["clip_id"]: row for row in left.manifest().to_pylist()}
    expected = {name: row for name, row in rows.items() if row["recording_id"] != "windows/a.wav"}
    assert {name: (r["labels"], r["events"]) for name, r in found.items()} == {
        name: (r["labels"], r["events"]) for name, r in expected.items()
    }
    for split in left.splits:
        for path in left.uris(split):
            for row in pq.read_table(path).to_pylist():
                assert (row["labels"], row["events"]) == (
                    expected[row["clip_id"]]["labels"],
                    expected[row["clip_id"]]["events"],
                )
    assert left.snapshot.seconds.clips_by_label["dog"] == 2
    assert not left.snapshot.problems()
    run("verify", copy)
