"""Every split and every class that was asked for is there, or the build says that it is not: real builds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import tone, write_audio
from split_corpora import BALANCED, ROUND, edited, on, run, said, small_corpus, written

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.records_io import read_snapshot, snapshot_numbers
from clipmill.pipelines.plan.split_rule import SplitRule
from clipmill.pipelines.run.limits import declared_classes, find_shortfalls
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def small(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    return small_corpus(tmp_path, make_config)


# --- every split that was asked for


def test_a_side_that_hashing_leaves_empty_holds_the_build_back_and_balance_fills_it(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    written(tmp_path / "in", 3, lambda _: "cat")
    config = make_config({"root": tmp_path / "in"}, split={"train": 0.8, "val": 0.1, "test": 0.1})
    rule = SplitRule(load(config).config.split)
    there = {rule.choose(f"s0/cat/r{i:02d}_p{i}.wav", {}, None) for i in range(3)}
    empty = sorted({"train", "val", "test"} - there)
    assert empty, "or the test is of nothing"
    plan = run("plan", config)
    assert plan.exit_code == 0
    for side in empty:
        assert f"split        {side}: 0 recordings" in plan.output
        assert (
            f"split '{side}', which `split` asks for, has no recordings: with few groups, hashing can leave"
            in plan.output
        )
    assert [w["limit"] for w in said("plan", config)["warnings"]] == ["allow_empty_splits"] * len(empty)
    held = run("build", config)
    assert held.exit_code == 3
    for side in empty:
        assert f"not published: split '{side}', which `split` asks for, has no clips: with few groups" in held.output
    assert "with limits: {allow_empty_splits: true} in the configuration it is published anyway" in held.output
    assert snapshot_numbers(Root(str(tmp_path / "out"))) == []
    edited(config, split={"train": 0.8, "val": 0.1, "test": 0.1, "balance": True})
    assert "warning" not in run("plan", config).output
    built = run("build", config)
    assert built.exit_code == 0, built.output
    assert Counter(on(tmp_path / "out").values()) == {"train": 1, "val": 1, "test": 1}


def test_an_empty_split_is_accepted_once_or_allowed_for_good(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    written(tmp_path / "in", 3)
    source = {"root": tmp_path / "in", "fields": r"r(?P<take>\d+)"}
    config = make_config(source, split={"from": "take", "map": {"00": "test", "07": "val"}, "default": "train"})
    held = run("build", config)
    assert held.exit_code == 3
    assert (
        "split 'val', which `split` asks for, has no clips: no recording is used whose value of 'take' is mapped to it, which is '07'"
        in held.output
    )
    assert run("build", config, "--accept").exit_code == 0
    root = Root(str(tmp_path / "out"))
    assert "split 'val'" in " ".join(read_snapshot(root).accepted)
    again = run("build", config)
    assert (again.exit_code, snapshot_numbers(root)) == (0, [1]), "nothing changed and nothing else is asked for"
    assert "warning      split 'val', which `split` asks for, has no clips" in again.output, (
        "but it is told every night"
    )
    # The same recordings, and another split that is asked for: that it is not there is no matter of course.
    new_map = {"from": "take", "map": {"00": "test", "08": "dev"}, "default": "train"}
    assert run("build", edited(config, split=new_map)).exit_code == 3
    assert run("build", edited(config, limits={"allow_empty_splits": True})).exit_code == 0
    write_audio(tmp_path / "in/more.wav_r09.wav", tone(0.3, 8000), 8000)
    allowed = said("build", config)
    assert (allowed["status"], [w["limit"] for w in allowed["warnings"] if w["limit"] != "shared_clips"]) == (
        "published",
        ["allow_empty_splits"],
    )


def test_a_split_whose_recordings_were_all_dropped_is_told_so_and_one_with_a_share_of_0_is_not_asked_for(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    for i in range(4):
        write_audio(tmp_path / f"in/r{i}.wav", tone(0.3, 8000, peak=0.3 if i else 0.0), 8000)
    source = {"root": tmp_path / "in", "fields": r"r(?P<take>\d)"}
    config = make_config(
        source, split={"from": "take", "map": {0: "test"}, "default": "train"}, silence={"min_dbfs": -40}
    )
    assert "warning" not in run("plan", config).output, "nobody knows yet"
    held = run("build", config)
    assert held.exit_code == 3
    assert (
        "split 'test', which `split` asks for, has no clips: its recordings were rejected, or its clips dropped by a rule"
        in held.output
    )
    assert run("build", edited(config, split={"train": 1.0, "test": 0.0})).exit_code == 0


def test_where_nothing_is_kept_that_alone_is_said(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/r.wav", tone(0.3, 8000, peak=0), 8000)
    config = make_config({"root": tmp_path / "in"}, split=ROUND, silence={"min_dbfs": -20})
    held = said("build", config)
    assert [e["limit"] for e in held["limits"]] == ["min_clips"]


# --- every class


def test_a_class_that_a_split_lacks_is_told_held_or_ignored(small: Path) -> None:
    edited(small, split={"from": "speaker", "map": {"p0": "test"}, "default": "train"})
    for path in sorted((small.parent / "in/dog").glob("*_p0.wav")):
        path.unlink()
    message = "split 'test' has no clips of 1 of the 2 classes in the dataset: 'dog'"
    told = run("build", small)
    assert told.exit_code == 0
    assert f"warning      {message}" in told.output
    assert [w["message"] for w in said("build", small)["warnings"]] == [message]
    (small.parent / "in/cat/r00_p0.wav").touch()
    held = run("build", edited(small, limits={"missing_classes": "hold"}))
    assert held.exit_code == 3
    assert (
        f"not published: {message}; with limits: {{missing_classes: warn}} in the configuration it is published anyway"
        in held.output
    )
    quiet = run("build", edited(small, limits={"missing_classes": "ignore"}))
    assert (quiet.exit_code, "classes" in quiet.output) == (0, False)
    # One split has no other to lack something of.
    assert "warning" not in run("build", edited(small, split={"train": 1.0}, limits={"max_side_changes": 99})).output


def test_declared_classes_are_held_to_and_stratify_keeps_them(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("build", edited(small, split={**ROUND, "stratify": "label"})).exit_code == 0
    config, snapshot = load(small).config, read_snapshot(Root(str(small.parent / "out")))
    assert find_shortfalls(config, snapshot) == ([], [])
    monkeypatch.setattr("clipmill.pipelines.run.limits.declared_classes", lambda _: ["cat", "dog", "rain"])
    held, told = find_shortfalls(config, snapshot)
    assert [e.message.partition(";")[0] for e in held] == [
        f"split '{side}' has no clips of 1 of the 3 classes in `classes`: 'rain'" for side in ("test", "train", "val")
    ]
    assert told == []
    assert declared_classes(config) is None


def test_labels_that_are_transcripts_are_not_missed_anywhere(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    written(tmp_path / "in", 12, lambda i: "yes" if i < 4 else f"a sentence of its own that goes on and on, number {i}")
    config = make_config({"root": tmp_path / "in", "label": {"from": "folder"}}, split=BALANCED)
    built = run("build", config)
    assert (built.exit_code, "class" in built.output) == (0, False), built.output
    (tmp_path / "in/yes/r00_p0.wav").touch()
    asked = run("build", edited(config, limits={"missing_classes": "warn"}))
    lines = [line for line in asked.output.splitlines() if "class" in line]
    assert len(lines) == 3, "one a split, however many labels"
    assert sum(line.endswith(", ...") for line in lines) == 2
    assert all(len(line) < 300 for line in lines)


def test_a_recording_with_bad_rows_alone_stands_nowhere(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    rows = ["file,start,end,side"]
    for i in range(4):
        write_audio(tmp_path / f"in/r{i}.wav", tone(0.6, 8000, seed=i), 8000)
        rows.append(f"r{i}.wav,0,{'x' if i == 0 else 0.5},{'ab'[i % 2]}")
    (tmp_path / "in/rows.csv").write_text("\n".join(rows))
    columns = {"start": "start", "end": "end", "side": "side"}
    table = {"table": "rows.csv", "recording": "file", "columns": columns}
    source = {"root": tmp_path / "in", "annotations": table, "segment": {"mode": "annotation"}}
    # The recording is counted on the first split that the map has.
    split = {"from": "side", "map": {"c": "val", "a": "train", "b": "test"}}
    config = make_config(source, split=split, limits={"max_rejected_share": 1})
    assert said("plan", config)["splits"] == {"test": 2, "train": 1, "val": 0}
    held = said("build", config)
    assert [e["limit"] for e in held["limits"]] == ["allow_empty_splits"]
