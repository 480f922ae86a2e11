"""Compute log-mels and coefficients again with torchaudio: its MelSpectrogram, and its counterpart of Kaldi's programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.audits.reference_calls import NoReferenceError

Settings = Mapping[str, Any]
Floats = npt.NDArray[Any]
_WINDOWS = {"hann": "hann_window", "hamming": "hamming_window", "blackman": "blackman_window"}
_KALDIS_WINDOWS = {
    "povey": "povey",
    "hann": "hanning",
    "hamming": "hamming",
    "blackman": "blackman",
    "ones": "rectangular",
}
_PADDING = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
_PLAIN = {
    "scale", "remove_mean", "remove_dc", "preemphasis", "snip_edges", "pad_length", "zeros_behind", "frames_beyond", "epsilon",
    "log", "floor", "offset", "subtract", "divide_by", "normalise", "symmetric", "window_dtype",
}  # fmt: skip
_KALDIS_FLOOR = 2.0**-23


def by_mel_spectrogram(y: Floats, settings: Settings) -> Floats:
    """Return a clip's log-mel by `torchaudio.transforms`, in double precision: [n_mels, frames].

    Raises
    ------
    NoReferenceError : it has no such settings, or the clip is too short for its padding
    """
    import torch
    import torchaudio

    if others := sorted(_PLAIN & settings.keys()):
        raise NoReferenceError(", ".join(others))
    if settings["power"] != 2 or settings["window"] not in _WINDOWS or settings["mel_scale"] not in ("slaney", "htk"):
        raise NoReferenceError("power, window, mel_scale")
    if len(y) <= settings["n_fft"]:
        raise NoReferenceError("the clip is shorter than n_fft")
    transform = torchaudio.transforms.MelSpectrogram(
        settings["sample_rate_hz"], n_fft=settings["n_fft"], win_length=settings["win_length"],
        hop_length=settings["hop_length"], f_min=settings["fmin"], f_max=settings["fmax"], n_mels=settings["n_mels"],
        window_fn=getattr(torch, _WINDOWS[settings["window"]]), power=2.0, center=settings["center"],
        pad_mode=_PADDING[settings["pad_mode"]], norm=settings["norm"], mel_scale=settings["mel_scale"],
    ).to(torch.float64)  # fmt: skip
    to_db = torchaudio.transforms.AmplitudeToDB("power", top_db=settings["top_db"])
    return np.asarray(to_db(transform(torch.from_numpy(np.asarray(y, np.float64)))).numpy())


def by_kaldi(y: Floats, settings: Settings, is_mfcc: bool) -> Floats:
    """Return a clip's features by `torchaudio.compliance.kaldi`: [bins, frames].

    Raises
    ------
    NoReferenceError : it has no such settings, or the clip is shorter than a window
    """
    import torch
    from torchaudio.compliance import kaldi

    rate_hz, win, hop, n_fft = (settings[key] for key in ("sample_rate_hz", "win_length", "hop_length", "n_fft"))
    is_kaldis = (
        settings.get("snip_edges") is not None
        and settings["mel_scale"] == "kaldi"
        and settings["norm"] is None
        and settings.get("log") == "ln"
        and settings.get("floor") == _KALDIS_FLOOR
        and settings.get("top_db") is None
        and n_fft == 1 << (win - 1).bit_length()
        and (settings.get("symmetric") or settings["window"] == "povey")
        and (not settings.get("preemphasis") or settings.get("preemphasis_by") == "frame")
        and not {"zeros_behind", "frames_beyond", "epsilon", "offset", "normalise"} & settings.keys()
        and (not is_mfcc or settings.get("lifter_from") == 0)
    )
    if not is_kaldis:
        raise NoReferenceError("not all settings are Kaldi's")
    if len(y) < win:
        raise NoReferenceError("the clip is shorter than a window")
    x = np.asarray(y, np.float64)
    x = (x - x.mean() if settings.get("remove_mean") else x) * settings.get("scale", 1.0)
    common: dict[str, Any] = {
        "sample_frequency": float(rate_hz),
        "frame_length": 1000 * (win + 0.25) / rate_hz,  # it rounds down to samples
        "frame_shift": 1000 * (hop + 0.25) / rate_hz,
        "window_type": _KALDIS_WINDOWS[settings["window"]],
        "preemphasis_coefficient": settings.get("preemphasis", 0.0),
        "remove_dc_offset": bool(settings.get("remove_dc")),
        "snip_edges": settings["snip_edges"],
        "num_mel_bins": settings["n_mels"],
        "low_freq": settings["fmin"],
        "high_freq": settings["fmax"],
        "energy_floor": 0.0,
    }
    wave = torch.from_numpy(x.astype(np.float32))[None]
    if not is_mfcc:
        found = kaldi.fbank(wave, use_power=settings["power"] == 2, **common).numpy().T
        return np.asarray((found - settings.get("subtract", 0.0)) / settings.get("divide_by", 1.0))
    if settings["power"] != 2:
        raise NoReferenceError("power")
    options = {
        "num_ceps": settings["n_mfcc"],
        "cepstral_lifter": settings.get("lifter", 0.0),
        "use_energy": bool(settings.get("use_energy")),
    }
    return np.asarray(kaldi.mfcc(wave, **options, **common).numpy().T)
