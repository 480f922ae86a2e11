"""Shift: move the sound of copies in time. Zeros come in at one end, what leaves at the other is lost."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clipmill.schemas.config.augment_config import Span
from clipmill.stages.effects.effect import Drawn, Effect, Noises, uniform


def draw(rng: np.random.Generator, settings: Span, noises: Noises) -> Drawn:
    """Draw the time: positive ones make the sound later."""
    return {"shift_s": uniform(rng, settings)}


def apply(y: npt.NDArray[np.float32], sample_rate_hz: int, drawn: Drawn, noises: Noises) -> npt.NDArray[np.float32]:
    """Return the samples, moved by at most their length."""
    n = y.shape[1]
    by = max(-n, min(n, round(drawn["shift_s"] * sample_rate_hz)))
    out = np.zeros_like(y)
    if by >= 0:
        out[:, by:] = y[:, : n - by]
    else:
        out[:, :by] = y[:, -by:]
    return out


def retime(time_s: float, drawn: Drawn) -> float:
    """Return when something is heard."""
    later_s: float = time_s + drawn["shift_s"]
    return later_s


EFFECT = Effect("shift_s", draw, apply, retime=retime)
