"""Activity: boundaries are pydub's and librosa's, whatever the pieces of a recording; exact sums in little memory."""

from __future__ import annotations

import math
import tracemalloc
from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile as sf
from hypothesis import example, given
from hypothesis import strategies as st
from pydub import AudioSegment
from pydub.silence import detect_nonsilent, split_on_silence

from clipmill.schemas.units import level_dbfs
from clipmill.stages.activity import Activity

WHOLE = 1 << 40
FILES = (
    "auditok/tests/data/1to6arabic_16000_mono_bc_noise.wav",
    "auditok/tests/data/was_der_mensch_saet_das_wird_er_vielfach_ernten_44100Hz_mono_lead_trail_silence.wav",
    "lhotse/test/fixtures/stereo.wav",
    "lhotse/test/fixtures/libri/libri-1088-134315-0000.wav",
    "lhotse/test/fixtures/ljspeech/storage/LJ002-0020.wav",
    "coqui-tts/tests/data/ljspeech/wavs/LJ001-0001.wav",
    "pydub/test/data/test1.wav",
    "fsdd/recordings/7_jackson_0.wav",
)


def active(
    y: np.ndarray, rate_hz: int, below_dbfs: float, min_silence_s: float, pad_s: float = 0.0, piece: int = WHOLE
) -> list[tuple[int, int]]:
    activity = Activity(rate_hz, below_dbfs, min_silence_s, pad_s)
    for start in range(0, y.shape[1], piece):
        activity.add(y[:, start : start + piece])
    return activity.finish()


def bursts(
    lengths: list[int], rate_hz: int, channels: int = 1, seed: int = 0, loud: float = 0.1, quiet: float = 1e-3
) -> np.ndarray:
    """Noise that is loud and quiet by turns. lengths : samples of each stretch"""
    random = np.random.default_rng(seed)
    levels = np.repeat(np.resize([quiet, loud], len(lengths)), lengths)
    return np.asarray(random.standard_normal((channels, len(levels))) * levels, np.float32)


