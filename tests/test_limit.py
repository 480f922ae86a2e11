"""A build of a few recordings: which ones, that nothing is lost in its sums, and that it never goes into the whole dataset."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import run, tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

import clipmill
from clipmill import open_dataset
from clipmill.pipelines.config_file import load_config
from clipmill.pipelines.plan.arrange import ITEMS
from clipmill.pipelines.plan.few_items import FewRecordings, VariedItems, divided
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.run import scratch
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.stages.storage.root import Root

N_LARGE, N_SMALL = 14, 3


def config_of(place: Path, **more: Any) -> dict[str, Any]:
    table = {"table": "rows.csv", "recording": "file", "columns": {"start": "start", "end": "end", "label": "label"}}
    return {
        "name": "animals",
        "sources": [
            {
                "name": "large", "root": str(place / "large"), "annotations": table, "segment": {"mode": "annotation"},
                "label": {"from": "annotation"},
            },
            {"name": "small", "root": str(place / "small"), "segment": {"mode": "window", "length_s": 0.25}},
        ],
        "audio": {"sample_rate_hz": 8000},
        "split": {"train": 0.5, "test": 0.5, "by": "recording", "balance": True},
        "output": {"root": str(place / "out"), "shard_seconds": 5},
        "limits": {"max_rejected_share": 1.0, "min_clips": 20},
        **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources, one with two annotated ranges in each recording, and rows that fit none; and what a whole build gives."""
    place = tmp_path_factory.mktemp("limit")
    lines = ["file,start,end,label"]
    for i in range(N_LARGE):
        write_audio(place / f"large/r{i}.wav", tone(1.0, 8000, seed=i), 8000)
        lines += [f"r{i}.wav,0,0.4,a", f"r{i}.wav,0.5,0.9,b"]
    lines += ["gone.wav,0,1,a", "r0.wav,5,4,a"]
    for i in range(N_SMALL):
        write_audio(place / f"small/q{i}.wav", tone(1.0, 8000, seed=50 + i), 8000)
    (place / "large/rows.csv").write_text("\n".join(lines) + "\n")
    assert clipmill.build(config_of(place), quiet=True).status == "published"
    return place


@pytest.fixture(scope="module")
def limited(corpus: Path) -> clipmill.Report:
    """The report of a build of five recordings."""
    return clipmill.build(config_of(corpus), quiet=True, limit=5)


def ids_of(root: Path) -> dict[str, tuple[str, str]]:
    """Return the split and the recording of each clip by its id."""
    rows = open_dataset(root).manifest(["clip_id", "split", "recording_id"]).to_pylist()
    return {row["clip_id"]: (row["split"], row["recording_id"]) for row in rows}


def test_it_is_a_dataset_of_its_own_that_says_so(corpus: Path, limited: clipmill.Report) -> None:
    assert limited.status == "published"
    assert limited.root.rstrip("/") == f"{corpus}/out-limit-5"
    snapshot = open_dataset(corpus / "out-limit-5").snapshot
    assert snapshot.name == "animals-limit-5"
    rows = snapshot.annotation_outcomes
    n_left_out = 2 * N_LARGE + 2 - rows["used"] - rows["rejected"]
    assert rows["used"] == 6
    expected = {"asked": 5, "recordings": 5, "recordings_left_out": 12, "annotations_left_out": n_left_out}
    assert snapshot.limited == limited.limited == expected
    assert not snapshot.problems()
    assert snapshot.counts.recordings_used == 5
    assert snapshot.recordings_listed == N_LARGE + N_SMALL
    assert open_dataset(corpus / "out").snapshot.limited == {}
    shown = run("show", corpus / "out-limit-5")
    assert "5 of 17 listed recordings (12 left out by the limit)" in shown
    assert "animals-limit-5" in shown


