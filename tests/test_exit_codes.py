"""Which exit code and which code of an error a mistake gives, and that what is said of it is in words."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import run, tone, write_audio

from clipmill.pipelines.dataset import notes
from clipmill.pipelines.dataset.published import Published, open_dataset
from clipmill.pipelines.exports import FORMATS
from clipmill.pipelines.read.training import ClipDataset
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


def told(*args: Any, code: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*args, "--json", code=code))
    return found


def _build(place: Path, level: float = 0.3) -> Path:
    for i in range(3):
        write_audio(place / f"in/r{i}.wav", tone(1.0, 8000, peak=level, seed=i), 8000)
    (place / "in/broken.wav").write_bytes(b"no audio" * 40)
    plain = {
        "name": "t",
        "sources": [{"name": "s", "root": str(place / "in")}],
        "output": {"root": str(place / "out")},
        "silence": {"min_dbfs": -40},
        "split": {"train": 1.0 - 1e-9, "val": 1e-9},
        "limits": {"max_rejected_share": 1, "min_clips": 0, "allow_empty_splits": True},
    }
    (place / "c.yaml").write_text(yaml.safe_dump(plain))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipmill.pipelines.run.build._ray_is_at_hand", lambda: False)
        run("build", place / "c.yaml")
    return place / "out"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of one split, train; val got no clips. It is not to be changed."""
    return _build(tmp_path_factory.mktemp("codes"))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of silence, without a clip."""
    return _build(tmp_path_factory.mktemp("empty"), level=0.0001)


@pytest.mark.parametrize("format", FORMATS)
def test_a_snapshot_without_clips_is_exported_to_nothing(empty: Path, format: str) -> None:
    assert "snapshot 1 has no clips, so there is nothing to export" in run("export", empty, format, code=1)
    assert not (empty / "exports").exists() and not (empty / "README.md").exists()


def test_splits_that_are_not_there(built: Path) -> None:
    found = open_dataset(built)
    none = Published(found.root, replace(found.snapshot, by_split={}))
    for root, split, said in (
        (none, "train", "snapshot 1 has no clips and therefore no splits; see `clipmill failures"),
        (built, "trian", "split 'trian' does not exist; the splits are train; did you mean 'train'?"),
        (built, "val", "split 'val' has no clips; the splits with clips are train"),
        (built, "dev-clean", "split 'dev-clean' does not exist; the splits are train"),
    ):
        with pytest.raises(ClipmillError) as wrong:
            ClipDataset(root, split)
        assert str(wrong.value).partition(": ")[2].startswith(said)
        assert "the others" not in str(wrong.value)


def test_an_export_names_splits_without_clips(built: Path, tmp_path: Path) -> None:
    assert "nothing for split val, which has no clips" in run("export", built, "csv", "--to", tmp_path / "a")
    assert told("export", built, "csv", "--to", tmp_path / "b", code=0)["without_clips"] == ["val"]


def test_show_counts_recordings_that_were_used(built: Path, tmp_path: Path) -> None:
    assert "from 3 of 4 listed recordings" in run("show", built)
    out = tmp_path / "out"
    shutil.copytree(built, out)
    run("forget", out, "s/r0.wav", "--yes")
    assert "from 2 of 4 listed recordings (1 forgotten)" in run("show", out)


def test_wrong_usage_has_its_code(built: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/x").write_text("x")
    run("export", built, "csv", "--to", tmp_path / "other")
    for words in (
        ("export", built, "csv", "--text", "nofield"),
        ("export", built, "csv", "--to", tmp_path / "mine"),
        ("export", built, "kaldi", "--to", tmp_path / "other"),
        ("export", built, "csv", "--to", "http://x/y"),
        ("export", built, "csv", "--to", built / "shards"),
        ("show", "s3x://a/b"),
        ("build", built),
    ):
        assert told(*words, code=2)["code"] == "usage", words
    assert "is a folder; give the YAML file of a configuration" in run("build", built, code=2)


def test_unknown_kinds_of_addresses_are_called_so() -> None:
    said = run("show", "s3x://a/b", code=2)
    assert "s3x:// is an unknown kind of address; known are a folder, s3://BUCKET/FOLDER" in said
    assert "storage_options" not in said and "endpoint_url" not in said
    said = run("show", "http://127.0.0.1:9/x", code=1)
    assert "build again" not in said and "committed" not in said
    with pytest.raises(ClipmillError, match="s3x:// is an unknown kind"):
        open_dataset("s3x://a/b")


def test_usage_is_shown_by_the_name_of_the_command() -> None:
    assert run("show", code=2).startswith("Usage: clipmill show ")


def test_a_single_snapshot_is_no_count(built: Path) -> None:
    assert "snapshot 2 does not exist; the only one is 1" in run("show", built, "--snapshot", "2", code=1)


def test_damaged_records_of_shards_end_status_and_exports(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(built, out)
    assert told("status", out, code=0)["published"]["damage"] is None
    records = list((out / "commits").glob("*.json"))
    for path in records:
        path.write_bytes(b"{]")
    assert "build again with the same configuration" in run("status", out, code=1)
    assert told("export", out, "csv", code=1)["code"] == "root.damaged"
    for path in records:
        path.unlink()
    assert "1 of 1 shard record is missing" in run("status", out, code=1)


def test_a_damaged_mark_of_an_export_is_told(built: Path, tmp_path: Path) -> None:
    run("export", built, "csv", "--to", tmp_path / "there")
    (tmp_path / "there/clipmill-export.json").write_text("{]")
    said = run("export", built, "csv", "--to", tmp_path / "there", "--replace", code=2)
    assert "its mark, clipmill-export.json, is damaged" in said


def test_no_export_while_recordings_are_removed(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    shutil.copytree(built, out)
    with notes.collecting(Root(str(out)), "forget"):
        assert "nothing was exported" in run("export", out, "csv", code=1)
        assert not (out / "exports").exists()
    from clipmill.pipelines.exports import csv

    honest = csv.export

    def slow(asked: Any) -> list[str]:
        written = honest(asked)
        monkeypatch.setattr(csv, "export", honest)
        run("forget", out, "s/r0.wav", "--yes")
        return written

    monkeypatch.setattr(csv, "export", slow)
    said = run("export", out, "csv", "--to", tmp_path / "there", code=1)
    assert f"snapshot 1 was removed by `gc` or `forget` while it was exported: remove {tmp_path / 'there'}" in said
    assert json.loads((tmp_path / "there/clipmill-export.json").read_text())["finished"] is False
    run("export", out, "csv")


def test_a_forget_that_was_cut_off_is_told(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    shutil.copytree(built, out)
    assert told("status", out, code=0)["forget"] is None

    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("clipmill.pipelines.dataset.forget._remove", cut)
        run("forget", out, "s/r0.wav", "--yes", code=1)
    assert "was interrupted: what it was to remove may still be here; run it again" in run("status", out)
    assert told("status", out, code=0)["forget"]["running"] is False
    assert "finishes     a forget of" in run("forget", out, code=2)
    run("forget", out, "--yes")
    assert told("status", out, code=0)["forget"] is None
    assert not (out / "builds/forget.json").exists()
