"""Compute features again with librosa, from the stored clip and the settings that the snapshot has of each column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.audits.reference_calls import NoReferenceError

Settings = Mapping[str, Any]
Floats = npt.NDArray[Any]
_PADDING = {"constant": "constant", "reflect": "reflect", "edge": "edge"}
_DB_OF_LOG = {"db": 1.0, "ln": math.log(10.0) / 10.0, "log10": 0.1}


def db_step(settings: Settings) -> float | None:
    """Return what a decibel is in the stored values of a log-mel; None if each clip's are normalised."""
    if settings.get("normalise") is not None:
        return None
    log = settings.get("log", "db")
    step = 1.0 if log == "db" else _DB_OF_LOG[log] * settings["power"] / 2
    return float(step / settings.get("divide_by", 1.0))


def check_expressible(settings: Settings) -> None:
    """Raise NoReferenceError for settings that librosa has nothing for: those of Kaldi, which torchaudio has."""
    if settings.get("snip_edges") is not None:
        raise NoReferenceError("snip_edges")
    if settings.get("remove_dc"):
        raise NoReferenceError("remove_dc")
    if settings.get("preemphasis_by") == "frame":
        raise NoReferenceError("preemphasis_by")
    if settings.get("mel_scale") == "kaldi":
        raise NoReferenceError("mel_scale: kaldi")
    if settings.get("use_energy") or settings.get("lifter_from", 1) != 1:
        raise NoReferenceError("use_energy, lifter_from")


def spectrogram(y: Floats, settings: Settings) -> tuple[Floats, Floats]:
    """Return magnitudes and phases of a clip by `librosa.stft`: both [1 + n_fft // 2, frames].

    y : float64 [samples]
    """
    import librosa
    from scipy.signal import get_window

    x = np.asarray(y, np.float64) * settings.get("scale", 1.0)
    if settings.get("remove_mean"):
        x = x - x.mean()
    if coefficient := settings.get("preemphasis"):
        x = librosa.effects.preemphasis(  # type: ignore[attr-defined]
            x, coef=coefficient, zi=np.zeros(1)
        )
    x = np.pad(x, (0, settings.get("zeros_behind", 0)))
    name, n = settings["window"], settings["win_length"]
    is_symmetric = settings.get("symmetric")
    if name == "povey":
        window = get_window("hann", n, fftbins=is_symmetric is False) ** 0.85
    else:
        window = get_window({"ones": "boxcar"}.get(name, name), n, fftbins=not is_symmetric)
    if settings.get("window_dtype") == "float32":
        window = window.astype(np.float32).astype(np.float64)
    is_centred = settings["center"]
    if (n_pad := settings.get("pad_length")) is not None:
        x, is_centred = np.pad(x, n_pad, mode=_PADDING[settings["pad_mode"]]), False  # type: ignore[call-overload]
    try:
        bins = librosa.stft(
            x, n_fft=settings["n_fft"], hop_length=settings["hop_length"], win_length=n, window=window, center=is_centred,
            pad_mode=_PADDING[settings["pad_mode"]],
        )  # fmt: skip
    except librosa.ParameterError as error:
        raise NoReferenceError(f"it refuses the clip: {error}") from None
    bins = _own_frames(bins, len(y), settings)
    return np.abs(bins), np.angle(bins)


def in_output(magnitudes: Floats, settings: Settings) -> Floats:
    """Return magnitudes in the form in which a spectrogram is stored."""
    import librosa

    if settings["output"] == "magnitude":
        return magnitudes
    if settings["output"] == "power":
        return np.asarray(magnitudes**2)
    return np.asarray(librosa.amplitude_to_db(magnitudes, ref=1.0, top_db=settings["top_db"]))


def log_mel(y: Floats, settings: Settings) -> tuple[Floats, float]:
    """Return a clip's log-mel by `librosa.feature.melspectrogram`, [n_mels, frames], and its value of silence."""
    import librosa

    power = settings["power"]
    every = {**settings, "frames_beyond": "keep"}
    found = spectrogram(y, every)[0] ** 2 + settings.get("epsilon", 0.0)
    if power == 1:
        found = np.sqrt(found)
    energies = librosa.feature.melspectrogram(
        S=found, sr=settings["sample_rate_hz"], n_fft=settings["n_fft"], n_mels=settings["n_mels"], fmin=settings["fmin"],
        fmax=settings["fmax"], htk=settings["mel_scale"] == "htk", norm=settings["norm"],
    )  # fmt: skip
    values, silence = _logarithm(energies, settings)
    subtract, divide_by = settings.get("subtract", 0.0), settings.get("divide_by", 1.0)
    values = _own_frames((values - subtract) / divide_by, len(y), settings)
    if settings.get("normalise") == "bin":
        values = _normalised(values, len(y) // settings["hop_length"], settings)
    return values, (silence - subtract) / divide_by


def mfcc(y: Floats, settings: Settings) -> Floats:
    """Return a clip's coefficients by `librosa.feature.mfcc`, [n_mfcc, frames]."""
    import librosa

    values, _ = log_mel(y, settings)
    return np.asarray(librosa.feature.mfcc(S=values, n_mfcc=settings["n_mfcc"], lifter=settings.get("lifter", 0)))


def _logarithm(energies: Floats, settings: Settings) -> tuple[Floats, float]:
    """Return logarithms of mel energies, and that of silence."""
    import librosa

    power, log, top_db = settings["power"], settings.get("log", "db"), settings.get("top_db")
    floor, offset = settings.get("floor"), settings.get("offset", 0.0)
    if log == "db" and floor is None and not offset:
        to_db = librosa.power_to_db if power == 2 else librosa.amplitude_to_db
        values = to_db(energies, ref=1.0, top_db=top_db)
        lowest = -100.0
    else:
        least = floor if floor is not None else 0.0 if offset else 1e-10 if power == 2 else 1e-5
        scale = 20.0 / power if log == "db" else 1.0
        function = np.log if log == "ln" else np.log10
        with np.errstate(divide="ignore"):
            values = scale * function(np.maximum(energies + offset, least))
            lowest = float(scale * function(max(offset, least)))
        step = 1.0 if log == "db" else _DB_OF_LOG[log] * power / 2
        if top_db is not None and values.size:
            values = np.maximum(values, values.max() - top_db * step)
            lowest = max(lowest, float(values.max()) - top_db * step)
        return np.asarray(values), lowest
    if top_db is not None and values.size:
        lowest = max(lowest, float(values.max()) - top_db)
    return np.asarray(values), lowest


def _own_frames(values: Floats, n_samples: int, settings: Settings) -> Floats:
    """Return values without the frames behind the clip's own, or with zeros in them, as `frames_beyond` says."""
    beyond, n = settings.get("frames_beyond", "keep"), n_samples // settings["hop_length"]
    if beyond == "drop":
        return values[..., :n]
    if beyond == "zero":
        values = values.copy()
        values[..., n:] = 0
    return values


def _normalised(values: Floats, n: int, settings: Settings) -> Floats:
    """Return bands with mean 0 and deviation 1 over the clip's own frames."""
    own = values if settings.get("frames_beyond", "keep") == "keep" else values[..., :n]
    if own.shape[-1] < 2:
        raise NoReferenceError("a deviation needs two frames")
    mean, deviation = own.mean(axis=-1, keepdims=True), own.std(axis=-1, keepdims=True, ddof=1)
    return _own_frames((values - mean) / (deviation + 1e-5), n * settings["hop_length"], settings)
