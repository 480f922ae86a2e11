"""Turn stored features back into audio, for those who check by ear."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.frame_layout import FrameLayout

_LEAST_WEIGHT = 1e-2
_LEAST_WEIGHT_EXACT = 1e-7
_AT_LEAST_ENERGY = 2.0**-23 * 1.01
"""Kaldi's least energy of a frame, rounded up."""
_SILENT_MAGNITUDE = 1e-5 * 1.01
"""librosa's least magnitude of decibels, rounded up."""
_NAMES = ("spectrogram", "log_mel", "mfcc")


def inverse(
    values: Any,
    column: Mapping[str, Any],
    *,
    shape: Sequence[int] | None = None,
    phase: Any = None,
    n_samples: int | None = None,
    n_iter: int = 32,
    seed: int = 0,
) -> npt.NDArray[np.float32]:
    """Return audio of a stored feature, to listen to.

    A spectrogram with its phase gives the clip back. Everything else lacks phases, which are found by the fast Griffin-Lim algorithm, and
    may lack more: docs/features.md has a table of what is lost. Logarithms, scaling, padding, pre-emphasis and the scale of samples are
    taken back as `column` tells them, so that the result has the clip's level.

    >>> dataset = clipmill.open_dataset("out/dogs")
    >>> column = next(c for c in dataset.columns if c["name"] == "log_mel")
    >>> y = clipmill.inverse(sample["log_mel"], column)         # of a ClipDataset
    >>> soundfile.write("heard.wav", y.T, column["settings"]["sample_rate_hz"])

    Parameters
    ----------
    values : [bins, frames] or [channels, bins, frames] as numpy or torch have them, or a flat list as a Parquet row has it, with `shape`
    column : the feature's description, of spectrogram, log_mel or mfcc, as `Published.columns` has it, with its `settings`
    shape : of flat values, the row's `<name>_shape`
    phase : of a spectrogram, in radians, in the form of `values`
    n_samples : length of the clip, the row's `n_samples`; None: the shortest that has so many frames
    n_iter : steps of Griffin-Lim, at least 0
    seed : of its first phases. The same arguments give the same samples with the same versions of numpy and scipy

    Returns
    -------
    float32 [samples], or [channels, samples] if values have channels; full scale is 1. Samples can be beyond full scale

    Raises
    ------
    ClipmillError : the feature has no inverse, or values, shape, phase or n_samples do not fit to the column
    """
    name, settings = _inverted(column)
    if n_iter < 0:
        raise ClipmillError(f"n_iter is {n_iter}; expected 0 or more")
    if seed < 0:
        raise ClipmillError(f"seed is {seed}; expected 0 or more")
    array, known = _array(name, values, shape), None
    if phase is not None:
        if name != "spectrogram":
            raise ClipmillError(f"{name} has no phase; leave phase out, or give the spectrogram's values and column")
        known = _array("phase", phase, shape)
        if known.shape != array.shape:
            raise ClipmillError(
                f"phase has the shape {known.shape}, and the spectrogram {array.shape}; give those of one clip"
            )
    bins = _n_bins(name, settings)
    if array.shape[-2] != bins:
        raise ClipmillError(
            f"{name} has the shape {array.shape}, but the column has {bins} bins: expected [{bins}, frames] or"
            f" [channels, {bins}, frames]"
        )
    one = _Clip(name, settings, array.shape[-1], n_samples)
    channels = array.reshape(-1, *array.shape[-2:])
    phases = [None] * len(channels) if known is None else list(known.reshape(channels.shape))
    with np.errstate(over="ignore", invalid="ignore"):
        found = [one.heard(v, p, n_iter, seed) for v, p in zip(channels, phases, strict=True)]
    if not all(np.isfinite(y).all() for y in found):
        raise ClipmillError(
            f"{name} has values up to {np.abs(array).max():.3g}, which no audio has; give the values as they are stored, not normalised or"
            " scaled"
        )
    return np.stack(found).astype(np.float32).reshape(*array.shape[:-2], one.n_samples)


