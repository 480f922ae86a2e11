"""The measures speech and dnsmos: the values of silero-vad and speechmos themselves."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import soxr

from clipmill.schemas.errors import StageError
from clipmill.stages.measures import dnsmos, speech_share
from clipmill.stages.measures.dnsmos import compute_dnsmos, mel_levels
from clipmill.stages.measures.speech_share import compute_speech_share

LIBRI = "lhotse/test/fixtures/libri/libri-1088-134315-0000.wav"
FILES = (
    LIBRI,
    "auditok/tests/data/1to6arabic_16000_mono_bc_noise.wav",
    "lhotse/test/fixtures/ami/ES2011a.Headset-0-40s-46s.wav",
)


def read(path: Path) -> tuple[np.ndarray, int]:
    y, rate_hz = sf.read(path, dtype="float32", always_2d=True)
    return np.ascontiguousarray(y.T), rate_hz


@pytest.fixture
def vad() -> Iterator[Any]:
    """Yield silero-vad, and let torch compute in one thread, as it wants it, during the test only."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: clipmill[speech]")
    import torch

    n_threads = torch.get_num_threads()
    package = pytest.importorskip("silero_vad", reason="silero-vad is not installed: clipmill[speech]")
    torch.set_num_threads(1)
    yield package
    torch.set_num_threads(n_threads)


@pytest.fixture
def mos() -> Any:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: clipmill[dnsmos]")
    return pytest.importorskip("speechmos.dnsmos", reason="speechmos is not installed: clipmill[dnsmos]")


@pytest.mark.parametrize("name", FILES)
def test_the_share_of_speech_is_that_of_silero_vad(name: str, vad: Any, corpora: Path) -> None:
    import torch

    y, rate_hz = read(corpora / name)
    model = vad.load_silero_vad()
    found = vad.get_speech_timestamps(torch.from_numpy(y.mean(axis=0)), model)
    expected = sum(f["end"] - f["start"] for f in found) / y.shape[1]
    assert compute_speech_share(y, rate_hz) == (expected,)
    assert 0.1 < expected <= 1
    at_44100 = np.stack([soxr.resample(channel, rate_hz, 44100) for channel in y])
    assert compute_speech_share(at_44100, 44100)[0] == pytest.approx(expected, abs=0.03)


def test_silence_and_empty_clips_have_no_speech(vad: Any) -> None:
    assert compute_speech_share(np.zeros((1, 30000), np.float32), 16000) == (0.0,)
    assert compute_speech_share(np.zeros((1, 1), np.float32), 8000) == (0.0,)
    assert compute_speech_share(np.zeros((1, 0), np.float32), 16000) == (None,)


@pytest.mark.parametrize(
    ("name", "start_s", "length_s"), [(LIBRI, 0, 11.2), (FILES[1], 3, 5.0), (FILES[2], 0, 3.0), (LIBRI, 4, 1.37)]
)
def test_ratings_are_those_of_speechmos(name: str, start_s: float, length_s: float, mos: Any, corpora: Path) -> None:
    y, rate_hz = read(corpora / name)
    y = y[:1, int(start_s * rate_hz) : int((start_s + length_s) * rate_hz)]
    expected = mos.run(y[0], rate_hz)
    found = compute_dnsmos(y, rate_hz)
    assert found == pytest.approx([expected[f"{n}_mos"] for n in ("sig", "bak", "ovrl", "p808")], abs=2e-4)
    assert all(value is not None and 1 < value < 5 for value in found)


