"""Compute the features of presets with the packages that they stand for, where these are installed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]


@dataclass(frozen=True)
class PresetPackage:
    """A package that has a preset's front end.

    name : as in pip
    compute : takes float32 [samples] at the preset's rate, and returns [bins, frames]; raises ImportError
    min_samples : of the shortest clip that it takes
    least_deviation : clips in a band of which the logarithms have less deviation are left out: the package divides rounding by it
    """

    name: str
    compute: Callable[[Floats, int], Floats]
    min_samples: int = 400
    least_deviation: float = 0.0


def _whisper(n_mels: int) -> Callable[[Floats, int], Floats]:
    def compute(y: Floats, rate_hz: int) -> Floats:
        import whisper  # type: ignore[import-untyped]

        window_of_30_s = whisper.audio.N_SAMPLES
        found = whisper.log_mel_spectrogram(y, n_mels=n_mels, padding=window_of_30_s).numpy()
        return np.asarray(found[:, : len(y) // 160])

    return compute


def _kaldi_native(kind: str, scale: float, n_mels: int, snip_edges: bool = True, high_freq: float = 0.0) -> Any:
    """Return a function for features of kaldi-native-fbank. kind : Fbank | Mfcc"""

    def compute(y: Floats, rate_hz: int) -> Floats:
        import kaldi_native_fbank as native  # type: ignore[import-untyped]

        options = getattr(native, f"{kind}Options")()
        options.frame_opts.samp_freq = rate_hz
        options.frame_opts.dither = 0.0
        options.frame_opts.snip_edges = snip_edges
        options.mel_opts.num_bins = n_mels
        options.mel_opts.high_freq = high_freq
        extract = getattr(native, f"Online{kind}")(options)
        extract.accept_waveform(rate_hz, (y * np.float32(scale)).tolist())
        extract.input_finished()
        return np.stack([extract.get_frame(i) for i in range(extract.num_frames_ready)], axis=1)

    return compute


def _torchlibrosa(y: Floats, rate_hz: int) -> Floats:
    import torch
    from torchlibrosa.stft import LogmelFilterBank, Spectrogram  # type: ignore[import-untyped]

    powers = Spectrogram(n_fft=1024, hop_length=320, win_length=1024, window="hann", pad_mode="reflect")
    logarithms = LogmelFilterBank(
        sr=32000, n_fft=1024, n_mels=64, fmin=50, fmax=14000, ref=1.0, amin=1e-10, top_db=None, freeze_parameters=True
    )
    with torch.no_grad():
        return np.asarray(logarithms(powers(torch.from_numpy(y)[None]))[0, 0].numpy().T)


def _parakeet(y: Floats, rate_hz: int) -> Floats:
    from transformers import ParakeetFeatureExtractor

    extract: Any = ParakeetFeatureExtractor(feature_size=80)  # type: ignore[no-untyped-call]
    with contextlib.redirect_stderr(io.StringIO()):
        found = extract(y, sampling_rate=16000, return_tensors="pt").input_features[0]
    return np.asarray(found.numpy().T)


def _ast(y: Floats, rate_hz: int) -> Floats:
    from transformers import ASTFeatureExtractor

    extract: Any = ASTFeatureExtractor(max_length=1 + (len(y) - 400) // 160)  # type: ignore[no-untyped-call]
    # The model's own code subtracts the clip's mean, which transformers leaves out.
    return np.asarray(extract(y - y.mean(), sampling_rate=16000).input_values[0]).T


PACKAGES: Mapping[str, PresetPackage] = {
    "whisper-80": PresetPackage("openai-whisper", _whisper(80)),
    "whisper-128": PresetPackage("openai-whisper", _whisper(128)),
    "kaldi-fbank-80": PresetPackage("kaldi-native-fbank", _kaldi_native("Fbank", 32768, 80)),
    "icefall": PresetPackage("kaldi-native-fbank", _kaldi_native("Fbank", 1, 80, False, -400)),
    "kaldi-mfcc-13": PresetPackage("kaldi-native-fbank", _kaldi_native("Mfcc", 32768, 23)),
    "panns-32k": PresetPackage("torchlibrosa", _torchlibrosa, 1024),
    "nemo": PresetPackage("transformers", _parakeet, 512, least_deviation=0.1),
    "ast": PresetPackage("transformers", _ast),
}
"""By preset. For the others librosa or torchaudio compute the definition, see `librosa_features` and `torchaudio_features`."""
