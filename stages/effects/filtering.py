"""Filter: low-pass and high-pass copies, as bad microphones and lines do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.signal

from clipmill.schemas.config.augment_config import Filter
from clipmill.stages.effects.effect import Drawn, Effect, Noises, uniform


def draw(rng: np.random.Generator, settings: Filter, noises: Noises) -> Drawn:
    """Draw the cutoffs."""
    drawn: Drawn = {"order": settings.order}
    for name in ("lowpass_hz", "highpass_hz"):
        if (span := getattr(settings, name)) is not None:
            drawn[name] = uniform(rng, span)
    return drawn


def apply(y: npt.NDArray[np.float32], sample_rate_hz: int, drawn: Drawn, noises: Noises) -> npt.NDArray[np.float32]:
    """Return the filtered samples, computed in float64.

    A low-pass beyond half the sample rate does nothing, and a high-pass beyond it would leave nothing and does nothing either.
    """
    for name, kind in (("lowpass_hz", "lowpass"), ("highpass_hz", "highpass")):
        cutoff = drawn.get(name)
        if cutoff is not None and cutoff < 0.499 * sample_rate_hz:
            sections = scipy.signal.butter(drawn["order"], cutoff, kind, fs=sample_rate_hz, output="sos")
            y = scipy.signal.sosfilt(sections, y.astype(np.float64), axis=1).astype(np.float32)
    return y


EFFECT = Effect("filter", draw, apply, libraries=("scipy",))
