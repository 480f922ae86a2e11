"""JAMS and the JSON of BatDetect2 give a row for each observation, and name the place of each that cannot be used."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from annotation_reading import DECLARED, read_as, read_noted, reasons, spans
from hypothesis import given
from hypothesis import strategies as st

from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.rows import SettingError, UnreadableError

TEXTS = st.text(st.characters(exclude_categories=["C"]), max_size=10)
TIMES = st.floats(0, 1000)
LENGTHS = st.floats(0.01, 1000)
SCAPER = "scaper/tests/data/regression/soundscape_20200501_22050.jams"
URBAN_SED = "soundata/tests/resources/sound_datasets/urbansed/annotations/train/soundscape_train_uniform1736.jams"


def observation(time: Any, duration: Any, value: Any, confidence: Any = None) -> dict[str, Any]:
    return {"time": time, "duration": duration, "value": value, "confidence": confidence}


def jams(*annotations: tuple[str, Any]) -> str:
    listed = [{"namespace": name, "data": data, "annotation_metadata": {}, "sandbox": {}} for name, data in annotations]
    return json.dumps({"annotations": listed, "file_metadata": {"duration": 10.0, "jams_version": "0.3.4"}})


TWO = jams(("segment_open", [observation(0, 1, "verse")]), ("beat", [observation(0.5, 0, 1)]))


@pytest.mark.parametrize("name", [SCAPER, URBAN_SED])
def test_files_of_scaper_give_what_they_hold(corpora: Path, name: str) -> None:
    content = (corpora / name).read_bytes()
    data = json.loads(content)["annotations"][0]["data"]
    rows = read_as("jams", content)
    assert [(row.start, row.label) for row in rows] == [(each["time"], each["value"]["label"]) for each in data]
    assert [row.end for row in rows] == [pytest.approx(each["time"] + each["duration"]) for each in data]
    for row, each in zip(rows, data, strict=True):
        value = each["value"]
        assert row.fields["role"] == value["role"] in ("foreground", "background")
        assert (row.fields["snr"], row.fields["source_file"]) == (json.dumps(value["snr"]), value["source_file"])
        assert row.fields["pitch_shift"] == (
            json.dumps(value["pitch_shift"]) if value["pitch_shift"] is not None else ""
        )
        assert row.fields["confidence"] == "1.0"


@given(
    st.lists(st.tuples(TIMES, LENGTHS, TEXTS, st.floats(0, 1) | st.none())),
    st.sampled_from(["rows", "columns", "objects"]),
)
def test_what_json_writes_is_read(events: list[tuple[float, float, str, float | None]], layout: str) -> None:
    if layout == "columns":
        data: Any = {
            n: [event[i] for event in events] for i, n in enumerate(("time", "duration", "value", "confidence"))
        }
    else:
        data = [observation(t, d, {"label": x, "level": 2} if layout == "objects" else x, c) for t, d, x, c in events]
    rows = read_as("jams", jams(("segment_open", data)))
    assert spans(rows) == [(t, t + d, to_nfc(text) or None) for t, d, text, _ in events]
    assert [row.fields["confidence"] for row in rows] == ["" if c is None else json.dumps(c) for *_, c in events]
    if layout == "objects":
        assert all(row.fields["level"] == "2" for row in rows)


def test_a_file_with_several_namespaces_asks_for_one() -> None:
    with pytest.raises(SettingError, match=r"segment_open \(1\), beat \(1\)") as error:
        read_as("jams", TWO)
    assert error.value.under == "namespace"
    assert spans(read_as("jams", TWO, namespace="segment_open")) == [(0, 1, "verse")]
    with pytest.raises(SettingError, match="no annotations in namespace 'chord'"):
        read_as("jams", TWO, namespace="chord")
    both = read_as("jams", TWO, namespace=["beat", "segment_open"], points_s=0.5)
    assert [(r.label, r.start, r.end, r.fields["namespace"]) for r in both] == [
        ("verse", 0, 1, "segment_open"), ("1", 0.25, 0.75, "beat"),
    ]  # fmt: skip


def test_annotations_of_one_namespace_are_told_apart() -> None:
    rows = read_as("jams", jams(("tag_open", [observation(0, 9, "a")]), ("tag_open", [observation(0, 9, "b")])))
    assert [(row.label, row.fields["annotation_index"]) for row in rows] == [("a", "0"), ("b", "1")]
    assert "annotation_index" not in read_as("jams", jams(("tag_open", [observation(0, 9, "a")])))[0].fields


def test_points_need_a_length() -> None:
    assert reasons(read_as("jams", TWO, namespace="beat")) == ["annotation_malformed"]
    (row,) = read_as("jams", TWO, namespace="beat")
    assert row.detail == (
        "annotations[1].data[0]: a point in time, which has no length; hint: set annotations.points_s to the length of the"
        " stretch around each point"
    )


def test_each_bad_observation_is_rejected_with_its_place() -> None:
    data = [
        observation(0, 1, "a"), 7, observation("0", 1, "b"), observation(0, None, "c"), observation(3, -1, "d"),
        {"value": "e"}, observation(2, 1, {"kind": "no label"}), observation(-5, 1, "f"),
    ]  # fmt: skip
    rows = read_as("jams", jams(("segment_open", data)))
    malformed = "annotation_malformed"
    assert reasons(rows) == [
        None, malformed, malformed, malformed, "annotation_end_before_start", malformed, None, "annotation_negative",
    ]  # fmt: skip
    places = [str(row.detail).partition(":")[0] for row in rows if row.reason]
    assert places == [f"annotations[0].data[{at}]" for at in (1, 2, 3, 4, 5, 7)]
    assert (rows[6].label, rows[6].fields["kind"]) == (None, "no label")


@pytest.mark.parametrize(
    "data", [{"time": [0], "duration": [1, 2]}, {"time": 0, "duration": 1}, {"duration": [1]}, {}, None, "x", 5]
)
def test_columns_that_do_not_fit_together_are_rejected(data: Any) -> None:
    (row,) = read_as("jams", jams(("segment_open", data)))
    assert row.reason == "annotation_malformed"
    assert str(row.detail).startswith("annotations[0].data: expected")


def test_parts_of_a_value_never_hide_the_observations_own() -> None:
    (row,) = read_as("jams", jams(("x", [observation(1, 2, {"label": "a", "time": 99, "confidence": 3}, 0.5)])))
    assert (row.start, row.end, row.fields["confidence"]) == (1, 3, "0.5")
    assert (row.fields["value_time"], row.fields["value_confidence"]) == ("99", "3")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("start,end\n0,1\n", "not JSON"), ("[]", "not JAMS"), ("{}", "not JAMS"), ('{"annotations": {}}', "not JAMS"),
        ('{"annotations": [3]}', r"annotations\[0\]: expected an object"), ('{"annotations": [{"data": []}]}', "`namespace`"),
        ("[" * 100_000, "deep"), ('{"annotations": ' * 5000 + "1" + "}" * 5000, "deep"), (b"\xff\xfe\xfa", "not"),
    ],
)  # fmt: skip
def test_what_is_no_jams_is_refused(content: str | bytes, what: str) -> None:
    with pytest.raises(UnreadableError, match=what):
        read_as("jams", content)


@pytest.mark.parametrize("content", ["", "  \n", '{"annotations": []}', jams(("tag_open", []))])
def test_a_file_without_annotations_has_no_rows(content: str) -> None:
    assert read_as("jams", content) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["annotations", "namespace", "data", "time", "duration", "value", "label", "annotation", "id",
                         "start_time", "end_time", "class", "time_exp"]), inner, max_size=4,
    ),
    max_leaves=25,
)  # fmt: skip


@given(JSON | st.text(max_size=50), st.sampled_from(["jams", "batdetect"]))
def test_no_content_raises_anything_else(value: Any, name: str) -> None:
    for content in (json.dumps(value), str(value), json.dumps({"annotations": [{"namespace": "a", "data": value}]}),
                    json.dumps({"annotation": [value, value], "time_exp": 10, "id": "x"})):  # fmt: skip
        with suppress(*DECLARED):
            read_noted(name, content)


# BatDetect2


def call(start: Any, end: Any, label: str = "Myotis nattereri") -> dict[str, Any]:
    return {
        "class": label, "class_prob": 0.703, "det_prob": 0.76, "start_time": start, "end_time": end, "event": "Echolocation",
        "individual": "-1", "low_freq": 26679, "high_freq": 83710,
    }  # fmt: skip


def detections(*calls: Any, name: str = "a.wav", **more: Any) -> dict[str, Any]:
    head = {
        "annotated": False,
        "class_name": "Myotis nattereri",
        "duration": 2.0,
        "id": name,
        "issues": False,
        "notes": "",
        "time_exp": 1,
    }
    return {**head, "annotation": list(calls), **more}


@given(st.lists(st.tuples(TIMES, LENGTHS, TEXTS)))
def test_calls_of_batdetect_are_read(events: list[tuple[float, float, str]]) -> None:
    calls = [call(t, t + d, text) for t, d, text in events]
    rows = read_as("batdetect", json.dumps(detections(*calls), indent=2, sort_keys=True))
    assert spans(rows) == [(t, t + d, to_nfc(text) or None) for t, d, text in events]
    fields = {
        "class_prob": "0.703",
        "det_prob": "0.76",
        "event": "Echolocation",
        "individual": "-1",
        "low_freq": "26679",
        "high_freq": "83710",
    }
    assert all(row.fields == fields for row in rows)


def test_times_of_a_stretched_recording_are_stretched() -> None:
    rows, _ = read_noted("batdetect", json.dumps(detections(call(0.0285, 0.0302), call(1, 2), time_exp=10.0)))
    assert [(row.start, row.end) for row in rows] == [(0.285, 0.302), (10, 20)]
    assert [row.noted for row in rows] == [("times_expanded",)] * 2
    with pytest.raises(UnreadableError, match="time_exp is 0"):
        read_as("batdetect", json.dumps(detections(call(0, 1), time_exp=0)))


def test_bad_calls_are_rejected_with_their_place() -> None:
    rows = read_as(
        "batdetect", json.dumps([detections(call(0, 1)), detections(call(2, 1), None, call("x", 1), {"class": "a"})])
    )
    assert reasons(rows) == [
        None, "annotation_end_before_start", "annotation_malformed", "annotation_not_a_number", "annotation_malformed",
    ]  # fmt: skip
    assert [str(r.detail).partition(":")[0] for r in rows[1:]] == [f"[1].annotation[{n}]" for n in range(4)]


@pytest.mark.parametrize("content", ["{}", "[3]", '{"annotation": {}}', "7", '[{"annotations": []}]'])
def test_what_is_not_of_batdetect_is_refused(content: str) -> None:
    with pytest.raises(UnreadableError, match="not a file of BatDetect2"):
        read_as("batdetect", content)


# crowsetta


def test_the_csv_of_crowsetta_is_read() -> None:
    simple = "onset_s,offset_s,label\n0.016,0.175,i\n0.245,0.367,\n"
    assert spans(read_as("crowsetta", simple)) == [(0.016, 0.175, "i"), (0.245, 0.367, None)]
    generic = (
        "label,onset_s,offset_s,onset_sample,offset_sample,notated_path,annot_path,sequence,annotation\n"
        "a,0.1,0.2,3200,6400,song/b1.wav,b1.cbin.not.mat,0,0\n"
    )
    (row,) = read_as("crowsetta", generic, table="all.csv")
    assert (row.start, row.end, row.label, row.fields["onset_sample"]) == (0.1, 0.2, "a", "3200")
    (row,) = read_as(
        "crowsetta",
        generic,
        columns={"start": "onset_sample", "end": "offset_sample"},
        time_unit={"samples_at_hz": 32000},
    )
    assert (row.start, row.end) == (0.1, 0.2)
