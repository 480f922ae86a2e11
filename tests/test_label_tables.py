"""Labels of Audacity and selection tables of Raven come in as these programs write them."""

from __future__ import annotations

import csv
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from annotation_reading import DECLARED, read_as, read_noted, reasons, spans
from hypothesis import given
from hypothesis import strategies as st

from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.rows import MissingColumnError, SettingError, UnreadableError

TEXTS = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=10).map(str.strip)
TIMES = st.decimals(0, 10_000, places=6)
LENGTHS = st.decimals("0.01", 1000, places=6)
SPANS = st.lists(st.tuples(TIMES, LENGTHS, TEXTS, st.integers(0, 24_000) | st.none()), max_size=6)

# Audacity


def test_a_file_of_audacity_gives_what_it_holds(corpora: Path) -> None:
    path = corpora / "annotations" / "audacity-labels" / "405_marron1_June_14_2016_69640887.audacity.txt"
    expected = [line.split("\t") for line in path.read_text().splitlines() if line]
    assert spans(read_as("audacity", path.read_bytes())) == [(float(a), float(b), label) for a, b, label in expected]


@given(SPANS, st.sampled_from(".,"), st.sampled_from(["\n", "\r\n"]))
def test_what_audacity_writes_is_read(labels: Any, decimal: str, end: str) -> None:
    written = ""
    for start, length, text, low in labels:
        written += f"{start}\t{start + length}\t{text}".replace(".", decimal, 2) + end
        written += f"\\\t{low}{decimal}500000\t{low + 100}{decimal}000000{end}" if low is not None else ""
    rows = read_as("audacity", written)
    assert spans(rows) == [
        (float(s), float(s + n), to_nfc(text.replace(".", decimal, 0)) or None) for s, n, text, _ in labels
    ]
    expected = [("", "") if low is None else (f"{low}.500000", f"{low + 100}.000000") for *_, low in labels]
    if any(expected) and any(low is not None for *_, low in labels):
        assert [(row.fields["low_hz"], row.fields["high_hz"]) for row in rows] == expected


def test_labels_may_be_missing_and_hold_tabs() -> None:
    assert spans(read_as("audacity", "0.5\t1.5\n2\t3\t\n4\t5\ta\tb\n")) == [
        (0.5, 1.5, None),
        (2, 3, None),
        (4, 5, "a b"),
    ]


def test_a_label_has_one_pair_of_frequencies() -> None:
    rows = read_as("audacity", "0\t1\ta\n\\\t100\t200\n\\\t300\t400\n")
    assert (rows[0].fields, reasons(rows)) == ({"low_hz": "100", "high_hz": "200"}, [None, "annotation_malformed"])


def test_points_are_rejected_unless_they_get_a_length() -> None:
    content = "1.0\t1.0\tbeat\n2.0\t3.0\tdog\n"
    rows = read_as("audacity", content)
    assert reasons(rows) == ["annotation_malformed", None]
    assert "set annotations.points_s" in str(rows[0].detail)
    assert spans(read_as("audacity", content, points_s=0.5)) == [(0.75, 1.25, "beat"), (2, 3, "dog")]


def test_bad_labels_are_rejected_one_by_one() -> None:
    rows = read_as("audacity", "\\\t1\t2\n0\t1\ta\nx\t1\tb\nalone\n3\t2\tc\n1.000,5\t2.000,5\td\n\\\tx\ty\n-1\t2\te\n")
    malformed, no_number = "annotation_malformed", "annotation_not_a_number"
    assert reasons(rows) == [
        malformed, None, no_number, malformed, "annotation_end_before_start", no_number, malformed, "annotation_negative",
    ]  # fmt: skip
    assert [row.line for row in rows] == list(range(1, 9))


@pytest.mark.parametrize("content", ["start,end,label\n0,1,dog\n", "hello\n", "0 1 dog\n", "start\tend\tlabel\n"])
def test_what_is_not_of_audacity_is_refused(content: str) -> None:
    with pytest.raises(UnreadableError, match="not labels of Audacity"):
        read_as("audacity", content)


# Raven

HEADER = [
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Annotation",
]


def table(*rows: Any, header: list[str] = HEADER) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in (header, *rows))


def selection(
    number: int, start: Any, end: Any, label: str = "EATO", view: str = "Spectrogram 1", channel: int = 1
) -> list[Any]:
    return [number, view, channel, start, end, 1000.0, 2000.0, label]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Recording_1_Segment_02.Table.1.selections.txt", "Species"),
        ("raven_with_Annotation_col.txt", "Annotation"),
        ("EmptyExample.Table.1.selections.txt", "Species"),
    ],
)
def test_files_of_raven_give_what_they_hold(corpora: Path, name: str, label: str) -> None:
    content = (corpora / "annotations" / "raven-selection-table" / name).read_bytes()
    expected = list(csv.DictReader(content.decode().splitlines(), delimiter="\t"))
    rows = read_as("raven", content, **({} if label == "Annotation" else {"columns": {"label": label}}))
    assert spans(rows) == [(float(r["Begin Time (s)"]), float(r["End Time (s)"]), r[label]) for r in expected]
    assert [row.fields["Low Freq (Hz)"] for row in rows] == [r["Low Freq (Hz)"] for r in expected]


@given(SPANS)
def test_what_raven_writes_is_read(labels: Any) -> None:
    rows = [selection(n, s, s + length, text) for n, (s, length, text, _) in enumerate(labels)]
    both = [row for each in rows for row in (each, [each[0], "Waveform 1", *each[2:]])]
    read, noted = read_noted("raven", table(*both))
    assert spans(read) == [(float(s), float(s + n), to_nfc(text) or None) for s, n, text, _ in labels]
    assert noted.get("records_repeated", 0) == len(labels)


