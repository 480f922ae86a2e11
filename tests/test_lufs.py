"""Loudness: FFmpeg's values, the EBU's test signals, the gates, and recordings in pieces."""

from __future__ import annotations

import math
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ffmpeg_loudness import RATES, at_rate, ebur128, recordings
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmill.stages.measures.lufs import (
    MEASURE,
    LoudnessMeter,
    block_powers,
    gated_lufs,
    integrated_lufs,
    k_weighting,
)


def sine(seconds: float, dbfs: float, rate: int = 48000, channels: int = 2, hz: float = 1000.0) -> np.ndarray:
    """A tone whose peak is at a level in dB under full scale."""
    y = 10 ** (dbfs / 20) * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(y.astype(np.float32)[None], channels, axis=0)


def noise(n: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, n))).astype(np.float32)


def test_the_filters_at_48_khz_are_those_of_the_standard() -> None:
    shelf, high_pass = k_weighting(48000)
    table_1 = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585]
    table_2 = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]
    assert np.allclose(shelf, table_1, rtol=0, atol=1e-11)
    assert np.allclose(high_pass, table_2, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("case", "parts", "expected"),
    [
        (1, [(20, -23)], -23),
        (2, [(20, -33)], -33),
        (3, [(10, -36), (60, -23), (10, -36)], -23),
        (4, [(10, -72), (10, -36), (60, -23), (10, -36), (10, -72)], -23),
        (5, [(20, -26), (20.1, -20), (20, -26)], -23),
    ],
)
def test_signals_of_ebu_tech_3341(case: int, parts: list[tuple[float, float]], expected: float) -> None:
    y = np.concatenate([sine(seconds, dbfs) for seconds, dbfs in parts], axis=1)
    assert integrated_lufs(y, 48000) == pytest.approx(expected, abs=0.1), case


@pytest.mark.parametrize("with_lfe", [False, True])
def test_surrounds_weigh_more_and_low_frequency_effects_nothing(with_lfe: bool) -> None:
    """Case 6 of EBU Tech 3341; and the same with a loud sixth channel that does not count."""
    levels = [-28, -28, -24, *([-3] if with_lfe else []), -30, -30]
    y = np.concatenate([sine(20, dbfs, channels=1) for dbfs in levels])
    assert integrated_lufs(y, 48000) == pytest.approx(-23, abs=0.1)
    assert integrated_lufs(y, 48000) == pytest.approx(ebur128(y, 48000)[0], abs=0.02)


def test_a_sine_of_997_hz() -> None:
    assert integrated_lufs(sine(5, -20, channels=1, hz=997), 48000) == pytest.approx(-23.01, abs=0.01)
    assert integrated_lufs(sine(5, 0, channels=1, hz=997), 48000) == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("rate", [*RATES, 11025, 44056])
@pytest.mark.parametrize("channels", [1, 2])
def test_tones_and_noise_are_ffmpegs(rate: int, channels: int) -> None:
    for hz in (60, 440, 997, 0.4 * rate):
        y = sine(3.07, -20, rate, channels, hz)
        assert integrated_lufs(y, rate) == pytest.approx(ebur128(y, rate)[0], abs=0.02), hz
    y = noise(round(2.99 * rate), channels)
    assert integrated_lufs(y, rate) == pytest.approx(ebur128(y, rate)[0], abs=0.02)


@pytest.mark.parametrize("rate", RATES)
def test_real_recordings_are_ffmpegs(corpora: Path, rate: int) -> None:
    found = recordings(corpora)
    assert len(found) == 16
    for name, y, own_rate in found:
        mono = at_rate(y[:1], own_rate, rate)
        stereo = np.concatenate((mono, 0.5 * np.roll(mono, 999)))
        for x in (mono, stereo):
            assert integrated_lufs(x, rate) == pytest.approx(ebur128(x, rate)[0], abs=0.02), (name, len(x))