class Sums:
    """Stands for a network: takes a window's first sample, last sample, and mean for its ratings."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions, self.n_calls = dimensions, 0

    def run(self, names: Any, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.n_calls += 1
        (values,) = inputs.values()
        assert values.shape[0] == 1 and values.dtype == np.float32 and values.ndim == self.dimensions
        flat = values.ravel()
        return [np.array([[flat[0], flat[-1], flat.mean()]])]


@pytest.mark.parametrize("length_s", [0.003, 0.7, 1.0, 2.5, 9.0, 9.01, 9.5, 10.2, 16.5, 18.3, 34.5])
def test_windows_are_those_of_speechmos(length_s: float, mos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.random.default_rng(0).uniform(-1, 1, (1, round(length_s * 16000))).astype(np.float32)
    theirs = mos.DNSMOS.__new__(mos.DNSMOS)
    theirs.onnx_sess, theirs.p808_onnx_sess = Sums(2), Sums(3)
    expected = theirs(y[0], 16000, False)
    ours = Sums(2), Sums(3)
    monkeypatch.setattr(dnsmos, "_sessions", lambda: ours)
    found = compute_dnsmos(y, 16000)
    assert found == pytest.approx([expected[f"{n}_mos"] for n in ("sig", "bak", "ovrl", "p808")], abs=1e-5)
    assert ours[0].n_calls == ours[1].n_calls <= theirs.onnx_sess.n_calls, "equal windows are rated once"
    assert ours[0].n_calls == {1.0: 1, 2.5: 1, 34.5: 8}.get(length_s, ours[0].n_calls)


def test_the_log_mel_is_that_of_librosa(mos: Any) -> None:
    random = np.random.default_rng(0)
    for scale in (0.3, 1e-4, 0.0):
        x = (random.standard_normal(40000) * scale * np.linspace(0, 1, 40000) ** 8).astype(np.float32)
        expected = mos.DNSMOS.audio_melspec(None, x)
        found = mel_levels(x)
        assert found.dtype == np.float32 and found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-4


def test_other_rates_are_resampled_and_channels_averaged(mos: Any, corpora: Path) -> None:
    y, rate_hz = read(corpora / "coqui-tts/tests/data/ljspeech/wavs/LJ001-0002.wav")
    assert rate_hz == 22050
    y = np.tile(y, 5)  # one window
    both = np.concatenate([y * 1.5, y * 0.5])
    expected = compute_dnsmos(soxr.resample(y[0], rate_hz, 16000)[None], 16000)
    assert compute_dnsmos(both, rate_hz) == pytest.approx(expected, abs=2e-3)


def test_clips_that_cannot_be_rated_and_those_that_are_limited(mos: Any) -> None:
    assert compute_dnsmos(np.zeros((1, 0), np.float32), 16000) == (None,) * 4
    assert compute_dnsmos(np.full((1, 16000), np.nan, np.float32), 16000) == (None,) * 4
    assert all(value is not None for value in compute_dnsmos(np.zeros((1, 16000), np.float32), 16000))
    loud = np.sin(np.arange(16000, dtype=np.float32))[None] * 3
    assert compute_dnsmos(loud, 16000) == compute_dnsmos(np.clip(loud, -1, 1), 16000)


def test_missing_packages_are_named_with_their_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    dnsmos._sessions.cache_clear()
    with pytest.raises(StageError, match=r"install clipmill\[dnsmos\]"):
        compute_dnsmos(np.zeros((1, 10), np.float32), 16000)


def test_no_package_of_the_models_is_imported(mos: Any) -> None:
    code = (
        "import sys, numpy as np; from clipmill.stages.measures.dnsmos import compute_dnsmos;"
        " compute_dnsmos(np.zeros((1, 16000), np.float32), 16000);"
        " print(*{n.split('.')[0] for n in sys.modules} & {'speechmos', 'librosa', 'requests', 'pandas', 'silero_vad'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("module", [speech_share, dnsmos])
def test_measures_declare_what_they_return(module: Any) -> None:
    measure = module.MEASURE
    pytest.importorskip("silero_vad" if measure.extra == "speech" else "speechmos")
    pytest.importorskip("onnxruntime")
    values = measure.compute(np.zeros((2, 8000), np.float32), 8000)
    assert len(values) == len(measure.columns)
    assert set(measure.libraries) >= {"onnxruntime", "soxr"}
