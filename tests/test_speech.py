"""Speech: intervals are silero-vad's, whatever the pieces of a recording; clips contain all speech and cut none that fits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
from hypothesis import given
from hypothesis import strategies as st

from clipmill.schemas.errors import StageError
from clipmill.stages import speech
from clipmill.stages.packing import pack
from clipmill.stages.speech import Speech, SpeechActivity, speech_intervals

FILES = (
    "auditok/tests/data/1to6arabic_16000_mono_bc_noise.wav",
    "lhotse/test/fixtures/libri/libri-1088-134315-0000.wav",
    "lhotse/test/fixtures/ami/ES2011a.Headset-0-40s-46s.wav",
    "lhotse/test/fixtures/mix_cut_test/audio/storage/2412-153948-0001.flac",
)
WHOLE = 1 << 40


def heard(y: np.ndarray, rate_hz: int, piece: int = WHOLE, **settings: float) -> Speech:
    activity = SpeechActivity(rate_hz, **settings)
    for start in range(0, y.shape[1], piece):
        activity.add(y[:, start : start + piece])
    return activity.finish()


def read(path: Path) -> tuple[np.ndarray, int]:
    y, rate_hz = sf.read(path, dtype="float32", always_2d=True)
    return np.ascontiguousarray(y.T), rate_hz


@pytest.fixture
def vad() -> Iterator[None]:
    """Skip where the packages are missing, and let torch compute in one thread, as silero-vad wants it, during the test only."""
    import torch

    n_threads = torch.get_num_threads()
    pytest.importorskip("silero_vad", reason="silero-vad is not installed: clipmill[speech]")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: clipmill[speech]")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("is_onnx", [False, True])
def test_intervals_are_those_of_silero_vad(name: str, is_onnx: bool, vad: None, corpora: Path) -> None:
    import silero_vad
    import torch

    y, rate_hz = read(corpora / name)
    assert rate_hz == 16000
    model = silero_vad.load_silero_vad(onnx=is_onnx)
    for pad_ms, threshold in ((30, 0.5), (0, 0.5), (100, 0.8)):
        mono = torch.from_numpy(y.mean(axis=0))
        expected = silero_vad.get_speech_timestamps(mono, model, threshold=threshold, speech_pad_ms=pad_ms)
        found = heard(y, rate_hz, pad_s=pad_ms / 1000, threshold=threshold)
        assert found.intervals == [(e["start"], e["end"]) for e in expected]
        assert found.intervals and len(found.probabilities) == -(-y.shape[1] // 512)


probability = st.sampled_from([0.0, 0.01, 0.3, 0.34999, 0.35, 0.4, 0.49999, 0.5, 0.6, 1.0])


@given(
    st.lists(st.tuples(probability, st.integers(1, 9)), max_size=25),
    st.integers(0, 511),
    st.sampled_from([0, 30, 100]),
    st.sampled_from([0, 32, 100, 250]),
    st.sampled_from([0, 64, 100, 300]),
    st.sampled_from([0.3, 0.5, 0.6]),
)
def test_probabilities_become_the_intervals_of_silero_vad(
    runs: list[tuple[float, int]], short: int, pad_ms: int, speech_ms: int, silence_ms: int, threshold: float
) -> None:
    silero_vad = pytest.importorskip("silero_vad", reason="silero-vad is not installed: clipmill[speech]")
    values = np.repeat(np.array([p for p, _ in runs], np.float32), [n for _, n in runs])
    n_frames = max(0, 512 * len(values) - short)
    expected = silero_vad.get_speech_timestamps_from_probs(
        values.tolist(),
        threshold=threshold,
        min_speech_duration_ms=speech_ms,
        min_silence_duration_ms=silence_ms,
        speech_pad_ms=pad_ms,
        audio_length_samples=n_frames,
    )
    found = speech_intervals(values, n_frames, threshold, speech_ms / 1000, silence_ms / 1000, pad_ms / 1000)
    assert found == [(e["start"], e["end"]) for e in expected]


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 44100])
def test_the_result_does_not_depend_on_the_pieces(rate_hz: int, vad: None, corpora: Path) -> None:
    y, given_hz = read(corpora / FILES[1])
    y = soxr.resample(y[0, : 12 * given_hz], given_hz, rate_hz)[None]
    y = np.concatenate([y, y[:, ::-1]])
    whole = heard(y, rate_hz)
    assert whole.intervals
    for piece in (997, rate_hz, 65536):
        parts = heard(y, rate_hz, piece)
        assert parts.intervals == whole.intervals
        assert parts.probabilities.tobytes() == whole.probabilities.tobytes()


def test_other_rates_are_resampled_by_soxr(vad: None, corpora: Path) -> None:
    y, rate_hz = read(corpora / "coqui-tts/tests/data/ljspeech/wavs/LJ001-0001.wav")
    assert rate_hz == 22050
    found = heard(y, rate_hz, 5000)
    expected = heard(soxr.resample(y[0], rate_hz, 16000)[None], 16000)
    assert found.probabilities.tobytes() == expected.probabilities.tobytes()
    assert found.intervals
    for (a, b), (c, d) in zip(found.intervals, expected.intervals, strict=True):
        assert abs(a / rate_hz - c / 16000) < 1 / 16000 and abs(b / rate_hz - d / 16000) < 1 / 16000


def test_recordings_without_speech_without_samples_and_with_samples_that_are_not_finite(
    vad: None, corpora: Path
) -> None:
    assert heard(np.zeros((2, 50000), np.float32), 48000).intervals == []
    assert SpeechActivity(16000).finish().intervals == []
    assert heard(np.zeros((1, 3), np.float32), 44100).intervals == []
    y, rate_hz = read(corpora / FILES[1])
    broken = y.copy()
    broken[0, :2] = np.nan, np.inf
    repaired = y.copy()
    repaired[0, :2] = 0
    assert heard(broken, rate_hz).intervals == heard(repaired, rate_hz).intervals != []


def test_torch_keeps_its_threads_and_is_not_imported(vad: None) -> None:
    code = (
        "import sys, numpy as np; from clipmill.stages.speech import SpeechActivity; a = SpeechActivity(8000);"
        " a.add(np.zeros((1, 8000), np.float32)); a.finish(); print('torch' in sys.modules, 'silero_vad' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("missing", ["silero_vad", "onnxruntime"])
def test_a_missing_package_is_named_with_its_remedy(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = speech.importlib.util.find_spec
    monkeypatch.setattr(speech.importlib.util, "find_spec", lambda name: None if name == missing else real(name))
    speech._session.cache_clear()
    with pytest.raises(StageError, match=r"install clipmill\[speech\]"):
        SpeechActivity(16000)
    speech._session.cache_clear()


def test_the_least_probable_window_of_a_range() -> None:
    found = Speech([], np.array([0.9, 0.2, 0.8, 0.1, 0.8], np.float32), 32000)  # windows of 1,024 samples
    assert found.least_probable(0, 5000) == 3 * 1024 + 512
    assert found.least_probable(0, 3000) == 1024 + 512
    assert found.least_probable(3800, 5000) == 4 * 1024 + 512
    assert found.least_probable(2600, 2700) == 2700, "no window has its middle there"


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[tuple[int, int]], int]:
    """Intervals of speech, and the length of the recording."""
    speech, at = [], draw(st.integers(0, 60))
    for length, gap in draw(st.lists(st.tuples(st.integers(1, 90), st.integers(0, 60)), max_size=12)):
        speech.append((at, at + length))
        at += length + gap
    return speech, at + draw(st.integers(0, 30))


@given(
    recordings(), st.integers(1, 20), st.integers(0, 60), st.integers(0, 12), st.integers(0, 30), st.integers(0, 100)
)
def test_packing_covers_all_speech_and_cuts_none_that_fits(
    recording: tuple[list[tuple[int, int]], int], shortest: int, more: int, pad: int, gap: int, share: int
) -> None:
    speech, n_samples = recording
    longest = 2 * shortest + more

    def cut_at(first: int, last: int) -> int:
        assert first <= last
        return first + (last - first) * share // 100

    packed = pack(
        speech,
        n_samples,
        min_samples=shortest,
        max_samples=longest,
        pad_samples=pad,
        max_gap_samples=gap,
        cut_at=cut_at,
    )
    assert all(shortest <= b - a <= longest for a, b in packed.clips)
    assert all(a >= 0 and b <= n_samples for a, b in packed.clips)
    assert all(b <= c for (_, b), (c, _) in pairwise(packed.clips))
    covered = np.zeros(n_samples, int)
    for a, b in [*packed.clips, *packed.dropped]:
        covered[a:b] += 1
    assert covered.max(initial=0) <= 1, "speech is in one clip, or dropped"
    assert all(covered[a:b].all() for a, b in speech)
    borders = {x for clip in packed.clips for x in clip}
    inside = {x for x in borders for a, b in speech if a < x < b}
    assert all(b - a > longest for a, b in speech if any(a < x < b for x in inside))
    assert len(inside) == packed.n_cuts
    assert bool(packed.n_cuts) == any(b - a > longest for a, b in speech)
    assert all(b - a < shortest for a, b in packed.dropped)


def packing(
    speech: list[tuple[int, int]], n_samples: int = 1000, pad: int = 10, gap: int = 50
) -> list[tuple[int, int]]:
    options = {"min_samples": 100, "max_samples": 300, "pad_samples": pad, "max_gap_samples": gap}
    return pack(speech, n_samples, cut_at=lambda first, last: last, **options).clips


def test_packing_rule_by_rule() -> None:
    assert packing([(100, 200), (250, 300)]) == [(90, 310)], "over a short gap"
    assert packing([(100, 200), (251, 350)]) == [(90, 210), (241, 360)], "not over a longer one"
    assert packing([(100, 290), (300, 390)]) == [(90, 295), (295, 400)], "too long for one: the gap is divided"
    assert packing([(100, 200), (290, 310)]) == [(90, 320)], "a short one joins its neighbour"
    assert packing([(100, 120), (190, 290), (350, 470)]) == [(90, 300), (340, 480)], "the nearer one"
    assert packing([(400, 420)]) == [(360, 460)], "or is extended, evenly"
    assert packing([(0, 20)]) == [(0, 100)] and packing([(990, 1000)]) == [(900, 1000)], "or where there is room"
    assert packing([(100, 395)]) == [(97, 397)], "speech nearly as long as the longest clip has less padding"
    assert packing([(100, 500)], pad=0) == [(100, 400), (400, 500)], "too long: it is cut"
    assert packing([(10, 30)], n_samples=90) == [], "no room"
    with pytest.raises(ValueError, match="199 samples; expected at least twice 100"):
        pack([], 0, min_samples=100, max_samples=199, pad_samples=0, max_gap_samples=0, cut_at=min)
