"""The plan: stable assignment to shards, keys that change with the content and with nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.config_file import load
from clipmill.pipelines.plan.partitions import partition_hashes
from clipmill.pipelines.plan.planning import Plan, make_plan
from clipmill.pipelines.plan.split_rule import choose_split
from clipmill.schemas.errors import ClipmillError

sizes = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 1000)), min_size=1, max_size=60, unique_by=lambda x: x[0]
)


def divide(items: list[tuple[int, int]], budget: int) -> dict[str, list[int]]:
    ordered = sorted(items)
    found = partition_hashes(
        np.array([h for h, _ in ordered], np.uint64), np.array([w for _, w in ordered], np.int64), budget
    )
    return {name: [h for h, _ in ordered[start:stop]] for name, start, stop in found}


@given(sizes, st.integers(1, 5000))
def test_partitions_hold_everything_once_and_stay_within_the_budget(items: list[tuple[int, int]], budget: int) -> None:
    found = divide(items, budget)
    weight = dict(items)
    assert sorted(h for members in found.values() for h in members) == sorted(weight)
    for name, members in found.items():
        assert len(members) == 1 or sum(weight[h] for h in members) <= budget
        for h in members:
            assert f"{h:064b}".startswith(name[1:])


@given(sizes, st.integers(1, 5000), st.data())
def test_removing_one_item_touches_its_partition_alone_unless_partitions_merge(
    items: list[tuple[int, int]], budget: int, data: Any
) -> None:
    gone = data.draw(st.sampled_from(items))
    before, after = divide(items, budget), divide([i for i in items if i != gone], budget)
    home = next(name for name, members in before.items() if gone[0] in members)
    for name, members in before.items():
        if name == home or after.get(name) == members:
            continue
        # Changed though it did not hold the item: it must have been merged into a partition that would have held it.
        merged = next(n for n in after if name.startswith(n))
        assert home.startswith(merged)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for i in range(8):
        write_audio(tmp_path / "in" / f"r{i}.wav", tone(1.0, 8000, seed=i), 8000)
        (tmp_path / "in" / f"r{i}.csv").write_text("0.0,0.5,a\n0.5,1.0,b\n")
    return tmp_path / "in"


def source(corpus: Path, **more: Any) -> dict[str, Any]:
    annotations = {"sidecar": "{stem}.csv", "header": False, "columns": {"start": 0, "end": 1, "label": 2}}
    return {
        "root": corpus,
        "annotations": annotations,
        "segment": {"mode": "annotation"},
        "bytes_per_second": 16000,
        **more,
    }


def planned(config: Path) -> Plan:
    return make_plan(load(config).config)


def test_same_inputs_same_keys_and_a_change_changes_one(corpus: Path, make_config: Callable[..., Path]) -> None:
    output = {"root": "out", "shard_seconds": 2}
    config = make_config(source(corpus), output=output)
    first = planned(config)
    assert len(first.keys) > 2
    assert planned(config).keys == first.keys
    assert planned(make_config(source(corpus), name="test", output={**output, "root": "elsewhere"})).keys == first.keys
    (corpus / "r3.csv").write_text("0.0,0.5,a\n0.5,0.9,b\n")
    edited = planned(config)
    assert len(set(first.keys) - set(edited.keys)) == 1
    (corpus / "r3.csv").write_text("0.5,1.0,b\n0.0,0.5,a\n")
    assert planned(config).keys == first.keys, "the order of rows in a file is no part of the content"


@pytest.mark.parametrize(
    "change",
    [
        {"audio": {"sample_rate_hz": 8000}},
        {"silence": {"min_dbfs": -30}},
        {"features": {"log_mel": {}}},
        {"output": {"root": "out", "audio_codec": "wav"}},
        {"output": {"root": "out", "formats": ["parquet", "webdataset"]}},
    ],
)
def test_what_changes_the_content_changes_every_key(
    corpus: Path, make_config: Callable[..., Path], change: dict[str, Any]
) -> None:
    before = set(planned(make_config(source(corpus), output={"root": "out"})).keys)
    assert not before & set(planned(make_config(source(corpus), **{"output": {"root": "out"}, **change})).keys)


def test_what_does_not_change_the_content_changes_no_key(corpus: Path, make_config: Callable[..., Path]) -> None:
    base = {"features": {"log_mel": {}}}
    before = planned(make_config(source(corpus), **base)).keys
    assert (
        planned(
            make_config(source(corpus), features={"log_mel": {}, "device": "cpu"}, limits={"max_rejected_share": 0.5})
        ).keys
        == before
    )


def test_every_listed_recording_is_somewhere(corpus: Path, make_config: Callable[..., Path]) -> None:
    (corpus / "r0.csv").unlink()
    write_audio(corpus / "odd name [1] #ü.wav", tone(0.1, 8000), 8000)
    plan = planned(make_config(source(corpus, label={"from": "path", "regex": r"r(?P<label>\d)"})))
    assert plan.recordings_listed == 9
    assert plan.recordings_without_annotations == 2
    assert plan.table.num_rows == 7
    no_match = planned(
        make_config(
            source(
                corpus, annotations=None, segment={"mode": "whole"}, label={"from": "path", "regex": r"r(?P<label>\d)"}
            )
        )
    )
    assert (no_match.table.num_rows, no_match.recordings_rejected) == (8, 1)
    assert no_match.rejections[0]["reason"] == "label_not_in_path"


@pytest.mark.parametrize("named", ["sidecar", "path", "stem"])
def test_annotations_of_a_refused_recording_are_counted_with_it(
    named: str, corpus: Path, make_config: Callable[..., Path]
) -> None:
    write_audio(corpus.parent / "elsewhere.wav", tone(1.0, 8000), 8000)
    (corpus / "r0.wav").unlink()
    (corpus / "r0.wav").symlink_to(corpus.parent / "elsewhere.wav")
    if named == "sidecar":
        plan = planned(make_config(source(corpus)))
    else:
        ending = ".wav" if named == "path" else ""
        rows = "".join(f"r{i}{ending},0.0,0.5\nr{i}{ending},0.5,1.0\n" for i in range(9))
        (corpus / "table.csv").write_text("file,start,end\n" + rows)
        annotations = {"table": "table.csv", "recording": "file", "columns": {"start": "start", "end": "end"}}
        plan = planned(make_config(source(corpus, annotations=annotations)))
    found = sorted(
        ((r["kind"], r["reason"], r["recording_id"] and r["recording_id"][-6:]) for r in plan.rejections), key=str
    )
    strays = [] if named == "sidecar" else [("annotation", "recording_not_found", None)] * 2
    assert found == sorted(
        [("annotation", "recording_rejected", "r0.wav")] * 2 + [("recording", "link_outside_root", "r0.wav")] + strays,
        key=str,
    )
    assert (plan.annotations_read, plan.annotations_rejected) == (16 + len(strays), 2 + len(strays))
    assert (plan.recordings_listed, plan.recordings_rejected, plan.table.num_rows) == (8, 1, 7)


def test_long_recordings_are_cut_into_spans_and_counted_once(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/long.wav", tone(60, 8000), 8000)
    segment = {"mode": "window", "length_s": 0.5}
    plan = planned(
        make_config(
            {"root": tmp_path / "in", "segment": segment, "bytes_per_second": 16000},
            output={"root": "out", "shard_seconds": 10},
        )
    )
    assert plan.table.num_rows == 7  # the header's bytes make it a little over 60 s, and the last span is open
    assert plan.table["primary"].to_pylist().count(True) == 1
    assert sorted(plan.table["span_start_s"].to_pylist()) == [0, 10, 20, 30, 40, 50, 60]


def test_splits_by_field_by_map_and_by_hash(corpus: Path, make_config: Callable[..., Path]) -> None:
    src = {"root": corpus, "fields": r"r(?P<take>\d)"}
    plan = planned(make_config(src, split={"from": "take", "map": {0: "test", 1: "val"}, "default": "train"}))
    found = dict(zip(plan.table["path"].to_pylist(), plan.table["split"].to_pylist(), strict=True))
    assert [found["r0.wav"], found["r1.wav"], found["r2.wav"]] == ["test", "val", "train"]
    missing = planned(make_config(src, split={"from": "take", "map": {0: "test"}}))
    assert {r["reason"] for r in missing.rejections} == {"split_not_mapped"}
    assert missing.recordings_rejected == 7


@given(st.lists(st.text(min_size=1, max_size=10), min_size=200, max_size=300, unique=True))
def test_shares_are_kept_on_average_and_a_value_never_changes_sides(values: list[str]) -> None:
    from clipmill.schemas.config import Config

    plain = {"name": "x", "sources": [{"name": "s", "root": "r"}], "output": {"root": "o"}}
    config = Config.model_validate({**plain, "split": {"train": 0.8, "test": 0.2, "by": "speaker"}})
    sides = [choose_split(config, "any", {"speaker": v}, None) for v in values]
    assert sides == [choose_split(config, "other", {"speaker": v}, "label") for v in values]
    assert 0.6 < sides.count("train") / len(sides) < 0.95


def test_nothing_to_read_is_an_error(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ClipmillError, match="no recording under"):
        planned(make_config({"root": tmp_path / "in"}))
