"""Noise: mix recorded noise into copies at a drawn ratio of signal to noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clipmill.schemas.config.augment_config import NoiseMix
from clipmill.stages.effects.effect import Drawn, Effect, Noises, uniform


def draw(rng: np.random.Generator, settings: NoiseMix, noises: Noises) -> Drawn:
    """Draw the ratio, the file, and where in it the noise begins, as a share of its length."""
    i = int(rng.integers(noises.n_files(settings.from_)))
    drawn: Drawn = {
        "snr_db": uniform(rng, settings.snr_db),
        "from": settings.from_,
        "file": noises.name(settings.from_, i),
    }
    return {**drawn, "number": i, "start": round(float(rng.uniform(0, 1)), 6)}


def apply(y: npt.NDArray[np.float32], sample_rate_hz: int, drawn: Drawn, noises: Noises) -> npt.NDArray[np.float32]:
    """Return the samples with noise, which begins again where its recording ends.

    Ratios are those of the mean power over the whole clip, as in ``torchaudio.functional.add_noise``. A silent clip stays as it is, and so
    does one whose stretch of noise is silent.
    """
    whole = noises.samples(drawn["from"], drawn["number"])
    first = int(drawn["start"] * whole.shape[1])
    noise = np.take(whole, np.arange(first, first + y.shape[1]), axis=1, mode="wrap")
    power, of_noise = (float(np.mean(np.square(x, dtype=np.float64))) for x in (y, noise))
    if power == 0 or of_noise == 0:
        return y
    return y + noise * np.float32(np.sqrt(power / of_noise) * 10 ** (-drawn["snr_db"] / 20))


def _names(settings: NoiseMix) -> list[str]:
    return [settings.from_]


EFFECT = Effect("noise", draw, apply, noise_names=_names)
