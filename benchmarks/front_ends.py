"""The front ends that presets stand for, by the code of others: what each gives for a clip. Used by `benchmarks.parity` and by the tests.

A package that is not installed raises ImportError when its function is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]
FrontEnd = Callable[[Floats], Floats]
"""Takes a clip, float32 [samples] in [-1, 1), and returns features, [bins, frames]."""


def kept_frames(y: Floats, features: Floats) -> Floats:
    """Return the frames that Whisper counts as the clip's own."""
    return features[:, : len(y) // 160]


def openai_whisper(n_mels: int) -> FrontEnd:
    def compute(y: Floats) -> Floats:
        import whisper

        return kept_frames(y, whisper.log_mel_spectrogram(y, n_mels=n_mels, padding=whisper.audio.N_SAMPLES).numpy())

    return compute


def transformers_whisper(n_mels: int) -> FrontEnd:
    def compute(y: Floats) -> Floats:
        from transformers import WhisperFeatureExtractor

        extract = WhisperFeatureExtractor(feature_size=n_mels)
        return kept_frames(y, np.asarray(extract(y, sampling_rate=16000).input_features[0]))

    return compute


def torchaudio_fbank(scale: float = 1.0, subtract: float = 0.0, divide_by: float = 1.0, **options: Any) -> FrontEnd:
    def compute(y: Floats) -> Floats:
        import torch
        import torchaudio.compliance.kaldi as kaldi

        found = kaldi.fbank(torch.from_numpy(y)[None] * scale, sample_frequency=16000, **options)
        return ((found - subtract) / divide_by).numpy().T

    return compute


def torchaudio_mfcc(y: Floats) -> Floats:
    import torch
    import torchaudio.compliance.kaldi as kaldi

    return kaldi.mfcc(torch.from_numpy(y)[None] * 32768, use_energy=True, energy_floor=0.0).numpy().T


def native_kaldi(kind: str, scale: float, n_mels: int, snip_edges: bool = True, high_freq: float = 0.0) -> FrontEnd:
    """Return kaldi-native-fbank's features. kind : Fbank | Mfcc"""

    def compute(y: Floats) -> Floats:
        import kaldi_native_fbank as native

        options = getattr(native, f"{kind}Options")()
        options.frame_opts.dither = 0.0
        options.frame_opts.snip_edges = snip_edges
        options.mel_opts.num_bins = n_mels
        options.mel_opts.high_freq = high_freq
        online = getattr(native, f"Online{kind}")(options)
        online.accept_waveform(16000, (y * np.float32(scale)).tolist())
        online.input_finished()
        return np.stack([online.get_frame(i) for i in range(online.num_frames_ready)], axis=1)

    return compute


def transformers_parakeet(y: Floats) -> Floats:
    from transformers import ParakeetFeatureExtractor

    extract = ParakeetFeatureExtractor(feature_size=80)
    return extract(y, sampling_rate=16000, return_tensors="pt").input_features[0].numpy().T


def transformers_ast(y: Floats) -> Floats:
    from transformers import ASTFeatureExtractor

    n_frames = 1 + (len(y) - 400) // 160
    return np.asarray(ASTFeatureExtractor(max_length=n_frames)(y, sampling_rate=16000).input_values[0]).T


def torchlibrosa_panns(y: Floats) -> Floats:
    import torch
    from torchlibrosa.stft import LogmelFilterBank, Spectrogram

    spectrogram = Spectrogram(n_fft=1024, hop_length=320, win_length=1024, window="hann", pad_mode="reflect")
    log_mel = LogmelFilterBank(
        sr=32000, n_fft=1024, n_mels=64, fmin=50, fmax=14000, ref=1.0, amin=1e-10, top_db=None, freeze_parameters=True
    )
    with torch.no_grad():
        return log_mel(spectrogram(torch.from_numpy(y)[None]))[0, 0].numpy().T


def vocoder(rate_hz: int, n_mels: int, fmax: float | None) -> FrontEnd:
    """Return mels by the definition of HiFi-GAN and BigVGAN: torch.stft in single precision, and librosa's filters."""

    def compute(y: Floats) -> Floats:
        import librosa
        import torch

        padded = torch.nn.functional.pad(torch.from_numpy(y)[None], (384, 384), mode="reflect")
        bins = torch.stft(padded, 1024, 256, 1024, torch.hann_window(1024), center=False, return_complex=True)[0]
        magnitudes = torch.sqrt(torch.view_as_real(bins).pow(2).sum(-1) + 1e-9)
        filters = torch.from_numpy(librosa.filters.mel(sr=rate_hz, n_fft=1024, n_mels=n_mels, fmin=0, fmax=fmax))
        return torch.log(torch.clamp(filters @ magnitudes, min=1e-5)).numpy()

    return compute


def tacotron2(y: Floats) -> Floats:
    """Return mels by the definition of Tacotron 2: magnitudes of centred frames, here by librosa's transform."""
    import librosa

    magnitudes = np.abs(librosa.stft(y, n_fft=1024, hop_length=256, pad_mode="reflect"))
    filters = librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmin=0, fmax=8000)
    return np.log(np.maximum(filters @ magnitudes, 1e-5))


