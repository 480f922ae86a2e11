"""Annotation rows label the clips that they overlap, in every way of cutting, and each row is counted once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from conftest import build_here, run, shard_hashes, tone, write_audio
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from labelled_corpora import RATE, by_start, outcome, stored_rows, table, write_rows

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.plan.planning import make_plan
from clipmill.schemas.errors import ClipmillError, ConfigError

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.mark.parametrize(("unit", "per_s"), [("s", 1), ("ms", 1000), ("samples", RATE)])
def test_windows_of_a_long_recording_see_rows_of_both_sides_of_a_border(
    unit: str, per_s: int, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    write_audio(tmp_path / "in/long.wav", tone(12.0, RATE), RATE)
    random = np.random.default_rng(3)
    rows = [
        (0.0, 12.0, "all"),
        (2.9, 3.1, "border"),
        (3.0, 3.5, "right"),
        (2.0, 3.0, "left"),
        (5.9, 9.1, "over"),
        (13, 14, "late"),
    ]
    drawn = zip(random.uniform(0, 11, 30), random.uniform(0.01, 2, 30), strict=True)
    rows += [(s, s + d, f"l{k % 4}") for k, (s, d) in enumerate(drawn) if s + d < 12]
    rows = [(round(s * RATE) / RATE, round(e * RATE) / RATE, label) for s, e, label in rows]
    as_written = int if unit == "samples" else float
    write_rows(
        tmp_path / "in/rows.csv",
        [("long", as_written(s * per_s), as_written(e * per_s), label) for s, e, label in rows],
    )
    by = {"min_s": 0.3, "min_share": 0.5}
    source = {
        "root": tmp_path / "in", "annotations": table(time_unit=unit), "bytes_per_second": 2 * RATE,
        "segment": {"mode": "window", "length_s": 1.0, "hop_s": 0.25}, "label": {"by_overlap": by, "none": "no"},
    }  # fmt: skip
    more = {"audio": {"sample_rate_hz": RATE}, "limits": {"max_rejected_share": 1.0}}
    found = {}
    for seconds, n_items in ((3.0, 5), (600.0, 1)):
        output = {"root": str(tmp_path / f"out{n_items}"), "shard_seconds": seconds}
        config = make_config(source, output=output, **more)
        planned = make_plan(load(config).config).table["annotations"].to_pylist()
        assert len(planned) == n_items
        assert all(planned) or unit == "samples", "each row is counted where it starts"
        commits = build_here(config)
        assert outcome(commits) == {"used": len(rows) - 1, "rejected": 1}
        clips = by_start(tmp_path / f"out{n_items}", commits)
        found[n_items] = {place: (row["labels"], row["events"]) for place, row in clips.items()}
    assert found[5] == found[1]
    assert len(found[1]) == 45
    for (_, start_s, _), (labels, _) in found[1].items():
        start = round(start_s * RATE)
        clip = set(range(start, start + RATE))
        expected = set()
        for label in {label for *_, label in rows}:
            own = [set(range(round(s * RATE), round(e * RATE))) for s, e, name in rows if name == label and e <= 12]
            covered = len(set().union(*own) & clip)
            if covered >= 0.3 * RATE or any(o & clip and len(o & clip) >= 0.5 * len(o) for o in own):
                expected.add(label)
        assert labels == (sorted(expected) or ["no"])


def test_rows_of_one_channel_label_its_clips_alone(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/a.wav", tone(2.0, RATE, channels=2), RATE)
    write_rows(
        tmp_path / "in/rows.csv",
        [("a", 0, 1, "dog", 1), ("a", 0.9, 1.5, "cat", 2), ("a", 1, 2, "far", 3)],
        "file,start,end,label,channel",
    )
    columns = {"start": "start", "end": "end", "label": "label", "channel": "channel"}
    source = {
        "root": tmp_path / "in", "annotations": {**table(), "columns": columns},
        "segment": {"mode": "window", "length_s": 1.0}, "label": {"by_overlap": {"min_s": 0.1}},
    }  # fmt: skip
    config = make_config(source, limits={"max_rejected_share": 1.0}, audio={"sample_rate_hz": RATE})
    commits = build_here(config)
    assert outcome(commits) == {"used": 2, "rejected": 1}
    assert commits[0].rejections[0]["reason"] == "annotation_channel_missing"
    found = by_start(tmp_path / "out", commits)
    assert {place: row["labels"] for place, row in found.items()} == {
        ("a", 0.0, 0): ["dog"], ("a", 0.0, 1): ["cat"], ("a", 1.0, 0): [], ("a", 1.0, 1): ["cat"],
    }  # fmt: skip
    source["label"], source["segment"] = {"several": True}, {"mode": "whole"}
    write_rows(
        tmp_path / "in/rows.csv",
        [("a", 0, 1, "dog", 1), ("a", 0, 1, "cat", 2), ("a", 0.5, 2, "owl", 2), ("a", 0, 1, "fox", 1)],
        "file,start,end,label,channel",
    )
    commits = build_here(make_config(source, audio={"sample_rate_hz": RATE}))
    found = by_start(tmp_path / "out", commits)
    assert {place: row["labels"] for place, row in found.items()} == {
        ("a", 0.0, 0): ["dog", "fox"], ("a", 0.0, 1): ["cat", "owl"], ("a", 0.5, 1): ["cat", "owl"],
    }  # fmt: skip


@pytest.mark.parametrize("extension", ["wav", "mp3", "ogg"])
@pytest.mark.parametrize(
    "segment",
    [
        {"mode": "window", "length_s": 0.5}, {"mode": "fixed", "length_s": 1.0}, {"mode": "whole"},
        {"mode": "fixed", "length_s": 9.0}, {"mode": "silence", "below_dbfs": -40, "min_silence_s": 0.2, "pad_s": 0.05},
    ],
    ids=lambda s: f"{s['mode']}-{s.get('length_s', '')}",
)  # fmt: skip
def test_every_way_of_cutting_counts_all_rows(
    segment: dict[str, Any], extension: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    rate = 16000
    y = np.concatenate([tone(1.0, rate), np.zeros((rate, 1)), tone(1.0, rate, seed=2)])
    write_audio(tmp_path / f"in/a.{extension}", y, rate)
    rows = [
        (0.1, 0.85, "first"),
        (1.2, 1.75, "gap"),
        (2.1, 2.85, "last"),
        (0.3, 90, "beyond"),
        (4, 5, "late"),
        (0.2, "x", "bad"),
    ]
    write_rows(tmp_path / "in/rows.csv", [("a", *row) for row in rows])
    source = {
        "root": tmp_path / "in",
        "annotations": table(),
        "segment": segment,
        "label": {"by_overlap": {"min_share": 0.5}},
    }
    commits = build_here(make_config(source, limits={"max_rejected_share": 1.0}, audio={"sample_rate_hz": RATE}))
    assert outcome(commits) == {"used": 3, "rejected": 3}
    found = by_start(tmp_path / "out", commits)
    for (_, start_s, _), row in found.items():
        end_s = min(start_s + row["duration_s"], 3.0)
        heard = [(s, e, name) for s, e, name in rows[:3] if min(e, end_s) - max(s, start_s) > 1e-3]
        expected = [name for s, e, name in heard if min(e, end_s) - max(s, start_s) > 0.5 * (e - s) + 1e-3]
        assert row["labels"] == sorted(expected)
        assert [event["label"] for event in row["events"]] == [name for *_, name in heard]
    if segment["mode"] == "silence":
        assert [row["labels"] for _, row in sorted(found.items())] == [["first"], ["last"]]


def test_clips_without_label_can_be_dropped_and_are_counted(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/a.wav", tone(4.0, RATE), RATE)
    write_audio(tmp_path / "in/b.wav", tone(2.0, RATE, seed=1), RATE)
    write_rows(tmp_path / "in/rows.csv", [("a", 0, 1.1, "dog"), ("a", 2, 3, "unsure"), ("b", 0, 1, "unsure")])
    label = {"by_overlap": {"min_s": 0.5}, "none": "nothing", "drop": ["nothing", "unsure"]}
    source = {
        "root": tmp_path / "in", "annotations": table(), "label": label, "segment": {"mode": "window", "length_s": 1.0},
    }  # fmt: skip
    config = make_config(source, classes=["dog"], audio={"sample_rate_hz": RATE})
    said = run("build", config)
    assert "3 read = 1 used + 0 rejected + 2 dropped by label" in said
    assert "6 candidates = 1 kept + 5 dropped (without_label) + 0 rejected" in said
    assert "2 listed = 2 used" in said
    assert "no recording or annotation has the label" not in said
    assert "without_label" in run("failures", config)
    label["drop"] = ["unsure"]
    with pytest.raises(ConfigError, match="not one of classes"):
        load(make_config(source, classes=["dog"]))


def test_rows_of_wrong_recordings_are_rejected_with_them(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.wav").write_bytes(b"RIFF, but nothing else")
    write_rows(tmp_path / "in/rows.csv", [("a", 0, 1, "dog"), ("a", 0, 1, "cat"), ("a", 2, 3, "cat")])
    source = {"root": tmp_path / "in", "annotations": table()}
    for label, expected in (({"by_overlap": True}, (3, 0)), ({"several": True}, (2, 1))):
        source["label"] = label
        config = make_config(source)
        commits = build_here(config)
        assert outcome(commits) == {"used": 0, "rejected": expected[0]}
        assert make_plan(load(config).config).annotations_merged == expected[1]


def test_shards_do_not_depend_on_the_order_of_rows(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/a.wav", tone(4.0, RATE), RATE)
    rows = [("a", k % 3, k % 3 + 1, label, who) for k, (label, who) in enumerate(zip("dcabba", "xyxyzx", strict=True))]
    for label in ({"several": True}, {"by_overlap": {"min_s": 0.2}}):
        hashes = []
        for k, own in enumerate((rows, rows[::-1], rows[3:] + rows[:3])):
            write_rows(tmp_path / "in/rows.csv", own, "file,start,end,label,who")
            output = {"root": str(tmp_path / f"out{k}")}
            source = {"root": tmp_path / "in", "annotations": table(), "label": label}
            build_here(make_config(source, output=output))
            hashes.append(shard_hashes(tmp_path / f"out{k}"))
        assert hashes[0] == hashes[1] == hashes[2] and hashes[0]
        write_rows(tmp_path / "in/rows.csv", [*rows[1:], ("a", 0, 1, "e", "x")], "file,start,end,label,who")
        build_here(make_config(source, output={"root": str(tmp_path / "other")}))
        assert shard_hashes(tmp_path / "other").keys() != hashes[0].keys()


def test_events_follow_what_stages_do_to_time(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    y = np.concatenate([np.zeros((RATE // 2, 1)), tone(1.0, RATE), np.zeros((RATE // 2, 1))])
    write_audio(tmp_path / "in/a.wav", y, RATE)
    write_rows(tmp_path / "in/rows.csv", [("a", 0, 0.25, "gone"), ("a", 0.25, 1.0, "dog"), ("a", 1.25, 2, "cat")])
    source = {"root": tmp_path / "in", "annotations": table(), "label": {"by_overlap": True}}
    steps = [
        {"trim": {"below_dbfs": -50, "pad_s": 0}},
        {"augment": {"copies": 1, "speed": [0.5, 0.5], "shift_s": [0.25, 0.25]}},
    ]
    config = make_config(source, clips=steps, audio={"sample_rate_hz": RATE})
    found = {r["augmented_from"] is not None: r for r in stored_rows(tmp_path / "out", build_here(config))}
    assert found[False]["start_s"] == pytest.approx(0.5, abs=0.011)
    at = 0.5 - found[False]["start_s"]

    def times(row: dict[str, Any]) -> list[tuple[str, float, float]]:
        return [(e["label"], e["onset_s"], e["offset_s"]) for e in row["events"]]

    assert times(found[False]) == [
        ("dog", 0.0, pytest.approx(0.5 + at)), ("cat", pytest.approx(0.75 + at), pytest.approx(found[False]["duration_s"])),
    ]  # fmt: skip
    assert times(found[True]) == [
        ("dog", 0.25, pytest.approx(1.25 + 2 * at)),
        ("cat", pytest.approx(1.75 + 2 * at), pytest.approx(found[True]["duration_s"])),
    ]
    assert found[False]["labels"] == found[True]["labels"] == ["cat", "dog", "gone"]


def test_desed_strong_labels(corpora: Path, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    (tsv,) = (corpora / "annotations/desed-strong-tsv").glob("*.tsv")
    rows = [line.split("\t") for line in tsv.read_text().splitlines()[1:]]
    names = sorted({row[0] for row in rows})
    for i, name in enumerate(names):
        write_audio(tmp_path / "in" / name, tone(10.0, RATE, seed=i), RATE)
    (tmp_path / "in/strong.tsv").write_text(tsv.read_text())
    columns = {"start": "onset", "end": "offset", "label": "event_label"}
    source = {
        "root": tmp_path / "in",
        "annotations": {"table": "strong.tsv", "recording": "filename", "columns": columns},
        "label": {"by_overlap": {"min_s": 0.2}, "none": "nothing"},
    }
    config = make_config(source, audio={"sample_rate_hz": RATE})
    commits = build_here(config)
    assert outcome(commits) == {"used": len(rows), "rejected": 0}
    found = {row["recording_id"].partition("/")[2]: row for row in stored_rows(tmp_path / "out", commits)}
    assert found.keys() == set(names)
    for name, row in found.items():
        own = [(label, float(start), float(end)) for file, start, end, label in rows if file == name]
        assert row["labels"] == sorted({label for label, *_ in own})
        heard = sorted((e["label"], round(e["onset_s"], 3), round(e["offset_s"], 3)) for e in row["events"])
        assert heard == sorted(own)
    source["segment"] = {"mode": "window", "length_s": 1.0}
    windows = by_start(tmp_path / "out", build_here(make_config(source, audio={"sample_rate_hz": RATE})))
    assert len(windows) == 10 * len(names)
    alarm = {start: row["labels"] for (name, start, _), row in windows.items() if name.startswith("Y0eh_N")}
    assert alarm == {
        0.0: ["Alarm_bell_ringing"], 1.0: ["nothing"], 2.0: ["Running_water"], 3.0: ["Running_water"], 4.0: ["Running_water"],
        5.0: ["Running_water", "Speech"], 6.0: ["Running_water"], 7.0: ["Running_water", "Speech"],
        8.0: ["Running_water", "Speech"], 9.0: ["Running_water", "Speech"],
    }  # fmt: skip


def test_files_without_rows_give_clips_without_labels(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for name in "abc":
        write_audio(tmp_path / f"in/{name}.wav", tone(1.0, RATE, seed=ord(name)), RATE)
    (tmp_path / "in/a.csv").write_text("start,end,label\n0,1,dog\n")
    (tmp_path / "in/b.csv").write_text("start,end,label\n")
    columns = {"start": "start", "end": "end", "label": "label"}
    source = {
        "root": tmp_path / "in", "annotations": {"sidecar": "{stem}.csv", "columns": columns},
        "label": {"by_overlap": True, "none": "nothing"},
    }  # fmt: skip
    config = make_config(source, audio={"sample_rate_hz": RATE})
    said = run("build", config)
    assert "3 listed = 2 used + 0 rejected + 1 without annotations" in said
    rows = open_dataset(tmp_path / "out").manifest().to_pylist()
    assert {row["recording_id"]: row["labels"] for row in rows} == {"s0/a.wav": ["dog"], "s0/b.wav": ["nothing"]}
    assert "0 to build" in run("plan", config), "what was kept of the sidecars gives the same plan"
    (tmp_path / "in/b.csv").write_text("start,end,label\n0.5,1,cat\n")
    assert "1 to build" in run("plan", config)
    run("build", config)
    rows = open_dataset(tmp_path / "out").manifest().to_pylist()
    assert {row["recording_id"]: row["labels"] for row in rows} == {"s0/a.wav": ["dog"], "s0/b.wav": ["cat"]}


@pytest.mark.parametrize("windows", [True, False])
def test_rows_with_a_name_alone_say_that_nothing_is_heard(
    windows: bool, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    for name in "abcd":
        write_audio(tmp_path / f"in/{name}.wav", tone(1.0, RATE, seed=ord(name)), RATE)
    rows = [("a", 0, 1, "dog"), ("b", "", "", ""), ("c", "", "", "cat"), ("c", 0, 1, "cat"), ("gone", "", "", "")]
    write_rows(tmp_path / "in/rows.csv", rows, "file,start,end,label")
    heard = {"label": {"by_overlap": True, "none": "nothing"}}
    cut = {"segment": {"mode": "annotation"}, "label": {"from": "annotation"}}
    source = {"root": tmp_path / "in", "annotations": table(), **(heard if windows else cut)}
    config = make_config(source, audio={"sample_rate_hz": RATE}, limits={"max_rejected_share": 1})
    said = run("build", config)
    assert "1 row names a recording and no event: nothing is to be heard in it" in said
    assert f"4 listed = {3 if windows else 2} used + 0 rejected + {1 if windows else 2} without annotations" in said
    found = open_dataset(tmp_path / "out").manifest().to_pylist()
    labels = {row["recording_id"]: row["labels"] if windows else row["label"] for row in found}
    expected = {"s0/a.wav": "dog", "s0/c.wav": "cat"}
    assert labels == ({**{k: [v] for k, v in expected.items()}, "s0/b.wav": ["nothing"]} if windows else expected)
    rejected = {(row["reason"], row["line"]) for row in open_dataset(tmp_path / "out").rejections().to_pylist()}
    assert rejected == {("annotation_not_a_number", 4), ("recording_not_found", 6)}
    assert "0 to build" in run("plan", config)


def test_sidecars_of_blank_rows_say_that_nothing_is_heard(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/a.wav", tone(1.0, RATE), RATE)
    (tmp_path / "in/a.csv").write_text("start,end,label,by\n,,,me\n")
    columns = {"start": "start", "end": "end", "label": "label"}
    annotations = {"sidecar": "{stem}.csv", "columns": columns}
    source = {"root": tmp_path / "in", "annotations": annotations, "label": {"by_overlap": True, "none": "nothing"}}
    run("build", config := make_config(source, audio={"sample_rate_hz": RATE}))
    assert [row["labels"] for row in open_dataset(tmp_path / "out").manifest().to_pylist()] == [["nothing"]]
    cut = {**source, "segment": {"mode": "annotation"}, "label": {"from": "annotation"}}
    config = make_config(cut, audio={"sample_rate_hz": RATE})
    assert "1 row names a recording and no event" in run("build", config, code=1)


def test_rows_that_all_overlap_each_other_are_listed_up_to_a_limit(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    place = tmp_path / "in"
    rows = []
    for name, n in {"few": 1100, "many": 1101}.items():
        write_audio(place / f"{name}.wav", tone(1.0, RATE), RATE)
        rows += [(name, 0, f"{1 - i * 1e-6:.6f}", "dog") for i in range(n)]
    write_rows(place / "rows.csv", rows)
    source = {"root": place, "annotations": table(), "label": {"by_overlap": True}}
    (commit,) = build_here(make_config(source, audio={"sample_rate_hz": RATE}))
    (row,) = stored_rows(tmp_path / "out", [commit])
    assert (Path(row["recording_id"]).stem, row["labels"]) == ("few", ["dog"])
    ((reason, detail),) = [(r["reason"], r["detail"]) for r in commit.rejections]
    assert (reason, detail) == ("clip_too_many_events", "1,101 rows overlap 1.0 s; at most 1,100 are listed")


def test_fields_of_rows_are_those_of_the_recording_where_all_rows_agree(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    for i, name in enumerate("ab"):
        write_audio(tmp_path / f"in/{name}.wav", tone(1.0, RATE, seed=i), RATE)
    rows = [("a", 0, 1, "dog", "one", "x"), ("a", 0, 1, "cat", "one", "y"), ("b", 0, 1, "dog", "two", "x")]
    write_rows(tmp_path / "in/rows.csv", rows, "file,start,end,label,fold,who")
    source = {"root": tmp_path / "in", "annotations": table(), "label": {"by_overlap": True}}
    config = make_config(source, split={"from": "fold", "map": {"one": "train", "two": "test"}})
    assert "1 recording has fields that differ between its rows" in run("plan", config)
    found = {Path(row["recording_id"]).stem: row for row in stored_rows(tmp_path / "out", build_here(config))}
    assert {n: (r["split"], r["fold"], r["who"]) for n, r in found.items()} == {
        "a": ("train", "one", None),
        "b": ("test", "two", "x"),
    }
    config = make_config(source, split={"from": "fold", "map": {"one": "train", "two": "test"}, "disjoint": ["who"]})
    with pytest.raises(ClipmillError, match="1 values of 'who' are on more than one side"):
        make_plan(load(config).config)


def test_recordings_that_lack_a_channel_take_their_rows_along(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/a.wav", tone(1.0, RATE), RATE)
    write_rows(tmp_path / "in/rows.csv", [("a", 0, 1, "dog"), ("a", 0.5, 1, "cat")])
    source = {"root": tmp_path / "in", "annotations": table(), "label": {"by_overlap": True}, "channels": "right"}
    (commit,) = build_here(make_config(source))
    assert outcome([commit]) == {"used": 0, "rejected": 2}
    assert commit.counts.rejected == {"channel_missing": 1, "recording_rejected": 2}


CELLS = st.tuples(
    st.sampled_from(["0", "1", "2", "-1", "x", ""]),
    st.sampled_from(["1", "2.5", "90", "", "0"]),
    st.sampled_from(["dog", "cat", "dog;cat", "noise", "noise;dog", '["dog"]', "[[1]]", "", "unknown"]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    given_rows=st.lists(CELLS, min_size=1, max_size=10),
    kind=st.sampled_from(["several", "by_overlap", "both"]),
    random=st.randoms(use_true_random=False),
)
@example(given_rows=[("", "", ""), ("0", "1", "dog")], kind="several", random=Random(0))
@example(given_rows=[("", "", "")], kind="by_overlap", random=Random(0))
def test_all_rows_are_used_rejected_merged_or_dropped(
    given_rows: list[tuple[str, str, str]], kind: str, random: Any, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    assume(kind != "several" or any(map(any, given_rows)))  # or no row cuts a clip, which is an error
    if not (tmp_path / "in/a.wav").exists():
        write_audio(tmp_path / "in/a.wav", tone(3.0, RATE), RATE)
    label: dict[str, Any] = {"map": {"dog": "Dog", "cat": "Cat"}, "drop": ["noise"]}
    label |= {"several": True, "separator": ";"} if kind != "by_overlap" else {}
    label |= {"by_overlap": True} if kind != "several" else {}
    outcomes = []
    for _ in range(2):
        lines = ["\t".join(("a", *row)) for row in given_rows]
        (tmp_path / "in/rows.csv").write_text("\n".join(["file\tstart\tend\tlabel", *lines]) + "\n")
        annotations = table(delimiter="tab", quote="none")
        source = {"root": tmp_path / "in", "annotations": annotations, "label": label, "bytes_per_second": RATE}
        config = make_config(source, split={"train": 0.5, "test": 0.5, "by": "recording"})
        plan = make_plan(load(config).config)
        planned = [row for rows in plan.table["annotations"].to_pylist() for row in rows or ()]
        dropped, ignored = sum(plan.annotations_dropped.values()), plan.annotations_ignored
        assert plan.annotations_read == len(given_rows)
        assert ignored == plan.noted.get("rows_without_event", 0) == [any(row) for row in given_rows].count(False)
        rest = plan.annotations_rejected + plan.annotations_merged + dropped + ignored
        assert len(planned) + rest == len(given_rows)
        good = [row for row in planned if row["reason"] is None]
        outcomes.append((len(good), plan.annotations_merged, dropped, plan.table["events"].to_pylist()))
        if kind == "several":
            assert len({(row["start"] or 0, row["end"]) for row in good}) == len(good)
        random.shuffle(given_rows)
    assert outcomes[0] == outcomes[1]