def test_its_clips_are_those_of_the_whole_build(corpus: Path, limited: clipmill.Report) -> None:
    few, whole = ids_of(corpus / "out-limit-5"), ids_of(corpus / "out")
    assert few
    assert few.items() <= whole.items()  # also the same split, which `balance` decides by the whole corpus
    recordings = {recording for _, recording in few.values()}
    assert len(recordings) == 5
    assert {c: w for c, w in whole.items() if w[1] in recordings} == few
    by_source = Counter(name.split("/")[0] for name in recordings)
    assert by_source == {"large": 3, "small": 2}


def test_what_is_rejected_before_any_shard_is_still_told(corpus: Path, limited: clipmill.Report) -> None:
    reasons = Counter(row["reason"] for row in open_dataset(corpus / "out-limit-5").rejections().to_pylist())
    assert reasons["recording_not_found"] == 1


def test_again_it_is_unchanged_and_the_whole_dataset_is_left_alone(corpus: Path, limited: clipmill.Report) -> None:
    before = {p: p.stat().st_mtime_ns for p in (corpus / "out").rglob("*") if p.is_file()}
    assert clipmill.build(config_of(corpus), quiet=True, limit=5).status == "unchanged"
    assert {p: p.stat().st_mtime_ns for p in (corpus / "out").rglob("*") if p.is_file()} == before


def test_a_limit_beyond_the_corpus_takes_all_and_says_so(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps(config_of(corpus)))
    said = run("plan", config, "--limit", 500)
    assert "all 17 recordings, as there are no 500" in said
    assert f"into {corpus}/out-limit-500, a dataset of its own" in said
    assert not (corpus / "out-limit-500").exists()
    plan = clipmill.plan(config_of(corpus), limit=500)
    whole = clipmill.plan(config_of(corpus))
    assert plan.plan.keys == whole.plan.keys
    assert plan.plan.limited["recordings_left_out"] == 0


def test_a_plan_of_few_is_that_of_the_build(corpus: Path, limited: clipmill.Report) -> None:
    plan = clipmill.plan(config_of(corpus), limit=5)
    assert plan.shards_missing == 0
    assert plan.plan.limited == limited.limited
    assert abs(plan.estimate.clips - limited.snapshot.counts.clips_kept) <= 2
    assert plan.split.warnings == []
    assert sum(plan.split.splits.values()) == 5


def test_limits_that_a_few_recordings_cannot_meet_are_not_judged(
    corpus: Path, limited: clipmill.Report, tmp_path: Path
) -> None:
    assert limited.snapshot.counts.clips_kept < 20  # limits.min_clips
    split = {"train": 0.4, "val": 0.3, "test": 0.3, "by": "recording", "balance": True}
    config = config_of(
        corpus, split=split, classes=["a", "b"], limits={"max_rejected_share": 0.0, "missing_classes": "hold"}
    )
    config["sources"] = config["sources"][:1]
    config["output"] = {"root": str(tmp_path / "out")}
    report = clipmill.build(config, quiet=True, limit=1)
    assert report.status == "published"
    assert {finding.limit for finding in report.warnings} >= {"max_rejected_share"}
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config))
    assert "not judged: limits.min_clips, allow_empty_splits, missing_classes" in run("build", path, "--limit", 1)


def test_without_a_clip_it_is_not_published(corpus: Path, tmp_path: Path) -> None:
    config = config_of(corpus, silence={"min_dbfs": 0.0}, output={"root": str(tmp_path / "out")})
    report = clipmill.build(config, quiet=True, limit=2)
    assert (report.status, report.exit_code) == ("not_published", 3)


def test_another_dataset_there_is_refused(corpus: Path, limited: clipmill.Report, tmp_path: Path) -> None:
    (tmp_path / "out-limit-5").symlink_to(corpus / "out-limit-5")
    others = {**config_of(corpus), "name": "others", "output": {"root": str(tmp_path / "out")}}
    with pytest.raises(ClipmillError, match="holds the dataset 'animals-limit-5', not 'others-limit-5'"):
        clipmill.build(others, quiet=True, limit=5)
    whole_into_few = {**config_of(corpus), "name": "animals-limit-5", "output": {"root": str(corpus / "out-limit-5")}}
    with pytest.raises(ClipmillError, match="holds builds of a few recordings, and this is a build of all"):
        clipmill.build(whole_into_few, quiet=True)
    with pytest.raises(ClipmillError, match="holds builds of a few"):
        clipmill.plan(whole_into_few)


