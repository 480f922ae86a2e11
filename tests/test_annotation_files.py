"""Annotation files of any kind are read row by row; a bad row is rejected alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from annotated_corpora import RANGES, join, ranges, read

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.tables import RESERVED
from clipmill.stages.annotations.file_text import decode_text
from clipmill.stages.annotations.rows import UnreadableError

# Dialects


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("header", ["", "Onset,Offset,Kind\n"])
def test_any_delimiter_is_found(delimiter: str, told: bool, header: str) -> None:
    text = (header + "0.5,1,dog\n2,3.25,a cat\n").replace(",", delimiter)
    columns = {"start": "onset", "end": 1, "label": "Kind"} if header else RANGES
    rows = read(text, header=bool(header), columns=columns, delimiter=delimiter if told else "auto")
    assert ranges(rows) == [(0.5, 1, "dog"), (2, 3.25, "a cat")]
    assert [r.line for r in rows] == ([2, 3] if header else [1, 2])


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("header", ["", "start;end;label\n"])
def test_decimal_commas_are_no_delimiters(delimiter: str, header: str) -> None:
    text = (header + "0,5;1,25;dog\n2,0;3,5;cat\n").replace(";", delimiter)
    assert ranges(read(text, header=bool(header))) == [(0.5, 1.25, "dog"), (2, 3.5, "cat")]


def test_one_column_needs_no_delimiter() -> None:
    assert [r.label for r in read("dog\ncat\n", columns={"label": 0})] == ["dog", "cat"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_any_unicode_encoding_and_line_end_is_found(encoding: str, newline: str) -> None:
    text = newline.join(["start,end,label", "0,1,Hündchen", "", "1,2,犬"])
    rows = read(text.encode(encoding), header=True, columns={n: n for n in RANGES})
    assert ranges(rows) == [(0, 1, "Hündchen"), (1, 2, "犬")]
    assert [r.line for r in rows] == [2, 4]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp949", "euc-kr"])
def test_the_first_of_several_encodings_that_fits_is_used(encoding: str) -> None:
    rows = read("0,1,화단\n".encode(encoding), encoding="auto, cp949")
    assert ranges(rows) == [(0, 1, "화단")]


def test_a_file_that_fits_none_of_several_encodings_is_refused() -> None:
    with pytest.raises(UnreadableError, match=r"^not utf-8 text \(.*\), not ascii text \(.*\)$"):
        read(b"0,1,\xff\n", encoding="auto,ascii")
    with pytest.raises(ValueError, match="no text encoding 'cp94'; give one such as"):
        read("0,1,x\n", encoding="utf-8, cp94")


def test_a_byte_order_mark_without_header_is_no_part_of_the_first_cell() -> None:
    assert ranges(read("\ufeff0,1,dog".encode("utf-16-le"), encoding="utf-16-le")) == [(0, 1, "dog")]
    assert ranges(read("\ufeff0,1,dog", encoding="utf-8")) == [(0, 1, "dog")]


def test_other_encodings_are_read_when_named() -> None:
    content = "0,1,Hündchen\n".encode("latin-1")
    assert ranges(read(content, encoding="latin-1")) == [(0, 1, "Hündchen")]
    with pytest.raises(UnreadableError, match=r"set annotations\.encoding"):
        read(content)


@pytest.mark.parametrize("encoding", ["hex", "latin-99", "utf-8\0"])
def test_an_unknown_encoding_is_a_mistake_in_the_configuration(encoding: str) -> None:
    with pytest.raises(ValueError, match="has no text encoding"):
        Annotations(table="t.csv", recording=0, encoding=encoding)


@pytest.mark.parametrize("encoding", ["punycode", "undefined"])
def test_an_encoding_that_does_not_decode_makes_the_file_unreadable(encoding: str) -> None:
    with pytest.raises(UnreadableError):
        read("0,1,dog,\n", encoding=encoding)


def test_quotes_keep_delimiters_quotes_and_line_breaks() -> None:
    text = '0,1,"a, ""b"""\r\n1,2,"two\r\nlines"\r\n\r\n2,3, "spaced"\r\n3,4,last'
    rows = read(text)
    assert [r.label for r in rows] == ['a, "b"', "two\r\nlines", "spaced", "last"]
    assert [r.line for r in rows][2:] == [5, 6]


