"""Measures of speech on real recordings: the ratio to noise that was added at known levels, and pitch against librosa."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from clipmill.stages.measures import snr
from clipmill.stages.measures.frame_power import frame_power

SNRS_DB = (0, 5, 10, 15, 20, 25, 30)
ACTIVE_DB = 35


def speech(corpora: Path, rate_hz: int) -> list[np.ndarray]:
    """Return sentences of one speaker, and digits of three speakers with silence between them."""
    folder = corpora / "coqui-tts" / "tests" / "data" / "ljspeech" / "wavs"
    found = [sf.read(path, dtype="float32") for path in sorted(folder.glob("*.wav"))[::3]]
    rng = np.random.default_rng(7)
    for speaker in ("jackson", "nicolas", "theo"):
        digits = sorted((corpora / "fsdd" / "recordings").glob(f"*_{speaker}_*.wav"))
        parts = [np.zeros(0, np.float32)]
        for path in rng.choice(np.array(digits, object), 12, replace=False):
            parts += [sf.read(path, dtype="float32")[0], np.zeros(rng.integers(1200, 4000), np.float32)]
        found.append((np.concatenate(parts), 8000))
    return [soxr.resample(x, rate, rate_hz) for x, rate in found]


def noise_of(colour: str, n_samples: int, rate_hz: int, seed: int) -> np.ndarray:
    """Return Gaussian noise of power 1, float32 [samples]; pink noise goes down to 1 Hz."""
    white = np.random.default_rng(seed).standard_normal(n_samples)
    if colour == "pink":
        frequencies = np.fft.rfftfreq(n_samples, 1 / rate_hz)
        gains = np.where(frequencies < 1, 0, 1 / np.sqrt(np.maximum(frequencies, 1)))
        white = np.fft.irfft(np.fft.rfft(white) * gains, n_samples)
    return (white / white.std()).astype(np.float32)


def with_noise(x: np.ndarray, snr_db: float, colour: str, rate_hz: int, seed: int) -> np.ndarray:
    """Return clean speech with noise at a ratio to the mean power of its active 20-ms frames, float32 [1, samples]."""
    power, _ = frame_power(x, rate_hz)
    active = power[power > power.max() * 10 ** (-ACTIVE_DB / 10)].mean()
    gain = np.sqrt(active / 10 ** (snr_db / 10))
    return (x + gain * noise_of(colour, len(x), rate_hz, seed))[None].astype(np.float32)


@pytest.mark.parametrize("colour", ["white", "pink"])
@pytest.mark.parametrize(("rate_hz", "longest_s"), [(16000, 10.0), (16000, 3.0), (8000, 10.0), (44100, 5.0)])
def test_snr_is_that_of_the_noise_that_was_added(corpora: Path, colour: str, rate_hz: int, longest_s: float) -> None:
    clips = [x[: int(longest_s * rate_hz)] for x in speech(corpora, rate_hz)]
    for snr_db in SNRS_DB:
        found = [snr.compute_snr(with_noise(x, snr_db, colour, rate_hz, i), rate_hz)[0] for i, x in enumerate(clips)]
        errors = np.array(found, float) - snr_db
        assert abs(errors.mean()) < 2, f"{snr_db} dB: {errors.round(1)}"
        assert np.abs(errors).mean() < 2.5, f"{snr_db} dB: {errors.round(1)}"


def test_more_noise_gives_a_lower_ratio(corpora: Path) -> None:
    for i, x in enumerate(speech(corpora, 16000)):
        found = [snr.compute_snr(with_noise(x, snr_db, "white", 16000, i), 16000)[0] for snr_db in SNRS_DB]
        assert (np.diff(np.array(found, float)) > 0).all(), found


def test_the_ratio_does_not_depend_on_gain_or_dc(corpora: Path) -> None:
    y = with_noise(speech(corpora, 16000)[0], 10, "white", 16000, 0)
    (ratio,) = snr.compute_snr(y, 16000)
    assert snr.compute_snr(y * np.float32(0.01) + np.float32(0.1), 16000)[0] == pytest.approx(ratio, abs=0.05)


def test_noise_and_tones_alone_have_no_ratio() -> None:
    t = np.arange(32000) / 16000
    for y in (noise_of("white", 32000, 16000, 1), noise_of("pink", 32000, 16000, 1), np.sin(2 * np.pi * 440 * t)):
        assert snr.compute_snr((y[None] * 0.1).astype(np.float32), 16000) == (None,)


def test_digital_silence_between_words_is_no_noise(corpora: Path) -> None:
    y = with_noise(speech(corpora, 16000)[0], 15, "white", 16000, 0)
    (ratio,) = snr.compute_snr(y, 16000)
    silence = np.zeros((1, 16000), np.float32)
    (padded,) = snr.compute_snr(np.concatenate([silence, y, silence], axis=1), 16000)
    assert ratio is not None
    assert padded == pytest.approx(ratio, abs=0.2)
    assert snr.compute_snr(silence, 16000) == (None,)


def test_the_ratio_is_high_without_noise_and_has_an_upper_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    t = np.arange(48000) / 16000
    words = np.maximum(0, np.sin(2 * np.pi * 2 * t)) ** 2 * np.sin(2 * np.pi * 300 * t)
    for noise_dbfs, lowest_db in ((-60, 40), (-200, 80)):
        noise = noise_of("white", 48000, 16000, 0) * 10 ** (noise_dbfs / 20)
        y = (words + noise)[None].astype(np.float32)
        (ratio,) = snr.compute_snr(y, 16000)
        assert ratio is not None
        assert lowest_db <= ratio <= snr.MAX_SNR_DB == 100
    monkeypatch.setattr(snr, "MAX_SNR_DB", 70.0)
    assert snr.compute_snr(y, 16000) == (70.0,)
