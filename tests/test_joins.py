"""Several annotations of one source: rows carry what the others say about the same recording and time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.config_file import load_config
from clipmill.pipelines.plan.annotations.annotated import Annotated
from clipmill.pipelines.plan.annotations.joined import Joined
from clipmill.pipelines.plan.planning import Plan, make_plan
from clipmill.pipelines.plan.recording_list import Recording
from clipmill.schemas.errors import ConfigError
from clipmill.stages.annotations.rows import Row

RTTM = (
    "SPKR-INFO a 1 <NA> <NA> <NA> unknown ann <NA> <NA>\n"
    "SPEAKER a 1 0.000 0.500 <NA> <NA> ann <NA> <NA>\n"
    "SPEAKER a 1 0.500 0.500 <NA> <NA> bob <NA> <NA>\n"
)
TRANSCRIPTS = "file,begin,stop,text\na.wav,0,0.45,hello\na.wav,0.4,1.0,world\nb.wav,0,1,alone\n"
FIRST = {
    "table": "texts.csv",
    "recording": "file",
    "columns": {"start": "begin", "end": "stop"},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in "ab":
        write_audio(tmp_path / f"in/{name}.wav", tone(1.0, 8000), 8000)
    (tmp_path / "in/texts.csv").write_text(TRANSCRIPTS)
    (tmp_path / "in/all.rttm").write_text(RTTM)
    (tmp_path / "in/facts.csv").write_text("file,room,speaker_age\na.wav,hall,30\nb.wav,attic,50\n")
    return tmp_path / "in"


def planned(root: Path, annotations: Any, **source: Any) -> Plan:
    config = {
        "name": "t",
        "sources": [
            {"name": "s", "root": str(root), "annotations": annotations, "segment": {"mode": "annotation"}, **source}
        ],
        "output": {"root": f"{root}-out"},
    }
    return make_plan(load_config(config).config)


def rows_of(plan: Plan) -> dict[str, list[tuple[Any, ...]]]:
    """Return start, end, label and fields of the rows of each recording."""
    return {
        item["recording_id"]: [
            (row["start"], row["end"], row["label"], fields(plan, row))
            for row in item["annotations"]
            if not row["reason"]
        ]
        for item in plan.table.to_pylist()
    }


def fields(plan: Plan, row: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in zip(plan.field_names, row["fields"], strict=True) if value is not None}


def test_rows_carry_what_overlaps_them_most(root: Path) -> None:
    plan = planned(root, [FIRST, {"format": "rttm", "table": "all.rttm"}])
    assert rows_of(plan) == {
        "s/a.wav": [
            (0.0, 0.45, "ann", {"text": "hello", "channel": "1"}),
            (0.4, 1.0, "bob", {"text": "world", "channel": "1"}),
        ],
        "s/b.wav": [(0.0, 1.0, None, {"text": "alone"})],
    }
    assert plan.noted["records_passed_over"] == 1
    assert plan.noted["rows_without_join"] == 1  # nobody speaks in b.wav
    assert (plan.annotations_read, plan.annotations_rejected) == (3, 0)


def test_a_label_of_joined_rows_is_a_field_where_the_first_rows_have_labels(root: Path) -> None:
    labelled = {**FIRST, "columns": {**FIRST["columns"], "label": "text"}}
    found = rows_of(planned(root, [labelled, {"format": "rttm", "table": "all.rttm"}]))
    assert [row[2:] for row in found["s/a.wav"]] == [
        ("hello", {"speaker": "ann", "channel": "1"}),
        ("world", {"speaker": "bob", "channel": "1"}),
    ]


def test_facts_about_whole_recordings_go_to_all_rows_whichever_comes_first(root: Path) -> None:
    facts = {"table": "facts.csv", "recording": "file"}
    one, other = planned(root, [FIRST, facts]), planned(root, [facts, FIRST])
    assert rows_of(one) == rows_of(other)
    assert [row[3] for row in rows_of(one)["s/a.wav"]] == [
        {"text": "hello", "room": "hall", "speaker_age": "30"},
        {"text": "world", "room": "hall", "speaker_age": "30"},
    ]


def test_a_list_and_joins_say_the_same(root: Path) -> None:
    more = [{"format": "rttm", "table": "all.rttm"}, {"table": "facts.csv", "recording": "file"}]
    assert rows_of(planned(root, [FIRST, *more])) == rows_of(planned(root, FIRST, joins=more))


def test_what_fits_nothing_is_told(root: Path) -> None:
    (root / "all.rttm").write_text(
        RTTM.replace(" 0.500 0.500", " 5.000 0.500").replace("ann <NA> <NA>\n", "ann <NA> <NA>\n", 1)
    )
    plan = planned(root, [FIRST, {"format": "rttm", "table": "all.rttm"}])
    assert plan.noted["rows_joined_to_none"] == 1  # bob speaks after the last row
    plan = planned(root, [{"format": "rttm", "table": "all.rttm"}, FIRST])
    assert plan.noted["rows_without_join"] == 1  # bob's
    assert plan.noted["rows_joined_to_none"] == 2  # "world" overlaps ann less than "hello" does; b.wav has no turns


def test_facts_that_contradict_each_other_reject_the_row(root: Path) -> None:
    (root / "facts.csv").write_text("file,room\na.wav,hall\na.wav,attic\nb.wav,hall\n")
    plan = planned(root, [FIRST, {"table": "facts.csv", "recording": "file"}])
    assert plan.annotations_rejected == 0  # rejected by their shard
    wrong = [row for item in plan.table.to_pylist() for row in item["annotations"] if row["reason"]]
    assert [row["reason"] for row in wrong] == ["annotation_join_conflict"] * 2
    assert wrong[0]["detail"] == "room is 'hall' on line 2 of facts.csv and 'attic' on line 3 of facts.csv"
    assert len(rows_of(plan)["s/b.wav"]) == 1


def test_wrong_rows_of_joined_annotations_are_rejected(root: Path) -> None:
    (root / "all.rttm").write_text(
        RTTM + "SPEAKER a 1 later 0.500 <NA> <NA> bob <NA> <NA>\nSPEAKER zz 1 0 1 <NA> <NA> x <NA> <NA>\n"
    )
    plan = planned(root, [FIRST, {"format": "rttm", "table": "all.rttm"}])
    wrong = [row for item in plan.table.to_pylist() for row in item["annotations"] if row["reason"]]
    assert [(row["reason"], row["file"], row["line"]) for row in wrong] == [("annotation_not_a_number", "all.rttm", 4)]
    assert [(r["reason"], r["file"], r["line"]) for r in plan.rejections] == [("recording_not_found", "all.rttm", 5)]


def test_times_in_other_units_are_compared(root: Path) -> None:
    (root / "ms.csv").write_text("file,from,until,speaker\na.wav,0,450,ann\na.wav,450,1000,bob\nb.wav,0,1000,eve\n")
    other = {
        "table": "ms.csv",
        "recording": "file",
        "columns": {"start": "from", "end": "until"},
        "time_unit": "ms",
    }
    assert [row[3]["speaker"] for row in rows_of(planned(root, [FIRST, other]))["s/a.wav"]] == ["ann", "bob"]
    assert [row[3]["text"] for row in rows_of(planned(root, [other, FIRST]))["s/a.wav"]] == ["hello", "world"]
    facts = {"table": "facts.csv", "recording": "file", "time_unit": "s"}
    swapped = rows_of(planned(root, [facts, other]))["s/a.wav"]
    assert [(start, end) for start, end, *_ in swapped] == [(0, 0.45), (0.45, 1)]
    with pytest.raises(ConfigError, match="cannot be compared"):
        planned(root, [FIRST, {**other, "time_unit": "samples"}])


def test_sidecars_join_tables_and_lie_in_another_tree(root: Path) -> None:
    elsewhere = root.parent / "labels/deep"
    elsewhere.mkdir(parents=True)
    (root / "deep").mkdir()
    (root / "a.wav").rename(root / "deep/a.wav")
    (elsewhere / "a.csv").write_text("start,end,mood\n0,0.45,glad\n0.45,1,sad\n")
    sidecar = {
        "sidecar": "{stem}.csv",
        "root": str(elsewhere.parent),
        "columns": {"start": "start", "end": "end"},
    }
    first = {"table": "texts.csv", "recording": "file", "columns": FIRST["columns"]}
    found = rows_of(planned(root, [first, sidecar]))
    assert [row[3]["mood"] for row in found["s/deep/a.wav"]] == ["glad", "sad"]
    alone = rows_of(planned(root, sidecar))
    assert [row[3] for row in alone["s/deep/a.wav"]] == [{"mood": "glad"}, {"mood": "sad"}]


def test_mistakes_name_their_place_in_the_list(root: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(
            root,
            [FIRST, {"format": "rtm", "table": "all.rttm"}, {"table": "facts.csv", "recording": "file", "tabel": 1}],
        )
    assert [problem.key for problem in caught.value.problems] == [
        "sources[0].annotations[1].format",
        "sources[0].annotations[2].tabel",
    ]


TIMES = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), max_size=12)


@given(TIMES.filter(bool), TIMES)
def test_the_joined_row_is_the_one_that_a_search_of_all_finds(
    first: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    def rows(times: list[tuple[int, int]], name: str) -> Annotated:
        found = [
            (f"{name}.csv", Row(i, start / 4, (start + length) / 4, None, (name,), (str(i),)))
            for i, (start, length) in enumerate(times)
        ]
        return Annotated(by_path={"a.wav": found} if found else {})

    recording = Recording("s", "a.wav", 1, "v")
    joined = Joined(
        first=rows(first, "one"), others=[rows(others, "two")], units_s=[1.0, 1.0], have_labels=[False, False]
    )
    ((_, found),) = joined.each([recording])
    assert isinstance(found, list)
    used = set()
    for (start, length), (_, row) in zip(first, found, strict=True):
        overlap = {
            i: (s == start and n == length, min(start + length, s + n) - max(start, s), -s, -n, -i)
            for i, (s, n) in enumerate(others)
            if min(start + length, s + n) > max(start, s)
        }
        best = max(overlap, key=lambda i: overlap[i], default=None)
        if best is None:
            assert "two" not in row.fields
        else:
            same = [i for i in overlap if overlap[i][:4] == overlap[best][:4]]
            assert int(row.fields["two"]) in same
            used.add(int(row.fields["two"]))
    counts = joined.take_counts()
    assert counts["rows_joined_to_none"] == len(others) - len(used)
    assert counts["rows_without_join"] == sum("two" not in row.fields for _, row in found)


def test_fields_and_labels_that_a_row_has_already_get_the_number_of_their_entry(root: Path) -> None:
    (root / "talk.stm").write_text("a A carol 0.0 0.45 hello\na A dave 0.45 1.0 world\nb A carol 0 1 alone\n")
    found = rows_of(planned(root, [{"format": "stm", "table": "talk.stm"}, {"format": "rttm", "table": "all.rttm"}]))
    assert [row[2] for row in found["s/a.wav"]] == ["hello", "world"]
    assert [(row[3]["speaker"], row[3]["speaker_2"]) for row in found["s/a.wav"]] == [("carol", "ann"), ("dave", "bob")]
    (root / "moods.csv").write_text("file,mood\na.wav,glad\nb.wav,sad\n")
    labelled = {**FIRST, "columns": {**FIRST["columns"], "label": "text"}}
    moods = {"table": "moods.csv", "recording": "file", "columns": {"label": "mood"}}
    assert [row[2:] for row in rows_of(planned(root, [labelled, moods]))["s/b.wav"]] == [("alone", {"mood": "sad"})]
    headless = {
        "table": "moods.csv",
        "recording": 0,
        "header": False,
        "columns": {"label": 1},
        "missing_recordings": "ignore",
    }
    (root / "moods.csv").write_text("a.wav,glad\nb.wav,sad\n")
    assert [row[2:] for row in rows_of(planned(root, [labelled, headless]))["s/b.wav"]] == [
        ("alone", {"label_2": "sad"})
    ]


def test_a_row_without_a_label_gets_none_from_other_annotations_if_the_first_have_labels(root: Path) -> None:
    (root / "calls.csv").write_text("file,begin,stop,call\na.wav,0,0.5,dog\na.wav,0.5,1,\nb.wav,0,1,cat\n")
    calls = {**FIRST, "table": "calls.csv", "columns": {**FIRST["columns"], "label": "call"}}
    found = rows_of(planned(root, [calls, {"format": "rttm", "table": "all.rttm"}]))
    assert [(row[2], row[3]["speaker"]) for row in found["s/a.wav"]] == [("dog", "ann"), (None, "bob")]


def test_a_choice_between_rows_that_fit_equally_well_is_told(root: Path) -> None:
    (root / "all.rttm").write_text(
        RTTM + "SPEAKER b 1 0 1 <NA> <NA> eve <NA> <NA>\nSPEAKER b 1 0 1 <NA> <NA> zoe <NA> <NA>\n"
    )
    plan = planned(root, [FIRST, {"format": "rttm", "table": "all.rttm"}])
    assert rows_of(plan)["s/b.wav"][0][2] == "eve"
    assert plan.noted["rows_with_several_counterparts"] == 1
