"""Subtitles and lyrics give the times and texts that pysubs2 reads, without markup."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pysubs2
import pytest
from annotation_reading import DECLARED, read_as, read_noted, reasons, spans
from hypothesis import given
from hypothesis import strategies as st

from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.rows import UnreadableError

WORDS = st.text(st.characters(categories=["L", "N", "Po"], exclude_characters="\\&"), min_size=1, max_size=6)
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=3)
CUES = st.lists(st.tuples(st.integers(0, 10**8), st.integers(1, 10**6), TEXTS), min_size=1, max_size=6)


@given(CUES, st.sampled_from(["srt", "vtt"]), st.sampled_from(["\n", "\r\n", "\r"]))
def test_what_pysubs2_writes_is_read(cues: list[tuple[int, int, list[str]]], name: str, end: str) -> None:
    subtitles = pysubs2.SSAFile()
    for start, length, texts in cues:
        subtitles.append(pysubs2.SSAEvent(start=start, end=start + length, text="\\N".join(texts)))
    written = subtitles.to_string(name)
    again = pysubs2.SSAFile.from_string(written, name)
    expected = [(e.start / 1000, e.end / 1000, to_nfc(" ".join(e.plaintext.split("\n")))) for e in again]
    rows = read_as(name, written.replace("\n", end))
    if any(text.isdigit() for *_, texts in cues for text in texts):
        assert [(row.start, row.end) for row in rows] == [
            each[:2] for each in expected
        ]  # pysubs2 takes such a last line for a number
    else:
        assert spans(rows) == expected
    by_start = sorted(cues, key=lambda cue: cue[0]) if name == "vtt" else cues
    assert [row.label for row in rows] == [to_nfc(" ".join(texts)) for *_, texts in by_start]
    assert [row.fields["text"] for row in rows] == [row.label for row in rows]


SRT = """1
00:00:01,000 --> 00:00:02,500
{\\an8}<i>Hello</i>
<font color="#fff">there</font>

2
00:00:03.1 --> 00:01:00,25 X1:10 X2:20
I <3 you, a < b > c

with a blank line

3
1:02:03,004 --> 1:02:05,006
5 apples
7
"""


def test_srt_in_all_its_spellings() -> None:
    rows = read_as("srt", SRT)
    assert spans(rows) == [
        (1, 2.5, "Hello there"), (3.1, 60.25, "I <3 you, a < b > c with a blank line"), (3723.004, 3725.006, "5 apples 7"),
    ]  # fmt: skip
    assert [row.line for row in rows] == [2, 7, 13]


def test_a_number_as_text_is_text_and_a_number_of_a_cue_is_not() -> None:
    content = "1\n00:00:01,000 --> 00:00:02,000\n42\n\n2\n00:00:03,000 --> 00:00:04,000\n\n3\n00:00:05,000 --> 00:00:06,000\nx\n"
    rows, noted = read_noted("srt", content)
    assert spans(rows) == [(1, 2, "42"), (5, 6, "x")]
    assert noted == {"records_passed_over": 1}
    assert spans(read_as("srt", "00:00:01,000 --> 00:00:02,000\na\n00:00:03,000 --> 00:00:04,000\nb")) == [
        (1, 2, "a"),
        (3, 4, "b"),
    ]


def test_bad_cues_are_rejected_one_by_one() -> None:
    content = (
        "junk\n\n1\n00:00:01,000 --> 00:00:02,000\na\n\n2\n00:00:xx,000 --> 00:00:03,000\nb\n\n3\n00:00:04,000 00:00:05,000\nc\n\n"
        "4\n00:00:06,000 --> 00:00:05,000\nd\n\n5\n-00:00:06,000 --> 00:00:05,000\ne\n"
    )
    rows = read_as("srt", content)
    malformed = "annotation_malformed"
    assert reasons(rows) == [malformed, None, malformed, malformed, "annotation_end_before_start", malformed]
    assert [row.line for row in rows] == [1, 4, 8, 12, 16, 20]
    assert (
        rows[2].detail == "expected times such as 00:00:01,500 --> 00:00:03,000, found '00:00:xx,000 --> 00:00:03,000'"
    )


VTT = """WEBVTT - title
Kind: captions

NOTE a comment
of two lines

STYLE
::cue { color: red }

REGION
id:fred

intro
00:01.000 --> 00:02.500 align:start position:0%
<v.loud Mary Ann><c.red>Hi</c> <00:01.500>&amp; <b>bye</b></v>
- <v Bob>x &lt; y&nbsp;&#x21;

00:00:03.000 --> 100:00:04.000
plain
00:05.000 --> 00:06.000
after a missing blank line

