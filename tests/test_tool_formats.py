"""Files of annotation tools, whole: recognised by `format: auto`, and built into clips with nothing but the name of the format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from annotated_corpora import annotate_source
from annotation_reading import DECLARED, read_noted
from conftest import CORPORA, build_here, clips_of, run, tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.stages.annotations import registered
from clipmill.stages.annotations.rows import SettingError, UnreadableError

TEXTGRID = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n2\n<exists>\n1\n"IntervalTier"\n"words"\n0\n2\n1\n0.5\n1.5\n"one"\n'
JAMS = '{"annotations": [{"namespace": "tag_open", "data": [{"time": 0.5, "duration": 1, "value": "a", "confidence": null}]}], "file_metadata": {}}'
BATDETECT = (
    '{"annotated": false, "annotation": [{"class": "Myotis", "start_time": 0.5, "end_time": 1, "low_freq": 1, "high_freq": 2}],'
    ' "id": "a.wav", "time_exp": 1}'
)
EAF = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT><TIME_ORDER><TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="500"/>'
    '<TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="1500"/></TIME_ORDER><TIER TIER_ID="t"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1"'
    ' TIME_SLOT_REF1="a" TIME_SLOT_REF2="b"><ANNOTATION_VALUE>one</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>'
    "</ANNOTATION_DOCUMENT>"
)
RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tAnnotation\n1\tSpectrogram 1\t1\t0.5\t1.5\tEATO\n"
FILES: dict[str, str] = {
    "textgrid": TEXTGRID,
    "jams": JAMS,
    "batdetect": BATDETECT,
    "eaf": EAF,
    "raven": RAVEN,
    "crowsetta": "onset_s,offset_s,label\n0.5,1.5,a\n",
    "audacity": "0.500000\t1.500000\tdog\n\\\t100.0\t200.0\n",
    "srt": "1\n00:00:00,500 --> 00:00:01,500\none\n",
    "vtt": "WEBVTT\n\n00:00.500 --> 00:01.500\none\n",
    "lrc": "[ar:x]\n[00:00.50]one\n[00:01.50]\n",
    "rttm": "SPEAKER a 1 0.5 1.0 <NA> <NA> ann <NA> <NA>\n",
}
OF_SPEECH: dict[str, str] = {
    "ctm": "a A 0.5 1.0 hello 0.99\n",
    "stm": "a A ann 0.5 1.5 <o,f0,female> hello you\n",
    "uem": "a 1 0.5 1.5\n",
    "librispeech": "1089-134686-0000 HE HOPED THERE WOULD BE STEW\n1089-134686-0001 STUFF IT INTO YOU\n",
    "nemo": '{"audio_filepath": "a.wav", "offset": 0.5, "duration": 1.0, "text": "hello"}\n',
    "lhotse": '{"id": "a-0", "recording_id": "a", "start": 0.5, "duration": 1.0, "channel": 0, "text": "hello"}\n',
    "speechbrain": "ID,duration,wav,start,stop,spk_id\na-0,1.0,a.wav,8000,24000,ann\n",
    "audioset": '# YTID, start_seconds, end_seconds, positive_labels\n--4gqARaEJE, 0.500, 10.500, "/m/068hy,/m/07q6cd_"\n',
}
"""A small file of each format that shows what it is by its beginning, with one annotation of at most a second, from 0.5 s on."""
OF_NO_FORMAT = {
    "csv": "start,end,label\n0,1,dog\n",
    "semicolons": "0;1;dog\n1;2;cat\n",
    "tsv with a header": "start\tend\tlabel\n0\t1\tdog\n",
    "text": "This is a note about the recording.\n\nIt was made in May.\n",
    "one word": "dog\n",
    "numbers": "1\n2\n3\n",
    "json": '{"a": [1, 2, 3]}',
    "xml": '<?xml version="1.0"?><TEI><text>one</text></TEI>',
    "empty": "",
}


@pytest.mark.parametrize("path", ["labels/a.xyz", "a.wav.json", "a.csv", "a.txt"])
@pytest.mark.parametrize("name", FILES)
def test_the_beginning_of_a_file_shows_its_format_and_no_other(name: str, path: str) -> None:
    content = FILES[name]
    kinds = [registered.find_format(each) for each in registered.MODULES if each not in ("auto", "csv")]
    assert [kind.name for kind in kinds if kind.looks_like(content)] == [name]
    rows, noted = read_noted("auto", content, path=path)
    assert noted == {f"read_as_{name}": 1}
    assert [(row.start, row.reason) for row in rows] == [(0.5, None)]


@pytest.mark.parametrize("name", OF_SPEECH)
@pytest.mark.parametrize("path", ["a.txt", "a.csv", "a.json"])
def test_files_of_speech_corpora_show_what_they_are_under_any_name(name: str, path: str) -> None:
    kinds = [registered.find_format(each) for each in registered.MODULES if each not in ("auto", "csv")]
    assert [kind.name for kind in kinds if kind.looks_like(OF_SPEECH[name])] == [name]
    if name == "speechbrain":
        with pytest.raises(UnreadableError, match="it looks like speechbrain, whose times are in samples"):
            read_noted("auto", OF_SPEECH[name], path=path)
        return
    rows, noted = read_noted("auto", OF_SPEECH[name], path=path)
    assert (len(rows) > 0, noted.get(f"read_as_{name}")) == (True, 1)


@pytest.mark.parametrize("path", ["a.txt", "a.csv", "a.json", "a.tsv", "a"])
@pytest.mark.parametrize("name", OF_NO_FORMAT)
def test_tables_and_texts_are_of_no_format_that_shows(name: str, path: str) -> None:
    with pytest.raises(
        UnreadableError, match=r"neither its name nor its beginning shows its format; set annotations.format"
    ):
        read_noted("auto", OF_NO_FORMAT[name], path=path)


@given(
    st.sampled_from(sorted(FILES | OF_SPEECH)), st.sampled_from(sorted(FILES | OF_SPEECH)),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 20), st.binary(max_size=4)), max_size=4), st.booleans(),
)  # fmt: skip
def test_damage_raises_only_what_is_declared(
    of: str, name: str, cuts: list[tuple[int, int, bytes]], is_auto: bool
) -> None:
    content = (FILES | OF_SPEECH)[of].encode()
    for at, length, put in cuts:
        content = content[: at % (len(content) + 1)] + put + content[at % (len(content) + 1) + length :]
    with suppress(*DECLARED):
        rows, _ = read_noted("auto" if is_auto else name, content, path="a.txt")
        assert all(row.reason is None or row.detail for row in rows)


def real_files() -> Iterator[tuple[str, Path]]:
    """Yield files that real tools wrote, with their formats."""
    found = CORPORA / "annotations"
    for name, pattern in (
        ("textgrid", "textgrid/*.TextGrid"), ("raven", "raven-selection-table/*.txt"), ("audacity", "audacity-labels/*.txt"),
        ("rttm", "rttm/*.rttm"), ("librispeech", "librispeech-trans/*.trans.txt"), ("audioset", "audioset-csv/*.csv"),
    ):  # fmt: skip
        yield from ((name, path) for path in sorted(found.glob(pattern)))
    yield from (("jams", path) for path in sorted(CORPORA.glob("scaper/tests/data/regression/*.jams")))


@pytest.mark.parametrize(
    ("name", "path"), real_files(), ids=lambda value: value if isinstance(value, str) else value.name[-30:]
)
def test_files_of_real_tools_show_their_format(name: str, path: Path) -> None:
    from clipmill.stages.annotations.file_text import decode_text

    head = decode_text(path.read_bytes(), "auto")[: 1 << 16].lstrip("\ufeff")
    kinds = [registered.find_format(each) for each in registered.MODULES if each not in ("auto", "csv")]
    assert [kind.name for kind in kinds if kind.looks_like(head)] == [name]


@pytest.mark.parametrize("pattern", ["desed-strong-tsv/*.tsv", "urbansound8k-csv/*.csv", "vctk-speaker-info/*.txt"])
def test_real_tables_are_of_no_format_that_shows(corpora: Path, pattern: str) -> None:
    for path in (corpora / "annotations").glob(pattern):
        with pytest.raises(UnreadableError):
            read_noted("auto", path.read_bytes(), path=path.name)


def test_a_key_of_the_format_that_is_missing_is_asked_for_with_the_format() -> None:
    two = TEXTGRID.replace("<exists>\n1", "<exists>\n2") + '"TextTier"\n"tones"\n0\n2\n0\n'
    with pytest.raises(
        SettingError, match=r"set `tier` to one of: .*; it was read as textgrid, so write format: textgrid, and `tier`"
    ) as error:
        read_noted("auto", two, path="a.TextGrid")
    assert error.value.under == "format"


def test_each_sidecar_is_read_as_what_it_is_and_the_plan_tells(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    for name, content in FILES.items():
        write_audio(tmp_path / "in" / f"{name}.wav", tone(2.0, 16000), 16000)
        (tmp_path / "in" / f"{name}.labels").write_text(content)
    config = make_config({"root": tmp_path / "in", "annotations": {"format": "auto", "sidecar": "{stem}.labels"}})
    text = run("plan", config)
    for name in FILES:
        assert f"1 annotation file was read as {name} (annotations.format: auto)" in text


# Builds


def build(tmp_path: Path, config: Path) -> list[dict[str, Any]]:
    clips = clips_of(tmp_path / "out", build_here(config))
    return sorted(clips, key=lambda clip: (clip["source_uri"], clip["start_s"]))


def test_textgrids_of_praat_become_clips(corpora: Path, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    folder = corpora / "annotations" / "textgrid"
    for path in sorted(folder.glob("*.TextGrid")):
        stem = path.name.removesuffix(".TextGrid")
        write_audio(tmp_path / "in" / f"{stem}.wav", tone(1.3, 16000), 16000)
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    config = make_config({"root": tmp_path / "in", "annotations": {"format": "textgrid", "tier": "phonemes"}})
    clips = build(tmp_path, config)
    assert len(clips) == 4 * 15
    first = [clip for clip in clips if clip["source_uri"] == clips[0]["source_uri"]]
    assert [clip["label"] for clip in first][:4] == ["ð", "ə", "n", "ɔ"]
    assert first[0]["start_s"] == pytest.approx(0.068, abs=1e-3)
    assert [clip["text"] for clip in first] == [clip["label"] for clip in first]


def test_many_textgrids_without_a_tier_stop_the_build(
    corpora: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    content = (corpora / "annotations" / "textgrid" / "the_north_wind_and_the_sun.utf16.TextGrid").read_bytes()
    for n in range(3):
        write_audio(tmp_path / "in" / f"{n}.wav", tone(1.3, 16000), 16000)
        (tmp_path / "in" / f"{n}.TextGrid").write_bytes(content)
    config = make_config({"root": tmp_path / "in", "annotations": {"format": "textgrid"}})
    text = run("plan", config, code=2)
    assert "annotations.tier" in text
    assert "'phonemes' (16 intervals), 'syllable nuclei' (6 points)" in text


def test_selection_tables_of_raven_become_clips(
    corpora: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    content = (corpora / "annotations" / "raven-selection-table" / "raven_with_Annotation_col.txt").read_text()
    write_audio(tmp_path / "in" / "a.wav", tone(5.0, 16000), 16000)
    line = content.splitlines()[1]
    (tmp_path / "in" / "a.Table.1.selections.txt").write_text(
        f"{content}\n{line.replace('Spectrogram 1', 'Waveform 1')}\n"
    )
    config = make_config(
        {"root": tmp_path / "in", "annotations": {"format": "raven", "sidecar": "{stem}.Table.1.selections.txt"}}
    )
    (clip,) = build(tmp_path, config)
    assert (clip["label"], clip["Low Freq (Hz)"]) == ("CSWA", "1326.3")
    assert clip["duration_s"] == pytest.approx(4.110570811 - 1.897648166, abs=1e-3)
    assert "1 record of an annotation file repeats another one and was left out" in run("plan", config)


def test_a_table_of_raven_over_many_recordings_becomes_clips(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for name in "ab":
        write_audio(tmp_path / "in" / f"{name}.wav", tone(5.0, 16000), 16000)
    header = RAVEN.splitlines()[0] + "\tBegin File\tFile Offset (s)\n"
    rows = "1\tSpectrogram 1\t1\t1.0\t2.0\tx\ta.wav\t1.0\n2\tSpectrogram 1\t1\t8.0\t9.5\ty\tb.wav\t3.0\n"
    (tmp_path / "in" / "all.txt").write_text(header + rows)
    config = make_config({"root": tmp_path / "in", "annotations": {"format": "raven", "table": "all.txt"}})
    clips = build(tmp_path, config)
    assert [(clip["label"], clip["start_s"], clip["duration_s"]) for clip in clips] == [("x", 1, 1), ("y", 3, 1.5)]


def test_soundscapes_of_scaper_become_clips(corpora: Path, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    path = corpora / "scaper/tests/data/regression/soundscape_20200501_22050.jams"
    write_audio(tmp_path / "in" / "a.wav", tone(10.0, 16000), 16000)
    (tmp_path / "in" / "a.jams").write_bytes(path.read_bytes())
    config = make_config({"root": tmp_path / "in", "annotations": {"format": "jams"}})
    clips = build(tmp_path, config)
    assert [(clip["label"], clip["role"]) for clip in clips] == [
        ("park", "background"), ("siren", "foreground"), ("car_horn", "foreground"), ("human_voice", "foreground"),
    ]  # fmt: skip


def test_rejected_observations_are_told_with_their_place(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in" / "a.wav", tone(2.0, 16000), 16000)
    (tmp_path / "in" / "a.jams").write_text(JAMS.replace('"duration": 1', '"duration": -1'))
    text = run("plan", make_config({"root": tmp_path / "in", "annotations": {"format": "jams"}}))
    assert "a.jams: annotations[0].data[0]: start 0.5, end -0.5" in text


def test_rejected_observations_keep_their_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("x")
    (tmp_path / "a.jams").write_text(JAMS.replace('"duration": 1', '"duration": -1'))
    found = annotate_source(tmp_path, annotations={"format": "jams"})
    ((file, row),) = found.by_path["a.wav"]
    assert (file, row.reason) == ("a.jams", "annotation_end_before_start")
    assert str(row.detail).startswith("annotations[0].data[0]: ")


def test_files_lie_where_each_tool_puts_them() -> None:
    defaults = {name: registered.find_format(name).sidecar for name in FILES if name != "rttm"}
    assert defaults == {
        "textgrid": "{stem}.TextGrid", "jams": "{stem}.jams", "batdetect": "{name}.json", "eaf": "{stem}.eaf",
        "raven": "{stem}.Table.1.selections.txt", "crowsetta": "{stem}.csv", "audacity": "{stem}.txt", "srt": "{stem}.srt",
        "vtt": "{stem}.vtt", "lrc": "{stem}.lrc",
    }  # fmt: skip