def test_another_configuration_is_built_beside_the_one_before(corpus: Path, tmp_path: Path) -> None:
    first = config_of(corpus, output={"root": str(tmp_path / "out")})
    assert clipmill.build(first, quiet=True, limit=2).snapshot.number == 1
    other = {**first, "audio": {"sample_rate_hz": 4000}, "limits": {**first["limits"], "max_shrink_share": 0.0}}
    report = clipmill.build(other, quiet=True, limit=2)
    assert (report.status, report.snapshot.number) == ("published", 2)


def test_forgotten_recordings_are_not_read(corpus: Path, tmp_path: Path) -> None:
    config = config_of(corpus, output={"root": str(tmp_path / "out")})
    config["sources"] = config["sources"][1:]
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config))
    config["limits"] = {"allow_empty_splits": True}
    assert clipmill.build(config, quiet=True).status == "published"
    run("forget", tmp_path / "out", "small/q1.wav", "--yes")
    report = clipmill.build(config, quiet=True, limit=3)
    recordings = {recording for _, recording in ids_of(tmp_path / "out-limit-3").values()}
    assert recordings == {"small/q0.wav", "small/q2.wav"}
    assert report.snapshot.recordings_forgotten == 1
    assert not report.snapshot.problems()


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("/data/out", "/data/out-limit-7"),
        ("out/", "out-limit-7"),
        ("s3://bucket/a/b/", "s3://bucket/a/b-limit-7"),
        ("/data/.out", "/data/.out-limit-7"),
    ],
)
def test_where_it_goes(root: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("clipmill.pipelines.run.scratch.check_output", lambda file, root: file)
    config = {"name": "d", "sources": [{"name": "s", "root": str(tmp_path)}], "output": {"root": root}}
    aside = scratch.limited(load_config(config), 7)
    assert aside.file.config.output.root == expected
    assert aside.whole == Root(root)


def test_what_cannot_be_limited_is_told(corpus: Path, tmp_path: Path) -> None:
    config = {**config_of(corpus), "output": {"root": "s3://bucket"}}
    with pytest.raises(ConfigError, match="is a whole bucket"):
        clipmill.build(config, quiet=True, limit=3)
    with pytest.raises(ConfigError, match="give 1 recording or more"):
        clipmill.build(config_of(corpus), quiet=True, limit=0)
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config_of(corpus)))
    assert "0 is not in the range x>=1" in run("build", path, "--limit", 0, code=2)


def test_only_the_recordings_of_the_limit_are_opened(corpus: Path, tmp_path: Path) -> None:
    place = tmp_path / "c"
    (place / "small").mkdir(parents=True)
    for i in range(30):  # none is audio, so each that is opened is rejected
        (place / f"small/q{i}.wav").write_bytes(b"RIFF")
    config = config_of(place, limits={"min_clips": 0})
    config["sources"] = config["sources"][1:]
    report = clipmill.build(config, quiet=True, limit=4)
    assert report.snapshot.counts.recordings_rejected == 4
    assert report.snapshot.limited["recordings"] == 4
    assert not report.snapshot.problems()


@given(st.integers(0, 300), st.lists(st.integers(0, 60), max_size=8))
def test_shares_are_even_and_complete(n: int, sizes: list[int]) -> None:
    given_ = divided(n, sizes)
    assert sum(given_) == min(n, sum(sizes))
    assert all(0 <= got <= size for got, size in zip(given_, sizes, strict=True))
    least = min((got for got, size in zip(given_, sizes, strict=True) if got < size), default=None)
    if least is not None:
        assert max(given_) <= least + 1


