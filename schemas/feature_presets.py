"""Name the front ends of models: for each, the keys of `log_mel` or `mfcc` that give what the model was trained on.

A preset is nothing but these keys; one that stands beside `preset` replaces the preset's. The module needs no other package.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Keys = Mapping[str, Any]
_FLOAT32_EPSILON = 2.0**-23

_WHISPER = {
    "model_rate_hz": 16000,
    "max_s": 30.0,
    "n_fft": 400,
    "hop_length": 160,
    "window_dtype": "float32",
    "pad_mode": "reflect",
    # What a window of 30 s gives: the frames at the end of the clip hear the zeros behind it, and no reflection of the clip.
    "zeros_behind": 400,
    "frames_beyond": "drop",
    "log": "log10",
    "floor": 1e-10,
    "top_db": 80.0,
    "subtract": -4.0,
    "divide_by": 4.0,
    "pad_value": "floor",
}
_KALDI = {
    "win_s": 0.025,
    "hop_s": 0.01,
    "round_to_power_of_two": True,
    "window": "povey",
    "window_dtype": "float32",
    "snip_edges": True,
    "remove_dc": True,
    "preemphasis": 0.97,
    "preemphasis_by": "frame",
    "fmin": 20.0,
    "mel_scale": "kaldi",
    "norm": None,
    "log": "ln",
    "floor": _FLOAT32_EPSILON,
    "top_db": None,
}
_GAN = {
    "n_fft": 1024,
    "hop_length": 256,
    "window_dtype": "float32",
    "center": False,
    "pad_length": 384,
    "pad_mode": "reflect",
    "power": 1,
    "epsilon": 1e-9,
    "log": "ln",
    "floor": 1e-5,
    "top_db": None,
}

LOG_MEL: Mapping[str, Keys] = MappingProxyType(
    {
        # openai-whisper, whisper/audio.py
        "whisper-80": {**_WHISPER, "n_mels": 80},
        "whisper-128": {**_WHISPER, "n_mels": 128},
        # Kaldi, compute-fbank-feats without dither
        "kaldi-fbank-80": {**_KALDI, "scale": 32768.0, "n_mels": 80},
        # icefall by way of lhotse.Fbank
        "icefall": {**_KALDI, "n_mels": 80, "snip_edges": False, "fmax": -400.0},
        # NVIDIA NeMo, AudioToMelSpectrogramPreprocessor without dither
        "nemo": {
            "model_rate_hz": 16000,
            "n_fft": 512,
            "hop_length": 160,
            "win_length": 400,
            "symmetric": True,
            "window_dtype": "float32",
            "preemphasis": 0.97,
            "n_mels": 80,
            "log": "ln",
            "offset": 2.0**-24,
            "top_db": None,
            "frames_beyond": "zero",
            "normalise": "bin",
        },
        # HiFi-GAN, meldataset.py
        "hifigan-22k": {**_GAN, "model_rate_hz": 22050, "n_mels": 80, "fmax": 8000.0},
        # BigVGAN, bigvgan_24khz_100band
        "bigvgan-24k": {**_GAN, "model_rate_hz": 24000, "n_mels": 100},
        # NVIDIA Tacotron 2, layers.TacotronSTFT
        "tacotron2": {
            "model_rate_hz": 22050,
            "n_fft": 1024,
            "hop_length": 256,
            "pad_mode": "reflect",
            "power": 1,
            "n_mels": 80,
            "fmax": 8000.0,
            "log": "ln",
            "floor": 1e-5,
            "top_db": None,
        },
        # Audio Spectrogram Transformer; silence that fills up a clip is 0 before it is normalised
        "ast": {
            **_KALDI,
            "model_rate_hz": 16000,
            "remove_mean": True,
            "window": "hann",
            "symmetric": True,
            "n_mels": 128,
            "subtract": -4.2677393,
            "divide_by": 2 * 4.5689974,
            "pad_value": 4.2677393 / (2 * 4.5689974),
        },
        # BEATs.preprocess
        "beats": {
            **_KALDI,
            "model_rate_hz": 16000,
            "scale": 32768.0,
            "n_mels": 128,
            "subtract": 15.41663,
            "divide_by": 2 * 6.55582,
        },
        # PANNs at 32 kHz, by way of torchlibrosa
        "panns-32k": {
            "model_rate_hz": 32000,
            "n_fft": 1024,
            "hop_length": 320,
            "pad_mode": "reflect",
            "n_mels": 64,
            "fmin": 50.0,
            "fmax": 14000.0,
            "top_db": None,
        },
    }
)
"""Presets of `log_mel`, by name."""

MFCC: Mapping[str, Keys] = MappingProxyType(
    {
        # Kaldi, compute-mfcc-feats without dither
        "kaldi-mfcc-13": {
            **_KALDI,
            "scale": 32768.0,
            "n_mels": 23,
            "norm": "none",
            "top_db": "none",
            "n_mfcc": 13,
            "lifter": 22.0,
            "lifter_from": 0,
            "use_energy": True,
        },
        # librosa.feature.mfcc(htk=True)
        "htk-mfcc-13": {
            "model_rate_hz": 16000,
            "n_fft": 512,
            "hop_length": 160,
            "win_length": 400,
            "n_mels": 40,
            "mel_scale": "htk",
            "n_mfcc": 13,
            "lifter": 22.0,
        },
    }
)
"""Presets of `mfcc`, by name."""

_INSTEAD = {
    "win_length": ("win_s",),
    "win_s": ("win_length",),
    "hop_length": ("hop_s",),
    "hop_s": ("hop_length",),
    "n_fft": ("round_to_power_of_two",),
    "round_to_power_of_two": ("n_fft",),
    "center": ("pad_length", "snip_edges"),
    "pad_length": ("center", "snip_edges"),
    "snip_edges": ("center", "pad_length"),
}
"""Keys that say the same in several ways: one that is given replaces a preset's other ones."""


def with_preset(presets: Mapping[str, Keys], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the keys of the preset that they name; those that are given replace the preset's.

    Settings without a preset, or with an unknown one, are returned as they are.
    """
    keys = presets.get(given["preset"]) if isinstance(given.get("preset"), str) else None
    return replaced_by(keys, given) if keys is not None else dict(given)


def replaced_by(keys: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which those that are given replace others, and what says the same in another way."""
    replaced = {other for key in given for other in _INSTEAD.get(key, ())}
    return {**{key: value for key, value in keys.items() if key not in replaced}, **given}


def given_twice(given: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return two keys of settings that exclude each other, None where there are none."""
    set_ = [key for key, value in given.items() if _says_something(key, value)]
    return next(((key, other) for key in set_ for other in _INSTEAD.get(key, ()) if other in set_), None)


def _says_something(key: str, value: Any) -> bool:
    """Return whether a key decides how frames are laid out. A null decides nothing, nor does a false, except of the way of Kaldi."""
    return value is not None and (key == "snip_edges" or value is not False)
