"""Manifests of toolkits: NeMo's, Lhotse's and SpeechBrain's give the rows that the toolkits themselves read, and run nothing."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from annotation_reading import read_as, read_noted, reasons, spans, spec_of
from hypothesis import given
from hypothesis import strategies as st
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment, SupervisionSet
from lhotse.audio import AudioSource
from lhotse.serialization import load_manifest

from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.registered import find_format
from clipmill.stages.annotations.rows import UnreadableError

TEXTS = st.text(st.characters(exclude_categories=["C"]), max_size=10).map(str.strip)
KEYS = st.sampled_from(["speaker", "lang", "snr", "emotion"])
TIMES = st.integers(0, 10**7).map(lambda ms: ms / 1000)
LENGTHS = st.integers(1, 10**6).map(lambda ms: ms / 1000)
FIXTURES = "lhotse/test/fixtures"


def recordings(name: str, content: bytes | dict[str, bytes], path: str = "", **given: Any) -> list[list[str]]:
    """Return what rows name, in the order in which it is looked up."""
    kind = find_format(name)
    sheet = kind.open(content, spec_of(name, table="t", **given), path)
    places = [sheet.column(column) or 0 for column in kind.recording]
    return [[cells[place] for place in places] for cells, row in sheet if row.reason is None]


# NeMo


@given(
    st.lists(st.tuples(TIMES | st.none(), LENGTHS | st.none(), TEXTS, st.dictionaries(KEYS, TEXTS | st.integers()))),
    st.booleans(),
)
def test_what_is_written_as_a_nemo_manifest_is_read(lines: list[Any], ascii_only: bool) -> None:
    written = []
    for offset, duration, text, more in lines:
        times = {"offset": offset, "duration": duration}
        values = {
            "audio_filepath": "a/b.wav",
            **{k: v for k, v in times.items() if v is not None},
            "text": text,
            **more,
        }
        written.append(json.dumps(values, ensure_ascii=ascii_only))
    rows = read_as("nemo", "\n".join(written), table="m.json")
    assert not any(reasons(rows))
    for row, (offset, duration, text, more) in zip(rows, lines, strict=True):
        start = offset if offset is not None or duration is None else 0
        assert row.start == start
        assert row.end == (None if duration is None else pytest.approx((start or 0) + duration))
        assert (row.label or "", row.fields["text"]) == (to_nfc(text), to_nfc(text))
        assert {key: row.fields[key] for key in more} == {key: to_nfc(str(value)) for key, value in more.items()}


def test_nemo_takes_the_label_before_the_text_and_rejects_lines_of_their_own() -> None:
    text = (
        '{"audio_filepath": "a.wav", "offset": 1.10, "duration": null, "label": "yes", "text": "-", "rttm_filepath": null}\n'
        '{"audio_filepath": ["a.wav", "b.wav"], "duration": 1}\n{"duration": 1}\n["a.wav"]\n{"audio_filepath": "b.wav", "offset": NaN}\n{"a'
    )
    rows = read_as("nemo", text, table="m.json")
    assert (rows[0].start, rows[0].end, rows[0].label, rows[0].fields["text"]) == (1.1, None, "yes", "-")
    assert [row.detail for row in rows[1:]] == [
        'audio_filepath is ["a.wav", "b.wav"]; expected the path of one file',
        "audio_filepath is missing; expected the path of one file",
        '["a.wav"] is not a JSON object',
        "start is 'NaN'",
        "not JSON: column 2: Unterminated string starting at",
    ]
    assert [row.line for row in rows] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(UnreadableError, match="no line has the key audio_filepath"):
        read_as("nemo", '{"id": 1}\n{"id": 2}\n', table="m.json")


# Lhotse


def source(kind: str, place: str, *channels: int) -> AudioSource:
    return AudioSource(type=kind, channels=list(channels), source=place)


def recording(name: str, *sources: AudioSource, **more: Any) -> Recording:
    return Recording(id=name, sources=list(sources), sampling_rate=8000, num_samples=80000, duration=10.0, **more)


def lines(*manifest: Any) -> bytes:
    return "\n".join(json.dumps(each if isinstance(each, dict) else each.to_dict()) for each in manifest).encode()


@given(
    st.lists(st.tuples(TIMES, LENGTHS, TEXTS, st.dictionaries(KEYS, TEXTS | st.integers()))),
    st.sampled_from(["jsonl", "json", "gz"]),
)
def test_supervisions_that_lhotse_writes_are_read(rows: list[Any], form: str) -> None:
    written = [
        SupervisionSegment(id=f"s{i}", recording_id="r", start=start, duration=length, text=text, custom=dict(more))
        for i, (start, length, text, more) in enumerate(rows)
    ]
    content = json.dumps([s.to_dict() for s in written]).encode() if form == "json" else lines(*written)
    found = read_as("lhotse", gzip.compress(content) if form == "gz" else content, table="t")
    assert [(row.start, row.end, row.label or "") for row in found] == [
        (s.start, pytest.approx(s.start + s.duration), to_nfc(s.text or "")) for s in written
    ]
    for row, s in zip(found, written, strict=True):
        custom = {f"custom_{key}" if key == "speaker" else key: value for key, value in (s.custom or {}).items()}
        assert {key: row.fields[key] for key in custom} == {key: to_nfc(str(value)) for key, value in custom.items()}
        assert row.fields["id"] == s.id


@given(st.lists(st.tuples(TIMES, st.lists(st.tuples(TIMES, LENGTHS), max_size=4)), max_size=5))
def test_supervisions_of_a_cut_start_where_the_cut_does(cuts: list[Any]) -> None:
    own = recording("r", source("file", "a/r.wav", 0))
    written = [
        MonoCut(
            id=f"c{i}", start=start, duration=5.0, channel=0, recording=own,
            supervisions=[SupervisionSegment(id=f"{i}-{k}", recording_id="r", start=a, duration=b) for k, (a, b) in enumerate(inside)],
        )
        for i, (start, inside) in enumerate(cuts)
    ]  # fmt: skip
    rows, noted = read_noted("lhotse", lines(*written), table="t")
    assert [(row.start, row.end) for row in rows] == [
        (pytest.approx(start + a), pytest.approx(start + a + b)) for start, inside in cuts for a, b in inside
    ]
    assert noted.get("cuts_without_supervisions", 0) == sum(not inside for _, inside in cuts)


@pytest.mark.parametrize(
    "name",
    [
        "supervision.json", "ami/ES2011a_sups.jsonl.gz", "mini_librispeech/lhotse/supervisions.jsonl.gz",
        "mini_librispeech2/lhotse/supervisions.jsonl.gz", "libri/cuts.json", "libri/cuts_multi.json", "libri/cuts_no_feats.json",
        "libri/cuts_no_recording.json", "ami/cuts.json", "ljspeech/cuts.json", "lsmix/cuts.000000.jsonl.gz",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Your manifest was created with Lhotse")
def test_files_of_lhotse_give_what_lhotse_reads(corpora: Path, name: str) -> None:
    path = corpora / FIXTURES / name
    manifest = load_manifest(path)
    if isinstance(manifest, SupervisionSet):
        expected = [(s, 0.0) for s in manifest]
    else:
        expected = [(s, cut.start) for cut in manifest for s in cut.supervisions]
    rows = read_as("lhotse", path.read_bytes(), table="t")
    assert [(row.start, row.end, row.label) for row in rows] == [
        (pytest.approx(at + s.start), pytest.approx(at + s.start + s.duration), s.text or None) for s, at in expected
    ]
    for row, (s, _) in zip(rows, expected, strict=True):
        assert row.fields["id"] == s.id
        assert row.fields.get("speaker", "") == (s.speaker or "")
        assert row.fields.get("language", "") == (s.language or "")


@pytest.mark.parametrize(
    "name", ["overlayed_cut_manifest.json", "overlayed_audio_cut_manifest.json", "offseted_audio_cut_manifest.json"]
)
def test_mixed_cuts_are_counted(corpora: Path, name: str) -> None:
    path = corpora / FIXTURES / "mix_cut_test" / name
    rows, noted = read_noted("lhotse", path.read_bytes(), table="t")
    assert (rows, noted) == ([], {"cuts_not_of_a_file": len(list(CutSet.from_json(path)))})


def test_recordings_beside_supervisions_give_the_files_and_no_command_is_run() -> None:
    files = {
        "x_recordings_dev.jsonl": lines(
            recording("one", source("file", "audio/1.flac", 0)),
            recording("run", source("command", "touch /tmp/never", 0)),
            recording("two", source("file", "l.wav", 0), source("file", "r.wav", 1)),
            recording("mem", source("memory", "UklGRg==", 0)),
            {**recording("fast", source("file", "f.wav", 0)).to_dict(), "transforms": [{"name": "Speed", "kwargs": {"factor": 0.9}}]},
            {**recording("loud", source("file", "v.wav", 0)).to_dict(), "transforms": [{"name": "Volume", "kwargs": {"factor": 2}}]},
            {"id": 3, "sources": "none"},
        ),
        "x_supervisions_dev.jsonl": lines(
            *(
                SupervisionSegment(id=f"{name}-{c}", recording_id=name, start=0, duration=1, channel=c)
                for name, c in [("one", 0), ("run", 0), ("two", 1), ("two", [0, 1]), ("mem", 0), ("fast", 0), ("loud", 0), ("new", 0), ("one", 5)]
            )
        ),
    }  # fmt: skip
    assert recordings("lhotse", files, "x_supervisions_dev.jsonl") == [
        ["audio/1.flac", "one"], ["", "run"], ["r.wav", "two"], ["l.wav", "two"], ["v.wav", "loud"], ["", "new"],
    ]  # fmt: skip
    sheet = find_format("lhotse").open(
        files, spec_of("lhotse", table="t", columns={"channel": "channel"}), "x_supervisions_dev.jsonl"
    )
    rows = [row for _, row in sheet]
    assert dict(sheet.noted) == {"cuts_not_of_a_file": 2}
    assert [row.channel for row in rows] == [1, 1, 1, None, 1, 1, 5]
    assert [row.noted for row in rows] == [
        (),
        ("commands_not_run",),
        (),
        ("rows_of_one_file",),
        ("transforms_not_applied",),
        (),
        (),
    ]
    assert [row.reason for row in rows] == [None] * 3 + ["annotation_not_a_channel", None, None, "annotation_malformed"]
    assert rows[-1].detail == "x_supervisions_dev.jsonl, line 9: recording 'one' has no channel 5"


def test_the_manifest_of_recordings_is_that_of_the_same_name_or_the_only_one() -> None:
    kind = find_format("lhotse")
    others = ["x_recordings_dev.jsonl.gz", "x_recordings_train.jsonl.gz"]
    assert kind.companions("x_supervisions_dev.jsonl.gz", others) == ["x_recordings_dev.jsonl.gz"]
    assert kind.companions("x_supervisions_test.jsonl.gz", others) == []
    assert kind.companions("supervisions.json", ["all-recordings.jsonl"]) == ["all-recordings.jsonl"]
    assert kind.companions("x_cuts_dev.jsonl.gz", others) == []


def test_supervisions_that_overlapping_cuts_repeat_are_rows_once() -> None:
    own = recording("r", source("file", "r.wav", 0))
    cuts = [
        MonoCut(id=f"c{i}", start=i, duration=5, channel=0, recording=own,
                supervisions=[SupervisionSegment(id="s", recording_id="r", start=4.1 - i, duration=2.0)])
        for i in range(3)
    ]  # fmt: skip
    text = lines(*cuts).replace(b"3.0999999999999996", b"3.1").replace(b"2.0999999999999996", b"2.1")
    rows, noted = read_noted("lhotse", text, table="t")
    assert spans(rows) == [(4.1, pytest.approx(6.1), None)]
    assert noted == {"records_repeated": 2}


def test_damage_in_a_manifest_of_lhotse_is_rejected_where_it_is() -> None:
    good = {"id": "s", "recording_id": "r", "start": 0, "duration": 1}
    cut = {
        "id": "c",
        "start": 1,
        "duration": 5,
        "supervisions": [good, 7, {**good, "start": None}, {**good, "start": 1e300}],
    }
    rows = read_as(
        "lhotse",
        json.dumps([good, 3, {"id": "x"}, cut, {**good, "recording_id": [4]}, {**good, "duration": "long"}]),
        table="t",
    )
    assert [row.detail for row in rows if row.reason] == [
        "[1]: 3 is not an object",
        '[2]: {"id": "x"} is neither a supervision, which has recording_id, start and duration, nor a cut, which has start, duration and'
        " supervisions",
        "[3]: supervisions[1]: 7 is not an object",
        "[3]: supervisions[2]: has no start",
        "[3]: supervisions[3]: start 1e+300, end 1e+300: no recording is so long",
        "[4]: recording_id is [4], expected the id of a recording",
        "[5]: duration is 'long'",
    ]
    assert spans([row for row in rows if not row.reason]) == [(0, 1, None), (1, 2, None)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.json": b'[{"id": "r", "sources": []}]'}, "no manifest of supervisions or cuts"),
        ({"a.json": b'[{"recording_id": "r", "start": 0, "duration": 1, "storage_type": "x"}]'}, "no manifest of supervisions or cuts"),
        ({"cuts.jsonl": b"", "supervisions.jsonl": b""}, "has supervisions and cuts, .*: cuts.jsonl, supervisions.jsonl; set `table`"),
        ({"supervisions.jsonl": b"- id: s\n  start: 0\n"}, "YAML; convert it by `lhotse copy"),
        ({"supervisions.jsonl.gz": gzip.compress(b"{}")[:-3]}, r"supervisions.jsonl.gz: damaged gzip"),
        ({"supervisions.jsonl": b"\xff\xfe\xfa"}, r"supervisions.jsonl: not utf-16 text"),
    ],
)  # fmt: skip
def test_what_is_no_manifest_of_lhotse_is_said(files: dict[str, bytes], message: str) -> None:
    with pytest.raises(UnreadableError, match=message):
        list(find_format("lhotse").open(files, spec_of("lhotse", table="t")))


# SpeechBrain


@given(
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(20_000, 10**6), TEXTS, TEXTS), max_size=6),
    st.sampled_from(["csv", "json", "nested", "old"]),
)
def test_what_is_written_as_a_speechbrain_manifest_is_read(rows: list[Any], form: str) -> None:
    """The old layout has columns that say how the values of each are to be read."""
    written = {
        f"id{i}": {"duration": length / 16000, "start": start, "stop": start + length, "wav": f"{{data_root}}/a/{i}.wav", "spk_id": spk, "wrd": text}
        for i, (start, length, spk, text) in enumerate(rows)
    }  # fmt: skip
    if form in ("csv", "old"):
        out = io.StringIO()
        names = ["ID", "duration", "start", "stop", "wav", "spk_id", "wrd"] + (
            ["wav_format", "wav_opts"] if form == "old" else []
        )
        writer = csv.DictWriter(out, names, restval="wav", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows([{"ID": name, **values} for name, values in written.items()])
        content = out.getvalue()
    elif form == "nested":
        content = json.dumps(
            {
                k: {**v, "wav": {"file": v["wav"], "start": v.pop("start"), "stop": v.pop("stop")}}
                for k, v in written.items()
            }
        )
    else:
        content = json.dumps(written)
    found = read_as("speechbrain", content, table="t")
    assert spans(found) == [(start, start + length, to_nfc(text) or None) for start, length, _, text in rows]
    for row, (_, _, spk, text) in zip(found, rows, strict=True):
        assert (row.fields["spk_id"], row.fields["text"], row.fields["wrd"]) == (
            to_nfc(spk),
            to_nfc(text),
            to_nfc(text),
        )
        assert set(row.fields) == {"text", "duration", "spk_id", "wrd"}
    assert recordings("speechbrain", content.encode()) == [[f"a/{i}.wav", f"id{i}"] for i in range(len(rows))]


def test_speechbrain_counts_samples_unless_told_otherwise() -> None:
    assert spec_of("speechbrain").row_unit == "samples"
    assert spec_of("speechbrain", time_unit="s").row_unit == "s"
    text = "ID,duration,start,stop,wav\na,3.0,0,48000,$data_folder/a.wav\nb,3.0,0,3.0,${root}/b.wav\nc,3.0,1,,c.wav\n"
    rows = read_as("speechbrain", text, table="t")
    assert [(row.start, row.end) for row in (rows[0], rows[2])] == [(0, 48000), (1, None)]
    assert rows[1].detail == "start 0 and stop 3.0 look like seconds, beside a duration of 3.0; set time_unit: s"
    assert spans(read_as("speechbrain", text.replace("48000", "3"), table="t", time_unit="s"))[:2] == [(0, 3, None)] * 2
    assert recordings("speechbrain", text.encode(), time_unit="s")[:2] == [["a.wav", "a"], ["b.wav", "b"]]


def test_damage_in_a_manifest_of_speechbrain_is_rejected_where_it_is() -> None:
    rows = read_as(
        "speechbrain", 'ID,wav,wrd\na,a.wav,"one, two"\nb,b.wav,x,y\nc,c.wav,"open\na,d.wav,again\n', table="t"
    )
    assert [(row.label, row.detail) for row in rows] == [
        ("one, two", None),
        ("x", "4 cells, and the header has 3"),
        (None, "not a line of CSV: unexpected end of data"),
        ("again", "the ID 'a' is there twice"),
    ]
    rows = read_as("speechbrain", '{"a": {"wav": ["l.wav"], "words": "hi"}, "b": 3, "c": {"wav": null}}', table="t")
    assert [row.detail for row in rows] == ['a: wav is ["l.wav"], expected one file', "b: 3 is not an object", None]
    for text, message in [
        ("file,wav\na,b\n", "not a manifest of SpeechBrain"),
        ('{"a": 1}', "not a manifest"),
        ("[1]", "not a manifest"),
        ('{"a": {}, "a": {}}', "has the key 'a' twice"),
    ]:
        with pytest.raises(UnreadableError, match=message):
            read_as("speechbrain", text, table="t")