def test_short_and_quiet_clips_have_none() -> None:
    for rate in (8000, 11025, 16000, 44100):
        n = (4 * rate + 5) // 10
        assert integrated_lufs(noise(n - 1), rate) is None
        assert integrated_lufs(noise(n), rate) is not None
    assert integrated_lufs(np.zeros((1, 48000), np.float32), 16000) is None
    assert integrated_lufs(np.full((1, 480000), 0.5, np.float32)[:, 160000:], 16000) is not None, (
        "it begins with a step"
    )
    assert integrated_lufs(sine(2, -67.2, channels=1), 48000) is None
    assert integrated_lufs(sine(2, -66.8, channels=1), 48000) == pytest.approx(-69.8, abs=0.05)
    assert integrated_lufs(noise(3000), 2000) is None
    assert MEASURE.compute is not None
    assert list(MEASURE.compute(sine(1, -23), 48000)) == [pytest.approx(-23, abs=0.1)]
    assert list(MEASURE.compute(noise(3000), 16000)) == [None]


def test_the_last_part_of_100_ms_does_not_count() -> None:
    quiet = sine(1.0, -30, 16000, 1)
    loud = np.concatenate((quiet, sine(0.099, -3, 16000, 1)), axis=1)
    assert integrated_lufs(loud, 16000) == integrated_lufs(quiet, 16000)
    assert ebur128(loud, 16000)[0] == ebur128(quiet, 16000)[0]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([8000, 11025, 16000, 44056]),
    st.integers(1, 10),
    st.integers(0, 30000),
    st.lists(st.integers(0, 30000), max_size=8),
    st.sampled_from([0, 1]),
)
def test_a_recording_can_be_divided_anywhere(rate: int, channels: int, n: int, cuts: list[int], scale: int) -> None:
    y = noise(n, channels, n) * np.float32(scale)
    meter = LoudnessMeter(rate, channels)
    for start, stop in pairwise(sorted({0, *(min(c, n) for c in cuts), n})):
        meter.add(y[:, start:stop])
    assert np.array_equal(meter.block_powers(), block_powers(y, rate)), "to the last bit"
    assert meter.lufs() == integrated_lufs(y, rate)


def test_pieces_of_a_few_samples_and_views_are_the_same() -> None:
    y = noise(12000, 2)
    meter, interleaved = LoudnessMeter(16000, 2), LoudnessMeter(16000, 2)
    for at in range(0, 12000, 7):
        meter.add(y[:, at : at + 7])
    interleaved.add(np.ascontiguousarray(y.T).reshape(-1).reshape(-1, 2).T)
    assert meter.lufs() == interleaved.lufs() == integrated_lufs(y, 16000)
    meter.add(y)
    assert meter.lufs() == integrated_lufs(np.concatenate((y, y), axis=1), 16000), "it can be asked in between"


def test_the_caller_can_use_its_buffer_again() -> None:
    y, meter, buffer = noise(12000), LoudnessMeter(16000, 1), np.empty((1, 1000), np.float32)
    for at in range(0, 12000, 1000):
        buffer[:] = y[:, at : at + 1000]
        meter.add(buffer)
    assert meter.lufs() == integrated_lufs(y, 16000)


def test_an_hour_takes_little_memory() -> None:
    y = noise(60 * 8000)
    meter = LoudnessMeter(8000, 1)
    tracemalloc.start()
    for _ in range(60):
        meter.add(y)
    assert meter.lufs() is not None
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 3e6, "36,000 energies, and 3.2 s of samples as float64"
    assert len(meter.block_powers()) == 36000 - 3


def test_the_relative_gate_is_10_lu_under_the_blocks_above_the_absolute_gate() -> None:
    power = 10 ** ((np.array([-20.0, -20.0, -31.8, -75.0]) + 0.691) / 10)
    assert gated_lufs(power) == pytest.approx(-20, abs=1e-9)
    power = 10 ** ((np.array([-20.0, -20.0, -31.4, -75.0]) + 0.691) / 10)
    assert gated_lufs(power) == pytest.approx(-0.691 + 10 * math.log10(power[:3].mean()), abs=1e-9)
    assert gated_lufs(power[:0]) is None and gated_lufs(power[3:]) is None


@pytest.mark.parametrize("is_mostly_silent", [False, True])
def test_it_is_2500_times_as_fast_as_the_sound(is_mostly_silent: bool) -> None:
    y = noise(80000)
    y[:, 10000:] *= not is_mostly_silent
    best = math.inf
    for _ in range(20):
        start = time.perf_counter()
        integrated_lufs(y, 16000)
        best = min(best, time.perf_counter() - start)
    assert 5 / best >= 2500
