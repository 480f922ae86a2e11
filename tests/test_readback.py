"""What comes out, read by the libraries that people load it with: the same clips in all of them."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from conftest import build_here, tone, write_audio

from clipmill.schemas.config.feature_config import Features, LogMel, Mfcc
from clipmill.schemas.units import level_dbfs
from clipmill.stages.features.kernels.spectral import Spectral
from clipmill.stages.write.encode import decode_clip

MEL, MFCC = {"n_fft": 512, "hop_length": 160, "n_mels": 40}, {"n_mfcc": 13}


@pytest.fixture(scope="module", params=["float32", "float16"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("readback")
    for i in range(6):
        write_audio(
            place / "in" / f"spk{i % 3}" / f"take {i}.é.wav",
            tone(1.3, [8000, 44100][i % 2], 1 + i % 2, hz=200 * (i + 1), seed=i),
            [8000, 44100][i % 2],
        )
    config = place / "c.yaml"
    config.write_text(
        f"""
name: readback
sources:
  - {{name: s, root: {place}/in, label: {{from: folder}}, fields: '(?P<take>\\d)', segment: {{mode: window, length_s: 0.5, tail: keep}}}}
features: {{dtype: {request.param}, log_mel: {json.dumps(MEL)}, mfcc: {json.dumps(MFCC)}}}
split: {{from: take, map: {{0: test}}, default: train}}
output: {{root: {place}/out, formats: [parquet, webdataset], shard_seconds: 2}}
"""
    )
    build_here(config)
    return place / "out"


@pytest.fixture(scope="module")
def rows(dataset: Path) -> dict[str, dict]:
    """The clips by plain pyarrow."""
    files = sorted((dataset / "shards").rglob("*.parquet"))
    assert len(files) > 2
    return {row["clip_id"]: row for f in files for row in pq.read_table(f).to_pylist()}


def test_rows_agree_with_their_audio(rows: dict[str, dict]) -> None:
    assert len(rows) == 6 * 3
    for row in rows.values():
        pcm, rate = decode_clip(row["audio"]["bytes"])
        assert (rate, pcm.shape) == (row["sample_rate_hz"], (row["n_samples"], row["n_channels"]))
        assert row["duration_s"] == row["n_samples"] / rate
        assert level_dbfs(pcm) == pytest.approx(row["level_dbfs"], abs=1e-9)


def test_features_can_be_recomputed_from_the_stored_clip(dataset: Path, rows: dict[str, dict]) -> None:
    dtypes = {str(pq.read_schema(f).field("mfcc").type.value_type) for f in (dataset / "shards").rglob("*.parquet")}
    dtype = {"float": "float32", "halffloat": "float16"}[dtypes.pop()]
    spectral = Spectral(Features(dtype=dtype, log_mel=LogMel(**MEL), mfcc=Mfcc(**MFCC)), 16000, "cpu")
    for row in rows.values():
        again = spectral([decode_clip(row["audio"]["bytes"])[0][:, 0]])
        for name in ("log_mel", "mfcc"):
            stored = np.array(row[name], dtype).reshape(row[f"{name}_shape"])
            assert np.array_equal(stored, again[name][0])


def test_hugging_face_datasets(dataset: Path, rows: dict[str, dict], tmp_path: Path) -> None:
    import datasets

    files = {split: str(dataset / "shards" / split / "*.parquet") for split in ("train", "test")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
    assert set(loaded) == {"train", "test"}
    features = loaded["train"].features
    assert isinstance(features["audio"], datasets.Audio)
    assert features["audio"].sampling_rate == 16000
    assert features["label"] == datasets.Value("string")
    seen = {}
    for split in loaded.values():
        for row in split.cast_column("audio", datasets.Audio(decode=False)):
            seen[row["clip_id"]] = row
    assert seen.keys() == rows.keys()
    for clip, row in seen.items():
        assert row["audio"]["bytes"] == rows[clip]["audio"]["bytes"]
        assert row["mfcc"] == rows[clip]["mfcc"]


def test_webdataset(dataset: Path, rows: dict[str, dict]) -> None:
    import webdataset

    tars = sorted(str(p) for p in (dataset / "shards").rglob("*.tar"))
    seen = {}
    for sample in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False):
        key = sample["__key__"]
        assert "." not in key
        assert "/" not in key
        seen[key] = sample
    assert seen.keys() == rows.keys()
    for key, sample in seen.items():
        assert sample["flac"] == rows[key]["audio"]["bytes"]
        meta = json.loads(sample["json"])
        assert {k: meta[k] for k in ("clip_id", "label", "split", "take")} == {
            k: rows[key][k] for k in ("clip_id", "label", "split", "take")
        }
        assert np.load(io.BytesIO(sample["log_mel.npy"]), allow_pickle=False).shape == tuple(rows[key]["log_mel_shape"])
        y, _ = sf.read(io.BytesIO(sample["flac"]), dtype="int16")
        assert len(y) == rows[key]["n_samples"]


def test_pyarrow_dataset_and_pandas(dataset: Path, rows: dict[str, dict]) -> None:
    table = ds.dataset(dataset / "shards", format="parquet", exclude_invalid_files=True).to_table()
    assert set(table["clip_id"].to_pylist()) == rows.keys()
    frame = pd.concat(pd.read_parquet(p) for p in (dataset / "shards").rglob("*.parquet"))
    assert set(frame["clip_id"]) == rows.keys()
    assert set(frame.loc[frame["take"] == "0", "split"]) == {"test"}
    assert set(frame["label"]) == {"spk0", "spk1", "spk2"}


def test_tar_members_have_no_clock_and_no_owner(dataset: Path) -> None:
    import tarfile

    for path in (dataset / "shards").rglob("*.tar"):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        assert {(m.mtime, m.uid, m.gid, m.mode) for m in members} == {(0, 0, 0, 0o644)}
        keys = [m.name.split(".")[0] for m in members]
        assert keys == sorted(keys, key=keys.index), "members of a sample stand together"


def test_float_clips_and_many_channels(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/a.wav", 1.9 * np.ones((4000, 1)), 16000, "FLOAT")
    write_audio(tmp_path / "in/b.wav", tone(0.25, 16000, 12), 16000)
    for codec, form in (("wav", "float32"), ("flac", "int16")):
        config = tmp_path / f"{codec}.yaml"
        config.write_text(
            f"name: c\nsources: [{{name: s, root: {tmp_path}/in}}]\naudio: {{sample_format: {form}, channels: keep}}\n"
            f"output: {{root: {tmp_path}/{codec}, audio_codec: {codec}, formats: [parquet, webdataset]}}\n"
        )
        build_here(config)
        found = {
            r["source_uri"][-5:]: r
            for p in (tmp_path / codec).rglob("shards/*/*.parquet")
            for r in pq.read_table(p).to_pylist()
        }
        y, _ = decode_clip(found["a.wav"]["audio"]["bytes"])
        assert y.max() == (pytest.approx(1.9) if form == "float32" else 32767)
        assert found["a.wav"]["n_clipped"] == (0 if form == "float32" else 4000)
        assert decode_clip(found["b.wav"]["audio"]["bytes"])[0].shape == (4000, 12)
        assert found["b.wav"]["audio"]["path"].endswith(".wav"), "FLAC holds eight channels at most"
