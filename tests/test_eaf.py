"""EAF files of ELAN give the times and texts that pympi reads, and those that ELAN shows where the file leaves them out."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pympi
import pytest
from annotation_reading import DECLARED, read_as, read_noted, reasons, spans
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.rows import SettingError, UnreadableError

TEXTS = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=10).map(str.strip)
HEADER = '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>'


def eaf(slots: dict[str, int | None], *tiers: str, header: str = HEADER) -> str:
    order = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{name}"' + ("/>" if ms is None else f' TIME_VALUE="{ms}"/>')
        for name, ms in slots.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" FORMAT="3.0" VERSION="3.0">'
        f"{header}<TIME_ORDER>{order}</TIME_ORDER>{''.join(tiers)}</ANNOTATION_DOCUMENT>"
    )


def tier(name: str, *annotations: str, **attributes: str) -> str:
    more = "".join(f' {key.upper()}="{value}"' for key, value in attributes.items())
    inside = "".join(f"<ANNOTATION>{annotation}</ANNOTATION>" for annotation in annotations)
    return f'<TIER TIER_ID="{name}"{more}>{inside}</TIER>'


def aligned(name: str, start: str, end: str, text: str) -> str:
    return (
        f'<ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}" TIME_SLOT_REF1="{start}" TIME_SLOT_REF2="{end}">'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>"
    )


def referring(name: str, to: str, text: str, previous: str = "") -> str:
    before = f' PREVIOUS_ANNOTATION="{previous}"' if previous else ""
    return (
        f'<REF_ANNOTATION ANNOTATION_ID="{name}" ANNOTATION_REF="{to}"{before}>'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></REF_ANNOTATION>"
    )


ONE = eaf(
    {"ts1": 0, "ts2": 1500}, tier("speech", aligned("a1", "ts1", "ts2", "one"), participant="Ann", annotator="Bo")
)


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6),
        st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 10**6), TEXTS), max_size=4),
        min_size=1,
        max_size=3,
    )
)
def test_what_pympi_writes_is_read(tmp_path_factory: Any, tiers: dict[str, list[tuple[int, int, str]]]) -> None:
    path = tmp_path_factory.mktemp("eaf") / "a.eaf"
    document = pympi.Elan.Eaf()
    document.remove_tier("default")
    for name, spoken in tiers.items():
        document.add_tier(name)
        for start, length, text in spoken:
            document.add_annotation(name, start, start + length, text)
    document.to_file(str(path))
    again = pympi.Elan.Eaf(str(path), suppress_version_warning=True)
    for number, name in enumerate(again.get_tier_names(), 1):
        rows = read_as("eaf", path.read_bytes(), tier=number)
        expected = again.get_annotation_data_for_tier(name)
        assert spans(rows) == [
            (start / 1000, end / 1000, to_nfc(text.strip()) or None) for start, end, text in expected
        ]


def test_referring_annotations_have_the_times_of_what_they_refer_to(tmp_path: Path) -> None:
    document = pympi.Elan.Eaf()
    document.add_tier("speech")
    document.add_linguistic_type("sub", constraints="Symbolic_Association")
    document.add_tier("gloss", ling="sub", parent="speech")
    document.add_tier("gloss of gloss", ling="sub", parent="gloss")
    for n, text in enumerate(("one", "two", "three")):
        document.add_annotation("speech", n * 1000, n * 1000 + 900, text)
        document.add_ref_annotation("gloss", "speech", n * 1000 + 10, text.upper())
        document.add_ref_annotation("gloss of gloss", "gloss", n * 1000 + 10, text.title())
    document.to_file(str(tmp_path / "a.eaf"))
    content = (tmp_path / "a.eaf").read_bytes()
    again = pympi.Elan.Eaf(str(tmp_path / "a.eaf"), suppress_version_warning=True)
    for name in ("gloss", "gloss of gloss"):
        expected = [
            (start / 1000, end / 1000, text) for start, end, text, _ in again.get_annotation_data_for_tier(name)
        ]
        assert spans(read_as("eaf", content, tier=name)) == expected
        assert len(expected) == 3


def test_tiers_are_chosen_as_in_textgrids_and_people_are_fields() -> None:
    (row,) = read_as("eaf", ONE)
    assert (row.start, row.end, row.label) == (0, 1.5, "one")
    assert row.fields == {"text": "one", "participant": "Ann", "annotator": "Bo"}
    two = ONE.replace("</TIER>", "</TIER>" + tier("noise"))
    with pytest.raises(SettingError, match=r"'speech' \(1 annotation\), 'noise' \(0 annotations\)") as error:
        read_as("eaf", two)
    assert error.value.under == "tier"
    assert read_as("eaf", two, tier="noise") == []
    assert [r.fields["tier"] for r in read_as("eaf", two, tier="*")] == ["speech"]


def test_slots_without_a_time_share_the_time_between_their_neighbours_in_the_tier() -> None:
    slots = {"ts1": 0, "x1": None, "ts2": None, "ts3": None, "ts4": 1000}
    content = eaf(
        slots,
        tier(
            "words",
            aligned("a1", "ts1", "ts2", "a"),
            aligned("a2", "ts2", "ts3", "b"),
            aligned("a3", "ts3", "ts4", "c"),
        ),
        tier("other", aligned("a4", "ts1", "x1", "d"), aligned("a5", "x1", "ts4", "e")),
    )
    rows = read_as("eaf", content, tier="words")
    assert spans(rows) == [(0, 0.333, "a"), (0.333, 0.667, "b"), (0.667, 1, "c")]
    assert [row.noted for row in rows] == [("times_interpolated",)] * 3
    assert spans(read_as("eaf", content, tier="other")) == [(0, 0.5, "d"), (0.5, 1, "e")]


def test_slots_that_no_row_of_annotations_explains_stand_between_their_neighbours_in_the_list() -> None:
    content = eaf(
        {"ts1": 0, "ts2": None, "ts3": 1000, "ts4": None},
        tier("t", aligned("a1", "ts2", "ts3", "a"), aligned("a2", "ts3", "ts4", "b")),
    )
    rows = read_as("eaf", content)
    assert (rows[0].start, rows[0].end) == (0.5, 1)
    assert (
        str(rows[1].detail) == "tier 't', annotation a2: its time slot 'ts4' has no time, and no slots around it have"
    )


def test_annotations_that_divide_another_have_all_of_its_time_and_it_is_told() -> None:
    content = eaf(
        {"ts1": 0, "ts2": 900},
        tier("speech", aligned("a1", "ts1", "ts2", "one two")),
        tier("words", referring("a2", "a1", "one"), referring("a3", "a1", "two", "a2")),
    )
    rows = read_as("eaf", content, tier="words")
    assert spans(rows) == [(0, 0.9, "one"), (0, 0.9, "two")]
    assert [row.noted for row in rows] == [("times_shared",)] * 2


def test_bad_annotations_are_rejected_one_by_one() -> None:
    content = eaf(
        {"ts1": 0, "ts2": 900},
        tier(
            "t", aligned("a1", "ts1", "ts9", "slot missing"), aligned("a2", "ts2", "ts1", "backwards"), referring("a3", "a9", "gone"),
            referring("a4", "a5", "x"), referring("a5", "a4", "circle"), referring("a6", "a6", "itself"), aligned("a7", "ts1", "ts2", "good"),
            referring("a8", "a1", "of a bad one"),
        ),
    )  # fmt: skip
    rows = read_as("eaf", content)
    malformed = "annotation_malformed"
    assert reasons(rows) == [
        malformed, "annotation_end_before_start", malformed, malformed, malformed, malformed, None, malformed,
    ]  # fmt: skip
    assert "annotation a3: it refers to 'a9', which is missing" in str(rows[2].detail)
    assert "refers to itself" in str(rows[3].detail)


def test_times_follow_the_recording_if_it_begins_earlier() -> None:
    media = (
        '<MEDIA_DESCRIPTOR MEDIA_URL="a.wav" MIME_TYPE="audio/x-wav" TIME_ORIGIN="250"/>'
        '<MEDIA_DESCRIPTOR MEDIA_URL="a.mp4" MIME_TYPE="video/mp4"/>'
    )
    header = f"{HEADER[:-2]}>{media}</HEADER>"
    (row,) = read_as("eaf", eaf({"ts1": 0, "ts2": 900}, tier("t", aligned("a1", "ts1", "ts2", "x")), header=header))
    assert (row.start, row.end, row.noted) == (0.25, 1.15, ("times_shifted",))
    both = header.replace("video/mp4", "audio/mp4")
    with pytest.raises(UnreadableError, match="several TIME_ORIGINs"):
        read_as("eaf", eaf({"ts1": 0, "ts2": 900}, tier("t", aligned("a1", "ts1", "ts2", "x")), header=both))


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("start,end\n0,1\n", "not an EAF file"),
        ("<TEI/>", "not an EAF file of ELAN, .*, not 'TEI'"),
        (ONE[:-30], "not an EAF file of ELAN.*no element found|not an EAF file of ELAN.*unclosed"),
        (ONE.replace("<ANNOTATION_DOC", BOMB + "<ANNOTATION_DOC", 1), "not read.*DTD|DTDForbidden|DTD"),
        (ONE.replace("<ANNOTATION_DOC", '<!DOCTYPE x SYSTEM "file:///etc/passwd"><ANNOTATION_DOC', 1), "DTD"),
        ("<ANNOTATION_DOCUMENT>" + "<a>" * 200_000, "nested more than 100"),
        (ONE.replace("1500", "1.5"), "TIME_VALUE of ts2 is '1.5'"),
        (ONE.replace("1500", "1" * 5000), "expected a whole number"),
        (ONE.replace("milliseconds", "PAL-frames"), "times in 'PAL-frames'"),
        ("<ANNOTATION_DOCUMENT><REF_ANNOTATION/></ANNOTATION_DOCUMENT>", "outside of a tier"),
    ],
)
def test_what_is_no_eaf_is_refused(content: str, what: str) -> None:
    with pytest.raises(UnreadableError, match=what):
        read_as("eaf", content)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_other_encodings_are_read(encoding: str) -> None:
    declared = {"utf-8-sig": "UTF-8", "utf-16": "UTF-16", "latin-1": "ISO-8859-1"}[encoding]
    content = ONE.replace("UTF-8", declared).replace(">one<", ">né<").encode(encoding)
    assert spans(read_as("eaf", content)) == [(0, 1.5, "né")]
    with pytest.raises(UnreadableError):
        read_as("eaf", ONE.replace("UTF-8", "shift-nowhere"))


@pytest.mark.parametrize("content", [b"", b" \n", eaf({}).encode(), eaf({}, tier("t")).encode()])
def test_a_file_without_annotations_has_no_rows(content: bytes) -> None:
    assert read_as("eaf", content) == []


def test_long_chains_cost_little_time() -> None:
    n = 30_000
    slots: dict[str, int | None] = {f"s{i}": 0 if i == 0 else 10**6 if i == n else None for i in range(n + 1)}
    chain = [aligned(f"a{i}", f"s{i}", f"s{i + 1}", "") for i in range(n)]
    refs = [referring(f"r{i}", f"r{i + 1}", "") for i in range(n)] + [referring(f"r{n}", "a5", "")]
    began = time.process_time()
    assert len(spans(read_as("eaf", eaf(slots, tier("t", *chain), tier("u", *refs)), tier="*"))) == 2 * n + 1
    with pytest.raises(UnreadableError):
        read_as("eaf", '<ANNOTATION_DOCUMENT a="' + "x" * (20 << 20))
    assert time.process_time() - began < 15


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_content_raises_anything_else(content: bytes) -> None:
    for data in (content, b"<ANNOTATION_DOCUMENT>" + content, ONE.encode()[:200] + content + ONE.encode()[200:]):
        with suppress(*DECLARED):
            read_noted("eaf", data)
