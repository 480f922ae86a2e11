"""Limits before publishing: everything is built, nothing is published, and the message says which limit and by how much."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.dataset.records_io import read_snapshot, snapshot_numbers
from clipmill.pipelines.run.limits import find_exceeded_limits
from clipmill.schemas.config.limits_config import Limits
from clipmill.schemas.legible_amounts import format_size
from clipmill.schemas.records import Counts, Seconds, Snapshot
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


def snapshot(labels: dict[str, int], number: int = 1, rejected: int = 0, listed: int = 100) -> Snapshot:
    kept = sum(labels.values())
    return Snapshot(
        number=number, name="x", parent=None, created="", commits=[], plan_digest="", config={}, fields=[], bytes_stored=0, by_split={},
        counts=Counts(clips_candidates=kept, clips_kept=kept, recordings_rejected=rejected, recordings_used=listed - rejected),
        seconds=Seconds(clips_by_label=labels), recordings_listed=listed, recordings_without_annotations=0, annotations_read=0,
    )  # fmt: skip


def limits(**given: Any) -> Limits:
    return Limits.model_validate({"max_rejected_share": 1.0, "min_clips": 0, **given})


def test_each_limit_says_what_it_found_and_what_it_allows() -> None:
    old = snapshot({"dog": 60, "cat": 40}, number=7)
    new = snapshot({"dog": 60, "cat": 20}, rejected=3)
    cases = [
        ({"max_rejected_share": 0.02}, "3 of 100 recordings are rejected (3.00%); limits.max_rejected_share allows 2.00%"),
        ({"min_clips": 81}, "80 clips are kept, 1 fewer than limits.min_clips requires (81)"),
        ({"max_shrink_share": 0.1}, "80 clips are kept, 20.00% fewer than the 100 of snapshot 7; limits.max_shrink_share allows 10.00%"),
        ({"max_label_drift": 0.14}, "label 'cat' has 25.00% of the clips, compared with 40.00% in snapshot 7, a change of 15.00%;"
         " limits.max_label_drift allows 14.00%"),
    ]  # fmt: skip
    for given_limits, message in cases:
        found = find_exceeded_limits(limits(**given_limits), new, old)
        assert message in [e.message for e in found]
        assert {e.limit for e in found} == set(given_limits)
        assert all(e.found > e.allowed or e.limit == "min_clips" for e in found)
    every = {name: value for given_limits, _ in cases for name, value in given_limits.items()}
    assert {e.limit for e in find_exceeded_limits(limits(**every), new, old)} == set(every), (
        "all of them are said, not the first"
    )
    assert find_exceeded_limits(limits(min_clips=80, max_shrink_share=0.2, max_label_drift=0.16), new, old) == []
    assert find_exceeded_limits(limits(max_shrink_share=0.0, max_label_drift=0.0), new, None) == [], (
        "nothing to compare with"
    )


def test_one_is_no_plural() -> None:
    (few,) = find_exceeded_limits(limits(min_clips=9), snapshot({"a": 1}), None)
    assert few.message.startswith("1 clip is kept, 8 fewer")
    (rejected,) = find_exceeded_limits(limits(max_rejected_share=0.5), snapshot({}, rejected=1, listed=1), None)
    assert rejected.message.startswith("1 of 1 recording is rejected")
    assert [format_size(n) for n in (0, 1, 2, 999, 1000)] == ["0 bytes", "1 byte", "2 bytes", "999 bytes", "1.0 kB"]


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 50)),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 50)),
)
def test_drift_is_seen_on_every_label_of_either_side(old: dict[str, int], new: dict[str, int]) -> None:
    total_old, total_new = max(1, sum(old.values())), max(1, sum(new.values()))
    drift = {k: abs(new.get(k, 0) / total_new - old.get(k, 0) / total_old) for k in old.keys() | new.keys()}
    found = find_exceeded_limits(limits(max_label_drift=0.2), snapshot(new), snapshot(old))
    assert sorted(e.found for e in found) == pytest.approx(sorted(d for d in drift.values() if d > 0.2))


@pytest.fixture
def labelled(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    for i in range(10):
        write_audio(tmp_path / "in" / ("dog" if i % 2 else "cat") / f"r{i}.wav", tone(1.0, 8000, seed=i), 8000)
    source = {"root": tmp_path / "in", "label": {"from": "folder"}, "bytes_per_second": 16000}
    more = {"max_label_drift": 0.2, "max_shrink_share": 0.3, "max_rejected_share": 0.1}
    return make_config(source, limits=more, output={"root": str(tmp_path / "out"), "shard_seconds": 2})


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_a_drifting_corpus_is_built_and_held_back_until_it_is_accepted(labelled: Path, tmp_path: Path) -> None:
    root = Root(str(tmp_path / "out"))
    assert run("build", labelled).exit_code == 0
    for i in (1, 3, 5, 7):
        (tmp_path / f"in/dog/r{i}.wav").unlink()
    (tmp_path / "in/cat/broken.wav").write_bytes(b"no audio" * 40)
    held = run("build", labelled)
    assert held.exit_code == 3, held.output
    assert "not published: 1 of 7 recordings is rejected (14.29%)" in held.output
    assert "not published: 6 clips are kept, 40.00% fewer than the 10 of snapshot 1" in held.output
    assert "not published: label 'dog' has 16.67% of the clips, compared with 50.00%" in held.output
    assert "the same command with --accept publishes it anyway" in held.output
    assert snapshot_numbers(root) == [1]
    said = run("status", tmp_path / "out")
    assert "not published" in said.output
    assert "40.00% fewer" in said.output
    why = run("failures", tmp_path / "out")
    assert "which was not published" in why.output
    assert "broken.wav" in why.output
    machine = json.loads(run("build", labelled, "--json").output)
    assert (machine["status"], machine["shards_built"]) == ("not_published", 0), "it was built the first time"
    assert [e["limit"] for e in machine["limits"]] == [
        "max_rejected_share",
        "max_shrink_share",
        *["max_label_drift"] * 2,
    ]
    # What is held back is not garbage.
    assert json.loads(run("gc", tmp_path / "out", "--json").output)["held"] > 0
    assert run("gc", tmp_path / "out", "--delete").exit_code == 0
    accepted = run("build", labelled, "--accept")
    assert accepted.exit_code == 0, accepted.output
    assert "accepted: 6 clips are kept" in accepted.output
    assert "0 built" in accepted.output
    newest = read_snapshot(root)
    assert newest.number == 2
    assert len(newest.accepted) == 4
    assert "max_shrink_share" in " ".join(newest.accepted)
    assert "accepted" in run("status", tmp_path / "out").output
    assert json.loads(run("show", tmp_path / "out", "--json").output)["accepted"] == newest.accepted
    # Accepted once is the measure from then on.
    assert run("build", labelled).exit_code == 0


def test_a_first_build_under_a_limit_leaves_something_to_look_at(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    write_audio(tmp_path / "in/good.wav", tone(1.0, 8000), 8000)
    (tmp_path / "in/bad.wav").write_bytes(b"no audio" * 40)
    config = make_config({"root": tmp_path / "in"})
    assert run("build", config).exit_code == 3
    found = json.loads(run("failures", tmp_path / "out", "--json").output)
    assert [(g["reason"], g["count"]) for g in found["reasons"]] == [("not_audio", 1)]
    assert run("show", tmp_path / "out").exit_code == 1