def test_a_row_over_several_lines_is_named_by_its_first() -> None:
    assert [r.line for r in read('0,1,"a\nb\nc"\n1,2,"d\ne"\n2,3,f\n')] == [1, 4, 6]


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_quote_that_is_never_closed_does_not_swallow_the_rows_after_it(delimiter: str) -> None:
    text = '0,1,"dog\n1,2,cat\n2,3,cow\n'.replace(",", delimiter)
    try:
        rows = read(text)
    except UnreadableError:
        return
    assert len(rows) == 3 or any(r.reason for r in rows)


@pytest.mark.parametrize(
    ("quote", "text", "label"),
    [
        ("none", '0,1,"dog"', '"dog"'),
        ("'", "0,1,'a,\"b'", 'a,"b'),
        ('"', '0|1|"a|b"', "a|b"),
        ("auto", '0|1|"Fire," he said', '"Fire," he said'),
    ],
)
def test_quote_says_which_sign_quotes(quote: str, text: str, label: str) -> None:
    assert ranges(read(text + "\n", quote=quote)) == [(0, 1, label)]


def test_comments_and_empty_rows_are_no_rows() -> None:
    rows = read("# made by hand\n\n0,1,dog\n#,,\n , ,\n1,2,#cat\n", comment="#")
    assert [(r.line, r.label) for r in rows] == [(3, "dog"), (6, "#cat")]


def test_a_quote_in_a_comment_opens_nothing() -> None:
    assert [r.label for r in read('# start, "end\n0,1,dog\n1,2,cat\n', comment="#")] == ["dog", "cat"]


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\n\r\n", b" , \n"])
@pytest.mark.parametrize("header", [False, True])
def test_an_empty_file_has_no_rows(content: bytes, header: bool) -> None:
    assert read(content, header=header) == []


def test_a_header_alone_has_no_rows() -> None:
    assert read("start,end,label\n", header=True, columns={n: n for n in RANGES}) == []


# Columns and fields


def test_columns_of_a_header_are_carried_under_their_own_names() -> None:
    text = "start,end,label,fold,take,take,\n0,1,dog,3,A,B,C\n"
    spec = {"header": True, "columns": {n: n for n in RANGES}}
    assert read(text, **spec)[0].fields == {"fold": "3", "take": "A", "take_2": "B", "column_6": "C"}
    assert read(text, extra_columns="drop", **spec)[0].fields == {}


def test_without_a_header_only_named_columns_are_carried() -> None:
    assert read("0,1,dog,3,x\n", columns={**RANGES, "salience": 3})[0].fields == {"salience": "3"}


@pytest.mark.parametrize("name", sorted(RESERVED - {"label"}))
def test_a_field_never_takes_a_name_of_clipmill(name: str) -> None:
    extra = read(f"start,end,{name}\n0,1,x\n", header=True, columns={"start": 0, "end": 1})
    named = read("0,1,x\n", columns={"start": 0, "end": 1, name: 2})
    assert extra[0].fields == named[0].fields == {f"annotation_{name}": "x"}


def test_a_renamed_field_does_not_overwrite_another() -> None:
    (row,) = read("start,end,split,annotation_split\n0,1,a,b\n", header=True, columns={"start": 0, "end": 1})
    assert sorted(row.fields.values()) == ["a", "b"]


def test_a_column_is_found_by_its_exact_name_first_and_then_in_any_case() -> None:
    text = "Label,label,START\nx,y,1\n"
    (row,) = read(text, header=True, columns={"label": "label", "start": "start"})
    assert (row.label, row.start, row.fields) == ("y", 1, {"Label": "x"})


