"""Fade: let copies begin and end softly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clipmill.schemas.config.augment_config import Span
from clipmill.stages.effects.effect import Drawn, Effect, Noises, uniform


def draw(rng: np.random.Generator, settings: Span, noises: Noises) -> Drawn:
    """Draw how long both fades last."""
    return {"in_s": uniform(rng, settings), "out_s": uniform(rng, settings)}


def apply(y: npt.NDArray[np.float32], sample_rate_hz: int, drawn: Drawn, noises: Noises) -> npt.NDArray[np.float32]:
    """Return the samples with linear fades from and to silence, each at most as long as the clip."""
    out, n = y.copy(), y.shape[1]
    first, last = (min(n, round(drawn[name] * sample_rate_hz)) for name in ("in_s", "out_s"))
    if first:
        out[:, :first] *= np.arange(first, dtype=np.float32) / np.float32(first)
    if last:
        out[:, n - last :] *= np.arange(last, dtype=np.float32)[::-1] / np.float32(last)
    return out


EFFECT = Effect("fade_s", draw, apply)