class _Clip:
    """Hold what the channels of a clip have in common."""

    def __init__(self, name: str, settings: Mapping[str, Any], n_frames: int, n_samples: int | None) -> None:
        from clipmill.schemas.config.feature_config import LogMel, Mfcc, Spectrogram

        model = Spectrogram if name == "spectrogram" else LogMel
        self._name = name
        # The preset's keys are among the settings, and some of them were replaced.
        own = {key: value for key, value in settings.items() if key in model.model_fields and key != "preset"}
        self._spec: Any = model.model_construct(**own)
        self._mfcc: Any = None
        if name == "mfcc":
            keys = ("n_mfcc", "lifter", "lifter_from", "use_energy")
            self._mfcc = Mfcc.model_construct(**{key: settings[key] for key in keys if key in settings})
        self._rate_hz = int(settings["sample_rate_hz"])
        layout = self._spec.framing.layout
        self.n_samples = _length(layout, n_frames) if n_samples is None else n_samples
        fitting = layout.n_frames(self.n_samples) if self.n_samples > 0 else 0
        if fitting != n_frames:
            raise ClipmillError(
                f"{name} has {n_frames:,} frames, and a clip of {self.n_samples:,} samples has {fitting:,}; give the n_samples of the"
                " same row, or leave it out"
            )
        self._n_frames = layout.n_own(self.n_samples)

    def heard(self, values: npt.NDArray[np.float64], phase: Any, n_iter: int, seed: int) -> npt.NDArray[np.float64]:
        """Return the samples of a channel. values, phase : [bins, frames]"""
        from clipmill.stages.inverse.griffin_lim import griffin_lim
        from clipmill.stages.inverse.overlap import Overlap

        values = values[:, : self._n_frames]  # frames beyond the clip may be 0
        is_exact = phase is not None and self._spec.output != "magnitude_db"
        least = _LEAST_WEIGHT_EXACT if is_exact else _LEAST_WEIGHT
        overlap = Overlap(self._spec.framing, self.n_samples, self._n_frames, least)
        if phase is not None:
            y = overlap.synthesised(self._magnitudes(values) * np.exp(1j * phase.T[: self._n_frames]))
        else:
            first, fitted = self._wanted(values, overlap.window)
            y = griffin_lim(overlap, first, fitted, n_iter, seed)
        return overlap.deemphasised(y)

    def _wanted(
        self, values: npt.NDArray[np.float64], window: npt.NDArray[np.float64]
    ) -> tuple[Any, Callable[[Any], Any]]:
        """Return the magnitudes that a channel's transforms should have: the first ones, and how they follow from those that it has."""
        from clipmill.stages.inverse.mel_powers import MelBands, level_of_energy, log_mel_of_mfcc, mel_energies

        if self._name == "spectrogram":
            magnitudes = self._magnitudes(values)
            return magnitudes, lambda _: magnitudes
        bands = MelBands(self._spec, self._rate_hz)
        logs = values if self._mfcc is None else log_mel_of_mfcc(values, self._spec, self._mfcc)
        energies = mel_energies(logs, self._spec)
        if self._mfcc is not None and self._mfcc.use_energy:
            log_energy = np.where(values[0] > np.log(_AT_LEAST_ENERGY), values[0], -np.inf)
            factor = level_of_energy(bands.magnitudes(energies), log_energy, window, self._spec)
            energies = energies * factor**self._spec.power
        return bands.magnitudes(energies), lambda found: bands.fitted(found, energies)

    def _magnitudes(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return magnitudes, float64 [frames, bins], of a spectrogram's values, [bins, frames]; 0 where the value is that of silence."""
        if self._spec.output == "magnitude_db":
            magnitudes = 10.0 ** (values.T / 20.0)
            magnitudes[magnitudes <= _SILENT_MAGNITUDE] = 0.0
            return magnitudes
        positive = np.maximum(values.T, 0.0)
        return np.sqrt(positive) if self._spec.output == "power" else positive


def _inverted(column: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return a feature's name and settings. Raises ClipmillError if it has no inverse."""
    if not isinstance(column, Mapping) or "name" not in column:
        raise ClipmillError(
            "column must be the description of one feature, with its name and settings, as `open_dataset(ROOT).columns` lists them"
        )
    name, settings = str(column["name"]), column.get("settings")
    if name == "phase":
        raise ClipmillError(
            "phase alone has no levels; give the spectrogram's values and column, and phase=row['phase']"
        )
    if name not in _NAMES:
        raise ClipmillError(f"{name} has no inverse; {', '.join(_NAMES)} have one")
    if not isinstance(settings, Mapping) or not settings.keys() >= _needed(name):
        missing = sorted(_needed(name) - (settings.keys() if isinstance(settings, Mapping) else set()))
        raise ClipmillError(
            f"the column {name} lacks the settings {', '.join(missing)}: snapshots of an older clipmill do not describe their features."
            " Build the dataset again, or give a column with these settings"
        )
    if settings.get("normalise") is not None:
        preset = f" (preset {settings['preset']})" if settings.get("preset") else ""
        raise ClipmillError(
            f"{name} has no inverse{preset}: normalise: {settings['normalise']} took each band's mean and deviation away, and they are"
            " not stored. Listen to the stored audio, or build with normalise: null"
        )
    return name, settings


def _needed(name: str) -> set[str]:
    """Return the settings without which a feature has no inverse."""
    transform = {"n_fft", "hop_length", "sample_rate_hz"}
    return transform | (
        {"output"} if name == "spectrogram" else {"n_mels", "fmin", "fmax", "mel_scale", "norm", "power"}
    )


def _n_bins(name: str, settings: Mapping[str, Any]) -> int:
    if name == "spectrogram":
        return 1 + int(settings["n_fft"]) // 2
    return int(settings.get("n_mfcc", 20) if name == "mfcc" else settings["n_mels"])


def _array(name: str, values: Any, shape: Sequence[int] | None) -> npt.NDArray[np.float64]:
    """Return values as float64 [bins, frames] or [channels, bins, frames]. Raises ClipmillError if they have no such form."""
    if hasattr(values, "detach"):  # torch
        values = values.detach().cpu()
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ClipmillError(
            f"{name} is no array of numbers but {type(values).__name__}; give numpy, torch or a flat list"
        ) from None
    if shape is not None:
        sizes = tuple(int(n) for n in shape)
        if array.size != np.prod(sizes, dtype=np.int64) or min(sizes, default=0) < 0:
            raise ClipmillError(
                f"{name} has {array.size:,} values, which do not fit into the shape {list(sizes)}; give those of one row"
            )
        array = array.reshape(sizes)
    if array.ndim == 1:
        raise ClipmillError(f"{name} is a flat list of {array.size:,} values; give shape=row['{name}_shape'] with it")
    if array.ndim not in (2, 3) or not array.size:
        raise ClipmillError(
            f"{name} has the shape {array.shape}; expected [bins, frames] or [channels, bins, frames] of one clip, without empty dimensions"
        )
    if not np.isfinite(array).all():
        raise ClipmillError(
            f"{name} has values that are not finite; clipmill stores none, so look at what changed them"
        )
    return array


def _length(layout: FrameLayout, n_frames: int) -> int:
    """Return the length of the shortest clip that has so many frames."""
    upper = (n_frames + 1) * layout.hop_length + layout.span
    return max(1, bisect_left(range(upper), n_frames, key=layout.n_frames))
