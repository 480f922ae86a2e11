"""Datasets with presets: what stands beside the features, and what loaders, crops and pictures make of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import tone, write_audio
from PIL import Image

import clipmill
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.read.batches import padded
from clipmill.pipelines.read.frame_grid import FrameGrid, grids_of
from clipmill.pipelines.read.training import ClipDataset
from clipmill.pipelines.read.transforms.crop import cut
from clipmill.schemas.columns import describe_columns, feature_fields
from clipmill.schemas.config.feature_config import Features as Spec
from clipmill.schemas.config.feature_config import LogMel
from clipmill.schemas.feature_presets import LOG_MEL, MFCC
from clipmill.schemas.tables import CLIPS
from clipmill.stages.features import Features
from clipmill.stages.features.kernels.spectral import Spectral

LENGTHS_S = (0.5, 1.0, 1.37)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with Whisper's features and Kaldi's MFCC, and pictures of 80 dB."""
    place = tmp_path_factory.mktemp("whisper")
    for i, seconds in enumerate(LENGTHS_S):
        y = tone(seconds, 16000, hz=300.0 * (i + 1), peak=0.5 / (i + 1), seed=i)
        write_audio(place / "in" / f"{i}.wav", y, 16000)
    write_audio(place / "in" / "long.wav", tone(30.5, 16000), 16000)
    (place / "c.yaml").write_text(f"""
name: w
sources: [{{name: s, root: {place}/in}}]
features: {{log_mel: {{preset: whisper-80}}, mfcc: {{preset: kaldi-mfcc-13}}}}
output: {{root: {place}/out, images: {{height: null, width: null, mode: gray, range_db: [-80, 0]}}}}
""")
    report = clipmill.build(place / "c.yaml", quiet=True, accept=True)
    assert report.status == "published"
    return place / "out"


def rows(root: Path) -> list[dict[str, Any]]:
    wanted = ("clip_id", "n_samples", "audio", "log_mel", "mfcc", "image", "log_mel_pad")
    return sorted(ClipDataset(root, "train", wanted), key=lambda row: row["n_samples"])


