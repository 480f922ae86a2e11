"""Speed: play copies faster or slower, which changes their length and their pitch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

from clipmill.schemas.config.augment_config import Span
from clipmill.stages.effects.effect import Drawn, Effect, Noises, uniform


def draw(rng: np.random.Generator, settings: Span, noises: Noises) -> Drawn:
    """Draw the factor: 1.1 plays a tenth faster."""
    return {"factor": uniform(rng, settings)}


def resampled(y: npt.NDArray[np.float32], factor: float, length: int) -> npt.NDArray[np.float32]:
    """Return samples played at another speed, float32 [channels, length]. factor : above 1 for fewer samples"""
    x = np.ascontiguousarray(y.T)
    out = soxr.resample(x, factor, 1.0, quality="HQ").T if factor != 1 else y
    if out.shape[1] < length:
        out = np.pad(out, ((0, 0), (0, length - out.shape[1])))
    return np.ascontiguousarray(out[:, :length], np.float32)


def apply(y: npt.NDArray[np.float32], sample_rate_hz: int, drawn: Drawn, noises: Noises) -> npt.NDArray[np.float32]:
    """Return the samples at another speed; their number is divided by the factor, and rounded."""
    return resampled(y, drawn["factor"], max(1, round(y.shape[1] / drawn["factor"])))


def retime(time_s: float, drawn: Drawn) -> float:
    """Return when something is heard."""
    later_s: float = time_s / drawn["factor"]
    return later_s


EFFECT = Effect("speed", draw, apply, libraries=("soxr",), retime=retime)