def items(n: int, n_sources: int = 2, parts: int = 1, label: Any = None) -> pa.Table:
    """Return plain items: of each recording so many parts."""
    rows = [
        {
            "item_id": f"s{i % n_sources}/r{i}#{k}", "recording_id": f"s{i % n_sources}/r{i}", "source": f"s{i % n_sources}",
            "split": ("train", "test")[i % 7 == 0], "label": label(i) if label else None, "primary": k == 0, "weight_ms": 1000,
        }
        for i in range(n) for k in range(parts)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=ITEMS)


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 3), st.integers(1, 4))
def test_few_recordings_are_the_same_however_items_arrive(asked: int, n: int, n_sources: int, pieces: int) -> None:
    table = items(n, n_sources, 2)
    whole = FewRecordings(asked).choose([table])
    size = -(-table.num_rows // pieces)
    assert FewRecordings(asked).choose([table.slice(k, size) for k in range(0, table.num_rows, size)]) == whole
    assert len(whole) == min(asked, n)
    order = np.random.default_rng(asked).permutation(table.num_rows)
    assert FewRecordings(asked).choose([table.take(pa.array(order))]) == whole


def test_few_recordings_are_a_fair_sample_of_the_listing() -> None:
    chosen = FewRecordings(400).choose([items(4000, 1)])
    places = np.sort([int(name.split("/r")[1]) for name in chosen]) / 4000
    distance = np.abs(places - np.arange(400) / 400).max()
    assert distance < 1.63 / 20  # Kolmogorov and Smirnov, 1 %


def test_varied_items_have_all_labels_and_different_recordings() -> None:
    table = items(2000, 1, 3, label=lambda i: "rare" if i == 1234 else f"l{i % 4}")
    for seed in range(5):
        chosen = table.filter(
            pa.compute.is_in(table["item_id"], pa.array(sorted(VariedItems(12, 1e9, seed).choose([table]))))
        )
        assert chosen.num_rows == len(set(chosen["recording_id"].to_pylist())) == 12
        assert set(chosen["label"].to_pylist()) == {"l0", "l1", "l2", "l3", "rare"}
        assert set(chosen["split"].to_pylist()) == {"train", "test"}
    assert VariedItems(12, 1e9, 0).choose([table]) != VariedItems(12, 1e9, 1).choose([table])


def test_varied_items_stay_within_their_seconds_and_take_parts_where_there_is_no_other_recording() -> None:
    assert len(VariedItems(12, 5.0, 0).choose([items(100)])) == 5
    assert len(VariedItems(12, 0.1, 0).choose([items(100)])) == 1
    assert len(VariedItems(4, 1e9, 0).choose([items(1, 1, 9)])) == 4


def test_the_open_end_of_a_long_recording_is_taken_only_if_nothing_else_is_there() -> None:
    rows = items(10, 1, 4).to_pylist()
    for row in rows:
        k = int(row["item_id"][-1])
        row["span_start_s"], row["span_end_s"] = 100.0 * k, 100.0 * (k + 1) if k < 3 else None
    table = pa.Table.from_pylist(rows, schema=ITEMS)
    for seed in range(8):
        assert not [name for name in VariedItems(30, 1e9, seed).choose([table]) if name.endswith("#3")]
        assert not [name for name in VariedItems(40, 15.0, seed).choose([table]) if name.endswith("#3")]
    assert len(VariedItems(40, 1e9, 0).choose([table])) == 40


def test_a_part_of_a_recording_counts_as_the_recording(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/long.wav", tone(60.0, 2000), 2000)
    source = {
        "name": "s",
        "root": str(tmp_path / "in"),
        "segment": {"mode": "window", "length_s": 1},
        "bytes_per_second": 4000,
    }
    config = {"name": "d", "sources": [source], "output": {"root": str(tmp_path / "out"), "shard_seconds": 10}}
    whole = make_plan(load_config(config).config)
    assert whole.table.num_rows > 4
    for seed in range(4):
        plan = make_plan(load_config(config).config, few=VariedItems(2, 1e9, seed))
        assert plan.table["primary"].to_pylist().count(True) == 1
        assert plan.limited == {"asked": 2, "recordings": 1, "recordings_left_out": 0, "annotations_left_out": 0}
        assert plan.clips_estimated_s <= 21