lost text
"""


def test_vtt_in_all_its_parts() -> None:
    rows = read_as("vtt", VTT)
    assert spans(rows[:3]) == [
        (1, 2.5, "Hi & bye - x < y !"), (3, 360004, "plain"), (5, 6, "after a missing blank line"),
    ]  # fmt: skip
    assert [(row.fields["speaker"], row.fields["cue_id"]) for row in rows[:3]] == [
        ("Mary Ann, Bob", "intro"),
        ("", ""),
        ("", ""),
    ]
    assert [row.line for row in rows] == [14, 18, 20, 23]
    assert rows[3].detail == "a block without times, 'lost text'"


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
@pytest.mark.parametrize("name", ["srt", "vtt", "lrc", "audacity", "raven"])
def test_an_empty_file_has_no_rows(name: str, content: str) -> None:
    assert read_as(name, content) == []


def test_a_vtt_without_cues_has_no_rows() -> None:
    assert read_as("vtt", "WEBVTT\n") == read_as("vtt", "WEBVTT\n\nNOTE nothing\n") == []
    assert spans(read_as("vtt", "WEBVTT\n00:01.000 --> 00:02.000\nx")) == [(1, 2, "x")]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("srt", "start,end\n0,1\n", "not SRT"),
        ("srt", "a --> b\n", "not SRT"),
        ("vtt", SRT, "not WebVTT"),
        ("vtt", "WEBVTTX\n", "not WebVTT"),
        ("lrc", "hello\nworld\n", "not LRC"),
        ("srt", b"\xff\xfe\x00\xd8", "not utf-16 text"),
    ],
)
def test_other_files_are_refused(name: str, content: str | bytes, what: str) -> None:
    with pytest.raises(UnreadableError, match=what):
        read_as(name, content)


# LRC


def lrc_stamp(centiseconds: int) -> str:
    return f"[{centiseconds // 6000:02d}:{centiseconds // 100 % 60:02d}.{centiseconds % 100:02d}]"


@given(st.lists(st.tuples(st.integers(0, 50_000), WORDS), min_size=1, max_size=8), st.integers(-5000, 0))
def test_a_line_of_lyrics_lasts_until_the_next(sung: list[tuple[int, str]], offset_ms: int) -> None:
    content = f"[ar: a]\n[offset: {offset_ms}]\n" + "".join(f"{lrc_stamp(at)}{text}\n" for at, text in sung)
    times = sorted({at for at, _ in sung})
    following = dict(zip(times, [*times[1:], None], strict=True))
    expected = [
        (
            (at * 10 - offset_ms) / 1000,
            None if following[at] is None else (following[at] * 10 - offset_ms) / 1000,
            to_nfc(text),
        )
        for at, text in sorted(sung, key=lambda line: line[0])
    ]
    assert spans(read_as("lrc", content)) == expected


def test_lyrics_with_repeats_pauses_and_times_of_words() -> None:
    content = "[ti:Song]\n[00:01.50][00:05]La <00:02.00> la\n[00:03.0]\n[01:00.123]the  end\n"
    rows = read_as("lrc", content)
    assert spans(rows) == [(1.5, 3, "La la"), (5, 60.123, "La la"), (60.123, None, "the end")]
    assert [row.line for row in rows] == [2, 2, 4]
    assert [row.start for row in read_as("lrc", "[offset:+500]\n[00:01.5]x\n")] == [1]


def test_bad_lines_of_lyrics_are_rejected_one_by_one() -> None:
    rows = read_as("lrc", "[00:01.00]a\nno time\n[00:12:34]hours?\n[offset:soon]\n[00:02.00]b\n[offset:3000]\n")
    assert [(row.line, row.reason) for row in rows] == [
        (2, "annotation_malformed"), (3, "annotation_malformed"), (4, "annotation_malformed"), (1, "annotation_negative"),
        (5, "annotation_negative"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        "<a" * 500_000,
        "{\\a" * 300_000,
        "<v a" * 300_000,
        "[00:01]" * 50_000,
        "1\n" * 60_000,
        "0:" * 500_000,
        "[" * 500_000,
    ],
)
@pytest.mark.parametrize("name", ["srt", "vtt", "lrc"])
def test_hostile_text_costs_little_time(name: str, content: str) -> None:
    began = time.process_time()
    head = {
        "srt": "00:00:01,000 --> 00:00:02,000\n",
        "vtt": "WEBVTT\n\n00:01.000 --> 00:02.000\n",
        "lrc": "[00:01.00]",
    }[name]
    read_as(name, head + content)
    assert time.process_time() - began < 5


PIECES: Any = st.sampled_from(
    [
        "00:00:01,000",
        " --> ",
        "\n",
        "1",
        "WEBVTT",
        "[00:01.00]",
        "[",
        "]",
        "<v ",
        ">",
        "&#0;",
        "NOTE",
        "\t",
        "\\",
        "-",
        "x",
    ]
)


@given(
    st.binary(max_size=100) | st.lists(PIECES, max_size=30).map(lambda parts: "".join(parts).encode()),
    st.sampled_from(["srt", "vtt", "lrc"]),
)
def test_no_content_raises_anything_else(content: bytes, name: str) -> None:
    for data in (content, b"WEBVTT\n\n" + content, b"00:00:01,000 --> 00:00:02,000\n" + content):
        with suppress(*DECLARED):
            read_noted(name, data)
