"""Audio of features: the clip itself where its phase is stored, and otherwise a clip with the same features."""

import io
import warnings
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import torch
from conftest import build_here, tone, write_audio
from hypothesis import given, settings
from hypothesis import strategies as st

import clipmill
from benchmarks.inverse import Front, compared, heard_bands, near_loudest
from benchmarks.parity import read
from clipmill import ClipmillError
from clipmill.pipelines.config_file import load
from clipmill.schemas.columns import describe_columns, feature_fields
from clipmill.schemas.config.feature_config import Features
from clipmill.schemas.feature_presets import LOG_MEL, MFCC
from clipmill.schemas.units import to_pcm16

RATE = 16000
KALDI = {
    "n_fft": 512, "win_length": 400, "hop_length": 160, "window": "povey", "snip_edges": True, "preemphasis": 0.97,
    "preemphasis_by": "frame", "scale": 32768.0,
}  # fmt: skip
BESIDE_EACH_OTHER = {
    "librosa": {},
    "short": {"n_fft": 400, "hop_length": 160, "window": "hamming", "pad_mode": "reflect"},
    "pre-emphasis": {"n_fft": 512, "hop_length": 128, "snip_edges": False, "preemphasis": 0.97, "scale": 32768.0},
    "padded": {"n_fft": 1024, "hop_length": 256, "pad_length": 384, "pad_mode": "reflect", "zeros_behind": 300},
}
# Median and nine tenths of the differences of values within 60 dB of the largest, in dB.
BOUNDS = {
    None: (0.3, 2.5), "whisper-80": (0.2, 1.7), "whisper-128": (0.5, 2.5), "kaldi-fbank-80": (0.1, 1.7), "icefall": (0.15, 1.7),
    "hifigan-22k": (0.2, 2.0), "bigvgan-24k": (0.2, 2.0), "tacotron2": (0.2, 2.0), "ast": (0.5, 2.0), "beats": (0.5, 2.0),
    "panns-32k": (0.1, 1.2),
}  # fmt: skip


