"""é as one code point and é as two are one name, wherever names are compared; a recording's own path keeps its spelling."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import clips_of, tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.dataset.records_io import read_commit, read_snapshot
from clipmill.schemas.names import normalize_names, to_nfc
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")
NFC, NFD = "café", unicodedata.normalize("NFD", "café")
FORMS = [(NFC, NFD), (NFD, NFC), (NFD, NFD), (NFC, NFC)]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def rows_of(root: Path) -> list[dict[str, Any]]:
    there = Root(str(root))
    return clips_of(root, [read_commit(there, key) for key in read_snapshot(there).commits])


@pytest.mark.parametrize(("on_disk", "written"), FORMS)
def test_folders_sidecars_labels_speakers_and_patterns(
    on_disk: str, written: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    for name in (on_disk, "plain"):
        write_audio(tmp_path / f"in/{name}/{name}.wav", tone(0.5, 8000), 8000)
        (tmp_path / f"in/{name}/{to_nfc(name)}.{written}.csv").write_text(f"begin,{written}\n0,{written}\n")
    source = {
        "root": tmp_path / "in", "include": [f"{written}/*"], "label": {"from": "folder", "map": {written: f"{written}!"}},
        "annotations": {"sidecar": "{stem}." + on_disk + ".csv", "columns": {"start": "begin"}, "fields": {"who": written}},
        "segment": {"mode": "annotation"},
    }  # fmt: skip
    config = make_config(
        source, split={"from": "who", "map": {written: "train"}, "disjoint": ["who"]}, classes=[f"{on_disk}!"]
    )
    done = run("build", config)
    assert done.exit_code == 0, done.output
    (row,) = rows_of(tmp_path / "out")
    assert (row["label"], row["who"], row["split"]) == (f"{NFC}!", NFC, "train")
    assert row["recording_id"] == f"s0/{on_disk}/{on_disk}.wav", "the name by which the file is found"
    assert row["source_uri"].endswith(f"{on_disk}/{on_disk}.wav")
    assert "unchanged" in run("build", config).output


@pytest.mark.parametrize(("on_disk", "written"), FORMS)
def test_tables_by_their_own_name_and_by_those_in_them(
    on_disk: str, written: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    write_audio(tmp_path / f"in/{on_disk}.wav", tone(0.5, 8000), 8000)
    (tmp_path / f"in/{on_disk}.csv").write_text(f"file,kind\n{written}.wav,{written}\n")
    annotations = {"table": f"{written}.csv", "recording": "file", "columns": {"label": "kind"}}
    done = run("build", make_config({"root": tmp_path / "in", "annotations": annotations}))
    assert done.exit_code == 0, done.output
    assert [row["label"] for row in rows_of(tmp_path / "out")] == [NFC]


def test_two_files_whose_names_look_alike_stay_two(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for name in (NFC, NFD):
        write_audio(tmp_path / f"in/{name}.wav", tone(0.5, 8000), 8000)
    (tmp_path / "in/t.csv").write_text(f"file,kind\n{NFC}.wav,composed\n{NFD}.wav,decomposed\n")
    annotations = {"table": "t.csv", "recording": "file", "columns": {"label": "kind"}}
    config = make_config({"root": tmp_path / "in", "annotations": annotations})
    assert run("build", config).exit_code == 0
    found = {row["recording_id"]: row["label"] for row in rows_of(tmp_path / "out")}
    assert found == {f"s0/{NFC}.wav": "composed", f"s0/{NFD}.wav": "decomposed"}


def test_a_speaker_in_two_spellings_stands_on_one_side(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for i in range(12):
        name = (NFC, NFD)[i % 2]
        write_audio(tmp_path / f"in/{name}-{i}.wav", tone(0.2, 8000, seed=i), 8000)
    source = {"root": tmp_path / "in", "fields": "(?P<speaker>[^-]+)-"}
    config = make_config(
        source, split={"train": 0.5, "test": 0.5, "by": "speaker"}, limits={"allow_empty_splits": True}
    )
    told = json.loads(run("build", config, "--json").output)
    assert len(told["snapshot"]["by_split"]) == 1
    assert {row["speaker"] for row in rows_of(tmp_path / "out")} == {NFC}


@given(st.text())
def test_composed_is_nfc_and_stays(text: str) -> None:
    assert to_nfc(text) == unicodedata.normalize("NFC", text)
    assert to_nfc(to_nfc(text)) == to_nfc(text)


def test_addresses_stay_as_they_are() -> None:
    plain = {"root": NFD, "label": NFD, "list": [{NFD: NFD, "storage_options": {NFD: NFD}}], "n": 1}
    assert normalize_names(plain) == {
        "root": NFD,
        "label": NFC,
        "list": [{NFC: NFC, "storage_options": {NFD: NFD}}],
        "n": 1,
    }
