"""Lines of text in speech and sound corpora: CTM, STM, UEM, LibriSpeech, TIMIT, AudioSet, and tables cut at blanks."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from annotation_reading import read_as, read_noted, reasons, spans, spec_of
from hypothesis import given
from hypothesis import strategies as st
from lhotse import SupervisionSet
from pydantic import ValidationError

from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.registered import find_format
from clipmill.stages.annotations.rows import UnreadableError

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
WORDS = NAMES.filter(lambda word: word not in ("@", "<ALT_BEGIN>", "<ALT>", "<ALT_END>", "<NA>"))
TEXTS = st.lists(NAMES.filter(lambda word: not word.startswith("<")), min_size=1, max_size=5).map(" ".join)
RECORDINGS = NAMES.filter(lambda name: not name.startswith(";;"))
RANGES = st.tuples(st.integers(0, 10**6), st.integers(1, 10**6))
"""Start and duration in milliseconds."""
BLANKS = st.sampled_from([" ", "  ", "\t", " \t "])
ENDS = st.sampled_from(["\n", "\r\n"])


def seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03}"


# CTM, STM and UEM


@given(st.lists(st.tuples(RECORDINGS, st.sampled_from(["1", "A", "0"]), RANGES, WORDS)), BLANKS, ENDS)
def test_what_is_written_as_ctm_is_read(words: list[Any], blank: str, end: str) -> None:
    lines = [blank.join([r, c, seconds(start), seconds(length), word]) for r, c, (start, length), word in words]
    rows = read_as("ctm", end.join([";; made by hand", "", *lines]), table="all.ctm")
    assert [(row.label, row.fields["channel"]) for row in rows] == [(to_nfc(word), c) for _, c, _, word in words]
    assert [(row.start, row.end) for row in rows] == [
        (pytest.approx(start / 1000), pytest.approx((start + length) / 1000)) for _, _, (start, length), _ in words
    ]
    assert [row.line for row in rows] == list(range(3, 3 + len(words)))


@pytest.mark.parametrize("name", ["supervision.ctm", "supervision_with_scores.ctm"])
def test_files_of_lhotse_give_the_words_that_lhotse_aligns(corpora: Path, name: str) -> None:
    folder = corpora / "lhotse/test/fixtures"
    aligned = SupervisionSet.from_json(folder / "supervision.json").with_alignment_from_ctm(folder / name)
    expected = {
        (round(a.start, 6), round(a.end, 6), a.symbol, a.score)
        for s in aligned
        for a in (s.alignment or {}).get("word", [])
    }
    sheet = find_format("ctm").open((folder / name).read_bytes(), spec_of("ctm", table="all.ctm"))
    found = set()
    for cells, row in sheet:
        assert cells[sheet.column("recording") or 0].startswith("recording-")
        score = row.fields.get("confidence")
        found.add((round(row.start or 0, 6), round(row.end or 0, 6), row.label, float(score) if score else None))
    assert expected <= found  # Lhotse keeps the words that lie inside a supervision
    assert len(expected) >= 4


def test_ctm_reads_words_once_and_rejects_what_is_none() -> None:
    text = (
        "a A 0.1 0.2 hi 0.5\na 1 1\na 1 x 1 hm\na A * * <ALT_BEGIN>\na A 1 .5 um 0.1\na A * * <ALT>\na A 1 .5 @\n"
        "a A 1 .5 uh\na A * * <ALT_END>\na 1 5 1 word 0.9 lex spk more\n"
    )
    rows, noted = read_noted("ctm", text, table="all.ctm")
    assert [(row.label, row.reason) for row in rows] == [
        ("hi", None), (None, "annotation_malformed"), ("hm", "annotation_not_a_number"), ("um", None), ("word", "annotation_malformed"),
    ]  # fmt: skip
    assert (
        rows[1].detail
        == "3 fields, expected 5 to 8: recording, channel, start, duration, word, confidence, type, speaker"
    )
    assert noted == {"records_passed_over": 2}


@pytest.mark.parametrize(("name", "line"), [("ctm", "a {} 0 1 hi"), ("stm", "a {} spk 0 1 hi"), ("uem", "a {} 0 1")])
def test_sides_of_telephone_speech_are_channels_if_they_are_asked_for(name: str, line: str) -> None:
    text = "\n".join(line.format(c) for c in ("A", "B", "1", "2", "x", "0"))
    rows = read_as(name, text, table="all", columns={"channel": "channel"})
    assert [row.channel for row in rows] == [1, 2, 1, 2, None, None]
    assert reasons(rows)[4:] == ["annotation_not_a_channel"] * 2
    plain = read_as(name, text, table="all")
    assert [row.fields["channel"] for row in plain] == ["A", "B", "1", "2", "x", "0"]


@given(
    st.lists(st.tuples(RECORDINGS, NAMES, RANGES, st.sampled_from(["", "<o,f0,male>", "<NA>", "<O>"]), TEXTS)),
    BLANKS,
    ENDS,
)
def test_what_is_written_as_stm_is_read(segments: list[Any], blank: str, end: str) -> None:
    lines = [
        blank.join([r, "1", speaker, seconds(a), seconds(a + b), *filter(None, [categories]), text])
        for r, speaker, (a, b), categories, text in segments
    ]
    rows = read_as("stm", end.join([';; CATEGORY "0" ""', *lines]), table="all.stm")
    assert spans(rows) == [
        (a / 1000, pytest.approx((a + b) / 1000), to_nfc(text)) for _, _, (a, b), _, text in segments
    ]
    for row, (_, speaker, _, categories, text) in zip(rows, segments, strict=True):
        assert row.fields["text"] == to_nfc(text)
        assert row.fields["speaker"] == to_nfc(speaker)
        assert row.fields.get("categories", "") == categories.strip("<>")


def test_stm_keeps_words_in_brackets_and_counts_what_is_not_scored() -> None:
    text = (
        "t 1 inter_segment_gap 0 14.87 <o,,unknown> ignore_time_segment_in_scoring\nt 1 spk 14.87 16 <unk>  said 'so'\nt 1 spk 17 18\n"
        "t 1 spk 19\nt 1 spk 5 4 x\n"
    )
    rows, noted = read_noted("stm", text, table="all.stm")
    assert [(row.label, row.reason) for row in rows] == [
        ("<unk>  said 'so'", None), (None, None), (None, "annotation_malformed"), ("x", "annotation_end_before_start"),
    ]  # fmt: skip
    assert noted == {"records_passed_over": 1}


@given(st.lists(st.tuples(RECORDINGS, RANGES)), BLANKS, ENDS)
def test_what_is_written_as_uem_is_read(regions: list[Any], blank: str, end: str) -> None:
    text = end.join(blank.join([r, "<NA>", seconds(a), seconds(a + b)]) for r, (a, b) in regions)
    rows = read_as("uem", text, table="all.uem")
    assert spans(rows) == [(a / 1000, pytest.approx((a + b) / 1000), None) for _, (a, b) in regions]
    assert reasons(read_as("uem", "a 1 0 1 2\na 1 0\n", table="all.uem")) == ["annotation_malformed"] * 2


# LibriSpeech and TIMIT


@given(st.lists(st.tuples(NAMES, TEXTS), unique_by=lambda each: each[0]), ENDS)
def test_what_is_written_like_librispeech_is_read(utterances: list[Any], end: str) -> None:
    rows = read_as("librispeech", end.join(f"{name} {text}" for name, text in utterances))
    assert spans(rows) == [(None, None, to_nfc(text)) for _, text in utterances]
    assert [row.fields["text"] for row in rows] == [to_nfc(text) for _, text in utterances]


def test_a_file_of_librispeech_names_speaker_and_chapter(corpora: Path) -> None:
    content = (corpora / "annotations/librispeech-trans/1089-134686.trans.txt").read_bytes()
    expected = [line.split(" ", 1) for line in content.decode().splitlines()]
    sheet = find_format("librispeech").open(content, spec_of("librispeech"))
    rows = list(sheet)
    assert [(cells[sheet.column("utterance") or 0], row.label) for cells, row in rows] == [
        tuple(each) for each in expected
    ]
    assert all((row.fields["speaker"], row.fields["chapter"]) == ("1089", "134686") for _, row in rows)


def test_other_names_say_nothing_about_a_speaker() -> None:
    rows = read_as(
        "librispeech", "84-121550-0000 ONE\nsome-1-2 TWO\n84_121123_000007_000001 THREE\nlast\nsome-1-2 OTHER\n"
    )
    assert [row.fields["speaker"] for row in rows] == ["84", "", "", "", ""]
    assert [row.detail for row in rows[3:]] == [
        "no text after 'last'; expected an utterance's name and its text", "'some-1-2' is on line 2 already",
    ]  # fmt: skip
    assert "speaker" not in read_as("librispeech", "x ONE\n")[0].fields


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**6), NAMES)), ENDS)
def test_what_is_written_like_timit_is_read(phones: list[Any], end: str) -> None:
    text = end.join(f"{start} {start + length} {phone}" for start, length, phone in phones)
    assert spans(read_as("timit", text)) == [(start, start + length, to_nfc(phone)) for start, length, phone in phones]


def test_timit_counts_samples_and_sentences_are_texts() -> None:
    assert spec_of("timit").row_unit == "samples"
    (sentence,) = read_as("timit", "0 46797 She had your dark suit.\n", sidecar="{stem}.TXT")
    assert (sentence.label, sentence.fields["text"]) == ("She had your dark suit.",) * 2
    assert read_as("timit", "0 46797 Go.\n", sidecar="{stem}.txt")[0].fields["text"] == "Go."
    rows = read_as("timit", "0 3050 h#\n3050 4559.5 sh\n3050\n4559 3050 ix\n")
    assert reasons(rows) == [
        None,
        "annotation_fraction_of_sample",
        "annotation_malformed",
        "annotation_end_before_start",
    ]
    assert "text" not in rows[0].fields or not rows[0].fields["text"]


# AudioSet

OFFICIAL = (
    "# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=22160, num_segs=22160, num_unique_labels=527, num_positive_labels=52882\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
)
MIDS = st.lists(st.from_regex(r"/[mt]/[a-z0-9_]{2,7}", fullmatch=True), min_size=1, max_size=4)
VIDEOS = st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True)


@given(st.lists(st.tuples(VIDEOS, RANGES, MIDS)), st.booleans(), st.booleans())
def test_segments_of_audioset_are_read(segments: list[Any], official: bool, excerpts: bool) -> None:
    header, comma = (OFFICIAL, ", ") if official else ("YTID,start_seconds,end_seconds,positive_labels\n", ",")
    lines = [comma.join([video, seconds(a), seconds(a + b), f'"{",".join(mids)}"']) for video, (a, b), mids in segments]
    rows = read_as("audioset", header + "\n".join(lines), table="t.csv", excerpts=excerpts)
    times = [(None, None) if excerpts else (a / 1000, pytest.approx((a + b) / 1000)) for _, (a, b), _ in segments]
    assert spans(rows) == [(*time, ",".join(mids)) for time, (_, _, mids) in zip(times, segments, strict=True)]


def test_a_real_table_of_audioset_is_read(corpora: Path) -> None:
    path = corpora / "annotations/audioset-csv/balanced_train_segments.drummernet.head.csv"
    with path.open(newline="") as file:
        expected = [
            (float(r["start_seconds"]), float(r["end_seconds"]), r["positive_labels"]) for r in csv.DictReader(file)
        ]
    assert spans(read_as("audioset", path.read_bytes(), table="t.csv")) == expected
    assert len(expected) == 9


def test_damaged_rows_of_audioset_are_rejected() -> None:
    rows = read_as(
        "audioset",
        OFFICIAL + '#NAME?,1,2,"/m/a"\n--PJHxphWEs, 30.000, 40.000, /m/09x0r,/t/dd00088\n--PJHxphWEs,1,"a\n',
        table="t",
    )
    assert [row.detail for row in rows] == [
        None,  # what a spreadsheet made of an id: no recording has this name
        "5 cells, expected 4; several labels stand in quotes, with commas between them",
        "not a line of CSV: unexpected end of data",
    ]
    for text in ("a,b\n", "--PJHxphWEs,30.000,40.000,x\n", "# a comment alone\n"):
        with pytest.raises(UnreadableError, match="not a table of AudioSet: expected the header YTID"):
            read_as("audioset", text, table="t.csv")


def names(text: str, **given: Any) -> list[list[str]]:
    """Return what the rows of a table name, each in the order in which it is looked up."""
    sheet = find_format("audioset").open(text.encode(), spec_of("audioset", table="t", **given))
    at = {name: sheet.column(name) or 0 for name in ("segment_id", "YTID", "start_seconds", "end_seconds")}
    return [[cells[place] for place in at.values()] for cells, _ in sheet]


def test_strong_labels_are_events_of_segments_and_absent_ones_are_counted() -> None:
    text = (
        "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\tpresent\nb0RFKhbpFJA_30000\t0.0\t1.5\t/m/a\tPRESENT\n"
        "b0RFKhbpFJA_30000\t1.5\t2\t/m/b\tNOT_PRESENT\nb0RFKhbpFJA_3x\t0\t1\t/m/a\tPRESENT\nb0RFKhbpFJA_5\t0\t1\n"
    )
    rows, noted = read_noted("audioset", text, table="t.tsv")
    assert [(row.start, row.end, row.label, row.reason) for row in rows] == [
        (0, 1.5, "/m/a", None), (0, 1, "/m/a", "annotation_malformed"), (0, 1, None, "annotation_malformed"),
    ]  # fmt: skip
    assert noted == {"events_not_present": 1}
    assert names(text)[0] == ["b0RFKhbpFJA_30000", "b0RFKhbpFJA", "30.000", "40.000"]
    weak = OFFICIAL + '--PJHxphWEs, 30.000, 40.000, "/m/a"\n-0SdAVK79lg, 0.000, 7.500, "/m/a"\n'
    assert names(weak) == [
        ["--PJHxphWEs_30000", "--PJHxphWEs", "30.000", "40.000"],
        ["-0SdAVK79lg_0", "-0SdAVK79lg", "0.000", "7.500"],
    ]


# Tables cut at blanks


@given(st.lists(st.tuples(NAMES, NAMES, TEXTS), min_size=1), BLANKS, ENDS)
def test_a_table_cut_at_blanks_is_read(rows: list[Any], blank: str, end: str) -> None:
    text = end.join([f"id kind{blank}text ", *(f"{blank}{a}{blank}{b}{blank}{c} \t" for a, b, c in rows)])
    found = read_as("csv", text, delimiter="whitespace", rest=True, columns={"label": "text"}, fields=["kind"])
    assert [(row.label, row.fields["kind"]) for row in found] == [(to_nfc(c), to_nfc(b)) for _, b, c in rows]
    by_index = read_as(
        "csv",
        text.split(end, 1)[1],
        delimiter="whitespace",
        rest=True,
        header=False,
        columns={"label": 2},
        fields={"kind": 1},
    )
    assert [(row.label, row.fields["kind"]) for row in by_index] == [(to_nfc(c), to_nfc(b)) for _, b, c in rows]


def test_speakers_of_vctk_come_from_regions_of_several_words(corpora: Path) -> None:
    content = (corpora / "annotations/vctk-speaker-info/speaker-info.head.txt").read_bytes()
    spec = spec_of("csv", table="speaker-info.txt", recording="ID", delimiter="whitespace", rest=True)
    regions = {cells[0]: row.fields.get("REGION") for cells, row in find_format("csv").open(content, spec)}
    assert regions["225"] == "Southern  England"
    assert regions["226"] == "Surrey"
    assert regions["248"] is None


def test_without_rest_more_cells_than_columns_are_counted() -> None:
    rows = read_as("csv", "a b\n1 2 3\n\n4 5\n", delimiter="whitespace", columns={"label": "b"})
    assert [(row.label, row.noted, row.line) for row in rows] == [("2", ("rows_too_wide",), 2), ("5", (), 4)]


def test_times_of_a_table_cut_at_blanks_have_decimal_commas() -> None:
    rows = read_as("csv", "0,5  1,25 dog\n1,5\t2,0 a \"big\" cat\n", delimiter="whitespace", rest=True, header=False,
                   columns={"start": 0, "end": 1, "label": 2})  # fmt: skip
    assert spans(rows) == [(0.5, 1.25, "dog"), (1.5, 2.0, 'a "big" cat')]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rest": True}, "`rest` needs `delimiter: whitespace`"),
        ({"delimiter": "whitespace", "quote": '"'}, "quotes are part of the text"),
    ],
)
def test_what_does_not_go_with_blanks_is_said(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec_of("csv", **given)