def voice(seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Return a sound with harmonics, that rises and falls, over faint noise: int16 [samples]."""
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 0.9 * t + seed)) / rate
    y = sum(np.sin(k * phase) / k for k in range(1, 25)) * (0.2 + np.abs(np.sin(2 * np.pi * 1.7 * t)))
    return to_pcm16((0.1 * y + 0.002 * np.random.default_rng(seed).standard_normal(len(t))).astype(np.float32))[0]


def log_mel(preset: str | None, **beside: Any) -> dict[str, Any]:
    return {"log_mel": {**({"preset": preset} if preset else {}), **beside}}


def magnitudes(values: np.ndarray, output: str) -> np.ndarray:
    if output == "magnitude_db":
        return librosa.db_to_amplitude(values)
    return np.sqrt(values) if output == "power" else values


def frequency(y: np.ndarray, rate: int = RATE) -> float:
    """Return the loudest frequency in Hz."""
    return float(np.argmax(np.abs(np.fft.rfft(y * np.hanning(len(y))))) * rate / len(y))


@pytest.mark.parametrize("output", ["magnitude", "power", "magnitude_db"])
@pytest.mark.parametrize("keys", BESIDE_EACH_OTHER)
def test_a_spectrogram_with_its_phase_is_the_clip(keys: str, output: str) -> None:
    clip = voice()
    front = Front({"spectrogram": {"output": output, "phase": True, "top_db": None, **BESIDE_EACH_OTHER[keys]}})
    y = front.inverse(clip)
    assert y.dtype == np.float32 and y.shape == clip.shape
    # Decibels have a least magnitude of 1e-5; of the loudest ones single precision keeps 1e-6 of their size.
    assert np.abs(y - clip / 32768).max() < (1e-4 if output == "magnitude_db" else 1e-5)


def test_a_real_clip_comes_back_by_its_phase(corpora: Path) -> None:
    for path in ("fsdd/recordings/3_jackson_2.wav", "fsdd/recordings/9_theo_13.wav"):
        clip = read(corpora / path, RATE)
        y = Front({"spectrogram": {"output": "magnitude", "phase": True}}).inverse(clip)
        assert np.abs(y - clip / 32768).max() < 1e-5
        # top_db sets what is more than 80 dB below the maximum to that.
        limited = Front({"spectrogram": {"phase": True}}).inverse(clip)
        assert np.sqrt(np.mean((limited - clip / 32768) ** 2)) < 1e-3


def test_frames_of_kaldi_with_phase_are_the_clip_but_for_where_no_window_sees() -> None:
    clip = voice()
    y = Front({"spectrogram": {"output": "magnitude", "phase": True, **KALDI}}).inverse(clip)
    # The first samples of a frame are under the foot of its window, and pre-emphasis carries them on: 0.97 ** 400 is 5e-6.
    assert np.abs(y - clip / 32768)[400:-160].max() < 1e-3


@pytest.mark.parametrize("output", ["magnitude", "power", "magnitude_db"])
def test_magnitudes_alone_give_a_clip_of_these_magnitudes(output: str) -> None:
    clip = voice()
    keys = {"spectrogram": {"output": output, "n_fft": 1024, "hop_length": 256}}
    front = Front(keys)
    wanted = magnitudes(front(clip)["spectrogram"], output)
    theirs = librosa.griffinlim(wanted, n_fft=1024, hop_length=256, length=len(clip), random_state=0)

    def convergence(y: np.ndarray) -> float:
        found = np.abs(librosa.stft(y.astype(np.float32), n_fft=1024, hop_length=256))
        return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))

    ours = convergence(front.inverse(clip))
    assert ours < 0.12
    assert ours < 1.5 * convergence(theirs)
    assert convergence(front.inverse(clip, n_iter=0)) > 2 * ours


@pytest.mark.parametrize("preset", BOUNDS, ids=str)
def test_a_log_mel_gives_a_clip_of_this_log_mel(preset: str | None) -> None:
    front = Front(log_mel(preset))
    clip = voice(1.0, front.rate_hz)
    found = compared(front, clip, front.inverse(clip))
    median, most = BOUNDS[preset]
    assert found.again is not None
    assert np.median(found.again) < median
    assert np.quantile(found.again, 0.9) < most
    assert abs(found.level) < 0.5


def test_each_preset_is_inverted_or_refused() -> None:
    assert {*BOUNDS} - {None} == {*LOG_MEL} - {"nemo"}


def test_the_bands_are_nearer_than_by_librosa() -> None:
    clip, front = voice(), Front(log_mel(None))
    values = front(clip)["log_mel"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = librosa.feature.inverse.mel_to_audio(librosa.db_to_power(values), sr=RATE, length=len(clip))
    ours = compared(front, clip, front.inverse(clip)).again
    other = compared(front, clip, theirs.astype(np.float32)).again
    assert ours is not None and other is not None
    assert np.median(ours) < np.median(other)


@pytest.mark.parametrize(
    "keys",
    [{}, *({"preset": preset} for preset in MFCC), {"preset": "kaldi-mfcc-13", "use_energy": False}],
    ids=["librosa", *MFCC, "without energy"],
)
def test_coefficients_give_a_clip_of_this_envelope(keys: dict[str, Any]) -> None:
    clip, front = voice(), Front({"mfcc": keys})
    y = front.inverse(clip)
    found = compared(front, clip, y)
    assert np.median(found.bands) < 6  # harmonics are lost
    assert abs(found.level) < (
        1 if front.column["settings"].get("use_energy") else 12
    )  # and their peaks, which have most of the energy
    wanted, again = front(clip)["mfcc"], front(y)["mfcc"]
    assert np.abs(again - wanted).mean() < 0.05 * wanted.std()


@pytest.mark.parametrize(
    "keys",
    [{"spectrogram": {}}, log_mel(None), log_mel("whisper-80"), log_mel("kaldi-fbank-80"), log_mel("hifigan-22k"), {"mfcc": {"n_mfcc": 64}}],
    ids=["spectrogram", "log_mel", "whisper", "kaldi", "hifigan", "mfcc"],
)  # fmt: skip
def test_a_tone_keeps_its_pitch_and_level(keys: dict[str, Any]) -> None:
    front = Front(keys)
    clip = to_pcm16(tone(1.0, front.rate_hz)[:, 0].astype(np.float32))[0]
    y = front.inverse(clip)
    mel_width_hz = 60  # of bands around 440 Hz
    bound = front.rate_hz / 2048 if front.name == "spectrogram" else mel_width_hz
    assert abs(frequency(y, front.rate_hz) - 440) <= bound
    if front.name != "mfcc":
        assert abs(compared(front, clip, y).level) < 1


def test_coefficients_keep_the_band_of_a_tone() -> None:
    front = Front({"mfcc": {}})
    clip = to_pcm16(tone(1.0, RATE, hz=2000)[:, 0].astype(np.float32))[0]
    bands = heard_bands(RATE)
    before, after = (bands([y])["log_mel"][0].mean(1) for y in (clip, front.inverse(clip)))
    assert abs(int(before.argmax()) - int(after.argmax())) <= 3


@pytest.mark.parametrize(
    "keys",
    [{"spectrogram": {}}, {"mfcc": {}}, {"mfcc": {"preset": "kaldi-mfcc-13"}}, *(log_mel(preset) for preset in BOUNDS)],
    ids=["spectrogram", "mfcc", "kaldi-mfcc-13", *map(str, BOUNDS)],
)
def test_silence_is_silence(keys: dict[str, Any]) -> None:
    front = Front(keys)
    y = front.inverse(np.zeros(front.rate_hz, np.int16), n_iter=4)
    assert y.shape == (front.rate_hz,)
    assert not y.any()


def test_half_of_a_clip_may_be_silent() -> None:
    clip = voice()
    clip[RATE // 2 :] = 0
    y = Front(log_mel("hifigan-22k")).inverse(clip)
    assert np.isfinite(y).all()
    assert np.abs(y[RATE * 3 // 4 :]).max() < 1e-3 < np.abs(y[: RATE // 2]).max()


def test_channels_are_inverted_each_by_itself() -> None:
    front = Front(log_mel("whisper-80"))
    left, right = (front(voice(seed=seed))["log_mel"] for seed in (0, 1))
    both = clipmill.inverse(np.stack([left, right]), front.column)
    assert both.shape == (2, RATE)
    for one, channel in zip((left, right), both, strict=True):
        np.testing.assert_array_equal(clipmill.inverse(one, front.column), channel)


def test_the_same_seed_gives_the_same_samples_whatever_holds_the_values() -> None:
    front = Front(log_mel("icefall"))
    values = front(voice())["log_mel"]
    first = clipmill.inverse(values, front.column)
    for same in (torch.from_numpy(values), values.tolist()):
        np.testing.assert_array_equal(clipmill.inverse(same, front.column), first)
    flat = clipmill.inverse(values.reshape(-1), front.column, shape=list(values.shape))
    np.testing.assert_array_equal(flat, first)
    assert not np.array_equal(clipmill.inverse(values, front.column, seed=1), first)


def test_float16_is_as_good_to_listen_to() -> None:
    front, clip = Front(log_mel("whisper-80")), voice()
    values = front(clip)["log_mel"].astype(np.float16)
    y = clipmill.inverse(values, front.column)
    again = compared(front, clip, y).again
    assert again is not None and np.median(again) < 0.4
    silent = front(np.zeros(RATE, np.int16))["log_mel"].astype(np.float16)
    assert np.abs(clipmill.inverse(silent, front.column)).max() < 1e-4


@settings(max_examples=12)
@given(
    st.integers(3000, 6000),
    st.sampled_from([log_mel(p, model_rate_hz=None) for p in BOUNDS if p] + [{"spectrogram": {"center": False}}]),
)
def test_a_clip_of_any_length_has_its_own_length_again(n_samples: int, keys: dict[str, Any]) -> None:
    front, clip = Front(keys), voice(0.5)[:n_samples]
    values = front(clip)[front.name]
    y = clipmill.inverse(values, front.column, n_samples=n_samples, n_iter=1)
    assert y.shape == (n_samples,) and np.isfinite(y).all()
    shortest = clipmill.inverse(values, front.column, n_iter=1)
    assert front(shortest)[front.name].shape == values.shape
    assert n_samples - front.column["settings"]["hop_length"] < len(shortest) <= n_samples


def test_frames_that_are_zero_behind_the_clip_are_left_out() -> None:
    front = Front(log_mel("nemo", normalise=None))
    clip = voice()
    y = front.inverse(clip)
    values, again = front(clip)["log_mel"], front(y)["log_mel"]
    assert not values[:, -1].any()
    assert np.median(near_loudest(values[:, :-1], again[:, :-1])) < 0.1


def test_rows_of_a_dataset_are_heard(tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "a.wav", tone(0.6, RATE, channels=2), RATE)
    config = tmp_path / "c.yaml"
    config.write_text(
        f"""
name: heard
audio: {{sample_rate_hz: {RATE}}}
sources: [{{name: s, root: {tmp_path}/in, channels: keep}}]
features: {{spectrogram: {{output: magnitude, phase: true}}, log_mel: {{preset: kaldi-fbank-80}}, mfcc: {{preset: kaldi-mfcc-13}}}}
output: {{root: {tmp_path}/out}}
"""
    )
    build_here(config)
    spec = load(config).config.features
    columns = {column["name"]: column for column in describe_columns(feature_fields(spec, RATE))}
    (shard,) = (tmp_path / "out" / "shards").rglob("*.parquet")
    (row,) = pq.ParquetFile(shard, pre_buffer=False).read().to_pylist()
    stored = sf.read(io.BytesIO(row["audio"]["bytes"]), always_2d=True)[0].T
    found = clipmill.inverse(
        row["spectrogram"], columns["spectrogram"], shape=row["spectrogram_shape"], phase=row["phase"], n_samples=row["n_samples"]
    )  # fmt: skip
    np.testing.assert_allclose(found, stored, atol=1e-5)
    for name in ("log_mel", "mfcc"):
        y = clipmill.inverse(row[name], columns[name], shape=row[f"{name}_shape"], n_samples=row["n_samples"])
        assert y.shape == stored.shape
        assert abs(20 * np.log10(y.std() / stored.std())) < 3


def column_of(**changed: Any) -> dict[str, Any]:
    column = Front(log_mel(None)).column
    return {**column, "settings": {**column["settings"], **changed}}


@pytest.mark.parametrize(
    ("values", "column", "options", "said"),
    [
        (np.zeros((80, 9)), Front(log_mel("nemo")).column, {}, "preset nemo.*normalise: bin.*not stored"),
        (np.zeros((80, 9)), column_of(), {}, r"shape \(80, 9\), but the column has 128 bins"),
        (np.zeros(128 * 9), column_of(), {}, r"flat list of 1,152 values; give shape=row\['log_mel_shape'\]"),
        (np.zeros(128 * 9), column_of(), {"shape": [128, 8]}, r"do not fit into the shape \[128, 8\]"),
        (np.zeros((1, 1, 128, 9)), column_of(), {}, r"expected \[bins, frames\]"),
        (np.zeros((128, 0)), column_of(), {}, "without empty dimensions"),
        (np.full((128, 9), np.nan), column_of(), {}, "not finite"),
        ("loud", column_of(), {}, "no array of numbers but str"),
        (np.zeros((128, 9)), column_of(), {"n_samples": 100}, "9 frames, and a clip of 100 samples has 1"),
        (np.zeros((128, 9)), column_of(), {"n_samples": -5}, "9 frames"),
        (np.zeros((128, 9)), column_of(), {"n_iter": -1}, "n_iter is -1"),
        (np.zeros((128, 9)), column_of(), {"seed": -1}, "seed is -1"),
        (np.full((128, 9), 1e30), column_of(), {}, r"values up to 1e\+30, which no audio has"),
        (np.zeros((128, 9)), column_of(), {"phase": np.zeros((128, 9))}, "log_mel has no phase"),
        (np.zeros((128, 9)), {"name": "log_mel", "type": "list<float>"}, {}, "lacks the settings .*n_fft.*older clipmill"),
        (np.zeros((128, 9)), {"name": "phase", "settings": {}}, {}, "phase alone has no levels"),
        (np.zeros((128, 9)), {"name": "model", "settings": {}}, {}, "model has no inverse; spectrogram, log_mel, mfcc have one"),
        (np.zeros((128, 9)), [column_of()], {}, "description of one feature"),
        (np.zeros((1025, 9)), Front({"spectrogram": {}}).column, {"phase": np.zeros((1025, 8))}, "those of one clip"),
    ],
    ids=[
        "nemo", "bins", "flat", "shape", "dimensions", "empty", "nan", "text", "n_samples", "negative", "n_iter", "seed", "huge", "phase of mel",
        "no settings", "phase alone", "model", "all columns", "other phase",
    ],
)  # fmt: skip
def test_what_has_no_inverse_is_refused_and_why(values: Any, column: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ClipmillError, match=said):
        clipmill.inverse(values, column, **options)


def test_settings_of_a_snapshot_are_all_that_is_needed() -> None:
    """Keys of a preset that were replaced are not taken from the preset again."""
    keys = log_mel("kaldi-fbank-80", snip_edges=None, preemphasis=0.0, preemphasis_by="clip", win_s=0.02, log="db")
    front, clip = Front(keys), voice()
    found = compared(front, clip, front.inverse(clip))
    assert found.again is not None and np.median(found.again) < 0.3
    described = describe_columns(feature_fields(Features.model_validate(keys), RATE))
    assert described[0] == front.column
