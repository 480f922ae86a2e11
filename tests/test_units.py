import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydub import AudioSegment

from clipmill.schemas.units import level_dbfs, resampled_length, to_pcm16, to_samples

PCM = st.lists(st.integers(-32768, 32767), min_size=1, max_size=300).map(lambda v: np.array(v, np.int16))


@given(PCM)
def test_16_bit_samples_survive_float_and_back(pcm: np.ndarray) -> None:
    back, clipped_samples = to_pcm16((pcm / 32768).astype(np.float32))
    assert np.array_equal(back, pcm)
    assert clipped_samples == 0


def test_beyond_full_scale_is_clipped_and_counted_not_wrapped() -> None:
    pcm, clipped_samples = to_pcm16(np.array([1.96, -1.96, 1.0, -1.0, 0.5], np.float32))
    assert pcm.tolist() == [32767, -32768, 32767, -32768, 16384]
    assert clipped_samples == 3


@given(PCM)
def test_level_is_pydubs_up_to_its_rounding_of_the_rms(pcm: np.ndarray) -> None:
    theirs = AudioSegment(pcm.tobytes(), frame_rate=16000, sample_width=2, channels=1)
    rms = math.sqrt(np.mean(pcm.astype(float) ** 2))
    assert theirs.rms <= rms < theirs.rms + 1 + 1e-9
    ours = level_dbfs(pcm)
    assert ours == (-math.inf if rms == 0 else pytest.approx(20 * math.log10(rms / 32768), abs=1e-9))
    if theirs.rms >= 200:
        assert ours == pytest.approx(theirs.dBFS, abs=0.05)


def test_levels_that_everybody_knows() -> None:
    assert level_dbfs(np.full(100, -32768, np.int16)) == 0.0
    assert level_dbfs(np.sin(2 * np.pi * np.arange(16000) / 160).astype(np.float32)) == pytest.approx(-3.0103, abs=1e-3)
    assert level_dbfs(np.zeros(10, np.int16)) == -math.inf
    assert level_dbfs(np.zeros(0, np.int16)) == -math.inf


@given(st.integers(0, 10**9), st.sampled_from([8000, 16000, 22050, 44100, 48000, 44056]))
def test_seconds_and_samples_are_inverse(n: int, rate: int) -> None:
    assert to_samples(n / rate, rate) == n


@given(st.integers(0, 10**7), st.sampled_from([8000, 11025, 44100, 48000]), st.sampled_from([8000, 16000, 22050]))
def test_resampled_length_is_the_nearest(n: int, source: int, target: int) -> None:
    exact = n * target / source
    assert abs(resampled_length(n, source, target) - exact) <= 0.5 + 1e-6
