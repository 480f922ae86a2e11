"""Exports of datasets with names that readers take for something else, and of roots that are moved; read by the libraries themselves."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner, Result
from conftest import tone, write_audio
from old_format import as_version_1, rewrite

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.run.build import build

N_CLIPS = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with a field that is called as the pictures' column, and no pictures."""
    place = tmp_path_factory.mktemp("names")
    for i in range(3):
        write_audio(place / f"in/r{i}_x{i}.wav", tone(1, 16000, seed=i), 16000)
    (place / "c.yaml").write_text(
        rf"""
name: names
sources:
  - {{name: s, root: {place}/in, label: dog, fields: '_(?P<image>.+)\.wav', segment: {{mode: window, length_s: 0.25}}}}
features: {{log_mel: {{n_mels: 20}}}}
output: {{root: {place}/out, formats: [parquet, webdataset], shard_seconds: 2}}
"""
    )
    assert build(load(place / "c.yaml"), quiet=True).status == "published"
    return place / "out"


@pytest.fixture
def named(made: Path, tmp_path: Path) -> Any:
    def copy(name: str) -> Path:
        shutil.copytree(made, tmp_path / name / "out")
        return tmp_path / name / "out"

    return copy


def export(dataset: Path, format: str, *more: str) -> Result:
    done = CliRunner().invoke(main, ["export", str(dataset), format, *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def in_folder(folder: Path, list_name: str) -> list[str]:
    return [os.path.join(folder, line) for line in (folder / list_name).read_text().splitlines()]


@pytest.mark.parametrize("name", ["100%", "a%20b", "%06d", "%(x)s"])
def test_lhotse_under_a_path_with_percent_signs(named: Any, name: str, tmp_path: Path) -> None:
    from lhotse import CutSet

    dataset = named(name)
    export(dataset, "lhotse", "--to", str(tmp_path / name / "shar"))
    cuts = list(CutSet.from_shar(in_dir=tmp_path / name / "shar/train"))
    assert len(cuts) == N_CLIPS
    for cut in cuts:
        assert cut.load_audio().shape == (1, 4000) and cut.load_custom("log_mel").shape[1] == 20


def test_a_field_called_image(made: Path, tmp_path: Path) -> None:
    """It is no picture: every format has it as it is."""
    from lhotse import CutSet

    export(made, "lhotse", "--to", str(tmp_path / "l"))
    assert {c.supervisions[0].custom["image"] for c in CutSet.from_shar(in_dir=tmp_path / "l/train")} == {
        "x0",
        "x1",
        "x2",
    }
    export(made, "csv", "--to", str(tmp_path / "c"))
    assert "image" in (tmp_path / "c/train.csv").read_text().splitlines()[0].split(",")
    export(made, "kaldi", "--to", str(tmp_path / "k"))
    for where in (tmp_path / "with tars", tmp_path / "of files"):
        dataset = made
        if where.name == "of files":
            shutil.copytree(made, dataset := tmp_path / "d")
            as_version_1(dataset)
            for commit in (dataset / "commits").glob("*.json"):
                plain = json.loads(commit.read_text())
                plain["outputs"] = [o for o in plain["outputs"] if o["format"] != "webdataset"]
                commit.write_text(json.dumps(plain))
        export(dataset, "nemo", "--to", str(where))
        lines = [json.loads(line) for line in (where / "train.json").read_text().splitlines()]
        assert {line["image"] for line in lines} == {"x0", "x1", "x2"} and len(lines) == N_CLIPS


def test_a_root_that_is_moved_keeps_its_lists(named: Any, tmp_path: Path) -> None:
    import webdataset

    dataset = named("here")
    for format in ("webdataset", "nemo"):
        export(dataset, format)
    shutil.move(dataset.parent, tmp_path / "there")
    exports = tmp_path / "there/out/exports"
    urls = in_folder(exports / "webdataset-000001", "train.txt")
    assert len(list(webdataset.WebDataset(urls, shardshuffle=False))) == N_CLIPS
    index = json.loads((exports / "webdataset-000001/index.json").read_text())["train"]
    assert [os.path.join(exports / "webdataset-000001", e["url"]) for e in index] == urls
    tars = in_folder(exports / "nemo-000001", "train_tars.txt")
    assert all(os.path.exists(tar) for tar in tars)
    assert tars == [
        os.path.join(exports / "nemo-000001", os.path.relpath(url, exports / "webdataset-000001")) for url in urls
    ]


def test_wav_files_are_found_beside_their_manifest(named: Any, tmp_path: Path) -> None:
    dataset = named("here")
    as_version_1(dataset)
    for commit in (dataset / "commits").glob("*.json"):
        plain = json.loads(commit.read_text())
        plain["outputs"] = [o for o in plain["outputs"] if o["format"] != "webdataset"]
        commit.write_text(json.dumps(plain))
    export(dataset, "nemo", "--to", str(tmp_path / "nemo"))
    shutil.move(tmp_path / "nemo", tmp_path / "moved")
    for line in (tmp_path / "moved/train.json").read_text().splitlines():
        entry = json.loads(line)
        assert not os.path.isabs(entry["audio_filepath"])
        assert sf.info(tmp_path / "moved" / entry["audio_filepath"]).duration == entry["duration"]


def test_outside_of_the_root_lists_have_whole_addresses(made: Path, tmp_path: Path) -> None:
    export(made, "webdataset", "--to", str(tmp_path / "w"))
    assert (tmp_path / "w/train.txt").read_text().splitlines() == open_dataset(made).uris("train", "webdataset")


@pytest.mark.parametrize("sign", ["[", "[1]", "::", "*", "?"])
def test_what_datasets_cannot_load_is_told(named: Any, sign: str, tmp_path: Path) -> None:
    from datasets import load_dataset

    dataset = named(f"a{sign}b")
    told = export(dataset, "huggingface")
    assert (
        f"note: datasets cannot load {dataset}" in told.output
        and repr(sign[:1] if "[" in sign else sign) in told.output
    )
    assert json.loads(export(dataset, "huggingface", "--json").output)["notes"]
    if sign in ("[1]", "::"):  # the day it can, the note is wrong
        with pytest.raises((FileNotFoundError, ValueError)):
            load_dataset(str(dataset), cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("sign", ["?", "#"])
def test_what_webdataset_cannot_open_is_told(named: Any, sign: str) -> None:
    import webdataset

    dataset = named(f"a{sign}b")
    for format, reader in (("webdataset", "webdataset"), ("nemo", "NeMo, by webdataset,")):
        assert f"note: {reader} cannot open files under {dataset}" in export(dataset, format).output
    with pytest.raises(FileNotFoundError):
        list(webdataset.WebDataset(open_dataset(dataset).uris("train", "webdataset"), shardshuffle=False))


@pytest.mark.parametrize("name", ["a b", "ä]b", "a%b", "a{1,2}b", "a;b", "a'b", "a&b"])
def test_other_names_are_read_and_nothing_is_noted(named: Any, name: str, tmp_path: Path) -> None:
    import webdataset
    from datasets import load_dataset

    dataset = named(name)
    for format in ("huggingface", "webdataset", "nemo", "csv"):
        assert "note:" not in export(dataset, format).output
    assert len(load_dataset(str(dataset), cache_dir=str(tmp_path / "cache"))["train"]) == N_CLIPS
    urls = open_dataset(dataset).uris("train", "webdataset")
    assert len(list(webdataset.WebDataset(urls, shardshuffle=False))) == N_CLIPS


def test_a_class_without_clips_has_a_row_in_the_card(made: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    shutil.copytree(made, dataset := tmp_path / "d")
    record = dataset / "snapshots/000001.json"
    rewrite(record, classes=["wolf", "dog"])
    export(dataset, "huggingface")
    found = load_dataset(str(dataset), cache_dir=str(tmp_path / "cache"))["train"]
    assert found.features["label"].names == ["wolf", "dog"]
    assert np.unique(found["label"]).tolist() == [1]
