"""True peaks: the EBU's test signals, and FFmpeg's values. The limiter: the ceiling holds, and all else stays as it was."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from ffmpeg_loudness import RATES, at_rate, ebur128, recordings
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from clipmill.stages.limiter import ATTACK_S, limited
from clipmill.stages.true_peak import OVERSAMPLING, peak_envelope, true_peak, true_peak_dbtp


def noise(n: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return (0.3 * np.random.default_rng(seed).standard_normal((channels, n))).astype(np.float32)


def faded(y: np.ndarray, rate: int) -> np.ndarray:
    """Fade 10 ms in and out, as the EBU's signals are."""
    at = np.arange(len(y))
    return y * np.minimum(1, np.minimum(at, at[::-1]) / (0.01 * rate))


def ffmpegs_peak_dbtp(y: np.ndarray, rate: int) -> float:
    """FFmpeg mirrors the beginning, and does not see the last samples, so silence is put around the clip."""
    return ebur128(np.pad(y, ((0, 0), (rate // 10, rate // 10))), rate)[1]


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize(
    ("case", "divisor", "phase_degrees", "amplitude", "expected"),
    [
        (15, 4, 0.0, 0.5, -6.0),
        (16, 4, 45.0, 0.5, -6.0),
        (17, 6, 60.0, 0.5, -6.0),
        (18, 8, 67.5, 0.5, -6.0),
        (19, 4, 45.0, 1.41, 3.0),
    ],
)
def test_tones_of_ebu_tech_3341(
    rate: int, case: int, divisor: int, phase_degrees: float, amplitude: float, expected: float
) -> None:
    phase = 2 * np.pi * np.arange(rate) / divisor + np.deg2rad(phase_degrees)
    y = np.repeat(faded(amplitude * np.sin(phase), rate).astype(np.float32)[None], 2, axis=0)
    assert expected - 0.4 <= true_peak_dbtp(y) <= expected + 0.2, case


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_peaks_between_samples_of_ebu_tech_3341(offset: int) -> None:
    """Cases 20 to 23: a period of fs/4 with amplitude 1 in a tone of fs/6 with 0.5, made at four times the rate."""
    rate, n = 48000, 24 * 2000
    tone = 0.5 * np.sin(2 * np.pi * np.arange(n) / 24)
    period = np.sin(2 * np.pi * np.arange(16) / 16)
    y = faded(np.concatenate((tone, period, tone)), 4 * rate)
    low_passed = signal.filtfilt(*signal.butter(8, 0.23), y)
    down = low_passed[offset::4].astype(np.float32)
    assert -0.4 <= true_peak_dbtp(down[None]) <= 0.2
    assert true_peak_dbtp(down[None]) == pytest.approx(ffmpegs_peak_dbtp(down[None], rate), abs=0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9000), st.integers(1, 3), st.sampled_from([16000, 48000]))
def test_the_envelope_is_that_of_a_sinc_under_a_window(n: int, channels: int, rate: int) -> None:
    y = noise(n, channels, n)
    expected = np.abs(y).max(axis=0).astype(np.float64)
    between = np.zeros(n)
    for point in range(1, OVERSAMPLING):
        t = np.arange(-15, 17) - point / OVERSAMPLING
        taps = np.sinc(t) * np.i0(9 * np.sqrt(np.maximum(0, 1 - (t / 16) ** 2)))
        for channel in np.pad(y.astype(np.float64), ((0, 0), (15, 16))):
            between = np.maximum(between, np.abs(np.correlate(channel, taps / taps.sum(), "valid")))
    expected = np.maximum(expected, between)
    expected[1:] = np.maximum(expected[1:], between[:-1])
    assert np.allclose(peak_envelope(y), expected, rtol=0, atol=1e-6)


def test_long_clips_are_as_their_parts() -> None:
    y = noise(150_000)
    whole = peak_envelope(y)
    assert np.allclose(whole[50_000:80_000], peak_envelope(y[:, 49_000:81_000])[1000:-1000], atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_true_peaks_are_ffmpegs(corpora: Path, rate: int) -> None:
    found = [(name, at_rate(y[:1], own_rate, rate)) for name, y, own_rate in recordings(corpora)]
    for name, y in found:
        assert true_peak_dbtp(y) == pytest.approx(ffmpegs_peak_dbtp(y, rate), abs=0.1), name
    y = noise(3 * rate)
    # FFmpeg always has 192,000 points a second: at 48 kHz four for each sample, which miss more of the peaks at the end of the band.
    assert -0.05 <= true_peak_dbtp(y) - ffmpegs_peak_dbtp(y, rate) <= 0.2


def test_silence_has_no_peak() -> None:
    silence = np.zeros((2, 100), np.float32)
    assert true_peak_dbtp(silence) == -math.inf
    assert limited(silence, 16000, -1.0) is silence


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_the_ceiling_holds_and_ffmpeg_says_so(corpora: Path, rate: int) -> None:
    found = [(name, at_rate(y[:1], own_rate, rate)) for name, y, own_rate in recordings(corpora)[::3]]
    for name, y in [*found, ("noise", noise(2 * rate))]:
        for over_db in (1, 6, 20):
            loud = y * np.float32(10 ** ((over_db - 1) / 20) / true_peak(y))
            out = limited(loud, rate, -1.0)
            assert out.shape == loud.shape and out.dtype == np.float32
            assert -1.5 < true_peak_dbtp(out) <= -1 + 1e-4, (name, over_db)
            assert ffmpegs_peak_dbtp(out, rate) <= -0.9, (name, over_db)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 3),
    st.floats(0.1, 30),
    st.floats(-12, 0),
    st.sampled_from([8000, 48000]),
    st.booleans(),
)
def test_the_ceiling_holds_for_any_clip(
    n: int, channels: int, gain: float, ceiling_dbtp: float, rate: int, is_sparse: bool
) -> None:
    y = noise(n, channels, n) * np.float32(gain)
    if is_sparse:
        y[:, np.random.default_rng(n).random(n) < 0.9] = 0
    before = y.copy()
    out = limited(y, rate, ceiling_dbtp)
    assert np.array_equal(y, before), "the clip that was given is not changed"
    assert true_peak_dbtp(out) <= ceiling_dbtp + 1e-4
    assert (np.abs(out) <= np.abs(y)).all() and np.array_equal(np.signbit(out), np.signbit(y))
    assert (out is y) == (true_peak(y) <= 10 ** (ceiling_dbtp / 20))


def test_it_acts_around_the_peak_only_and_on_all_channels() -> None:
    rate, at = 16000, 32000
    y = 0.2 * noise(64000, 2)
    y[0, at : at + 20] = 3.0
    out = limited(y, rate, -6.0)
    gain = out.astype(np.float64) / y
    first = int(np.flatnonzero(out[0] != y[0])[0])
    assert at - 1.3 * ATTACK_S * rate < first < at - 0.5 * ATTACK_S * rate, (
        "the waveform's peak begins before the sample"
    )
    assert np.allclose(gain[0], gain[1], atol=1e-6)
    assert gain[1, at] == pytest.approx(10 ** (-6 / 20) / 3, rel=0.3), "the other channel follows"
    after_80_ms, after_a_second = at + 20 + round(0.0825 * rate), at + 20 + rate
    deepest = 1 - gain[0].min()
    assert 1 - gain[0, after_80_ms] == pytest.approx(deepest / math.e, rel=0.1)
    assert np.array_equal(out[:, after_a_second:], y[:, after_a_second:]), "to the last bit"
    steps = np.abs(np.diff(gain[1]))
    assert steps.max() < 2.5 / (ATTACK_S * rate) and np.abs(np.diff(steps)).max() < 0.01, "the gain is smooth"


def test_peaks_that_the_caller_has_are_used() -> None:
    y = noise(8000)
    louder = y * np.float32(2)
    assert np.allclose(limited(louder, 16000, -3.0, 2 * peak_envelope(y)), limited(louder, 16000, -3.0), atol=1e-6)