@pytest.mark.parametrize(("where", "shown"), [("onset", "'onset'"), (7, "7")])
def test_a_missing_column_is_named(where: str | int, shown: str, tmp_path: Path) -> None:
    spec = {"columns": {"start": where, "end": "end"}}
    files = {"a.csv": "filename,start,end\na.wav,0,1\n"}
    with pytest.raises(ConfigError, match=rf"a\.csv: columns\.start: the file has no column {shown}") as caught:
        join(tmp_path, ["a.wav"], files, table="a.csv", recording="filename", **spec)
    assert caught.value.key == "sources.s.annotations.columns"
    ((_, row),) = join(tmp_path, [], {}, sidecar="{stem}.csv", **spec).by_path["a.wav"]
    assert row.reason == "annotation_unreadable" and f"columns.start: the file has no column {shown}" in str(row.detail)


# Rows


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("1", "annotation_missing_column"),
        ("1,2", "annotation_missing_column"),
        ("x,2,a", "annotation_not_a_number"),
        (",2,a", "annotation_not_a_number"),
        ("1,,a", "annotation_not_a_number"),
        ("nan,2,a", "annotation_not_a_number"),
        ("1,inf,a", "annotation_not_a_number"),
        ("1,1e999,a", "annotation_not_a_number"),
        ("1,2_0,a", "annotation_not_a_number"),
        ("0x1,2,a", "annotation_not_a_number"),
        ("1,0:02,a", "annotation_not_a_number"),
        ('"1.000,5",2000,a', "annotation_not_a_number"),
        ("-0.1,2,a", "annotation_negative"),
        ("2,1,a", "annotation_end_before_start"),
        ("1,1,a", "annotation_end_before_start"),
    ],
)
def test_a_bad_row_is_rejected_alone_with_its_file_and_line(bad: str, reason: str, tmp_path: Path) -> None:
    text = f"0,1,first\n{bad}\n1,2,last\n"
    found = join(tmp_path, ["x/a.wav"], {"x/a.csv": text}, sidecar="{stem}.csv", header=False, columns=RANGES)
    assert [(file, row.line, row.reason) for file, row in found.by_path["x/a.wav"]] == [
        ("x/a.csv", 1, None),
        ("x/a.csv", 2, reason),
        ("x/a.csv", 3, None),
    ]
    assert found.by_path["x/a.wav"][1][1].detail


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("1.5,2\n", {"start": 0, "duration": 1}, (1.5, 3.5)),
        ("1,5;0,25\n", {"start": 0, "duration": 1}, (1.5, 1.75)),
        ("1.5,2\n", {"start": 0}, (1.5, None)),
        ("1.5,2\n", {}, (None, None)),
        ("-0.0,1e-3\n", {"start": 0, "end": 1}, (0, 0.001)),
        (" +1.5 , 2 \n", {"start": 0, "end": 1}, (1.5, 2)),
    ],
)
def test_ranges_are_read_from_start_with_end_or_duration(
    text: str, columns: dict[str, int], expected: tuple[float | None, float | None]
) -> None:
    (row,) = read(text, columns=columns)
    assert (row.start, row.end, row.reason) == (*expected, None)


@pytest.mark.parametrize("duration", ["0", "-1"])
def test_a_duration_that_is_not_positive_is_rejected(duration: str) -> None:
    assert read(f"5,{duration}\n", columns={"start": 0, "duration": 1})[0].reason == "annotation_end_before_start"


@pytest.mark.parametrize("unit", ["s", "ms", "samples"])
def test_times_stay_in_the_files_own_unit(unit: str) -> None:
    (row,) = read("16000,8000\n", columns={"start": 0, "duration": 1}, time_unit=unit)
    assert (row.start, row.end) == (16000, 24000)


def test_an_empty_label_is_none() -> None:
    assert read("0,1, \n")[0].label is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_the_beginning_of_a_file_is_read_wherever_it_is_cut(encoding: str) -> None:
    text = "0.5\t1.5\tgr\u00fc\u00dfe \u72ac \U0001f436\n" * 30
    content = text.encode(encoding)
    for cut in range(len(content) - 12, len(content) + 1):
        part = decode_text(content[:cut], "auto", is_whole=False)
        assert text.startswith(part.lstrip("\ufeff")) and len(part) > len(text) - 14