def librosa_htk_mfcc(y: Floats) -> Floats:
    import librosa

    return librosa.feature.mfcc(
        y=y, sr=16000, n_mfcc=13, n_fft=512, hop_length=160, win_length=400, n_mels=40, htk=True, lifter=22
    )


_AST = {"subtract": -4.2677393, "divide_by": 2 * 4.5689974, "num_mel_bins": 128, "window_type": "hanning"}
_BEATS = {"scale": 2.0**15, "subtract": 15.41663, "divide_by": 2 * 6.55582, "num_mel_bins": 128}

FRONT_ENDS: dict[str, dict[str, FrontEnd]] = {
    "whisper-80": {"openai-whisper": openai_whisper(80), "transformers": transformers_whisper(80)},
    "whisper-128": {"openai-whisper": openai_whisper(128), "transformers": transformers_whisper(128)},
    "kaldi-fbank-80": {
        "kaldi-native-fbank": native_kaldi("Fbank", 32768, 80),
        "torchaudio": torchaudio_fbank(32768, num_mel_bins=80),
    },
    "icefall": {
        "torchaudio": torchaudio_fbank(num_mel_bins=80, snip_edges=False, high_freq=-400),
        "kaldi-native-fbank": native_kaldi("Fbank", 1, 80, False, -400),
    },
    "nemo": {"transformers": transformers_parakeet},
    "hifigan-22k": {"definition": vocoder(22050, 80, 8000)},
    "bigvgan-24k": {"definition": vocoder(24000, 100, None)},
    "tacotron2": {"definition": tacotron2},
    "ast": {"transformers": transformers_ast, "torchaudio": torchaudio_fbank(**_AST)},
    "beats": {"torchaudio": torchaudio_fbank(**_BEATS)},
    "panns-32k": {"torchlibrosa": torchlibrosa_panns},
    "kaldi-mfcc-13": {"kaldi-native-fbank": native_kaldi("Mfcc", 32768, 23), "torchaudio": torchaudio_mfcc},
    "htk-mfcc-13": {"librosa": librosa_htk_mfcc},
}
"""For each preset, what computes the same, by the package's name."""


def chirp() -> npt.NDArray[np.int16]:
    """Return 48,000 samples of 0.5 sin(2 pi (100 t + 650 t^2)), t = i / 16000, with noise of 0.05 by a linear congruential generator."""

    def noise() -> Iterator[int]:
        v = 12345
        for _ in range(48000):
            v = (1103515245 * v + 12345) & 0x7FFFFFFF
            yield v

    t = np.arange(48000) / 16000
    y = 0.5 * np.sin(2 * np.pi * (100 * t + 650 * t**2)) + 0.05 * (
        2 * np.fromiter(noise(), np.float64) / 0x7FFFFFFF - 1
    )
    return np.rint(32767 * y).astype(np.int16)


def made_clips(rate_hz: int) -> dict[str, npt.NDArray[np.int16]]:
    """Return signals that recordings rarely have: clean edges of what a front end must take."""
    random = np.random.default_rng(0)
    n = 2 * rate_hz
    tone = 9000 * np.sin(2 * np.pi * 440 * np.arange(n) / rate_hz)
    return {
        "chirp": chirp(),
        "silence": np.zeros(n, np.int16),
        "DC alone": np.full(n, 1234, np.int16),
        "tone on DC": np.rint(tone + 8000).astype(np.int16),
        "noise of one step": random.integers(-1, 2, n).astype(np.int16),
        "square at full scale": np.where(np.sin(np.arange(n) / 20) > 0, 32767, -32768).astype(np.int16),
        "0.1 s": np.rint(tone[: rate_hz // 10]).astype(np.int16),
        "sound, then silence": np.concatenate([np.rint(tone[: n // 2]), np.zeros(n // 2)]).astype(np.int16),
        "odd length": np.rint(tone[: n - 77]).astype(np.int16),
        "a click at the end": np.concatenate([np.zeros(n - 1), [32767]]).astype(np.int16),
    }
