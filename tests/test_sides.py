"""What was asked of the split is there or said not to be, and nothing moves between training and evaluation unsaid: real builds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from conftest import tone, write_audio

from pipelines import sides
from pipelines.cli import main
from pipelines.limits import declared_classes, fallen_short
from pipelines.sides import crossing, told_moves
from pipelines.split_rule import SplitRule
from schemas.config_file import load
from schemas.layout import commit_path, read_commit, read_snapshot, snapshot_numbers
from schemas.storage import Root

pytestmark = pytest.mark.usefixtures("in_process")

ROUND = {"train": 0.6, "val": 0.2, "test": 0.2}
BALANCED = {**ROUND, "balance": True}


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def said(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return found


def edited(config: Path, **more: Any) -> Path:
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **more}, sort_keys=False))
    return config


def written(folder: Path, n: int, label: Callable[[int], str] = lambda i: ("cat", "dog")[i % 2]) -> Path:
    for i in range(n):
        write_audio(folder / label(i) / f"r{i:02d}_p{i % 5}.wav", tone(0.3, 8000, seed=i), 8000)
    return folder


def on(root: Path) -> dict[str, str]:
    """Return the side of each recording by the last snapshot's shards."""
    there = Root(str(root))
    found = {}
    for key in read_snapshot(there).commits:
        commit = read_commit(there, key)
        found |= {row["recording_id"]: commit.split for row in sides.recordings_of(there, commit)}
    return found


@pytest.fixture
def small(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    """20 recordings of 2 labels and 5 speakers, every split there."""
    source = {"root": written(tmp_path / "in", 20), "label": {"from": "folder"}, "fields": r"_(?P<speaker>p\d)"}
    more = {"audio": {"sample_rate_hz": 8000}, "output": {"root": str(tmp_path / "out"), "shard_seconds": 2}}
    return make_config(source, split=BALANCED, **more)


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
            f"no recording stands in split '{side}', which `split` asks for: with few groups hashing leaves"
            in plan.output
        )
    assert [w["limit"] for w in said("plan", config)["warnings"]] == ["allow_empty_splits"] * len(empty)
    held = run("build", config)
    assert held.exit_code == 3
    for side in empty:
        assert (
            f"not published: no clip stands in split '{side}', which `split` asks for: with few groups" in held.output
        )
    assert "limits.allow_empty_splits: true publishes without it" in held.output
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
        "no clip stands in split 'val', which `split` asks for: 'take' has no value that leads there (`map` has '00', '07')"
        in held.output
    )
    assert run("build", config, "--accept").exit_code == 0
    root = Root(str(tmp_path / "out"))
    assert "split 'val'" in " ".join(read_snapshot(root).accepted)
    again = run("build", config)
    assert (again.exit_code, snapshot_numbers(root)) == (0, [1]), "nothing changed and nothing else is asked for"
    assert "warning      no clip stands in split 'val'" in again.output, "but it is told every night"
    # The same recordings, and another split that is asked for: that it is not there is no matter of course.
    new_map = {"from": "take", "map": {"00": "test", "08": "dev"}, "default": "train"}
    assert run("build", edited(config, split=new_map)).exit_code == 3
    assert run("build", edited(config, limits={"allow_empty_splits": True})).exit_code == 0
    write_audio(tmp_path / "in/more.wav_r09.wav", tone(0.3, 8000), 8000)
    allowed = said("build", config)
    assert (allowed["status"], [w["limit"] for w in allowed["warnings"]]) == ("published", ["allow_empty_splits"])


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
        "no clip stands in split 'test', which `split` asks for: what stands there was rejected, or dropped by a rule"
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
    message = "split 'test' has no clip of 1 of the 2 classes that the dataset has: 'dog'"
    told = run("build", small)
    assert told.exit_code == 0
    assert f"warning      {message}" in told.output
    assert [w["message"] for w in said("build", small)["warnings"]] == [message]
    (small.parent / "in/cat/r00_p0.wav").touch()
    held = run("build", edited(small, limits={"missing_classes": "hold"}))
    assert held.exit_code == 3
    assert f"not published: {message}; limits.missing_classes: warn publishes all the same" in held.output
    quiet = run("build", edited(small, limits={"missing_classes": "ignore"}))
    assert (quiet.exit_code, "classes" in quiet.output) == (0, False)
    # One split has no other to lack something of.
    assert "warning" not in run("build", edited(small, split={"train": 1.0}, limits={"max_side_changes": 99})).output


def test_declared_classes_are_held_to_and_stratify_keeps_them(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("build", edited(small, split={**ROUND, "stratify": "label"})).exit_code == 0
    config, snapshot = load(small).config, read_snapshot(Root(str(small.parent / "out")))
    assert fallen_short(config, snapshot) == ([], [])
    monkeypatch.setattr("pipelines.limits.declared_classes", lambda _: ["cat", "dog", "rain"])
    held, told = fallen_short(config, snapshot)
    assert [e.message.partition(";")[0] for e in held] == [
        f"split '{side}' has no clip of 1 of the 3 classes that `classes` declares: 'rain'"
        for side in ("test", "train", "val")
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


# --- moves


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
    first = told_moves(dict(moves), "move")
    plan = run("plan", small)
    assert plan.exit_code == 0
    assert f"sides        {first}; between training and evaluation {n}, as s0/" in plan.output
    assert (
        f"warning      {n} recordings would change between training and evaluation, and limits.max_side_changes allows 0"
        in plan.output
    )
    assert said("plan", small)["side_changes"]["moves"] == dict(moves)
    held = run("build", small)
    assert held.exit_code == 3
    assert (
        "of the split, compared with snapshot 1; limits.max_side_changes allows 0 between training and evaluation"
        in held.output
    )
    assert f"sides        {told_moves(dict(moves), 'moved')}" in held.output
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
    assert f"sides        {told_moves(dict(moves), 'moved')}" in diff.output
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
        "sides        1 recording moved from train to test; between training and evaluation 1, as s0/r1.wav\n"
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
        "1 recording moved from train to test; between training and evaluation 1, as s0/test/another name.wav"
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
    for key in read_snapshot(root).commits:
        plain = json.loads(root.read_bytes(commit_path(key)))
        plain["outputs"] = [o for o in plain["outputs"] if o["format"] != "recordings"]
        root.write_bytes(commit_path(key), json.dumps(plain).encode())
    edited(small, split={"train": 0.2, "val": 0.4, "test": 0.4, "balance": True})
    n = len(read_snapshot(root).commits)
    for command in ("plan", "build"):
        done = run(command, small)
        assert done.exit_code == 0
        assert f"sides        not known of {n} shards" in done.output
        assert "limits.max_side_changes does not hold for them" in done.output
