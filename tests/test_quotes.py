"""Quotes of annotation files, and what other programs write into them: no row is swallowed, and what is left out is told."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import pytest
from annotated_corpora import RANGES, annotate_source, join, ranges, read
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.errors import ConfigError
from clipmill.stages.annotations.rows import UnreadableError
from clipmill.stages.annotations.sheet import Sheet

CELLS_BY_NAME = {"start": "start", "end": "end", "label": "label"}
SIDECAR = {"sidecar": "{stem}.csv"}


def sheet_of(text: str, **spec: Any) -> Sheet:
    return Sheet(text.encode(), Annotations.model_validate({**SIDECAR, "header": False, "columns": RANGES, **spec}))


# Quotes

PLAIN = st.text(st.sampled_from('""ab é\''), max_size=5).map(str.strip)


@settings(max_examples=300)
@given(table=st.lists(st.tuples(PLAIN, PLAIN, PLAIN), min_size=1, max_size=8), header=st.booleans())
def test_no_row_of_a_table_by_tabs_is_swallowed(table: list[tuple[str, str, str]], header: bool) -> None:
    lines = ["\t".join(cells) for cells in ([("x", "y", "z"), *table] if header else table)]
    columns = {"x": 0, "y": 1, "z": 2}
    sheet = sheet_of("\n".join(lines) + "\n", header=header, columns={}, fields=columns, delimiter="\t")
    found = [tuple(row.fields.values()) for row in sheet.rows]
    wanted = [cells for cells in table if any(cells)]
    unquoted = [tuple(c.strip('"').strip() for c in cells) for cells in table if any(cells)]
    assert len(found) in (len(wanted), sum(map(any, unquoted)))
    if sheet.noted["files_read_unquoted"]:
        assert found == wanted


@settings(max_examples=300)
@given(
    labels=st.lists(PLAIN, min_size=1, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    told=st.booleans(),
    place=st.integers(0, 2),
)
def test_no_timed_row_is_swallowed_whatever_parts_the_cells(
    labels: list[str], delimiter: str, told: bool, place: int
) -> None:
    rows = []
    for i, label in enumerate(labels):
        cells = [f"{i}", f"{i + 1}"]
        cells.insert(place, label)
        rows.append(delimiter.join(cells))
    start, end = (at for at in range(3) if at != place)
    columns = {"start": start, "end": end, "label": place}
    try:
        found = read("\n".join(rows), columns=columns, delimiter=delimiter if told else "auto")
    except UnreadableError as error:
        assert "annotations.quote: none" in str(error) and delimiter in ",;"
        return
    assert len(found) == len(labels)


@settings(max_examples=200)
@given(
    table=st.lists(st.tuples(PLAIN, PLAIN, PLAIN).filter(any), max_size=8),
    delimiter=st.sampled_from([",", ";", "\t"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_is_quoted_rightly_is_read_as_it_was(
    table: list[tuple[str, str, str]], delimiter: str, quoting: Any
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=quoting).writerows([("a", "b", "c"), *table])
    sheet = sheet_of(text.getvalue(), header=True, columns={}, fields=list("abc"), delimiter=delimiter)
    assert [tuple(row.fields[name] for name in "abc") for row in sheet.rows] == table
    assert not sheet.noted


TRANSCRIPT = 'Hello there,\r\nhow are you, "Bob"?\r\n\r\nFine, thanks'


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_transcript_of_several_lines_is_one_row(delimiter: str, tmp_path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([("file", "text"), ("a.wav", TRANSCRIPT), ("b.wav", "plain")])
    (tmp_path / "t.csv").write_bytes(text.getvalue().encode())
    for name in "ab":
        (tmp_path / f"{name}.wav").write_text("x")
    found = annotate_source(tmp_path, annotations={"table": "t.csv", "recording": "file", "columns": {"label": "text"}})
    assert [row.label for rows in found.by_path.values() for _, row in rows] == [TRANSCRIPT, "plain"]
    assert not found.strays and not any(found.noted.values())


@pytest.mark.parametrize("text", ["Hello there\nhow are you, Bob", "a\nb, c\nd, e"])
def test_a_transcript_whose_lines_have_as_many_commas_as_a_row_names_no_recording(text: str, tmp_path: Path) -> None:
    spec = {"table": "t.csv", "recording": "file", "fields": ["text"]}
    found = join(tmp_path, ["a.wav"], {"t.csv": f'file,text\na.wav,"{text}"\n'}, **spec)
    assert [row.fields for _, row in found.by_path["a.wav"]] == [{"text": text}] and not found.strays


@pytest.mark.parametrize(
    "text",
    [
        'x\t"a\nb"\ty\n',  # as quoted: one row of three cells
        'p\tq\na\t"x\nb\ty\tz\nc\tw"\n',  # two rows of two
        'p\tq\na\t"x\n',
        '"p"r\tq\na\tx\n',
    ],
)
def test_a_quote_that_reaches_over_its_line_by_tabs_is_text(text: str) -> None:
    sheet = sheet_of(text, columns={}, fields={"a": 0, "b": 1}, delimiter="\t")
    assert [(row.fields["a"], row.fields["b"]) for row in sheet.rows] == [
        tuple(line.split("\t")[:2]) for line in text.splitlines()
    ]
    assert sheet.noted == {"files_read_unquoted": 1}


def test_a_table_by_tabs_with_unpaired_quotes_is_read_row_for_row(tmp_path: Path) -> None:
    said = ['"Hello', "he said", 'then"', '"Go" he said', "plain"]
    table = "path\tsentence\n" + "".join(f"{i}.wav\t{text}\n" for i, text in enumerate(said))
    spec = {"table": "t.tsv", "recording": "path", "columns": {"label": "sentence"}}
    found = join(tmp_path, [f"{i}.wav" for i in range(5)], {"t.tsv": table}, **spec)
    assert [found.by_path[f"{i}.wav"][0][1].label for i in range(5)] == said
    assert found.noted == {"files_read_unquoted": 1} and not found.strays


@pytest.mark.parametrize("recording", ["file", 0])
def test_a_quote_that_swallows_rows_of_a_table_is_refused_with_its_line(recording: Any, tmp_path: Path) -> None:
    names = [f"{i}.wav" for i in range(500)]
    table = "file,text\n0.wav,fine\n" + '1.wav,"open\n' + "".join(f"{n},x\n" for n in names[2:-1]) + '499.wav,shut"\n'
    spec = {"table": "t.csv", "recording": recording, "columns": {"label": 1}}
    with pytest.raises(ConfigError, match=r"line 3: a quoted cell ends on line 501, and line 4") as refused:
        join(tmp_path, names, {"t.csv": table}, **spec)
    assert "annotations.quote: none" in str(refused.value)
    assert len(join(tmp_path, names, {}, **spec, quote="none").by_path) == 500
    assert len(join(tmp_path, names, {}, **spec, quote='"').by_path) == 2


# Oddities of programs


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(("line", "delimiter"), [("sep=;", ";"), ('"sep=|"', "|"), ("SEP=,", ","), ("sep=\t", "\t")])
def test_a_line_that_tells_excel_the_delimiter_is_no_row(line: str, delimiter: str, newline: str) -> None:
    text = newline.join([line, "start,end,label", "0,1,dog", ""]).replace(",", delimiter)
    text = line + text[len(line) :]
    (row,) = read(text, header=True, columns=CELLS_BY_NAME)
    assert (row.line, row.start, row.end, row.label) == (3, 0, 1, "dog")


def test_audacity_s_frequency_ranges_are_no_rows(tmp_path: Path) -> None:
    text = "0,0\t1,5\tdog\n\\\t100,0\t2000,5\n2.0\t3.0\tcat\n\\\t100.0\t2000.5\n4\t5\t\\\n"
    found = join(tmp_path, ["a.wav"], {"a.csv": text}, **SIDECAR, header=False, columns=RANGES)
    assert ranges([row for _, row in found.by_path["a.wav"]]) == [(0, 1.5, "dog"), (2, 3, "cat"), (4, 5, "\\")]
    assert found.noted["frequency_ranges"] == 2
    assert [r.reason for r in read("\\\t100\t200\n0\t1\tdog\n")] == ["annotation_not_a_number", None]


def test_a_header_of_equal_names_costs_milliseconds() -> None:
    n = 20_000
    text = ",".join(["take"] * n) + "\n" + "x\n" * 2000
    begun = time.process_time()
    rows = read(text, header=True, columns={})
    assert time.process_time() - begun < 2 and len(rows) == 2000
    (row,) = read(",".join(["take", "take_3", "take", "take", ""]) + "\n1,2,3,4,5\n", header=True, columns={})
    assert row.fields == {"take": "1", "take_3": "2", "take_2": "3", "take_4": "4", "column_4": "5"}
