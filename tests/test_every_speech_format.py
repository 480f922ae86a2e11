"""Whatever annotation files of speech corpora hold, they are read or refused, in time and memory that fit their size."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from annotated_corpora import annotate_source
from annotation_reading import DECLARED, spec_of
from hypothesis import example, given
from hypothesis import strategies as st

from clipmill.stages.annotations import registered
from clipmill.stages.annotations.file_text import decode_text
from clipmill.stages.annotations.registered import find_format
from clipmill.stages.annotations.rows import Row, UnreadableError

SAMPLES: dict[str, str] = {
    "ctm": ";; x\na A 0.5 1.0 hello 0.99\na A * * <ALT_BEGIN>\na A 1 2 um\na A * * <ALT_END>\n",
    "stm": "a A ann 0.5 1.5 <o,f0,female> hello you\na 1 x 1 2 ignore_time_segment_in_scoring\n",
    "uem": "a 1 0.5 1.5\n",
    "librispeech": "84-121550-0000 ONE\n84-121550-0001 TWO WORDS\n",
    "timit": "0 3050 h#\n3050 4559 sh\n",
    "nemo": '{"audio_filepath": "a.wav", "offset": 0.5, "duration": 1.0, "text": "hello", "x": [1, {"y": null}]}\n',
    "lhotse": (
        '[{"id": "r", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}]}, {"id": "s", "recording_id": "r", "start": 0,'
        ' "duration": 1, "channel": 0}, {"id": "c", "start": 1, "duration": 2, "supervisions": [{"id": "t", "recording_id": "r", "start": 0,'
        ' "duration": 1, "custom": {"k": 1}}], "recording": {"id": "r", "sources": [], "transforms": [{"name": "Speed"}]}}]'
    ),
    "speechbrain": '{"a": {"wav": {"file": "{root}/a.wav", "start": 0, "stop": 9}, "duration": 1, "wrd": "x"}, "b": {"wav": "b.wav"}}',
    "audioset": '# YTID, start_seconds, end_seconds, positive_labels\n--4gqARaEJE, 0.500, 10.500, "/m/068hy,/m/07q6cd_"\n',
}
MORE = {
    "speechbrain": 'ID,duration,start,stop,wav,wav_format,wrd\na,1,0,16000,a.wav,wav,"x, y"\n',
    "audioset": "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\tpresent\n--4gqARaEJE_3000\t0\t1\t/m/a\tPRESENT\n",
    "lhotse": '{"id": "s", "recording_id": "r", "start": 0, "duration": 1, "channel": [0, 1], "text": "x"}\n{"tracks": []}\n',
}
KALDI = {
    "segments": "u r 0 1\nv r 1 -1\n", "wav.scp": "r cat a.wav |\n", "text": "u one two\nv\n", "utt2spk": "u s\nv t\n", "spk2gender": "s f\n",
    "reco2file_and_channel": "r r A\n",
}  # fmt: skip
JSON_FORMATS = ("nemo", "lhotse", "speechbrain")
PIECES = st.sampled_from(
    [b"", b"\0", b"\xff", b"\n", b"\r", b" ", b'"', b"{", b"[", b"]", b"}", b",", b":", b"null", b"-1", b"1e999", b"NaN", b"9" * 50, b"\t",
     b"\xe2\x80\xa8", b"\xef\xbb\xbf", b'"start":', b'"supervisions":', b"\\ud800", b"true", b"[[[[", b"<NA>", b"*", b"A", b"_"]
)  # fmt: skip
EDITS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), PIECES), max_size=4)


def read(name: str, content: Any, **given: Any) -> list[Row]:
    """Return the rows of a file or a folder, as they are joined to recordings: with what names the recording."""
    kind = find_format(name)
    given = {"table": "t", **given} if (kind.recording or name == "csv") and "sidecar" not in given else given
    sheet = kind.open(content, spec_of(name, **given), "t")
    places = [sheet.column(column) for column in kind.recording if "{" not in column]
    assert None not in places
    rows = []
    for cells, row in sheet:
        assert all(isinstance(cell, str) for cell in cells)
        assert row.reason is None or row.detail
        assert "\ud800" not in f"{row.label}{row.values}{row.detail}"
        rows.append(row)
    return rows


def edited(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, piece in edits:
        content = content[:at] + piece + content[at + length :]
    return content


@pytest.mark.parametrize("name", [*SAMPLES, "kaldi"])
@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
@example(b"")
@example(b"\xff\xfe")
@example(b"\x1f\x8b")
def test_any_bytes_are_read_or_refused(name: str, content: bytes) -> None:
    for each in [dict.fromkeys(KALDI, content), {"segments": content}] if name == "kaldi" else [content]:
        try:
            read(name, each)
        except DECLARED as error:
            assert str(error)


@pytest.mark.parametrize("name", [*SAMPLES, "kaldi"])
@given(EDITS, st.booleans())
def test_damaged_files_are_read_or_refused(name: str, edits: list[tuple[int, int, bytes]], other: bool) -> None:
    if name == "kaldi":
        at = edits[0][0] % len(KALDI) if edits else 0
        damaged = list(KALDI)[at]
        content: Any = {each: edited(text.encode(), edits if each == damaged else []) for each, text in KALDI.items()}
    else:
        content = edited((MORE if other else SAMPLES).get(name, SAMPLES[name]).encode(), edits)
    try:
        read(name, content)
    except DECLARED as error:
        assert str(error)


@given(EDITS)
def test_damaged_files_of_any_kind_are_taken_for_some_format_or_none(edits: list[tuple[int, int, bytes]]) -> None:
    for text in (*SAMPLES.values(), *MORE.values()):
        head = edited(text.encode(), edits)
        for name in registered.MODULES:
            try:
                find_format(name).looks_like(decode_text(head, "auto"))
            except UnreadableError as error:
                assert "text" in str(error)


def timed(name: str, content: Any, megabytes: int) -> list[Row] | str:
    """Read content. Fails if that takes long or more memory than is said."""
    tracemalloc.start()
    started = time.monotonic()
    try:
        return read(name, content)
    except DECLARED as error:
        return str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < megabytes << 20
        assert time.monotonic() - started < 30


@pytest.mark.parametrize("name", [*SAMPLES, "kaldi"])
def test_a_line_of_many_megabytes_is_rejected_at_a_few_times_its_size(name: str) -> None:
    n = 20 << 20
    for line in (b"x" * n, b"a 1 0 1 " + b"y " * (n // 2), b'{"audio_filepath": "' + b"x" * n + b'"}'):
        found = timed(name, {"segments": b"u r 0 1", "text": line} if name == "kaldi" else line, 300)
        assert isinstance(found, str) or [row.reason for row in found] == ["annotation_malformed"]


def test_a_text_that_no_annotation_has_is_rejected_and_a_long_one_read() -> None:
    long, longer = "x" * (1 << 20), "x" * ((1 << 20) + 1)
    rows = read("stm", f"a 1 s 0 1 {long}\na 1 s 1 2 {longer}\na 1 s 2 3 hello\n".encode())
    assert [len(row.label or "") for row in rows] == [1 << 20, 100, 5]
    assert rows[1].detail == "text has 1,048,577 characters; at most 1,048,576 are read"
    with pytest.raises(UnreadableError, match=r"line 1: 1,048,577 characters"):
        read("csv", longer.encode(), recording="x", delimiter="whitespace")


@pytest.mark.parametrize("name", JSON_FORMATS)
def test_deep_and_wide_json_is_refused(name: str) -> None:
    for content in (b"[" * 3_000_000, b'{"a":' * 1_000_000, b'{"a": {"wav": ' + b"[" * 500 + b"]" * 500 + b"}}"):
        found = timed(name, content, 400)
        assert isinstance(found, str) or all(row.reason for row in found)


def test_records_without_end_of_new_keys_are_refused() -> None:
    lines = "\n".join(json.dumps({"audio_filepath": "a", f"key {i}": i}) for i in range(2000))
    assert timed("nemo", lines.encode(), 100) == "its records have more than 1,000 different keys"
    supervisions = [
        {"id": "s", "recording_id": "r", "start": 0, "duration": 1, "custom": {f"k{i}": 1}} for i in range(2000)
    ]
    assert timed("lhotse", json.dumps(supervisions).encode(), 100) == "its records have more than 1,000 different keys"


def test_a_bomb_of_gzip_is_refused() -> None:
    found = timed("lhotse", gzip.compress(b"\n" * (200 << 20)), 300)
    assert found == "gzip that unpacks to more than 67,108,864 bytes; if it is what you expect, unpack it"


def test_more_records_than_are_kept_in_memory_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"r 1 {i} 1 w{i}\n" for i in range(50))
    whole = [(row.start, row.label, row.line) for row in read("ctm", text.encode())]
    monkeypatch.setattr("clipmill.stages.annotations.format._MOST_KEPT", 10)
    assert [(row.start, row.label, row.line) for row in read("ctm", text.encode())] == whole
    assert len(whole) == 50


REAL = {
    "lhotse": [
        "supervision.json", "libri/cuts.json", "libri/cuts_multi.json", "libri/cuts_no_feats.json", "ljspeech/cuts.json", "ami/cuts.json",
    ],
    "ctm": ["supervision.ctm", "supervision_with_scores.ctm"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in REAL.items() for file in files])
def test_files_of_lhotse_show_their_format(corpora: Path, name: str, file: str) -> None:
    head = (corpora / "lhotse/test/fixtures" / file).read_text()[: 1 << 16]
    kinds = [find_format(each) for each in registered.MODULES if each not in ("auto", "csv")]
    assert [kind.name for kind in kinds if kind.looks_like(head)] == [name]


@pytest.mark.parametrize(
    ("name", "recording"),
    [("nemo", "a.wav"), ("lhotse", "a.wav"), ("ctm", "a.wav"), ("stm", "a.wav"), ("uem", "a.wav"), ("audioset", "--4gqARaEJE.wav"),
     ("librispeech", "84-121550-0000.flac")],
)  # fmt: skip
def test_a_table_of_any_format_names_its_recordings(tmp_path: Path, name: str, recording: str) -> None:
    """The columns that name recordings are those of the format that was found."""
    (tmp_path / "t.xyz").write_text(SAMPLES[name])
    (tmp_path / recording).write_text("x")
    taken = annotate_source(tmp_path, annotations={"format": "auto", "table": "t.xyz"})
    own = annotate_source(tmp_path, annotations={"format": name, "table": "t.xyz"})
    assert {path: [row.label for _, row in rows] for path, rows in taken.by_path.items()} == {
        path: [row.label for _, row in rows] for path, rows in own.by_path.items()
    }
    assert recording in taken.by_path
    assert taken.noted[f"read_as_{name}"] == 1


@pytest.mark.parametrize(
    "named",
    ["Y--4gqARaEJE", "--4gqARaEJE_500", "--4gqARaEJE_0.500", "--4gqARaEJE_0.500_10.500", "Y--4gqARaEJE_0.500_10.500"],
)
def test_downloads_of_audioset_have_many_names(tmp_path: Path, named: str) -> None:
    (tmp_path / "t.csv").write_text(SAMPLES["audioset"])
    (tmp_path / f"{named}.wav").write_text("x")
    found = annotate_source(tmp_path, annotations={"format": "audioset", "table": "t.csv", "excerpts": True})
    assert [(row.start, row.label) for _, row in found.by_path[f"{named}.wav"]] == [(None, "/m/068hy,/m/07q6cd_")]


@pytest.mark.parametrize(("sidecar", "there"), [(None, "SA1.phn"), (None, "SA1.PHN"), ("{stem}.wrd", "SA1.WRD")])
def test_sidecars_of_timit_are_found_in_capitals_and_small_letters(
    tmp_path: Path, sidecar: str | None, there: str
) -> None:
    (tmp_path / "SA1.WAV").write_text("x")
    (tmp_path / there).write_text("0 100 h#\n")
    found = annotate_source(
        tmp_path,
        annotations={"format": "timit", **({"sidecar": sidecar} if sidecar else {})},
        any_name=True,
        include=["**"],
    )
    assert {path: [row.label for _, row in rows] for path, rows in found.by_path.items()} == {"SA1.WAV": ["h#"]}


def test_recordings_beside_a_table_of_lhotse_are_read_from_disk(tmp_path: Path, make_lines: Callable[..., str]) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/x_recordings_a.jsonl").write_text(
        make_lines({"id": "r", "sources": [{"type": "file", "channels": [0], "source": "/d/wav/1.wav"}]})
    )
    (tmp_path / "m/x_supervisions_a.jsonl").write_text(
        make_lines({"id": "s", "recording_id": "r", "start": 0, "duration": 1})
    )
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav/1.wav").write_text("x")
    for table in ("m/x_supervisions_a.jsonl", "m", "m/*_supervisions_*.jsonl"):
        found = annotate_source(tmp_path, annotations={"format": "lhotse", "table": table})
        assert {path: len(rows) for path, rows in found.by_path.items()} == {"wav/1.wav": 1}
        assert not found.strays


@pytest.fixture
def make_lines() -> Callable[..., str]:
    return lambda *values: "\n".join(map(json.dumps, values))


def test_a_line_that_no_file_has_is_refused() -> None:
    with pytest.raises(UnreadableError, match="line 2 has more than 16,777,216 characters"):
        read("rttm", b"SPEAKER a 1 0 1 <NA> <NA> s <NA> <NA>\n" + b"x" * ((1 << 24) + 1))
