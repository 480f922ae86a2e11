"""TextGrids give the rows that Praat shows, whichever of its text forms they have."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from annotation_reading import DECLARED, read_as, read_noted, reasons, spans
from hypothesis import example, given
from hypothesis import strategies as st
from praatio import textgrid
from praatio.utilities import textgrid_io

from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.rows import SettingError, UnreadableError

HEAD = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
FORMS = ("short_textgrid", "long_textgrid")
NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=12).map(str.strip)
TIERS = st.lists(
    st.tuples(NAMES, st.booleans(), st.lists(TEXTS, min_size=1, max_size=5)),
    min_size=1,
    max_size=4,
    unique_by=lambda t: t[0],
)


def interval_tier(name: str, *entries: tuple[Any, Any, str]) -> str:
    lines = [f'"IntervalTier"\n"{name}"\n0\n10\n{len(entries)}']
    return "\n".join([*lines, *(f'{start}\n{end}\n"{text}"' for start, end, text in entries)]) + "\n"


def short(*tiers: str) -> str:
    return f"{HEAD}0\n10\n<exists>\n{len(tiers)}\n" + "".join(tiers)


ONE = short(interval_tier("words", (0, 1, "one"), (1, 1.5, ""), (1.5, 2, "two")))
TWO = short(interval_tier("words", (0, 1, "one")), interval_tier("phones", (0, 0.5, "w"), (0.5, 1, "n")))
POINTS = short('"TextTier"\n"tones"\n0\n10\n2\n1\n"H*"\n2.5\n"L%"\n')


@pytest.mark.parametrize("name", ["short.utf16.TextGrid", "short.utf8.TextGrid", "utf16.TextGrid", "utf8.TextGrid"])
def test_files_of_praat_give_what_praatio_reads(corpora: Path, name: str) -> None:
    path = corpora / "annotations" / "textgrid" / f"the_north_wind_and_the_sun.{name}"
    expected = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    rows = read_as("textgrid", path.read_bytes(), tier="phonemes")
    assert spans(rows) == [tuple(entry) for entry in expected.getTier("phonemes").entries]
    assert [row.fields for row in rows] == [{"text": row.label} for row in rows]
    points = read_as("textgrid", path.read_bytes(), tier=2, points_s=0.1)
    assert [(row.label, row.start, row.end) for row in points] == [
        (entry.label, pytest.approx(entry.time - 0.05), pytest.approx(entry.time + 0.05))
        for entry in expected.getTier("syllable nuclei").entries
    ]


@given(TIERS, st.sampled_from(FORMS), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]))
@example([("a", False, ["see item [1]: intervals [2]", "xmin = 3", '"'])], "long_textgrid", "utf-8")
@example([("t", True, ['say ""', "!"])], "long_textgrid", "utf-16")
def test_what_praatio_writes_is_read(tiers: list[tuple[str, bool, list[str]]], form: Any, encoding: str) -> None:
    written: dict[str, Any] = {"xmin": 0, "xmax": 10, "tiers": []}
    for name, is_points, texts in tiers:
        entries = [(i, text) if is_points else (i, i + 0.5, text) for i, text in enumerate(texts)]
        kind = "TextTier" if is_points else "IntervalTier"
        written["tiers"].append({"class": kind, "name": name, "xmin": 0, "xmax": 10, "entries": entries})
    content = textgrid_io.getTextgridAsStr(written, form, includeBlankSpaces=True).encode(encoding)
    for number, (name, is_points, texts) in enumerate(tiers, 1):
        before, after = (0.25, 0.25) if is_points else (0, 0.5)
        expected = [(i - before, i + after, to_nfc(text)) for i, text in enumerate(texts) if text]
        rows = read_as("textgrid", content, tier=number, points_s=0.5)
        assert [(row.start, row.end, row.label) for row in rows] == expected
        assert [row.fields for row in rows] == [{"text": text} for *_, text in expected]
        if not set(name) & set("*?["):
            assert len(read_as("textgrid", content, tier=name, points_s=0.5)) == len(expected)


def test_an_interval_without_text_is_no_row_and_lines_are_counted() -> None:
    rows = read_as("textgrid", ONE)
    assert spans(rows) == [(0, 1, "one"), (1.5, 2, "two")]
    assert [row.line for row in rows] == [13, 19]
    assert [row.line for row in read_as("textgrid", ONE.replace("\n", "\r"))] == [13, 19]


def test_a_file_with_several_tiers_asks_for_one() -> None:
    with pytest.raises(SettingError, match=r"2 tiers; .*'words' \(1 interval\), 'phones' \(2 intervals\)") as error:
        read_as("textgrid", TWO)
    assert error.value.under == "tier"
    assert spans(read_as("textgrid", TWO, tier="phones")) == [(0, 0.5, "w"), (0.5, 1, "n")]
    assert spans(read_as("textgrid", TWO, tier=1)) == [(0, 1, "one")]
    assert "tier" not in read_as("textgrid", TWO, tier=1)[0].fields


@pytest.mark.parametrize("tier", [["phones", "words"], "*", ["w*", 2], ["phones", 1]])
def test_rows_of_several_tiers_carry_the_name_of_theirs(tier: Any) -> None:
    assert [(r.label, r.fields["tier"]) for r in read_as("textgrid", TWO, tier=tier)] == [
        ("one", "words"), ("w", "phones"), ("n", "phones"),
    ]  # fmt: skip


@pytest.mark.parametrize("tier", ["Words", 3, ["words", "speakers"], "x*"])
def test_a_missing_tier_is_named_with_those_that_exist(tier: Any) -> None:
    with pytest.raises(SettingError, match=r"has no tier .*; it has: 'words'") as error:
        read_as("textgrid", TWO, tier=tier)
    assert error.value.under == "tier"


def test_tiers_of_one_name_are_told_apart_by_number() -> None:
    content = short(interval_tier("words", (0, 1, "a")), interval_tier("words", (0, 1, "b")))
    with pytest.raises(SettingError, match="tiers 1 and 2 are all called 'words'"):
        read_as("textgrid", content, tier="words")
    assert spans(read_as("textgrid", content, tier=2)) == [(0, 1, "b")]


def test_points_need_a_length() -> None:
    with pytest.raises(SettingError, match="'tones' holds points") as error:
        read_as("textgrid", POINTS)
    assert error.value.under == "points_s"
    assert spans(read_as("textgrid", POINTS, points_s=0.2)) == [(0.9, 1.1, "H*"), (2.4, 2.6, "L%")]
    mixed = POINTS.replace("<exists>\n1\n", "<exists>\n2\n") + interval_tier("words", (0, 1, "one"))
    assert reasons(read_as("textgrid", mixed, tier="*")) == ["annotation_malformed", "annotation_malformed", None]


def test_points_that_are_no_rows_of_their_own_ask_for_nothing() -> None:
    assert read_as("textgrid", short('"TextTier"\n"tones"\n0\n10\n0\n')) == []


def test_times_in_powers_of_ten_and_below_zero_are_read() -> None:
    rows = read_as("textgrid", short(interval_tier("w", ("-0", "1e-05", "a"), ("1e-05", "1.5E0", "b"), (-3, -2, "c"))))
    assert [(r.start, r.end) for r in rows[:2]] == [(0, 1e-5), (1e-5, 1.5)]
    assert reasons(rows) == [None, None, "annotation_negative"]


def test_an_interval_that_ends_before_it_starts_is_rejected_alone() -> None:
    rows = read_as("textgrid", short(interval_tier("w", (0, 1, "a"), (2, 1, "b"), (2, 3, "c"))))
    assert reasons(rows) == [None, "annotation_end_before_start", None]


@pytest.mark.parametrize("n", [1, 5, 17, 30, len(ONE) // 2, len(ONE) - len(HEAD), len(ONE) - 20])
def test_a_file_that_is_cut_off_gives_no_rows_at_all(n: int) -> None:
    with pytest.raises(UnreadableError):
        read_as("textgrid", ONE[:-n].rstrip().rstrip('"'))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"ooBinaryFile\x08TextGrid" + bytes(40), "binary TextGrid"),
        ('"Praat chronological TextGrid text file"\n0 1\n', "chronological|not a TextGrid"),
        ('File type = "ooTextFile"\nObject class = "Pitch 1"\n', "not a TextGrid"),
        ("start,end,label\n0,1,dog\n", "not a TextGrid"),
        (ONE.replace("<exists>\n1", "<exists>\n-1"), "line 7: expected the number of tiers"),
        (ONE.replace("<exists>\n1", "<exists>\n99999999"), "99,999,999 tiers"),
        (ONE.replace("IntervalTier", "SoundTier"), "line 8: a tier is"),
        (ONE.replace('"one"', "one"), "line 16: expected the text of an entry"),
        (ONE.replace('"two"', '"two'), "line 21: the quotes"),
        (ONE.replace("\n3\n0", "\n2\n0"), "more follows after line 18"),
        (ONE.replace("\n3\n0", "\n4\n0"), "the file ends where the start of an interval"),
    ],
)
def test_what_is_no_whole_textgrid_is_refused(content: str | bytes, what: str) -> None:
    with pytest.raises(UnreadableError, match=what):
        read_as("textgrid", content)


def test_files_of_old_praat_and_words_between_the_values_are_read() -> None:
    old = ONE.replace(
        'File type = "ooTextFile"\nObject class = "TextGrid"', 'File type = "ooTextFile short"\n"TextGrid"'
    )
    assert spans(read_as("textgrid", old)) == spans(read_as("textgrid", ONE))
    explained = ONE.replace("\n0\n10\n<exists>", "\n! 3 times\nxmin=0 and xmax = 10 s\ntiers? <exists>")
    assert spans(read_as("textgrid", explained)) == spans(read_as("textgrid", ONE))
    assert read_as("textgrid", f"{HEAD}0\n1\n<absent>\n") == []


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_file_has_no_rows(content: str) -> None:
    assert read_as("textgrid", content) == []


@pytest.mark.parametrize(
    "content",
    ['"' * 2_000_000, HEAD + '"a' * 1_000_000, "! " * 1_000_000, HEAD + "1" * 2_000_000, HEAD + "x" * 2_000_000 + '"'],
)
def test_hostile_text_costs_little_time(content: str) -> None:
    began = time.process_time()
    with pytest.raises(UnreadableError):
        read_as("textgrid", content)
    assert time.process_time() - began < 5


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.sampled_from([None, 1, "*"]))
def test_no_content_raises_anything_else(content: bytes, tier: Any) -> None:
    for data in (content, HEAD.encode() + content, ONE.encode()[:170] + content):
        with suppress(*DECLARED):
            read_noted("textgrid", data, **({} if tier is None else {"tier": tier}))