def test_features_have_their_value_of_silence_beside_them(whisper: Path) -> None:
    found = rows(whisper)
    assert [row["n_samples"] for row in found] == [round(s * 16000) for s in LENGTHS_S]
    for row in found:
        samples = np.rint(row["audio"][0].numpy() * 32768).astype(np.int16)
        theirs = Spectral(Spec.model_validate({"log_mel": {"preset": "whisper-80"}}), 16000, "cpu")([samples])
        assert np.array_equal(row["log_mel"].numpy(), theirs["log_mel"][0])
        # Of a longer window of zeros, all that is behind the clip's sound.
        longer = Spectral(Spec(log_mel=LogMel(preset="whisper-80")), 16000, "cpu")([np.pad(samples, (0, 16000))])
        assert np.float32(row["log_mel_pad"]) == longer["log_mel"][0][0, -1] == theirs["log_mel_pad"][0][0, 0]
        assert row["mfcc"].shape == (13, 1 + (row["n_samples"] - 400) // 160)


def test_a_clip_longer_than_the_models_window_is_rejected(whisper: Path) -> None:
    published = open_dataset(whisper)
    assert published.snapshot.counts.rejected == {"clip_too_long_for_features": 1}


def test_a_batch_is_filled_up_with_silence(whisper: Path) -> None:
    batch = padded(ClipDataset(whisper, "train", ("log_mel", "mfcc", "n_samples")))
    for i, n in enumerate(batch["log_mel_length"].tolist()):
        assert (batch["log_mel"][i, :, n:] == batch["log_mel_pad"][i].float()).all()
        assert n == batch["n_samples"][i] // 160
    assert not batch["mfcc"][0, :, batch["mfcc_length"][0] :].any()
    (filled,) = (
        x
        for x in ClipDataset(whisper, "train", ("log_mel", "n_samples"), crop_s=2.0, pad="zero")
        if x["log_mel_length"] == 50
    )
    assert filled["log_mel"].shape == (80, 200)
    assert (filled["log_mel"][:, 50:] == np.float32(filled["log_mel_pad"])).all()


def test_normalised_features_are_filled_up_with_normalised_silence(whisper: Path) -> None:
    plain = {x["clip_id"]: x for x in ClipDataset(whisper, "train", ("clip_id", "log_mel"))}
    for sample in ClipDataset(whisper, "train", ("clip_id", "log_mel"), normalise="bin"):
        assert sample["log_mel_pad"].shape == (80, 1)
        # A value that equals silence has become what silence has.
        at = (plain[sample["clip_id"]]["log_mel"] == np.float32(plain[sample["clip_id"]]["log_mel_pad"])).nonzero()
        for b, t in at[:50].tolist():
            assert sample["log_mel"][b, t] == pytest.approx(float(sample["log_mel_pad"][b, 0]), abs=1e-5)


def test_a_crop_is_cut_at_the_same_place_in_samples_and_frames(whisper: Path) -> None:
    whole = {row["clip_id"]: row for row in rows(whisper)}
    kaldi = Spectral(Spec.model_validate({"mfcc": {"preset": "kaldi-mfcc-13"}}), 16000, "cpu")
    for sample in ClipDataset(
        whisper, "train", ("clip_id", "audio", "log_mel", "mfcc", "start_s"), crop_s=0.4, crop_at="random"
    ):
        assert sample["log_mel"].shape == (80, 40) and sample["mfcc"].shape == (13, 38)
        pcm = np.rint(sample["audio"][0].numpy() * 32768).astype(np.int16)
        # Frames that are not padded are those of the cut samples to the last bit.
        assert np.array_equal(sample["mfcc"].numpy(), kaldi([pcm])["mfcc"][0])
        start = round(sample["start_s"] * 100)
        assert torch.equal(sample["log_mel"], whole[sample["clip_id"]]["log_mel"][:, start : start + 40])


def test_a_picture_has_the_range_of_the_presets_logarithm(whisper: Path) -> None:
    for row in rows(whisper):
        values = row["log_mel"].numpy()
        # 80 dB are 8 in log10, and 2 after the division by 4.
        levels = np.clip(np.floor(256 * (values - (values.max() - 2.0)) / 2.0), 0, 255)
        with Image.open(io.BytesIO(row["image"])) as image:
            drawn = np.asarray(image)[::-1].astype(float)
        assert np.abs(drawn - levels).max() <= 1


def test_the_snapshot_describes_the_preset(whisper: Path) -> None:
    about = {column["name"]: column for column in open_dataset(whisper).columns}
    settings = about["log_mel"]["settings"]
    assert settings["preset"] == "whisper-80" and settings["pad_value"] == "floor" and settings["frame_shift_s"] == 0.01
    assert "unit" not in about["log_mel"]
    assert about["log_mel_pad"]["kind"] == "clip" and "silence" in about["log_mel_pad"]["meaning"]
    assert about["mfcc"]["settings"]["win_length"] == 400 and about["mfcc"]["settings"]["preset"] == "kaldi-mfcc-13"


@pytest.mark.parametrize("preset", [*LOG_MEL, *MFCC])
def test_readers_know_the_frames_of_each_preset_by_its_description(preset: str) -> None:
    section, keys = ("log_mel", LOG_MEL[preset]) if preset in LOG_MEL else ("mfcc", MFCC[preset])
    rate_hz = keys.get("model_rate_hz", 16000)
    spec = Spec.model_validate({section: {"preset": preset}})
    (grid,) = grids_of(describe_columns(feature_fields(spec, rate_hz)), [section]).values()
    assert isinstance(grid, FrameGrid)
    clip = np.random.default_rng(0).integers(-9000, 9000, 9001).astype(np.int16)
    spectral = Spectral(spec, rate_hz, "cpu")
    features = torch.from_numpy(spectral([clip])[section][0])
    assert features.shape[1] == grid.n_frames(len(clip))
    sample = {section: features, "n_samples": len(clip), "sample_rate_hz": rate_hz}
    start, length = 5 * grid.hop_length, 12 * grid.hop_length + 7
    cut(sample, start, length, {section: grid})
    cropped = torch.from_numpy(spectral([clip[start : start + length]])[section][0])
    assert sample[section].shape == cropped.shape
    if preset not in (
        "nemo",
        "whisper-80",
        "whisper-128",
        "htk-mfcc-13",
    ):  # whose values depend on the rest of the clip
        middle = slice(4, cropped.shape[1] - 4)  # what lies far enough from the padding
        assert torch.equal(sample[section][:, middle], cropped[:, middle]) or preset == "ast"


def test_old_descriptions_have_the_frames_that_they_had() -> None:
    for n_fft in (64, 65, 400):
        for center in (True, False):
            grid = FrameGrid.of(
                {"hop_length": 160, "n_fft": n_fft, "center": center, "win_length": n_fft, "pad_mode": "reflect"}
            )
            for n in (400, 1600, 1601):
                padding = 2 * (n_fft // 2) if center else 0
                assert grid.n_frames(n) == 1 + (n + padding - n_fft) // 160


def test_channels_share_the_lowest_value_of_silence() -> None:
    rng = np.random.default_rng(0)
    pcm = np.stack([rng.integers(-9000, 9000, 8000), rng.integers(-90, 90, 8000)], axis=1).astype(np.int16)
    rows = [{"status": "clip", "n_channels": 2, "n_samples": 8000, "pcm": pcm.tobytes()}, {"status": "account"}]
    spec = Spec.model_validate({"log_mel": {"preset": "whisper-80"}})
    table = Features(spec, 16000)(pa.Table.from_pylist(rows, schema=CLIPS))
    alone = Spectral(spec, 16000, "cpu")([np.ascontiguousarray(pcm[:, 1])])
    assert table["log_mel_shape"].to_pylist() == [[2, 80, 50], None]
    assert table["log_mel_pad"].to_pylist() == [float(alone["log_mel_pad"][0][0, 0]), None]
