"""Silences of recordings as pydub and librosa find them, however a recording arrives."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import librosa
import numpy as np
import pydub
import pydub.silence
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmill.stages.activity import Activity

RATE = 16000


def heard(
    y: np.ndarray, rate: int, below_dbfs: float = -50, min_silence_s: float = 0.5, pad_s: float = 0.0
) -> list[tuple[int, int]]:
    activity = Activity(rate, below_dbfs, min_silence_s, pad_s)
    activity.add(np.atleast_2d(y).astype(np.float32))
    return activity.finish()


def segment_of(y: np.ndarray, rate: int) -> pydub.AudioSegment:
    pcm = np.ascontiguousarray(np.atleast_2d(y).T, "<i2")
    return pydub.AudioSegment(pcm.tobytes(), frame_rate=rate, sample_width=2, channels=pcm.shape[1])


def with_pauses(*lengths_s: float, rate: int = RATE) -> np.ndarray:
    """Noise and digital silence in turn, beginning with noise, as int16."""
    random, parts = np.random.default_rng(0), []
    for i, length in enumerate(lengths_s):
        n = round(length * rate)
        parts.append(random.standard_normal(n) * 3000 if i % 2 == 0 else np.zeros(n))
    return np.concatenate(parts).astype(np.int16)


def test_known_pauses_are_found_to_the_millisecond() -> None:
    y = with_pauses(1.0, 0.7, 0.5, 0.3, 0.4, 2.0, 0.25)
    found = [(a / RATE, b / RATE) for a, b in heard(y / 32768, RATE)]
    expected = [(0.0, 1.0), (1.7, 2.9), (4.9, 5.15)]
    assert len(found) == 3 and np.allclose(found, expected, atol=0.0011)


@pytest.mark.parametrize(("pad_s", "expected"), [(0.1, [(0, 1.1), (1.6, 2.5)]), (0.5, [(0, 1.35), (1.35, 2.5)])])
def test_padding_meets_in_the_middle(pad_s: float, expected: list[tuple[float, float]]) -> None:
    found = [(a / RATE, b / RATE) for a, b in heard(with_pauses(1.0, 0.7, 0.8) / 32768, RATE, pad_s=pad_s)]
    assert np.allclose(found, expected, atol=0.0011)


@pytest.mark.parametrize("min_silence_ms", [100, 500])
@pytest.mark.parametrize("below_dbfs", [-60, -45, -30])
def test_it_is_what_pydub_finds_on_real_recordings(corpora: Path, below_dbfs: float, min_silence_ms: int) -> None:
    """pydub truncates the rms of a window to a whole number, which decides a few steps near the threshold otherwise."""
    files = [
        *sorted(corpora.glob("coqui-tts/tests/data/ljspeech/wavs/*.wav"))[:3],
        *sorted(corpora.glob("fsdd/recordings/*.wav"))[:60:10],
    ]
    files += sorted(corpora.glob("esc10/*/*.ogg"))[:240:60]
    assert len(files) > 9
    equal = 0
    for file in files:
        y, rate = sf.read(file, dtype="int16", always_2d=True)
        theirs = pydub.silence.detect_nonsilent(segment_of(y.T, rate), min_silence_ms, below_dbfs)
        ours = [
            (round(a / rate * 1000), round(b / rate * 1000))
            for a, b in heard(y.T / np.float32(32768), rate, below_dbfs, min_silence_ms / 1000)
        ]
        equal += len(ours) == len(theirs) and all(
            abs(a - c) <= 2 and abs(b - d) <= 2 for (a, b), (c, d) in zip(ours, theirs, strict=True)
        )
    assert equal >= len(files) - 1


def test_it_agrees_with_librosa_within_a_frame() -> None:
    y = with_pauses(1.0, 0.9, 0.6, 1.2, 0.8) / 32768
    reference = np.sqrt(np.mean((y[:RATE]) ** 2))
    intervals = librosa.effects.split(y, top_db=40, ref=reference, frame_length=512, hop_length=128)
    found = np.array(heard(y, RATE, 20 * np.log10(reference) - 40, 0.5))
    assert found.shape == intervals.shape and np.abs(found - intervals).max() <= 512


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.3]), min_size=1, max_size=30), st.lists(st.integers(1, 3000), max_size=8),
    st.sampled_from([8000, 11025, 44100]), st.integers(1, 300), st.integers(0, 200), st.integers(1, 2),
)  # fmt: skip
def test_it_does_not_depend_on_how_a_recording_arrives(
    levels: list[float], sizes: list[int], rate: int, min_silence_ms: int, pad_ms: int, channels: int
) -> None:
    random = np.random.default_rng(len(levels))
    y = np.concatenate([random.standard_normal((channels, rate // 20)) * level for level in levels], axis=1).astype(
        np.float32
    )
    whole, parts = (Activity(rate, -40, min_silence_ms / 1000, pad_ms / 1000) for _ in range(2))
    whole.add(y)
    at = 0
    for size in [*sizes, y.shape[1]]:
        if at < y.shape[1]:
            parts.add(y[:, at : at + size])
            at += size
    found = whole.finish()
    assert parts.finish() == found
    edges = [edge for stretch in found for edge in stretch]
    assert edges == sorted(edges) and all(0 <= e <= y.shape[1] for e in edges) and all(b > a for a, b in found)


def test_silence_and_sound_throughout() -> None:
    assert heard(np.zeros(2 * RATE), RATE) == []
    assert heard(with_pauses(2.0) / 32768, RATE) == [(0, 2 * RATE)]
    assert heard(np.zeros(RATE // 4), RATE) == [(0, RATE // 4)], "too short for a silence, as in pydub"


def test_memory_does_not_grow_with_the_recording() -> None:
    block = (with_pauses(1.0, 1.0) / 32768)[None].astype(np.float32)
    activity = Activity(RATE, -50, 0.5, 0.1)
    tracemalloc.start()
    for _ in range(900):  # half an hour
        activity.add(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000 and len(activity.finish()) == 900
