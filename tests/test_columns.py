"""A snapshot describes its columns: with settings as resolved, and readers that ask it and not the configuration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from conftest import tone, write_audio
from old_format import as_version_1, rewrite

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load, loads
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.read.training import ClipDataset
from clipmill.pipelines.run.build import build
from clipmill.schemas.columns import describe_columns
from clipmill.schemas.errors import ClipmillError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("columns")
    for i in range(3):
        write_audio(place / f"in/r{i}_{i}.wav", tone(1, 16000, seed=i), 16000)
    (place / "c.yaml").write_text(
        rf"""
name: described
sources:
  - {{name: s, root: {place}/in, label: dog, fields: '_(?P<place>.+)\.wav', segment: {{mode: window, length_s: 0.25}}}}
audio: {{sample_rate_hz: "${{NO_RATE:-8000}}"}}
features:
  log_mel: {{n_fft: 512, hop_length: 80, n_mels: "${{NO_BANDS:-20}}"}}
  mfcc: {{n_mfcc: 7}}
output: {{root: {place}/out, formats: [parquet, webdataset], audio_codec: "${{NO_CODEC:-wav}}", images: {{height: 64}}}}
"""
    )
    assert build(load(place / "c.yaml"), quiet=True).status == "published"
    return place / "out"


def undescribed(dataset: Path, there: Path, *formats: str) -> Path:
    """Return a copy as an older clipmill published it. formats : that it has kept"""
    shutil.copytree(dataset, there)
    as_version_1(there)
    record = there / "snapshots/000001.json"
    plain = json.loads(record.read_text())
    del plain["columns"]
    record.write_text(json.dumps(plain))
    for commit in (there / "commits").glob("*.json"):
        plain = json.loads(commit.read_text())
        plain["outputs"] = [o for o in plain["outputs"] if o["format"] in (*formats, "manifest", "recordings")]
        commit.write_text(json.dumps(plain))
    return there


def by_name(columns: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in columns}


def test_a_snapshot_has_its_columns_with_settings_as_resolved(dataset: Path) -> None:
    published = open_dataset(dataset)
    assert "${NO_BANDS:-20}" in json.dumps(published.snapshot.config), "the configuration is as it was written"
    assert [c["name"] for c in published.columns] == published.schema.names
    told = by_name(published.columns)
    mel = told["log_mel"]
    assert (mel["unit"], mel["shape"]) == ("dB", [20, "n_frames"])
    wanted = {
        "n_mels": 20,
        "n_fft": 512,
        "win_length": 512,
        "hop_length": 80,
        "fmax": 4000.0,
        "window": "hann",
        "top_db": 80.0,
    }
    assert wanted.items() <= mel["settings"].items()
    assert mel["settings"]["frame_shift_s"] == 0.01 and mel["settings"]["sample_rate_hz"] == 8000
    assert told["mfcc"]["shape"] == [7, "n_frames"] and told["mfcc"]["settings"]["n_fft"] == 512
    assert told["audio"]["settings"]["sample_rate_hz"] == 8000 and told["audio"]["settings"]["codec"] == "wav"
    assert told["audio"]["shape"] == ["n_samples", 1]
    assert told["image"]["shape"] == [64, 224] and told["image"]["settings"]["colormap"] == "magma"
    assert told["log_mel_shape"]["of"] == "log_mel" and told["place"]["kind"] == "field"
    assert told["start_s"]["unit"] == "s" and told["level_dbfs"]["unit"] == "dBFS"
    assert all(column["meaning"] for column in told.values())
    stored = pq.read_table(published.uris("train")[0]).to_pylist()[0]
    assert np.array(stored["log_mel"]).reshape(stored["log_mel_shape"]).shape[0] == 20


def test_readers_ask_the_snapshot(dataset: Path, tmp_path: Path) -> None:
    clips = list(ClipDataset(dataset, "train", ("log_mel", "mfcc", "audio"), normalise="bin"))
    assert {tuple(c["log_mel"].shape[:1]) for c in clips} == {(20,)}
    for format in ("lhotse", "nemo", "kaldi", "csv", "webdataset", "huggingface", "croissant"):
        more = [] if format in ("huggingface", "croissant") else ["--to", str(tmp_path / format)]
        done = CliRunner().invoke(main, ["export", str(dataset), format, *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    line = json.loads((tmp_path / "nemo/train.json").read_text().splitlines()[0])
    assert line["audio_filepath"].endswith(".wav"), "the codec is the environment's"


@pytest.mark.parametrize("formats", [["parquet"], ["webdataset"], ["parquet", "webdataset"]])
def test_shards_describe_what_an_older_clipmill_published(dataset: Path, tmp_path: Path, formats: list[str]) -> None:
    old = open_dataset(undescribed(dataset, tmp_path / "d", *formats))
    assert old.snapshot.columns == []
    assert old.feature_names == ["log_mel", "mfcc"] and old.has_images
    assert old.audio_codec == ("wav" if "webdataset" in formats else "flac")
    new = by_name(open_dataset(dataset).columns)
    for name, column in by_name(old.columns).items():
        assert column["kind"] == new[name]["kind"] and column["meaning"] == new[name]["meaning"]
    assert by_name(old.columns).keys() == new.keys()
    if "parquet" in formats:
        assert len(list(ClipDataset(old, "train", ("log_mel",)))) == old.snapshot.counts.clips_kept
    done = CliRunner().invoke(main, ["export", str(tmp_path / "d"), "lhotse", "--to", str(tmp_path / "l")])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(main, ["show", str(tmp_path / "d")]).exit_code == 0


def test_a_description_leaves_unchanged_what_is_unchanged(dataset: Path, tmp_path: Path) -> None:
    old = undescribed(dataset, tmp_path / "d", "parquet", "webdataset")
    text = (dataset.parent / "c.yaml").read_text().replace(f"root: {dataset},", f"root: {old},")
    report = build(loads(text), quiet=True)
    assert (report.status, report.upgraded, report.shards_built) == ("published", True, 0)
    assert build(loads(text), quiet=True).status == "unchanged"
    assert sorted(p.name for p in (old / "snapshots").glob("*.json")) == ["000001.json", "000002.json"]


def test_show_tells_units_and_meanings(dataset: Path) -> None:
    text = CliRunner().invoke(main, ["show", str(dataset)]).output
    assert "start_s: double  where the clip starts in its recording, in s" in text
    assert "log_mel: list<item: float> [20, n_frames]  mel power spectrogram, in dB" in text
    found = json.loads(CliRunner().invoke(main, ["show", str(dataset), "--json"]).output)
    assert found["columns"] == open_dataset(dataset).snapshot.columns
    assert found["classes"] == ["dog"]


def test_a_description_that_is_none_is_told(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "d")
    record = tmp_path / "d/snapshots/000001.json"
    rewrite(record, columns=["log_mel"])
    with pytest.raises(ClipmillError, match=r"000001\.json: not a snapshot \(columns should be"):
        open_dataset(tmp_path / "d")
    rewrite(record, columns=[{"name": "log_mel"}])
    with pytest.raises(ClipmillError, match=r"000001\.json: `columns` must be a list of columns"):
        ClipDataset(tmp_path / "d", "train", ("log_mel",))
    told = CliRunner().invoke(main, ["show", str(tmp_path / "d")])
    assert told.exit_code == 1 and "Traceback" not in told.output


def test_classes_are_the_snapshots(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "d")
    record = tmp_path / "d/snapshots/000001.json"
    rewrite(record, classes=["wolf", "dog"])
    clips = ClipDataset(tmp_path / "d", "train", ("label_id",))
    assert clips.classes == ["wolf", "dog"] and {c["label_id"] for c in clips} == {1}


@pytest.mark.parametrize(
    ("channels", "shape"), [("mono", 1), ("left", 1), ("[0, 1]", 1), ("each", 1), ("keep", "n_channels")]
)
def test_channels_of_audio(channels: str, shape: int | str) -> None:
    text = f"name: t\nsources: [{{name: s, root: /x}}]\naudio: {{channels: {channels}}}\noutput: {{root: /y}}\n"
    told = by_name(describe_columns(chain_of(loads(text).config).fields([])))
    assert told["audio"]["shape"] == ["n_samples", shape]
    assert ("channel" in told) == (channels == "each")


@pytest.mark.parametrize(("output", "unit"), [("magnitude", None), ("power", None), ("magnitude_db", "dB")])
def test_units_of_spectrograms(output: str, unit: str | None) -> None:
    text = f"name: t\nsources: [{{name: s, root: /x}}]\nfeatures: {{spectrogram: {{output: {output}, phase: true}}}}\noutput: {{root: /y}}\n"
    told = by_name(describe_columns(chain_of(loads(text).config).fields([])))
    assert told["spectrogram"].get("unit") == unit and told["phase"]["unit"] == "rad"
    assert told["spectrogram"]["shape"] == [1025, "n_frames"]


def test_secrets_do_not_stand_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cr3t")
    text = "name: t\nsources: [{name: s, root: /x, storage_options: {key: '${KEY}'}}]\noutput: {root: /y}\n"
    assert "s3cr3t" not in json.dumps(describe_columns(chain_of(loads(text).config).fields([])))
