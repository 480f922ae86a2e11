"""A Kaldi data directory gives its segments with texts and speakers, whatever is missing in it, and nothing in it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from annotated_corpora import annotate_source
from annotation_reading import spans, spec_of
from hypothesis import given
from hypothesis import strategies as st
from lhotse.kaldi import load_kaldi_data_dir

from clipmill.pipelines.plan.annotations.table_paths import TablePaths
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.names import to_nfc
from clipmill.stages.annotations.registered import find_format
from clipmill.stages.annotations.rows import Row, UnreadableError

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
TEXTS = st.lists(NAMES, max_size=4).map(" ".join)
SEGMENTS = {"segments": "u1 r1 0 1.5\nu2 r1 1.5 -1\nu3 r2 0 2\n"}


def read(
    files: dict[str, str], encoding: str = "utf-8", **given: Any
) -> tuple[list[tuple[list[str], Row]], dict[str, int]]:
    """Return what the rows of a directory name, with the rows, and the notes."""
    content = {name: text.encode(encoding) for name, text in files.items()}
    kind = find_format("kaldi")
    sheet = kind.open(content, spec_of("kaldi", **given), "data/train")
    places = [sheet.column(name) or 0 for name in kind.recording]
    rows = [([cells[place] for place in places], row) for cells, row in sheet]
    return rows, dict(sheet.noted)


def rows_of(files: dict[str, str]) -> list[Row]:
    return [row for _, row in read(files)[0]]


@given(
    st.dictionaries(NAMES, st.tuples(NAMES, st.integers(0, 10**6), st.integers(1, 10**6), TEXTS, NAMES)),
    st.sampled_from([" ", "\t", "  "]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_as_a_directory_is_read(utterances: dict[str, Any], blank: str, end: str) -> None:
    files = {
        "segments": [(u, r, f"{a / 1000:.3f}", f"{(a + b) / 1000:.3f}") for u, (r, a, b, _, _) in utterances.items()],
        "text": [(u, text) for u, (*_, text, _) in utterances.items()],
        "utt2spk": [(u, speaker) for u, (*_, speaker) in utterances.items()],
        "spk2gender": [(speaker, "f") for speaker in {speaker for *_, speaker in utterances.values()}],
    }
    found, noted = read({name: end.join(blank.join(line) for line in lines) for name, lines in files.items()})
    rows = [row for _, row in found]
    assert spans(rows) == [(a / 1000, (a + b) / 1000, to_nfc(text) or None) for _, a, b, text, _ in utterances.values()]
    for (names, row), (utterance, (recording, _, _, text, speaker)) in zip(found, utterances.items(), strict=True):
        assert names[1] == recording
        assert row.fields == {
            "text": to_nfc(text), "utterance": to_nfc(utterance), "speaker": to_nfc(speaker), "gender": "f",
        }  # fmt: skip
    assert noted == {}


@pytest.mark.parametrize("name", ["mini_librispeech", "mini_librispeech2"])
def test_directories_give_what_lhotse_reads(corpora: Path, name: str) -> None:
    folder = corpora / "lhotse/test/fixtures" / name
    _, supervisions, _ = load_kaldi_data_dir(folder, sampling_rate=16000)
    assert supervisions is not None
    kind = find_format("kaldi")
    files = {path.name: path.read_text() for path in folder.iterdir() if path.name in kind.folder}
    found, _ = read(files)
    expected = [
        (s.id, s.recording_id, s.start, pytest.approx(s.end), s.text, s.speaker, s.gender) for s in supervisions
    ]
    assert [
        (row.fields["utterance"], names[1], row.start, row.end, row.label, row.fields["speaker"], row.fields["gender"])
        for names, row in found
    ] == expected
    assert all(names[0] == "" and row.noted == ("commands_not_run",) for names, row in found)


def test_a_segment_that_ends_at_minus_one_extends_to_the_end() -> None:
    rows = rows_of({"segments": "a r 1.5 -1\nb r 2 -1.00\nc r 2 -1.5\nd r 2 0\n"})
    assert [(row.start, row.end) for row in rows[:2]] == [(1.5, None), (2, None)]
    assert [row.reason for row in rows] == [None, None, "annotation_end_before_start", "annotation_end_before_start"]


def test_wav_scp_is_read_for_names() -> None:
    scp = "r1 /corpus/audio/one two.flac\nr2 sph2pipe -f wav -p -c 1 /x/r2.sph |\nr3 \n"
    files = {
        "segments": "a r1 0 1\nb r2 0 1\nc r3 0 1\nd r4 0 1\n",
        "wav.scp": scp,
        "reco2file_and_channel": "r2 sw02001 B\n",
    }
    found, _ = read(files)
    assert [names for names, _ in found] == [
        ["/corpus/audio/one two.flac", "r1", ""], ["", "r2", "sw02001"], ["", "r3", ""], ["", "r4", ""],
    ]  # fmt: skip
    assert [row.noted for _, row in found] == [(), ("commands_not_run",), (), ()]
    assert found[1][1].fields["channel"] == "B"
    found, _ = read(files, columns={"channel": "channel"})
    assert [row.channel for _, row in found] == [None, 2, None, None]


def test_without_segments_each_recording_is_an_utterance() -> None:
    text = {"text": "r1 HELLO THERE\nr2\n"}
    for files in (text, {**text, "wav.scp": "r1 a.wav\nr2 b.wav\n"}, {**text, "utt2spk": "r2 s\nr1 s\n"}):
        assert spans(rows_of(files)) == [(None, None, "HELLO THERE"), (None, None, None)]
    assert [names[0] for names, _ in read({**text, "wav.scp": "r1 a.wav\nr2 b.wav\n"})[0]] == ["a.wav", "b.wav"]


def test_an_utterance_that_a_file_lacks_is_rejected_and_one_without_audio_counted() -> None:
    files = {
        **SEGMENTS,
        "text": "u1 ONE\nu3 THREE\nu4 FOUR\n",
        "utt2spk": "u1 s\nu2 s\nu4 t\nu5 t\n",
        "spk2gender": "t f\n",
    }
    found, noted = read(files)
    assert [row.detail for _, row in found] == [
        None,
        "segments, line 2: text has no line for 'u2'",
        "segments, line 3: utt2spk has no line for 'u3'",
    ]
    assert noted == {"utterances_without_segment": 2}
    assert found[0][1].fields["speaker"] == "s"
    found, _ = read({"wav.scp": "r1 a.wav\n", "text": "r2 X\n"})
    assert [row.detail for _, row in found] == ["wav.scp, line 1: text has no line for 'r1'"]


def test_what_is_said_twice_is_rejected_unless_it_is_the_same() -> None:
    rows = rows_of({"segments": "a r 0 1\na r 1 2\nb r 0 1\nc r 0 1\n", "text": "b ONE\nb TWO\na X\nc Y\nc  Y \n"})
    assert [row.detail for row in rows] == [
        None,
        "segments, line 2: utterance 'a' is there twice",
        "segments, line 3: text says different things about 'b', on lines 1 and 2",
        None,
    ]
    assert [row.detail for row in rows_of({"segments": "a r 0\na2 r 0 1 1 1\n\nb r x 1\n"})] == [
        "segments, line 1: 3 fields, expected utterance, recording, start and end",
        "segments, line 2: more than 5 fields, expected utterance, recording, start and end",
        "segments, line 4: start is 'x'",
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_other_encodings_are_read(encoding: str) -> None:
    found, _ = read({**SEGMENTS, "text": "u1 안녕\u3000하세요 \r\nu2 Grüße\r\nu3 犬"}, encoding)
    assert [row.label for _, row in found] == ["안녕\u3000하세요", "Grüße", "犬"]


def test_what_is_no_directory_is_said() -> None:
    with pytest.raises(UnreadableError, match="text: not utf-8 text"):
        find_format("kaldi").open({"text": b"a \xff\xfa\n"}, spec_of("kaldi"))
    with pytest.raises(UnreadableError, match=r"has segments, wav\.scp or text; this one has none of them"):
        read({"spk2gender": "a f\n"})
    with pytest.raises(UnreadableError, match="let `table` be the folder"):
        find_format("kaldi").open(b"a r 0 1\n", spec_of("kaldi"))


def make(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("table", [None, ".", "./"])
def test_the_root_itself_can_be_the_directory(tmp_path: Path, table: str | None) -> None:
    root = make(tmp_path, {**SEGMENTS, "wav/r1.wav": "x", "wav/r2.wav": "x", "sub/text": "u1 not this\n"})
    found = annotate_source(root, annotations={"format": "kaldi", **({"table": table} if table else {})})
    assert {path: [row.start for _, row in rows] for path, rows in found.by_path.items()} == {
        "wav/r1.wav": [0, 1.5], "wav/r2.wav": [0],
    }  # fmt: skip


def test_several_directories_are_tables_of_one_source(tmp_path: Path) -> None:
    files = {
        "data/train/segments": "u1 r1 0 1\n", "data/train/text": "u1 ONE\n", "data/test/segments": "u2 r2 0 1\nu9 r9 0 1\n",
        "data/test/text": "u2 TWO\nu9 NINE\n", "data/README/notes": "", "r1.wav": "x", "r2.wav": "x",
    }  # fmt: skip
    root = make(tmp_path, files)
    found = annotate_source(root, annotations={"format": "kaldi", "table": "data/*"})
    assert {path: [(file, row.label) for file, row in rows] for path, rows in found.by_path.items()} == {
        "r1.wav": [("data/train", "ONE")], "r2.wav": [("data/test", "TWO")],
    }  # fmt: skip
    assert [(stray.file, stray.names, stray.row.reason) for stray in found.strays] == [
        ("data/test", ("r9",), "recording_not_found")
    ]
    with pytest.raises(ConfigError, match=r"has none of the files segments, wav\.scp"):
        annotate_source(root, annotations={"format": "kaldi", "table": "data"})
    with pytest.raises(ConfigError, match=r"no file under .* fits 'nothing/\*'"):
        annotate_source(root, annotations={"format": "kaldi", "table": "nothing/*"})


def test_files_of_a_directory_are_annotation_files() -> None:
    paths = TablePaths(spec_of("kaldi", table="data/*"))
    assert [
        path for path in ("data/a/text", "data/a/b/text", "data/text", "data/a/notes", "text") if paths.match(path)
    ] == ["data/a/text"]
    files = {"data/a/text": "1", "data/a/segments": "1", "data/b/wav.scp": "1", "data/a/x/text": "1"}
    assert paths.tables(files) == ["data/a", "data/b"]
    assert paths.parts("data/a", files) == {"segments": "data/a/segments", "text": "data/a/text"}


@pytest.mark.parametrize("missing", ["reject", "ignore"])
def test_a_name_that_fits_several_recordings_is_ambiguous_whatever_is_looked_up_after_it(
    tmp_path: Path, missing: str
) -> None:
    root = make(tmp_path, {"segments": "u r 0 1\n", "wav.scp": "r x.wav\n", "a/x.wav": "x", "b/x.wav": "x"})
    found = annotate_source(root, annotations={"format": "kaldi", "missing_recordings": missing})
    assert [(stray.row.reason, stray.row.detail) for stray in found.strays] == [
        ("recording_ambiguous", "segments, line 1: 'x.wav', 'r'")
    ]
    assert found.n_ignored == 0