def read(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    pcm, rate_hz = sf.read(path, dtype="int16", always_2d=True)
    return pcm, (pcm.T / np.float32(32768)).astype(np.float32), rate_hz


def segment(pcm: np.ndarray, rate_hz: int) -> AudioSegment:
    return AudioSegment(pcm.tobytes(), frame_rate=rate_hz, sample_width=2, channels=pcm.shape[1])


def in_samples(intervals_ms: list[list[int]], n_ms: int, rate_hz: int, n_samples: int) -> list[tuple[int, int]]:
    return [(a * rate_hz // 1000, b * rate_hz // 1000 if b < n_ms else n_samples) for a, b in intervals_ms]


@pytest.mark.parametrize("name", FILES)
def test_boundaries_are_those_of_pydub(name: str, corpora: Path) -> None:
    pcm, y, rate_hz = read(corpora / name)
    theirs = segment(pcm, rate_hz)
    for k, window_ms in ((104, 500), (330, 100), (33, 37)):
        # pydub rounds the rms down: below k means at most k - 1, and so below k - 0.5.
        expected = detect_nonsilent(theirs, window_ms, 20 * math.log10((k - 0.5) / 32768))
        ours = active(y, rate_hz, 20 * math.log10(k / 32768), window_ms / 1000)
        assert ours == in_samples(expected, len(theirs), rate_hz, len(pcm))


@pytest.mark.parametrize(("name", "k"), [(FILES[0], 1000), (FILES[1], 330), (FILES[3], 330)])
def test_clips_are_those_of_pydubs_split_on_silence(name: str, k: int, corpora: Path) -> None:
    pcm, y, rate_hz = read(corpora / name)
    theirs = segment(pcm, rate_hz)
    for pad_ms in (0, 100, 400):
        chunks = split_on_silence(theirs, 200, 20 * math.log10((k - 0.5) / 32768), pad_ms)
        ours = active(y, rate_hz, 20 * math.log10(k / 32768), 0.2, pad_ms / 1000)
        cut = [np.frombuffer(chunk.raw_data, np.int16).reshape(-1, pcm.shape[1]) for chunk in chunks]
        assert len(ours) == len(cut) > 1
        for (start, stop), expected in zip(ours, cut, strict=True):
            assert np.array_equal(pcm[start:stop][: len(expected)], expected[: stop - start])
            assert abs(stop - start - len(expected)) <= (rate_hz // 2000 + 1 if stop == len(pcm) else 0)


def test_at_equal_thresholds_pydubs_rounding_moves_few_boundaries_and_by_little(corpora: Path) -> None:
    n_moved = n_boundaries = 0
    for name in FILES:
        pcm, y, rate_hz = read(corpora / name)
        theirs = segment(pcm, rate_hz)
        expected = in_samples(detect_nonsilent(theirs, 500, -50.0), len(theirs), rate_hz, len(pcm))
        ours = active(y, rate_hz, -50.0, 0.5)
        assert len(ours) == len(expected)
        moved = np.abs(np.array(ours) - np.array(expected)) * 1000 / rate_hz
        assert moved.max(initial=0) < 5
        n_moved, n_boundaries = n_moved + np.count_nonzero(moved), n_boundaries + moved.size
    assert n_moved <= 0.2 * n_boundaries


def test_boundaries_are_those_of_librosa_within_a_frame(corpora: Path) -> None:
    """librosa's silences are the centres of quiet frames, those here whole frames: half a frame more on either side."""
    n_boundaries = 0
    for name in FILES:
        _, y, rate_hz = read(corpora / name)
        hop = rate_hz // 1000
        rate_hz, window = hop * 1000, 100 * hop  # played a little slower, a step is a whole number of samples
        n = y.shape[1]
        # librosa's threshold is relative to the loudest frame; ones after the recording make that 0 dBFS.
        marked = np.concatenate([y[0], np.zeros(window, np.float32), np.ones(3 * window, np.float32)])
        theirs = np.zeros(n // hop + 1, bool)
        for a, b in librosa.effects.split(marked, top_db=40, ref=np.max, frame_length=window, hop_length=hop) // hop:
            theirs[a:b] = True
        silent = np.zeros(n, bool)
        for k in np.flatnonzero(~theirs) * hop:
            silent[max(0, k - window // 2) : k + window // 2] = True
        intervals = np.array(active(y[:1], rate_hz, -40.0, 0.1))
        ours = np.ones(n, bool)
        for a, b in intervals:
            ours[a:b] = False
        # Within a frame of either end, librosa's frames contain zeros that are not in the recording.
        differing = np.flatnonzero(ours != silent)
        differing = differing[(differing >= window) & (differing < n - window)]
        distances = np.abs(differing[:, None] - intervals.reshape(1, -1))
        assert np.all(distances.min(axis=1) <= hop), name
        n_boundaries += intervals.size
    assert n_boundaries > 40


@given(
    st.lists(st.integers(1, 4000), max_size=12),
    st.sampled_from([1000, 8000, 11025, 22050, 44100]),
    st.integers(1, 3),
    st.lists(st.integers(0, 3000), min_size=1, max_size=20),
    st.sampled_from([0.001, 0.02, 0.1]),
    st.integers(0, 5),
)
@example([8000, 30000, 8000], 8000, 1, [1], 0.1, 0)
def test_the_result_does_not_depend_on_the_pieces(
    lengths: list[int], rate_hz: int, channels: int, pieces: list[int], window_s: float, seed: int
) -> None:
    y = bursts(lengths, rate_hz, channels, seed, loud=0.011, quiet=0.009)
    whole = active(y, rate_hz, -40.0, window_s, 0.05)
    activity, done, turn = Activity(rate_hz, -40.0, window_s, 0.05), 0, 0
    while done < y.shape[1]:
        n = max(pieces[turn % len(pieces)], 0 if sum(pieces) else 1)
        activity.add(y[:, done : done + n])
        done, turn = done + n, turn + 1
    assert activity.finish() == whole
    assert all(0 <= a < b <= y.shape[1] for a, b in whole)
    assert all(b <= c for (_, b), (c, _) in pairwise(whole))


@given(st.lists(st.integers(1, 1500), min_size=1, max_size=8), st.sampled_from([4000, 7350]), st.integers(0, 5))
def test_windows_are_what_the_definition_says(lengths: list[int], rate_hz: int, seed: int) -> None:
    """Against the definition, window by window, on whole steps."""
    y = bursts(lengths, rate_hz, 2, seed, loud=0.02, quiet=0.005)
    n_steps = y.shape[1] * 1000 // rate_hz
    y = y[:, : n_steps * rate_hz // 1000]
    silent = np.zeros(y.shape[1], bool)
    for k in range(n_steps - 50 + 1):
        a, b = k * rate_hz // 1000, (k + 50) * rate_hz // 1000
        if level_dbfs(y[:, a:b]) < -40.0:
            silent[a:b] = True
    ours = np.zeros(y.shape[1], bool)
    for a, b in active(y, rate_hz, -40.0, 0.05):
        ours[a:b] = True
    assert np.array_equal(ours, ~silent)


def test_padding_keeps_silence_and_a_short_silence_is_divided_in_its_middle() -> None:
    y = bursts([1000, 1000, 400, 1000, 3000, 1000], 1000)
    bare = np.array(active(y, 1000, -40.0, 0.2))
    assert np.abs(bare - [(1000, 2000), (2400, 3400), (6400, 7400)]).max() <= 5
    padded = np.array(active(y, 1000, -40.0, 0.2, 0.3))
    assert np.abs(padded - [(700, 2200), (2200, 3700), (6100, 7400)]).max() <= 5
    assert padded[0][1] == padded[1][0]


def test_recordings_that_are_silent_loud_empty_or_short() -> None:
    assert active(np.zeros((1, 8000), np.float32), 8000, -50.0, 0.5) == []
    assert active(np.full((1, 8000), 0.5, np.float32), 8000, -50.0, 0.5) == [(0, 8000)]
    assert active(np.zeros((1, 3990), np.float32), 8000, -50.0, 0.5) == [(0, 3990)], "shorter than a silence"
    assert Activity(8000, -50.0, 0.5).finish() == []
    assert active(np.zeros((2, 0), np.float32), 8000, -50.0, 0.5) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, 40.0])
def test_a_sample_that_is_not_finite_or_far_beyond_full_scale_is_loud(value: float) -> None:
    y = np.zeros((1, 8000), np.float32)
    y[0, 4000] = value
    ((start, stop),) = active(y, 8000, -50.0, 0.1)
    assert 0 < stop - start <= 8, "the step that it is in"


def test_sums_are_exact_at_any_level_and_however_long() -> None:
    """One 16-bit step more or less, after minutes at full scale."""
    loud = np.ones((1, 16000), np.float32)
    quiet = np.full((1, 8000), 100 / 32768, np.float32)
    quiet[0, 0] = 99 / 32768
    for k, n in ((100, 1), (99.999, 2)):
        activity = Activity(16000, 20 * math.log10(k / 32768), 0.5)
        for _ in range(100):
            activity.add(loud)
        activity.add(quiet)
        activity.add(loud)
        assert len(activity.finish()) == (2 if n == 1 else 1)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="999 Hz; expected at least 1000 Hz"):
        Activity(999, -50.0, 0.5)
    activity = Activity(8000, -50.0, 0.5)
    activity.add(np.zeros((2, 10), np.float32))
    with pytest.raises(ValueError, match="1 channels, those before have 2"):
        activity.add(np.zeros((1, 10), np.float32))


def test_memory_is_that_of_the_window_and_of_the_silences() -> None:
    minute = bursts([8000] * 120, 16000)
    activity = Activity(16000, -50.0, 0.5, 0.1)
    tracemalloc.start()
    for _ in range(20):
        activity.add(minute)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2_000_000
