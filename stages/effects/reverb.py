"""Reverb: put copies into rooms, by recorded impulse responses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.signal

from clipmill.schemas.config.augment_config import Reverb
from clipmill.stages.effects.effect import Drawn, Effect, Noises, uniform


def draw(rng: np.random.Generator, settings: Reverb, noises: Noises) -> Drawn:
    """Draw the room, and the share of the sound that comes from it."""
    i = int(rng.integers(noises.n_files(settings.from_)))
    drawn: Drawn = {"from": settings.from_, "file": noises.name(settings.from_, i), "number": i}
    return {**drawn, "wet": uniform(rng, settings.wet)}


def apply(y: npt.NDArray[np.float32], sample_rate_hz: int, drawn: Drawn, noises: Noises) -> npt.NDArray[np.float32]:
    """Return the samples as heard in a room, with the clip's own level and length.

    The response begins at its largest sample, which is the direct sound, so that nothing is late. What rings on behind the clip's end is
    cut off. A silent response leaves the clip as it is.
    """
    response = noises.samples(drawn["from"], drawn["number"])[0].astype(np.float64)
    response = response[int(np.argmax(np.abs(response))) :][: y.shape[1]]
    energy, power = float(np.dot(response, response)), float(np.mean(np.square(y, dtype=np.float64)))
    if energy == 0 or power == 0:
        return y
    response /= np.sqrt(energy)
    wide = y.astype(np.float64)
    room = scipy.signal.oaconvolve(wide, response[None], axes=1)[:, : y.shape[1]]
    mixed = (1 - drawn["wet"]) * wide + drawn["wet"] * room
    after = float(np.mean(np.square(mixed)))
    return (mixed * np.sqrt(power / after)).astype(np.float32) if after > 0 else y


def _names(settings: Reverb) -> list[str]:
    return [settings.from_]


EFFECT = Effect("reverb", draw, apply, libraries=("scipy",), noise_names=_names)
