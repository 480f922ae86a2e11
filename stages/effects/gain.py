"""Gain: make copies louder or quieter."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clipmill.schemas.config.augment_config import Span
from clipmill.stages.effects.effect import Drawn, Effect, Noises, uniform


def draw(rng: np.random.Generator, settings: Span, noises: Noises) -> Drawn:
    """Draw the gain."""
    return {"gain_db": uniform(rng, settings)}


def apply(y: npt.NDArray[np.float32], sample_rate_hz: int, drawn: Drawn, noises: Noises) -> npt.NDArray[np.float32]:
    """Return the samples with the gain."""
    return y * np.float32(10 ** (drawn["gain_db"] / 20))


EFFECT = Effect("gain_db", draw, apply)
