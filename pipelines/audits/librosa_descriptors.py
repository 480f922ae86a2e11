"""Compute pitch classes, spectral shapes, constant-Q transforms and slopes again with librosa, from the settings of their columns.

The build asks librosa for these as well, so the audit sees whether it was asked for what the snapshot says, of the clip that is stored,
and not whether librosa is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.audits.reference_calls import NoReferenceError, asking

Settings = Mapping[str, Any]
Floats = npt.NDArray[Any]

_FRAMING = ("n_fft", "hop_length", "win_length", "window", "center", "pad_mode")
_CHROMA = ("tuning", "n_chroma", "ctroct", "octwidth", "base_c")
_CONTRAST = ("fmin", "n_bands", "quantile", "linear")
_CROSSINGS = ("frame_length", "hop_length", "center", "threshold", "zero_pos")
_TONNETZ = ("hop_length", "fmin", "tuning", "n_octaves", "bins_per_octave")
_CQT = (
    "hop_length", "fmin", "n_bins", "bins_per_octave", "tuning", "filter_scale", "sparsity", "scale", "pad_mode",
)  # fmt: skip
DESCRIPTORS = frozenset(
    {"chroma", "zero_crossing_rate", "spectral_centroid", "spectral_rolloff", "spectral_contrast", "tonnetz", "cqt"}
)
"""Names of the columns that `descriptor` computes."""
_SUFFIXES = {1: "_delta", 2: "_delta2"}


def base_of_slope(name: str, settings: Settings) -> str | None:
    """Return the column of which a column holds the slope; None if it holds none."""
    base, order = settings.get("of"), settings.get("order")
    is_slope = isinstance(base, str) and order in _SUFFIXES and name == f"{base}{_SUFFIXES[order]}"
    return base if is_slope else None


def descriptor(name: str, y: Floats, settings: Settings) -> Floats:
    """Return one of `DESCRIPTORS` of a clip's channel: [bins, frames].

    librosa gets single precision, as `librosa.load` gives it, and one thread for products of matrices: the tuning that it estimates
    and the bin of a roll-off are decisions, which the last bit may turn.

    y : float64 [samples], full scale 1.0

    Raises
    ------
    NoReferenceError : settings are missing, or librosa refuses the clip
    """
    import librosa
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    x = np.ascontiguousarray(y, np.float32)
    with threadpool_limits(limits=1, user_api="blas"), asking("librosa"):
        try:
            values = _called(librosa, name, x, settings)
            n_frames = 1 + len(x) // settings["hop_length"] if settings["center"] else values.shape[-1]
        except KeyError as error:
            raise NoReferenceError(f"the snapshot does not have its setting {error}") from None
    return values[..., :n_frames]


def slope(base: Floats, settings: Settings) -> Floats:
    """Return the change from frame to frame of a stored feature [bins, frames], in the same shape.

    Raises
    ------
    NoReferenceError : librosa refuses the feature
    """
    import librosa

    with asking("librosa"):
        return np.asarray(
            librosa.feature.delta(
                base.astype(np.float64), width=settings["width"], order=settings["order"], mode=settings["mode"]
            )
        )


def _called(librosa: Any, name: str, x: Floats, settings: Settings) -> Floats:
    def own(names: tuple[str, ...]) -> dict[str, Any]:
        return {key: settings[key] for key in names}

    rate_hz, features = settings["sample_rate_hz"], librosa.feature
    if name == "chroma":
        found = features.chroma_stft(y=x, sr=rate_hz, norm=_norm(settings["norm"]), **own(_CHROMA), **own(_FRAMING))
    elif name == "zero_crossing_rate":
        found = features.zero_crossing_rate(x, **own(_CROSSINGS))
    elif name == "spectral_centroid":
        found = features.spectral_centroid(y=x, sr=rate_hz, **own(_FRAMING))
    elif name == "spectral_rolloff":
        found = features.spectral_rolloff(y=x, sr=rate_hz, roll_percent=settings["roll_percent"], **own(_FRAMING))
    elif name == "spectral_contrast":
        found = features.spectral_contrast(y=x, sr=rate_hz, **own(_CONTRAST), **own(_FRAMING))
    elif name == "tonnetz":
        found = features.tonnetz(y=x, sr=rate_hz, **own(_TONNETZ))
    else:
        found = np.abs(librosa.cqt(x, sr=rate_hz, norm=_norm(settings["norm"]), **own(_CQT)))
        if settings["output"] == "magnitude_db":
            found = librosa.amplitude_to_db(found, top_db=settings["top_db"])
    return np.asarray(found)


def _norm(name: Any) -> Any:
    return np.inf if name == "inf" else name
