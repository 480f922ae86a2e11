"""Nothing moves between training and evaluation unsaid: real builds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import tone, write_audio
from hypothesis import given
from hypothesis import strategies as st
from old_format import as_version_1
from split_corpora import ROUND, edited, on, run, said, small_corpus, written

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset import sides
from clipmill.pipelines.dataset.records_io import read_snapshot
from clipmill.pipelines.dataset.sides import compare, crossing, describe_moves
from clipmill.pipelines.plan.split_rule import SplitRule
from clipmill.schemas.config.split_config import Split
from clipmill.schemas.layout import commit_path
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def small(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    return small_corpus(tmp_path, make_config)


def test_changed_shares_are_told_by_plan_build_and_diff_and_held_until_accepted(small: Path) -> None:
    root = small.parent / "out"
    rendezvous = {**ROUND, "method": "rendezvous"}
    edited(small, split=rendezvous)
    assert run("build", small).exit_code == 0
    before = on(root)
    edited(small, split={"train": 0.3, "val": 0.2, "test": 0.5, "method": "rendezvous"})
    rule = SplitRule(load(small).config.split)
    after = {name: rule.choose(name, {}, None) for name in before}
    moves = Counter(f"{before[r]} to {after[r]}" for r in before if before[r] != after[r])
    n = sum(k for move, k in moves.items() if "train" in move)
    assert moves["train to test"] > 1
    assert n > moves["train to test"] or set(moves) - {"train to test"}, "of several kinds"
    first = describe_moves(dict(moves), "move")
    plan = run("plan", small)
    assert plan.exit_code == 0
    assert f"sides        {first}; {n} between training and evaluation, such as s0/" in plan.output
    assert (
        f"warning      {n} recordings would move between training and evaluation, but limits.max_side_changes allows 0"
        in plan.output
    )
    assert said("plan", small)["side_changes"]["moves"] == dict(moves)
    held = run("build", small)
    assert held.exit_code == 3
    assert ", compared with snapshot 1; limits.max_side_changes allows 0 between training and evaluation" in held.output
    assert f"sides        {describe_moves(dict(moves), 'moved')}" in held.output
    machine = said("build", small)
    assert [(e["limit"], e["found"], e["allowed"]) for e in machine["limits"]] == [("max_side_changes", n, 0)]
    assert on(root) == before
    accepted = run("build", small, "--accept")
    assert accepted.exit_code == 0
    newest = read_snapshot(Root(str(root)))
    assert newest.side_changes == dict(moves)
    assert "limits.max_side_changes" in newest.accepted[0]
    assert on(root) == after
    diff = run("diff", root, 1, 2)
    assert f"sides        {describe_moves(dict(moves), 'moved')}" in diff.output
    assert said("diff", root, 2, 1)["side_changes"]["moves"] == {
        " to ".join(reversed(move.split(" to "))): k
        for move, k in sorted(moves.items(), key=lambda m: m[0].split(" to ")[::-1])
    }
    # Accepted is accepted.
    assert run("build", small).exit_code == 0
    assert "sides" not in run("plan", small).output


def test_a_limit_allows_so_many_and_moves_among_evaluating_splits_need_none(small: Path) -> None:
    by_speaker = {"from": "speaker", "map": {"p0": "test", "p1": "val"}, "default": "train_clean"}
    assert run("build", edited(small, split=by_speaker)).exit_code == 0
    swapped = {**by_speaker, "map": {"p0": "val", "p1": "test"}}
    told = run("build", edited(small, split=swapped))
    assert told.exit_code == 0
    assert "sides        4 recordings moved from test to val, 4 from val to test\n" in told.output
    among_training = {**swapped, "map": {**swapped["map"], "p2": "train_other"}}
    assert run("build", edited(small, split=among_training)).exit_code == 0
    crossing_over = {**swapped, "map": {**swapped["map"], "p3": "val"}}
    assert run("build", edited(small, split=crossing_over, limits={"max_side_changes": 3})).exit_code == 3
    allowed = run("build", edited(small, limits={"max_side_changes": 4}))
    assert (allowed.exit_code, read_snapshot(Root(str(small.parent / "out"))).side_changes) == (
        0, {"train_clean to val": 4, "train_other to train_clean": 4},
    )  # fmt: skip


def test_a_balanced_night_with_one_more_recording_may_be_held(small: Path) -> None:
    assert run("build", small).exit_code == 0
    before, root = on(small.parent / "out"), Root(str(small.parent / "out"))
    for i in range(20, 40):
        write_audio(small.parent / f"in/cat/r{i}_p1.wav", tone(0.3, 8000, seed=i), 8000)
        plan = said("plan", small)
        moves = plan["side_changes"]["moves"]
        assert sum(moves.values()) <= 2, "one at each border"
        report = said("build", small)
        assert (report["status"] == "not_published") == (crossing(moves) > 0)
        if moves:
            break
    assert moves, "or the test is of nothing"
    assert report["side_changes"]["moves"] == moves
    assert run("build", small, "--accept").exit_code == 0
    assert read_snapshot(root).side_changes == moves
    after = on(small.parent / "out")
    assert sum(before[name] != after[name] for name in before) >= 1


def test_a_night_without_changes_and_one_of_other_features_read_no_recordings(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("build", small).exit_code == 0
    reads: list[str] = []
    real = sides.recordings_of
    monkeypatch.setattr(sides, "recordings_of", lambda root, commit: reads.append(commit.key) or real(root, commit))
    assert "sides" not in run("plan", small).output
    assert said("build", small)["status"] == "unchanged"
    edited(small, features={"log_mel": {"n_mels": 20}})
    assert "sides" not in run("plan", small).output
    assert said("build", small)["status"] == "published"
    assert reads == [], "shards with the same clips have the same recordings"
    write_audio(small.parent / "in/cat/r00_p0.wav", tone(0.4, 8000, seed=99), 8000)
    assert said("build", small)["status"] == "published"
    assert len(reads) == 2, "the shard of then, and that of now"


def test_only_recordings_that_have_clips_on_both_sides_of_time_count(small: Path) -> None:
    """One that was rejected taught nothing, and one that goes away judges nothing."""
    broken = small.parent / "in/cat/broken_p4.wav"
    broken.write_bytes(b"no audio" * 40)
    edited(
        small, split={"from": "speaker", "map": {"p0": "test"}, "default": "train"}, limits={"max_rejected_share": 1}
    )
    assert run("build", small).exit_code == 0
    write_audio(broken, tone(0.3, 8000, seed=50), 8000)
    write_audio(small.parent / "in/dog/r05_p0.wav", np_silence(), 8000)
    (small.parent / "in/cat/r04_p4.wav").unlink()
    edited(
        small,
        split={"from": "speaker", "map": {"p0": "train", "p4": "test"}, "default": "train"},
        silence={"min_dbfs": -60},
    )
    report = said("build", small)
    assert report["status"] == "not_published"
    assert report["side_changes"]["moves"] == {"test to train": 3, "train to test": 3}
    plan = said("plan", small)
    assert plan["side_changes"]["moves"] == {"test to train": 4, "train to test": 3}, (
        "a plan cannot know what will be silent"
    )


def np_silence() -> Any:
    return tone(0.3, 8000, peak=0) * 0


def test_a_corrected_speaker_moves_the_recording(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    rows = ["file,speaker"]
    for i in range(6):
        write_audio(tmp_path / f"in/r{i}.wav", tone(0.3, 8000, seed=i), 8000)
        rows.append(f"r{i}.wav,{'ann' if i < 3 else 'bob'}")
    (tmp_path / "in/rows.csv").write_text("\n".join(rows))
    source = {
        "root": tmp_path / "in",
        "annotations": {"table": "rows.csv", "recording": "file"},
        "segment": {"mode": "annotation"},
    }
    config = make_config(source, split={"from": "speaker", "map": {"ann": "train", "bob": "test"}})
    assert run("build", config).exit_code == 0
    (tmp_path / "in/rows.csv").write_text("\n".join(rows).replace("r1.wav,ann", "r1.wav,bob"))
    held = run("build", config)
    assert held.exit_code == 3
    assert (
        "sides        1 recording moved from train to test; 1 between training and evaluation, such as s0/r1.wav\n"
        in held.output
    )


def test_a_recording_is_known_by_its_content_where_that_is_hashed(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    written(tmp_path / "in", 6, lambda i: "train" if i % 2 else "test")
    source = {"root": tmp_path / "in", "version": "sha256", "fields": "^(?P<side>[a-z]+)/"}
    config = make_config(source, split={"from": "side", "map": {"train": "train", "test": "test"}})
    assert run("build", config).exit_code == 0
    (tmp_path / "in/train/r01_p1.wav").rename(tmp_path / "in/test/another name.wav")
    held = run("build", config)
    assert held.exit_code == 3
    assert (
        "1 recording moved from train to test; 1 between training and evaluation, such as s0/test/another name.wav"
        in held.output
    )


def test_rows_of_a_recording_on_several_sides_are_compared_as_sets(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    write_audio(tmp_path / "in/long.wav", tone(4, 8000), 8000)
    write_audio(tmp_path / "in/other.wav", tone(4, 8000, seed=1), 8000)
    table = tmp_path / "in/rows.csv"
    table.write_text("file,start,end,fold\nlong.wav,0,1,1\nlong.wav,2,3,2\nother.wav,0,1,1\nother.wav,1,2,2\n")
    columns = {"start": "start", "end": "end", "fold": "fold"}
    source = {
        "root": tmp_path / "in",
        "annotations": {"table": "rows.csv", "recording": "file", "columns": columns},
        "segment": {"mode": "annotation"},
    }
    config = make_config(
        source,
        split={"from": "fold", "map": {1: "train", 2: "test", 3: "val"}, "disjoint": []},
        limits={"allow_empty_splits": True},
    )
    assert run("build", config).exit_code == 0
    table.write_text(table.read_text().replace("long.wav,2,3,2", "long.wav,2,3,3"))
    moved = run("build", config)
    assert moved.exit_code == 0, moved.output
    assert read_snapshot(Root(str(tmp_path / "out"))).side_changes in (
        {"test to val": 1},
        {"test and train to train and val": 1},
    )
    table.write_text(table.read_text().replace("long.wav,0,1,1", "long.wav,0,1,3"))
    held = run("build", config)
    assert held.exit_code == 3
    assert "1 recording moved from train and val to val" in held.output


def test_shards_that_do_not_name_their_recordings_are_said_to_be_unknown(small: Path) -> None:
    """As a clipmill of before recordings were listed made them."""
    assert run("build", small).exit_code == 0
    root = Root(str(small.parent / "out"))
    as_version_1(small.parent / "out")
    for key in read_snapshot(root).commits:
        plain = json.loads(root.read_bytes(commit_path(key)))
        plain["outputs"] = [o for o in plain["outputs"] if o["format"] != "recordings"]
        root.write_bytes(commit_path(key), json.dumps(plain).encode())
    edited(small, split={"train": 0.2, "val": 0.4, "test": 0.4, "balance": True})
    n = len(read_snapshot(root).commits)
    for command in ("plan", "build"):
        done = run(command, small)
        assert done.exit_code == 0
        assert f"sides        unknown for {n} shards" in done.output
        assert "limits.max_side_changes does not apply to them" in done.output


stood = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.just("1-2"), st.sampled_from(["train", "val", "test"])), max_size=20
)


@given(stood, stood)
def test_moves_add_up(before: list[tuple[str, str, str]], after: list[tuple[str, str, str]]) -> None:
    def of(rows: list[tuple[str, str, str]]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, _, side in rows:
            found.setdefault(name, set()).add(side)
        return found

    old, new = of(before), of(after)
    changes = compare(before, after)
    differ = [name for name in old.keys() & new.keys() if old[name] != new[name]]
    assert sum(changes.moves.values()) == len(differ)
    crossed = [
        n
        for n in differ
        if ("train" in old[n]) != ("train" in new[n]) or (old[n] == {"train"}) != (new[n] == {"train"})
    ]
    assert changes.crossing == len(crossed)
    assert set(changes.examples) <= set(crossed)
    assert compare(before, before).moves == {}


def test_words() -> None:
    assert (
        describe_moves({"train to test": 12, "val to train": 1}, "move")
        == "12 recordings move from train to test, 1 from val to train"
    )
    assert describe_moves({"train to test": 1}, "move") == "1 recording moves from train to test"
    assert [sides.is_training(name) for name in ("train", "train_clean", "Training", "test", "dev", "retrain")] == [
        True
    ] * 3 + [False] * 3
    assert Split.model_validate({"train": 1.0}).expected == ["train"]
