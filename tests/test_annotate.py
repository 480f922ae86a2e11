"""Rows join at most one recording, by a sidecar's place or by the name in a table."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from annotated_corpora import RANGES, annotate_source, field_names, join, ranges, read
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from clipmill.schemas.errors import ConfigError
from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.file_text import decode_text
from clipmill.stages.annotations.rows import AmbiguousError, UnreadableError

# Sidecars


@pytest.mark.parametrize(
    ("sidecar", "at"),
    [
        ("{stem}.csv", {"x/a.csv": "x/a.wav", "b.c.csv": "b.c.flac"}),
        ("{name}.txt", {"x/a.wav.txt": "x/a.wav", "b.c.flac.txt": "b.c.flac"}),
        ("labels/{stem}.csv", {"x/labels/a.csv": "x/a.wav", "labels/b.c.csv": "b.c.flac"}),
        ("./labels/{stem}/{name}.csv", {"x/labels/a/a.wav.csv": "x/a.wav"}),
        ("all.csv", {"x/all.csv": "x/a.wav", "all.csv": "b.c.flac"}),
        ("{stem-.c}.csv", {"x/a.csv": "x/a.wav", "b.csv": "b.c.flac"}),
        ("{stem-c}-{stem}.csv", {"x/a-a.csv": "x/a.wav", "b.-b.c.csv": "b.c.flac"}),
    ],
)
def test_sidecars_are_found_from_their_recordings_folder(sidecar: str, at: dict[str, str], tmp_path: Path) -> None:
    files = {file: f"0,1,{recording}\n" for file, recording in at.items()}
    found = join(tmp_path, ["x/a.wav", "b.c.flac"], files, sidecar=sidecar, header=False, columns=RANGES)
    rows = {path: [(file, row.label) for file, row in rows] for path, rows in found.by_path.items()}
    assert rows == {recording: [(file, recording)] for file, recording in at.items()}


@pytest.mark.parametrize("sidecar", ["{stem-}.csv", "{stem-/..}.csv", "{name-a}.csv", "{stem_a}.csv", "{}.csv"])
def test_other_placeholders_are_refused(sidecar: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"only the placeholders .* or such as \{stem-_mic1\}"):
        join(tmp_path, ["a.wav"], {}, sidecar=sidecar)


def test_recordings_of_one_stem_share_a_sidecar(tmp_path: Path) -> None:
    found = join(
        tmp_path, ["a.wav", "a.flac"], {"a.csv": "0,1,x\n"}, sidecar="{stem}.csv", header=False, columns=RANGES
    )
    assert set(found.by_path) == {"a.wav", "a.flac"}


def test_a_sidecar_without_rows_is_as_none(tmp_path: Path) -> None:
    assert join(tmp_path, ["a.wav"], {"a.csv": "\n"}, sidecar="{stem}.csv").by_path == {}


def test_an_unreadable_sidecar_rejects_its_own_recording_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"0,1,\xff\xff\xff\n")
    found = join(tmp_path, ["a.wav", "b.wav"], {"b.csv": "0,1,x\n"}, sidecar="{stem}.csv", header=False, columns=RANGES)
    assert [(f, r.line, r.reason) for f, r in found.by_path["a.wav"]] == [("a.csv", 1, "annotation_unreadable")]
    assert [r.reason for _, r in found.by_path["b.wav"]] == [None]


def test_braces_in_names_are_plain_text(tmp_path: Path) -> None:
    found = join(
        tmp_path, ["{name}.wav"], {"{name}.csv": "0,1,x\n"}, sidecar="{stem}.csv", header=False, columns=RANGES
    )
    assert set(found.by_path) == {"{name}.wav"}


# Tables

NFC, NFD = (unicodedata.normalize(form, "é.wav") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("recordings", "name", "expected"),
    [
        (["a/x.wav", "b/x.wav"], "b/x.wav", "b/x.wav"),
        (["a/x.wav", "b/x.wav"], "./b/x.wav", "b/x.wav"),
        (["a/x.wav", "b/x.wav"], "/b/x.wav", "b/x.wav"),
        (["a/x.wav", "b/x.wav"], "b\\x.wav", "b/x.wav"),
        (["a/x.wav", "b/x.wav"], "b/x.mp3", "b/x.wav"),
        (["a/x.wav", "b/x.wav"], "b/x", "b/x.wav"),
        (["a/x.wav", "b/x.wav"], "x.wav", "recording_ambiguous"),
        (["x.wav", "x.flac"], "x", "recording_ambiguous"),
        (["x.wav", "x.flac"], "x.flac", "x.flac"),
        (["x.wav", "x.flac"], "x.mp3", "recording_ambiguous"),
        (["a/b/x.wav"], "x.wav", "a/b/x.wav"),
        (["a/b/x.wav"], "x", "a/b/x.wav"),
        (["a/b/x.ogg"], "x.wav", "a/b/x.ogg"),
        (["a/x.wav"], "data/corpus/a/x.wav", "a/x.wav"),
        (["a/x.wav"], "C:\\data\\a\\x.wav", "a/x.wav"),
        (["a.b.wav"], "a.b", "a.b.wav"),
        (["a.b.wav"], "a", "recording_not_found"),
        (["x.wav"], "X.wav", "recording_not_found"),
        (["x.wav"], "y.wav", "recording_not_found"),
        (["x.wav"], "x.txt", "recording_not_found"),
        (["x.wav"], "", "recording_not_found"),
        (["x.wav"], ".", "recording_not_found"),
        (["x.wav"], "..", "recording_not_found"),
        (["x.wav"], "../../etc/passwd", "recording_not_found"),
        (["x.wav"], "/etc/passwd", "recording_not_found"),
        (["[1] #2 (ä).wav"], "[1] #2 (ä).wav", "[1] #2 (ä).wav"),
        ([NFC], NFD, NFC),
        ([NFD], NFC, NFD),
        ([NFC, NFD], NFC, NFC),
        ([NFC, NFD], NFD, NFD),
        (["a/x.wav"], "b/x.wav", "recording_not_found"),
    ],
)
def test_a_table_finds_recordings_by_path_then_name_then_stem(
    recordings: list[str], name: str, expected: str, tmp_path: Path
) -> None:
    found = join(tmp_path, recordings, {"t.csv": f'take,filename\n1,"{name}"\n'}, table="t.csv", recording="filename")
    joined = [(path, row.reason) for path, rows in found.by_path.items() for _, row in rows]
    if expected in recordings:
        assert joined == [(expected, None)] and not found.strays
    else:
        assert not joined
        assert [(s.file, s.row.line, s.row.reason) for s in found.strays] == [("t.csv", 2, expected)]


def test_a_path_out_of_the_root_never_reaches_a_file_outside(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_text("x")
    root = tmp_path / "root"
    names = ["../secret.wav", str(tmp_path / "secret.wav"), "a/../../secret.wav", "..\\secret.wav", "~/secret.wav"]
    table = "filename\n" + "".join(f"{name}\n" for name in names)
    found = join(root, ["a/x.wav"], {"t.csv": table}, table="t.csv", recording="filename")
    assert found.by_path == {} and [s.row.reason for s in found.strays] == ["recording_not_found"] * len(names)


@settings(max_examples=50, deadline=None)
@given(names=st.lists(st.text(st.sampled_from("ab./\\~é{}"), min_size=1, max_size=12), min_size=1, max_size=20))
def test_whatever_a_table_names_only_listed_recordings_are_joined(names: list[str], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("join")
    table = "filename\n" + "".join(f"{name}\n" for name in names)
    found = join(folder, ["a.wav", "b/a.wav", "b/b.wav"], {"t.csv": table}, table="t.csv", recording="filename")
    assert set(found.by_path) <= {"a.wav", "b/a.wav", "b/b.wav"}
    assert sum(map(len, found.by_path.values())) + len(found.strays) == len(names)


def test_rows_of_one_recording_stay_in_the_tables_order(tmp_path: Path) -> None:
    table = "f,start,end\na.wav,5,6\nb.wav,0,1\na.wav,1,2\na.wav,3,x\n"
    found = join(
        tmp_path, ["a.wav", "b.wav"], {"meta/t.csv": table},
        table="meta/t.csv", recording="f", columns={"start": "start", "end": "end"},
    )  # fmt: skip
    assert [(file, row.line, row.reason) for file, row in found.by_path["a.wav"]] == [
        ("meta/t.csv", 2, None),
        ("meta/t.csv", 4, None),
        ("meta/t.csv", 5, "annotation_not_a_number"),
    ]
    assert field_names(found) == set()


@pytest.mark.parametrize(
    ("header", "recording"),
    [
        ("", 0),
        ("take,fold\n", "take"),
        ("take,fold\n", 0),
        ("take,fold\n", "{take}.wav"),
        ("take,fold\n", ["{fold}-{take}.wav", "take"]),
        ("", "{0}.wav"),
    ],
)
def test_the_recording_is_a_column_an_index_or_a_template(header: str, recording: Any, tmp_path: Path) -> None:
    found = join(
        tmp_path, ["A.wav"], {"t.csv": f"{header}A,1\n"}, table="t.csv", recording=recording, header=bool(header)
    )
    assert set(found.by_path) == {"A.wav"}


def test_templates_are_tried_in_their_order(tmp_path: Path) -> None:
    table = "fold,take,other\n1,A,2-B.wav\n2,B,1-A.wav\n3,C,1-A.wav\n4,D,x\n"
    found = join(
        tmp_path, ["1-A.wav", "2-B.wav"], {"t.csv": table}, table="t.csv", recording=["{fold}-{take}.wav", "other"]
    )
    assert {p: [r.line for _, r in rows] for p, rows in found.by_path.items()} == {"1-A.wav": [2, 4], "2-B.wav": [3]}
    assert [(s.row.line, s.row.detail) for s in found.strays] == [(5, "'4-D.wav', 'x'")]


@pytest.mark.parametrize("recording", ["file", 5, "{fold}-{file}.wav", ["take", "file"]])
def test_a_recording_column_that_is_missing_is_named(recording: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"take, fold") as caught:
        join(tmp_path, ["A.wav"], {"t.csv": "take,fold\nA,1\n"}, table="t.csv", recording=recording)
    assert caught.value.key == "sources.s.annotations.recording"
    assert ("5" if recording == 5 else "file") in str(caught.value)


def test_a_short_row_is_rejected_alone_even_if_it_is_the_first(tmp_path: Path) -> None:
    table = "start,end,filename\n1\n0,1,A.wav\n"
    found = join(
        tmp_path, ["A.wav"], {"t.csv": table}, table="t.csv", recording="filename", columns={"start": 0, "end": 1}
    )
    assert [s.row.line for s in found.strays] == [2] and set(found.by_path) == {"A.wav"}


def test_braces_in_a_cell_are_plain_text(tmp_path: Path) -> None:
    found = join(tmp_path, ["a{1}.wav"], {"t.csv": "f\na{1}\nb\n"}, table="t.csv", recording="{f}.wav")
    assert set(found.by_path) == {"a{1}.wav"}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("absent.csv", "does not exist"),
        ("folder", "is a folder"),
        ("bad.csv", "annotations.encoding"),
        ("a.wav/t.csv", "does not exist"),
    ],
)
def test_a_table_that_cannot_be_read_is_a_config_error(table: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "bad.csv").write_bytes(b"f\n\xff\n")
    with pytest.raises(ConfigError, match=words) as caught:
        join(tmp_path, ["a.wav"], {}, table=table, recording="f")
    assert caught.value.key == "sources.s.annotations.table" and table in str(caught.value)


# Real files


@pytest.mark.parametrize(
    ("file", "spec", "n", "first"),
    [
        ("audacity-labels/405_marron1_June_14_2016_69640887.audacity.txt", {}, 61, (0, 0.7698181682, "SIL")),
        (
            "raven-selection-table/Recording_1_Segment_02.Table.1.selections.txt",
            {"header": True, "columns": {"start": "Begin Time (s)", "end": "End Time (s)", "label": "species"}},
            6,
            (154.387792767, 154.911598217, "EATO"),
        ),
        (
            "raven-selection-table/raven_with_Annotation_col.txt",
            {"header": True, "columns": {"start": 3, "end": 4, "label": "Annotation"}},
            1,
            (1.897648165999982, 4.110570810999974, "CSWA"),
        ),
        (
            "desed-strong-tsv/test_dcase2018.head.tsv",
            {"header": True, "columns": {"start": "onset", "end": "offset", "label": "event_label"}},
            12,
            (0, 9.971, "Vacuum_cleaner"),
        ),
        (
            "audioset-csv/balanced_train_segments.drummernet.head.csv",
            {"header": True, "columns": {"start": 1, "end": 2, "label": "positive_labels"}},
            9,
            (30, 40, "/m/09x0r,/t/dd00088"),
        ),
        (
            "urbansound8k-csv/UrbanSound8K.excerpt.csv",
            {"header": True, "columns": {"start": "start", "end": "end", "label": "class"}},
            60,
            (0, 0.317551, "dog_bark"),
        ),
    ],
)
def test_tables_of_real_tools_are_read_whole(
    corpora: Path, file: str, spec: dict[str, Any], n: int, first: tuple[float, float, str]
) -> None:
    found = ranges(read((corpora / "annotations" / file).read_bytes(), **spec))
    assert len(found) == n and found[0] == first


def test_a_real_table_without_rows_is_empty(corpora: Path) -> None:
    content = (corpora / "annotations/raven-selection-table/EmptyExample.Table.1.selections.txt").read_bytes()
    assert read(content, header=True, columns={"start": "Begin Time (s)"}) == []


@pytest.mark.parametrize("kind", ["", "short."])
def test_real_utf16_is_the_same_text_as_utf8(corpora: Path, kind: str) -> None:
    texts = [
        decode_text(
            (corpora / f"annotations/textgrid/the_north_wind_and_the_sun.{kind}{e}.TextGrid").read_bytes(), "auto"
        )
        for e in ("utf8", "utf16")
    ]
    assert texts[0].split() == texts[1].split() and len(texts[0]) > 900


def test_singapura_labels_join_their_recording_in_another_folder(corpora: Path) -> None:
    root = corpora / "soundata/tests/resources/sound_datasets/singapura"
    (table,) = (root / "labels_public").glob("*.csv")
    found = annotate_source(
        root,
        annotations={
            "table": f"labels_public/{table.name}",
            "recording": "filename",
            "columns": {"start": "onset", "end": "offset", "label": "event_label"},
        },
    )
    ((path, rows),) = found.by_path.items()
    assert path == f"labelled/2020-08-19/{table.stem}.flac" and not found.strays
    assert ranges([row for _, row in rows])[:2] == [(0, 0.853, "9-2"), (2.027, 5.32, "9-2")]
    assert [row.fields["remarks"] for _, row in rows][2:4] == ["Footsteps", "Cough"]
    assert field_names(found) == {"annotator", "proximity", "remarks"}


def test_every_row_of_esc10_finds_its_recording(corpora: Path) -> None:
    spec = {"table": "esc50.rows.csv", "columns": {"label": "category"}}
    found = annotate_source(corpora / "esc10", annotations={**spec, "recording": "{fold}-{src_file}-{take}.ogg"})
    assert not found.strays and len(found.by_path) == 240 and all(len(rows) == 1 for rows in found.by_path.values())
    dogs = {path.split("/")[0] for path, rows in found.by_path.items() if rows[0][1].label == "dog"}
    assert dogs == {"001 - Dog bark"}
    # The table's own names are of another release: they must not match anything by accident.
    found = annotate_source(corpora / "esc10", annotations={**spec, "recording": "filename"})
    assert not found.by_path and {s.row.reason for s in found.strays} == {"recording_not_found"}


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3"])
def test_ljspeech_transcripts_join_by_path(corpora: Path, kind: str) -> None:
    spec = {"table": f"metadata_{kind}.csv", "recording": "audio_file", "columns": {"label": "text"}}
    found = annotate_source(corpora / "coqui-tts/tests/data/ljspeech", annotations=spec)
    assert not found.strays and len(found.by_path) == 8
    assert found.by_path[f"wavs/LJ001-0002.{kind}"][0][1].label == "in being comparatively modern."
    assert any('"' in str(row.label) for rows in found.by_path.values() for _, row in rows)


def test_ljspeech_stems_need_one_encoding_to_be_chosen(corpora: Path) -> None:
    root = corpora / "coqui-tts/tests/data/ljspeech"
    spec = {"table": "metadata.csv", "recording": 0, "header": False, "columns": {"label": 1, "normalized": 2}}
    found = annotate_source(root, include=["*.flac"], annotations=spec)
    assert not found.strays and set(found.by_path) == {f"wavs/LJ001-{k:04d}.flac" for k in range(1, 9)}
    found = annotate_source(root, annotations=spec)
    assert not found.by_path and {s.row.reason for s in found.strays} == {"recording_ambiguous"}


# Round trip

CELLS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\ufeff") | st.sampled_from("\"',;|\t\r\n #é犬"), max_size=12
).map(str.strip)


@settings(max_examples=300, deadline=None)
@given(
    table=st.lists(st.tuples(CELLS, CELLS, CELLS).filter(any), max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"]),
    header=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_rows_are_read_as_they_were_written(
    table: list[tuple[str, str, str]], delimiter: str, encoding: str, header: bool, quoting: Any
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator="\r\n")
    writer.writerows([("a", "b", "c"), *table] if header else table)
    rows = read(
        text.getvalue().encode(encoding),
        header=header,
        columns={"a": 0, "b": 1, "c": 2},
        delimiter=delimiter,
        quote='"',
        encoding=encoding if encoding.endswith("e") else "auto",
    )
    assert [tuple(row.fields[name] for name in "abc") for row in rows] == [tuple(map(to_nfc, row)) for row in table]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans(), st.sampled_from(["auto", "utf-8", "utf-16", "latin-1"]))
def test_any_bytes_are_rows_or_unreadable(content: bytes, header: bool, encoding: str) -> None:
    try:
        rows = read(content, header=header, columns=RANGES, encoding=encoding)
    except (UnreadableError, AmbiguousError):
        return
    for row in rows:
        assert row.reason or (row.start is not None and row.end is not None and 0 <= row.start < row.end)
