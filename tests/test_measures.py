"""Measures of levels, DC, silence and bandwidth against numpy's definitions, FFmpeg's astats, and FFmpeg's MP3 encoder."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.signal
import soundfile as sf
import soxr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clipmill.schemas.columns import describe_columns
from clipmill.stages.measures import bandwidth, dc, peak, pitch, silence_share, snr
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


def bandwidth_hz(x: np.ndarray, rate_hz: int, bits: int | None = 16) -> float | None:
    if bits == 16:
        x = np.clip(np.rint(x * 32768), -32768, 32767) / 32768
    (found,) = bandwidth.compute_bandwidth(np.atleast_2d(x).astype(np.float32), rate_hz)
    assert found is None or isinstance(found, float)
    return found


def through_mp3(x: np.ndarray, rate_hz: int, kbit_s: int) -> np.ndarray:
    """Return what is left of a mono signal after encoding it with LAME and decoding it: float32 [samples]."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=rate_hz, layout="mono", format="fltp")
        stream.bit_rate = kbit_s * 1000
        frame = av.AudioFrame.from_ndarray(x[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(io.BytesIO(file.getvalue())) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def natural_sounds(corpora: Path, rate_hz: int = 44100) -> list[np.ndarray]:
    """Return every twelfth ESC-10 clip that has no digital silence, float32 [samples]."""
    found = [sf.read(path, dtype="float32")[0] for path in sorted((corpora / "esc10").glob("*/*.ogg"))[::12]]
    return [soxr.resample(x, 44100, rate_hz) for x in found if (x == 0).mean() < 0.01]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("level_dbfs", [-10, -40, -80])
def test_noise_of_all_frequencies_reaches_half_the_sample_rate(rate_hz: int, level_dbfs: float) -> None:
    assert bandwidth_hz(noise(rate_hz, 10 ** (level_dbfs / 20)), rate_hz) == rate_hz / 2


@pytest.mark.parametrize("cutoff_hz", [3400, 4000, 8000, 11000, 15000, 16000, 19000])
@pytest.mark.parametrize("colour", ["white", "pink"])
def test_a_steep_low_pass_is_found(cutoff_hz: int, colour: str) -> None:
    x = noise(44100 * 3)[0]
    if colour == "pink":
        spectrum = np.fft.rfft(x) / np.sqrt(np.maximum(np.arange(len(x) // 2 + 1), 20))
        x = np.fft.irfft(spectrum, len(x)) * 30
    x = scipy.signal.lfilter(scipy.signal.firwin(1001, cutoff_hz, fs=44100), 1, x)
    assert bandwidth_hz(x, 44100) == pytest.approx(cutoff_hz, abs=130)
    assert bandwidth_hz(x, 44100, None) == pytest.approx(cutoff_hz, abs=130)


@pytest.mark.parametrize("frequency_hz", [100, 440, 1000, 5000, 12000, 20000])
@pytest.mark.parametrize("level_dbfs", [0, -20, -60, -80])
def test_a_tone_ends_where_it_is_though_rounding_gives_it_harmonics(frequency_hz: float, level_dbfs: float) -> None:
    x = 10 ** (level_dbfs / 20) * np.sin(2 * np.pi * frequency_hz * np.arange(96000) / 48000)
    assert bandwidth_hz(x, 48000) == pytest.approx(frequency_hz, abs=130)


def test_rounding_noise_is_no_signal_with_or_without_dither() -> None:
    x = scipy.signal.lfilter(scipy.signal.firwin(1001, 4000, fs=48000), 1, noise(96000)[0])
    rng = np.random.default_rng(0)
    dither = (rng.random(96000) - rng.random(96000)) / 32768
    assert bandwidth_hz(x + dither, 48000) == pytest.approx(4000, abs=130)
    assert bandwidth_hz(dither, 48000) is None
    assert bandwidth_hz(noise(48000, 1e-5)[0], 48000) is None


@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0])
def test_silence_and_dc_have_no_bandwidth(constant: float) -> None:
    assert bandwidth_hz(np.full(48000, constant), 48000) is None


@pytest.mark.parametrize(("rate_hz", "new_hz"), [(8000, 16000), (8000, 44100), (8000, 48000), (16000, 44100)])
def test_resampled_recordings_end_below_half_their_former_rate(corpora: Path, rate_hz: int, new_hz: int) -> None:
    paths = sorted((corpora / "coqui-tts/tests/data/ljspeech/wavs").glob("*.wav"))[::4]
    for path in [*paths, *(corpora / "lhotse/test/fixtures/mix_cut_test/audio/storage").glob("*.flac")]:
        x, own_hz = sf.read(path, dtype="float32")
        x = soxr.resample(soxr.resample(x, own_hz, rate_hz), rate_hz, new_hz)
        assert 0.93 * rate_hz / 2 < bandwidth_hz(x, new_hz) < 1.01 * rate_hz / 2


@pytest.mark.parametrize(
    ("kbit_s", "lowest_hz", "highest_hz"),
    [(32, 8100, 8700), (64, 16400, 16900), (96, 19900, 20400), (320, 19900, 20400)],
)
def test_mp3_ends_at_the_low_pass_of_its_encoder(
    corpora: Path, kbit_s: int, lowest_hz: float, highest_hz: float
) -> None:
    assert lowest_hz < bandwidth_hz(through_mp3(noise(44100 * 2)[0], 44100, kbit_s), 44100) < highest_hz
    for x in natural_sounds(corpora):
        assert bandwidth_hz(through_mp3(x, 44100, kbit_s), 44100) < highest_hz


def test_clipping_does_not_widen_the_band() -> None:
    x = soxr.resample(noise(16000, 0.1)[0], 8000, 44100)
    x[20000:20200] *= 30
    assert bandwidth_hz(x, 44100) < 4100


MEASURES = [module.MEASURE for module in (peak, dc, silence_share, snr, bandwidth, pitch)]


def awkward(kind: str, shape: tuple[int, int], rate_hz: int) -> np.ndarray:
    """Return a signal that measures could trip over, float32 of a shape [channels, samples]."""
    rng = np.random.default_rng(0)
    t = np.arange(shape[1]) / rate_hz
    signals = {
        "silence": lambda: np.zeros(shape),
        "dc": lambda: np.full(shape, 0.7),
        "full scale": lambda: np.sign(np.sin(2 * np.pi * 100 * t) + 1e-9),
        "impulse": lambda: np.arange(shape[1]) == shape[1] // 2,
        "least bits": lambda: rng.integers(-1, 2, shape) / 32768,
        "gated": lambda: rng.standard_normal(shape) * (np.sin(2 * np.pi * 4 * t) > 0),
        "tiny": lambda: rng.standard_normal(shape) * 1e-40,
        "huge": lambda: rng.standard_normal(shape) * 1e30,
        "fastest": lambda: np.resize([0.5, -0.5], shape[1]),
    }
    return np.broadcast_to(signals[kind](), shape).astype(np.float32)


@given(
    st.sampled_from(RATES_HZ),
    st.one_of(st.integers(1, 200), st.integers(1, 30000)),
    st.sampled_from([1, 2, 6]),
    st.sampled_from(["silence", "dc", "full scale", "impulse", "least bits", "gated", "tiny", "huge", "fastest"]),
)
def test_values_are_finite_or_unknown_and_the_same_each_time(rate_hz: int, n: int, n_channels: int, kind: str) -> None:
    y = awkward(kind, (n_channels, n), rate_hz)
    before = y.copy()
    for measure in MEASURES:
        values = measure.compute(y, rate_hz)
        assert len(values) == len(measure.columns)
        assert values == measure.compute(before, rate_hz)
        for value in values:
            is_silence = measure.name == "peak" and value == -math.inf and not y.any()
            assert value is None or (isinstance(value, float) and math.isfinite(value)) or is_silence
    assert np.array_equal(y, before), "the samples are left as they were"


def test_columns_have_units_and_meanings() -> None:
    assert [measure.name for measure in MEASURES] == ["peak", "dc", "silence", "snr", "bandwidth", "pitch"]
    described = {
        c["name"]: (c["type"], c.get("unit")) for c in describe_columns(f for m in MEASURES for f in m.columns)
    }
    assert described == {
        "peak_dbfs": ("double", "dBFS"),
        "dc_offset": ("double", "full scale"),
        "silence_share": ("double", None),
        "snr_db": ("double", "dB"),
        "bandwidth_hz": ("double", "Hz"),
        "pitch_hz": ("double", "Hz"),
        "voiced_share": ("double", None),
    }


def test_no_samples_have_no_measures() -> None:
    for measure in MEASURES:
        assert set(measure.compute(np.zeros((1, 0), np.float32), 16000)) == {None}


def test_all_but_peak_and_dc_are_those_of_the_mean_of_the_channels() -> None:
    t = np.arange(32000) / 16000
    x = np.maximum(0, np.sin(2 * np.pi * 2 * t)) * np.sin(2 * np.pi * 300 * t) + noise(32000, 0.003)[0]
    for measure in MEASURES[2:]:
        expected = measure.compute((0.75 * x)[None].astype(np.float32), 16000)
        assert None not in expected
        assert measure.compute(np.stack([x, 0.5 * x]).astype(np.float32), 16000) == pytest.approx(expected, rel=1e-3)
