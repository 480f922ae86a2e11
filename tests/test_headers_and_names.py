"""Tables whose header or whose names do not fit: what is found there is told, with what to do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from annotated_corpora import join, read
from click.testing import CliRunner
from conftest import tone, write_audio

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.plan.planning import make_plan
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.stages.annotations.rows import MissingColumnError, UnreadableError

BY_NAME = {"start": "s", "end": "e", "label": "l"}


def refused_plan(folder: Path, recordings: list[str], table: str, **spec: Any) -> str:
    """The message of a plan of a source with a table."""
    (folder / "t.csv").parent.mkdir(parents=True, exist_ok=True)
    for name in recordings:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "t.csv").write_text(table)
    annotations = {"table": "t.csv", "recording": "f", "columns": BY_NAME, **spec}
    source = {"name": "s", "root": str(folder), "annotations": annotations}
    with pytest.raises(ClipmillError) as refused:
        make_plan(Config.model_validate({"name": "t", "sources": [source], "output": {"root": str(folder / "out")}}))
    return str(refused.value)


# A header that has a name twice


@pytest.mark.parametrize(("header", "columns"), [("s,e,s", "0 and 2"), ("S,e,s,s", "2 and 3"), ("S,e,S", "0 and 2")])
def test_a_name_that_a_header_has_twice_is_an_error_where_it_is_asked_for(header: str, columns: str) -> None:
    text = f"{header}\n0,1,2,3\n"
    with pytest.raises(MissingColumnError, match=f"columns {columns} of the header are all called 's'; give the index"):
        read(text, header=True, columns={"start": "s", "end": "e"})
    assert read(text, header=True, columns={"start": 0, "end": "e"})[0].end == 1


def test_one_of_two_spellings_and_a_name_with_its_number_are_no_doubt() -> None:
    (row,) = read("S,e,s\n0,1,0.5\n", header=True, columns={"start": "s", "end": "e"})
    assert row.start == 0.5
    (row,) = read("s,e,s\n0,1,0.5\n", header=True, columns={"start": "s_2", "end": "e"})
    assert row.start == 0.5


def test_a_recording_s_column_that_is_there_twice_is_an_error_of_that_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="columns 0 and 1 of the header are all called 'f'") as refused:
        join(tmp_path, ["a.wav"], {"t.csv": "f,f,s\na,b,0\n"}, table="t.csv", recording="f", columns={"start": "s"})
    assert refused.value.key == "sources.s.annotations.recording"


# A table in which no name fits


@pytest.mark.parametrize("ignore", [{}, {"missing_recordings": "ignore"}])
def test_a_table_in_which_no_name_fits_shows_one(ignore: dict[str, str], tmp_path: Path) -> None:
    said = refused_plan(tmp_path, ["r0.wav", "r1.wav"], "f,s,e,l\nr7.wav,0,1,a\n", **ignore)
    assert "line 2 names 'r7.wav', which fits no recording (the first one here is 'r0.wav')" in said
    assert "spreadsheet" not in said


def test_a_name_that_fits_two_files_and_a_number_of_a_spreadsheet_are_told(tmp_path: Path) -> None:
    said = refused_plan(tmp_path / "1", ["a/x.wav", "b/x.wav"], "f,s,e,l\nx.wav,0,1,a\n")
    assert "'x.wav', which fits several recordings" in said and "'a/x.wav'" in said
    said = refused_plan(tmp_path / "2", ["1.wav", "2.wav"], "f,s,e,l\n1.0,0,1,a\n")
    assert "'1.0', which fits no recording" in said and "a spreadsheet has turned a name into a number" in said


# A header that is read as a row


@pytest.mark.parametrize(
    ("header", "columns"),
    [("f,s,e,l", {"start": 1, "end": 2, "label": 3}), ("f,s,e,l", {"label": 3}), ("filename,x,y,kind", {"label": 3})],
)
def test_a_table_s_header_that_is_read_as_a_row_is_told_as_one(
    header: str, columns: dict[str, int], tmp_path: Path
) -> None:
    spec = {"table": "t.csv", "header": False, "recording": 0, "columns": columns}
    found = join(tmp_path, ["a.wav"], {"t.csv": f"{header}\na.wav,0,1,dog\n"}, **spec)
    (stray,) = found.strays
    assert stray.row.reason == "annotation_is_header" and "header: true" in str(stray.row.detail)


@pytest.mark.parametrize("first", ["b,0,1,dog", "alice,x,y,dog", "b.wav,p,q,r"])
def test_a_row_whose_recording_is_not_there_is_no_header(first: str, tmp_path: Path) -> None:
    spec = {"table": "t.csv", "header": False, "recording": 0, "columns": {"label": 3}}
    found = join(tmp_path, ["a.wav"], {"t.csv": f"{first}\na.wav,0,1,dog\n"}, **spec)
    assert [stray.row.reason for stray in found.strays] == ["recording_not_found"]


# Files that are no text, and lines above the header


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04\x14\0\x06\0", "Excel workbook.*save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel workbook .*save it as CSV"),
        (gzip.compress(b"0,1,a\n", mtime=0), "gzip; unpack it"),
        (b"%PDF-1.7\n", "a PDF"),
    ],
)
@pytest.mark.parametrize("encoding", ["auto", "latin-1"])
def test_files_of_other_programs_are_told_as_what_they_are(content: bytes, words: str, encoding: str) -> None:
    with pytest.raises(UnreadableError, match=words) as refused:
        read(content, encoding=encoding)
    assert "annotations.encoding" not in str(refused.value)


def test_lines_above_the_header_are_told() -> None:
    text = "# made by X, v1\ns,e,l\n0,1,a\n"
    with pytest.raises(MissingColumnError, match=r"set annotations\.comment: '#'"):
        read(text, header=True, columns=BY_NAME)
    assert len(read(text, header=True, columns=BY_NAME, comment="#")) == 1
    with pytest.raises(MissingColumnError, match="is above the real header"):
        read("Corpus of birds\n\ns,e,l\n0,1,a\n", header=True, columns=BY_NAME)


def test_lines_above_the_header_are_told_by_the_recording_s_column_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set annotations\.comment: '#'"):
        join(tmp_path, ["a.wav"], {"t.csv": "# by X\nf,s\na,0\n"}, table="t.csv", recording="f")


@pytest.mark.parametrize("name", ["tab", r"\t", "\t"])
def test_a_tab_has_a_name(name: str) -> None:
    assert read("0\t1\ta,b\n", delimiter=name)[0].label == "a,b"


def test_a_field_s_missing_column_is_told_under_fields(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the file has no column 'who'") as refused:
        join(tmp_path, ["a.wav"], {"t.csv": "f,s\na,0\n"}, table="t.csv", recording="f", fields=["who"])
    assert refused.value.key == "sources.s.annotations.fields"


# What a plan tells


def test_a_plan_shows_the_first_of_what_it_rejects_and_counts_no_seconds_of_it(
    make_config: Callable[..., Path], tmp_path: Path
) -> None:
    for name in "ab":
        write_audio(tmp_path / f"in/{name}.wav", tone(1.0, 8000), 8000)
    rows = ["f,s,e,l", "a.wav,x,1,dog", "a.wav,0,0.25,dog", "b.wav,2,1,cat", "c.wav,0,1,cat", "a.wav,y,1,dog"]
    (tmp_path / "in/t.csv").write_text("\n".join(rows))
    annotations = {"table": "t.csv", "recording": "f", "columns": BY_NAME}
    config = str(make_config({"root": tmp_path / "in", "annotations": annotations, "segment": {"mode": "annotation"}}))
    told = CliRunner().invoke(main, ["plan", config]).output
    assert "t.csv:2: start is 'x'" in told and "t.csv:4: start 2, end 1" in told and "t.csv:5: 'c.wav'" in told
    assert "start is 'y'" not in told and "estimate     1 clip, 0.2 s" in told
    found = json.loads(CliRunner().invoke(main, ["plan", config, "--json"]).output)
    assert found["rejected_examples"].keys() == found["rejected"].keys()
    example = found["rejected_examples"]["annotation_not_a_number"]
    assert (example["file"], example["line"], example["detail"]) == ("t.csv", 2, "start is 'x'")
    assert example["source_uri"].endswith("a.wav")
    assert (found["estimate"]["clips"], found["estimate"]["clip_s"]) == (1, 0.25)
    assert found["estimated_s"] == 1.0  # by which shards are sized: half a second a recording at least
