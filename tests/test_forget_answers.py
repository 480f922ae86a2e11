"""What `clipmill forget` answers to ids that are not here, to lists without any, and where it may not ask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from conftest import run, tone, write_audio

from clipmill.pipelines.dataset.near_recordings import suggest_recordings
from clipmill.pipelines.dataset.notes import BuildNote
from clipmill.pipelines.dataset.records_io import snapshot_numbers
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources with recordings of the same name, and their dataset in ``out``; no test forgets anything."""
    place = tmp_path_factory.mktemp("answers")
    for i, path in enumerate(["in/h#sh/two.wav", "in/u/two.wav", "in/one.wav", "in/u/r11.wav", "other/u/two.wav"]):
        write_audio(place / path, tone(1.0, 8000, seed=i), 8000)
    plain = {
        "name": "t",
        "sources": [{"name": "s", "root": str(place / "in")}, {"name": "o", "root": str(place / "other")}],
        "output": {"root": str(place / "out")},
    }
    (place / "c.yaml").write_text(yaml.safe_dump(plain))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipmill.pipelines.run.build._ray_is_at_hand", lambda: False)
        run("build", place / "c.yaml")
    return place


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("PLACE/in/h#sh/two.wav", ["s/h#sh/two.wav"]),
        ("h#sh/two.wav", ["s/h#sh/two.wav"]),
        ("./h#sh/two.wav", ["s/h#sh/two.wav"]),
        ("PLACE/in/u/two.wav", ["s/u/two.wav"]),
        ("PLACE/other/u/two.wav", ["o/u/two.wav"]),
        ("u/two.wav", ["o/u/two.wav", "s/u/two.wav"]),
        ("/elsewhere/u/two.wav", ["o/u/two.wav", "s/u/two.wav"]),
        ("PLACE/in/one.wav", ["s/one.wav"]),
        ("s/u/one.wav", ["s/one.wav"]),
        ("s/u/two.wave", ["s/u/two.wav"]),
        ("s/nope.wav", []),
        ("s/x/two.wav", []),
        ("s/u/r12.wav", []),
        ("/elsewhere/two.wav", []),
        ("", []),
        ("/", []),
    ],
)
def test_only_what_is_near_is_proposed(built: Path, given: str, meant: list[str]) -> None:
    told = run("forget", built / "out", given.replace("PLACE", str(built)), "--yes", code=2)
    if meant:
        assert f"(did you mean {' or '.join(map(repr, meant))}?)" in told
    else:
        assert "did you mean" not in told
    assert f"as in the column recording_id of {built}/out/snapshots/000001/manifest.parquet" in told
    assert "export" in told and "`clipmill show`" not in told
    assert not (built / "out/forgotten.json").exists()


def test_an_address_is_looked_up_only_where_an_end_of_it_is_known() -> None:
    def never(_: object) -> dict[str, set[str]]:
        raise AssertionError

    assert suggest_recordings("s/u/two.wave", ["s/u/two.wav"], never) == ["s/u/two.wav"]


def test_an_unknown_id_has_its_code(built: Path) -> None:
    found = json.loads(run("forget", built / "out", "s/nope.wav", "--json", code=2))
    assert found["code"] == "root.unknown_recording"


@pytest.mark.parametrize("content", ["", "\n \r\n", "\ufeff\n"])
def test_a_list_without_an_id_is_a_mistake(built: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "list.txt").write_text(content)
    for more in ((), ("--yes",), ("s/one.wav", "--yes")):
        told = run("forget", built / "out", "--from", tmp_path / "list.txt", *more, code=2)
        assert "list.txt: it contains no id, so nothing was done" in told
    assert (
        json.loads(run("forget", built / "out", "--from", tmp_path / "list.txt", "--json", code=2))["code"] == "usage"
    )
    assert not (built / "out/forgotten.json").exists()


def test_a_list_that_is_no_text_is_told_in_words(built: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"s/\xff.wav\n")
    told = run("forget", built / "out", "--from", tmp_path / "list.txt", "--yes", code=2)
    assert "list.txt: not UTF-8 text: byte 3 is 0xff" in told


def test_work_that_was_not_done_is_no_success(built: Path) -> None:
    found = json.loads(run("forget", built / "out", "s/one.wav", "--json", code=2))
    assert (found["done"], found["recordings"]) == (False, ["s/one.wav"])
    assert json.loads(run("forget", built / "out", "--json"))["done"] is False  # there was nothing to do
    told = run("forget", built / "out", "s/one.wav", code=2)  # its input has ended
    assert "nothing was done; with --yes" in told
    assert not (built / "out/forgotten.json").exists()


def test_a_running_build_is_left_alone(built: Path) -> None:
    root = Root(str(built / "out"))
    with BuildNote(root, [], 0) as note:
        assert "a build is running" in run("forget", built / "out", "s/one.wav", "--yes", code=1)
        note.finish("unchanged")
    assert snapshot_numbers(root) == [1]
    assert not (built / "out/forgotten.json").exists()
