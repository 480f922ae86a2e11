"""Measures of levels, DC and silence against numpy's definitions and FFmpeg's astats."""

import math
from collections.abc import Sequence

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clipmill.stages.measures import dc, peak, silence_share
from clipmill.stages.measures.frame_power import frame_power

RATES_HZ = (1000, 8000, 11025, 16000, 44100, 48000, 192000, 384000)
CLIPS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=400),
    elements=st.floats(-1, 1, width=32),
)


def astats(y: np.ndarray, rate_hz: int) -> dict[str, float]:
    """Return FFmpeg's own statistics of the first channel."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate_hz, format="fltp", layout="mono")
    stats = graph.add("astats", "metadata=1:measure_perchannel=all:measure_overall=none")
    sink = graph.add("abuffersink")
    source.link_to(stats)
    stats.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(y[:1], format="fltp", layout="mono")
    frame.sample_rate, frame.pts = rate_hz, 0
    source.push(frame)
    found = dict(sink.pull().metadata)
    return {key.rsplit(".", 1)[-1]: float(value) for key, value in found.items()}


def one(values: Sequence[float | int | None]) -> float:
    (value,) = values
    assert isinstance(value, float)
    return value


def noise(n_samples: int, rms: float = 0.1, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((1, n_samples)) * rms).astype(np.float32)


@given(CLIPS, st.sampled_from(RATES_HZ))
def test_peak_and_dc_are_numpys(y: np.ndarray, rate_hz: int) -> None:
    top = float(np.abs(y).max())
    assert one(peak.compute_peak(y, rate_hz)) == (20 * math.log10(top) if top else -math.inf)
    offset = one(dc.compute_dc(y, rate_hz))
    means = y.astype(np.float64).mean(axis=1)
    assert abs(offset) == pytest.approx(np.abs(means).max(), abs=1e-12)
    assert np.abs(means - offset).min() <= 1e-12, "with the sign of one of the channels"


def test_peak_and_dc_are_those_of_ffmpeg() -> None:
    y = noise(48000) + np.float32(0.03)
    stats = astats(y, 48000)
    assert one(peak.compute_peak(y, 48000)) == pytest.approx(stats["Peak_level"], abs=1e-3)
    assert one(dc.compute_dc(y, 48000)) == pytest.approx(stats["DC_offset"], abs=1e-5)


def test_the_loudest_channel_gives_the_peak_and_the_largest_offset_counts_with_its_sign() -> None:
    y = np.stack([np.full(100, 0.1), np.full(100, -0.25)]).astype(np.float32)
    assert one(peak.compute_peak(y, 16000)) == pytest.approx(20 * math.log10(0.25))
    assert one(dc.compute_dc(y, 16000)) == -0.25


def test_a_negative_peak_counts_and_beyond_full_scale_is_above_0() -> None:
    assert one(peak.compute_peak(np.array([[-2.0, 1.0]], np.float32), 8000)) == pytest.approx(6.0206, abs=1e-4)


@given(CLIPS, st.sampled_from(RATES_HZ), st.floats(-80, 0))
def test_silence_is_the_share_of_samples_in_quiet_frames(y: np.ndarray, rate_hz: int, gain_db: float) -> None:
    y = (y * 10 ** (gain_db / 20)).astype(np.float32)
    n = round(0.02 * rate_hz)
    x = y.astype(np.float64).mean(axis=0)
    frames = [x[i : i + n] for i in range(0, len(x), n)]
    levels = [10 * math.log10(max(np.mean(f**2), 1e-300)) for f in frames]
    if min(abs(level + 50) for level in levels) > 1e-3:
        expected = sum(len(f) for f, level in zip(frames, levels, strict=True) if level < -50) / len(x)
        assert one(silence_share.compute_silence_share(y, rate_hz)) == pytest.approx(expected, abs=1e-12)


def test_a_last_partial_frame_counts_by_its_length() -> None:
    y = np.zeros((1, 330), np.float32)
    y[0, 320:] = 0.5
    assert one(silence_share.compute_silence_share(y, 16000)) == pytest.approx(320 / 330)


@pytest.mark.parametrize(("level_dbfs", "share"), [(-49.9, 0.0), (-50.1, 1.0)])
def test_the_threshold_of_silence_is_50_dbfs_rms(level_dbfs: float, share: float) -> None:
    y = np.full((2, 16000), 10 ** (level_dbfs / 20), np.float32)
    assert one(silence_share.compute_silence_share(y, 16000)) == share


def test_silence_is_that_of_the_mean_of_the_channels() -> None:
    y = noise(16000)
    assert one(silence_share.compute_silence_share(np.concatenate([y, -y]), 16000)) == 1.0


@given(st.integers(1, 5000), st.sampled_from(RATES_HZ))
def test_frame_powers_hold_all_of_the_energy(n_samples: int, rate_hz: int) -> None:
    x = noise(n_samples)[0]
    power, lengths = frame_power(x, rate_hz)
    assert lengths.sum() == n_samples
    assert np.dot(power, lengths) == pytest.approx(np.sum(x.astype(np.float64) ** 2), rel=1e-9)