def test_a_table_without_labels_has_none_and_names_the_column_that_may_hold_them() -> None:
    content = table(selection(1, 0, 1), header=[*HEADER[:-1], "Species"])
    sheet_rows, noted = read_noted("raven", content)
    assert [(row.label, row.fields["Species"]) for row in sheet_rows] == [(None, "EATO")]
    assert noted == {"roles_not_named": 1}
    assert read_noted("raven", content, columns={"label": "species"})[1] == {}
    with pytest.raises(MissingColumnError, match="no column 'Call'"):
        read_as("raven", content, columns={"label": "Call"})


def test_the_channel_is_a_field_unless_it_is_named() -> None:
    content = table(selection(1, 0, 1, channel=2))
    (row,) = read_as("raven", content)
    assert (row.channel, row.fields["Channel"]) == (None, "2")
    assert [row.channel for row in read_as("raven", content, columns={"channel": "Channel"})] == [2]


def test_rows_that_differ_in_more_than_their_view_stay() -> None:
    rows, noted = read_noted("raven", table(selection(1, 0, 1), selection(1, 0, 1, view="Waveform 1", label="other")))
    assert (len(rows), noted) == (2, {})


SEQUENCE = [*HEADER, "Begin File", "File Offset (s)"]


def test_times_in_a_sequence_count_from_each_recording() -> None:
    content = table(
        [*selection(1, 1.5, 2.5), "a.wav", 1.5], [*selection(2, 61.25, 62), "b.wav", 1.25], [*selection(3, 62, 63), "b.wav", "?"],
        header=SEQUENCE,
    )  # fmt: skip
    rows = read_as("raven", content, table="all.txt")
    assert [(row.start, row.end) for row in rows[:2]] == [(1.5, 2.5), (1.25, 2)]
    assert rows[2].detail == "File Offset (s) is '?', not a number"
    assert [(row.start, row.end) for row in read_as("raven", content)[:2]] == [(1.5, 2.5), (1.25, 2)]
    (first, *_) = read_as("raven", content, table="all.txt", times_from="recording")[1:]
    assert (first.start, first.end) == (61.25, 62)


def test_a_table_of_several_recordings_without_offsets_asks_what_its_times_count_from() -> None:
    rows = [[*selection(1, 1, 2), "a.wav"], [*selection(2, 1, 2), "b.wav"]]
    with pytest.raises(SettingError, match="`times_from: recording`") as error:
        read_as("raven", table(*rows, header=SEQUENCE[:-1]), table="all.txt")
    assert error.value.under == "times_from"
    assert (
        len(spans(read_as("raven", table(*rows, header=SEQUENCE[:-1]), table="all.txt", times_from="recording"))) == 2
    )
    assert len(spans(read_as("raven", table(rows[0], rows[0], header=SEQUENCE[:-1]), table="all.txt"))) == 1


def test_bad_selections_are_rejected_one_by_one() -> None:
    rows = read_as(
        "raven",
        table(
            selection(1, 0, 1),
            selection(2, "1,500", "later"),
            selection(3, 2, 1),
            [4, "Spectrogram 1"],
            [*selection(5, 0, 1), "more"],
        ),
    )
    assert reasons(rows) == [
        None, "annotation_not_a_number", "annotation_end_before_start", "annotation_malformed", "annotation_malformed",
    ]  # fmt: skip
    assert [row.line for row in rows] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("content", ["start\tend\n0\t1\n", "hello\n", "Selection,Begin Time (s),End Time (s)\n1,0,1\n"])
def test_what_is_not_of_raven_is_refused(content: str) -> None:
    with pytest.raises(UnreadableError, match="not a selection table of Raven"):
        read_as("raven", content)


@pytest.mark.parametrize("name", ["audacity", "raven"])
def test_a_text_that_is_too_long_is_rejected_alone(name: str) -> None:
    long = "x" * ((1 << 20) + 1)
    content = table(selection(1, 0, 1, long), selection(2, 1, 2)) if name == "raven" else f"0\t1\t{long}\n1\t2\tEATO\n"
    rows = read_as(name, content)
    assert reasons(rows) == ["annotation_malformed", None]
    assert str(rows[0].detail).endswith(" has 1,048,577 characters; at most 1,048,576 are read")
    assert rows[0].label == "x" * 100


@pytest.mark.parametrize("name", ["audacity", "raven"])
@pytest.mark.parametrize("content", ["\t" * 3_000_000, "0\t1\t" + "x" * 5_000_000, "1" * 5_000_000, "a\tb\n" * 50_000])
def test_hostile_text_costs_little_time(name: str, content: str) -> None:
    began = time.process_time()
    for head in ("", "0\t1\ta\n", table(selection(1, 0, 1))):
        with suppress(*DECLARED):
            read_as(name, head + content)
    assert time.process_time() - began < 10


PIECES: Any = st.sampled_from(
    [
        "Begin Time (s)",
        "End Time (s)",
        "Begin File",
        "View",
        "\t",
        "\t",
        "\n",
        "1.5",
        "\\",
        "a.wav",
        "x",
        "\0",
        "é",
        '"',
    ]
)


@given(st.binary(max_size=100) | st.lists(PIECES, max_size=40).map(lambda parts: "".join(parts).encode()))
def test_no_content_raises_anything_else(content: bytes) -> None:
    for name in ("audacity", "raven"):
        for data in (
            content,
            b"0\t1\ta\n" + content,
            table(selection(1, 0, 1)).encode() + content,
            b"Begin Time (s)\tEnd Time (s)\t" + content,
        ):
            with suppress(*DECLARED):
                read_noted(name, data)
