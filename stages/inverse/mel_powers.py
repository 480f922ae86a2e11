"""Take logarithms and mel bands back: from stored values to mel energies, and from these to the magnitudes of a transform."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from clipmill.schemas.log_scale import least_energy, per_db
from clipmill.stages.inverse.griffin_lim import Magnitudes

Values = npt.NDArray[np.float64]
_FITS = 60
_AT_FLOOR = 1.01
"""What exceeds the least energy by less than this factor is silence: stored values are rounded."""
_LEAST_LIFTER = 1e-3


def mel_energies(values: Values, spec: Any) -> Values:
    """Return mel energies of a log-mel, float64 [frames, n_mels]; 0 where the value is that of silence.

    Parameters
    ----------
    values : as stored, [n_mels, frames]
    spec : an object with the attributes of `clipmill.schemas.config.mel_config.LogMel`
    """
    decibels = (values.T * spec.divide_by + spec.subtract) / per_db(spec.log, spec.power)
    energies: Values = 10.0 ** (decibels * (spec.power / 20.0))
    least = least_energy(spec.floor, spec.offset, spec.power)
    silent = spec.offset if least is None else max(least, spec.offset)
    energies[energies <= silent * _AT_FLOOR] = 0.0
    energies -= spec.offset
    return energies.clip(min=0.0)


def log_mel_of_mfcc(values: Values, spec: Any, mfcc: Any) -> Values:
    """Return the log-mel, [n_mels, frames], whose first coefficients these are and whose others are 0.

    Parameters
    ----------
    values : as stored, [n_mfcc, frames]; with `use_energy` the first one counts as 0
    mfcc : an object with the attributes n_mfcc, lifter, lifter_from and use_energy of `clipmill.schemas.config.mel_config.Mfcc`
    """
    from clipmill.stages.features.kernels.mel_filters import dct_matrix

    coefficients = values.copy()
    if mfcc.lifter > 0:
        lifter = 1.0 + mfcc.lifter / 2 * np.sin(np.pi * (np.arange(len(values)) + mfcc.lifter_from) / mfcc.lifter)
        # Beyond the lifter's length the sine is negative, and a coefficient can have been multiplied by nearly nothing.
        kept = np.abs(lifter) > _LEAST_LIFTER
        coefficients[kept] /= lifter[kept, None]
        coefficients[~kept] = 0.0
    if mfcc.use_energy:
        coefficients[0] = 0.0
    found: Values = dct_matrix(spec.n_mels, len(values)).astype(np.float64) @ coefficients
    return found


class MelBands:
    """Hold the mel filters of a log-mel, to find magnitudes that have given mel energies.

    spec : an object with the attributes of `clipmill.schemas.config.mel_config.LogMel`
    """

    def __init__(self, spec: Any, sample_rate_hz: int) -> None:
        from clipmill.stages.features.kernels.mel_filters import mel_filters

        filters = mel_filters(
            sample_rate_hz, spec.n_fft, spec.n_mels, spec.fmin, spec.fmax, spec.mel_scale, spec.norm
        ).astype(np.float64)
        self._power, self._epsilon = spec.power, spec.epsilon
        self._filters = scipy.sparse.csr_array(filters)
        self._back = scipy.sparse.csr_array(filters.T)
        self._sums = filters.sum(0)

    def magnitudes(self, energies: Values) -> Magnitudes:
        """Return magnitudes, float64 [frames, 1 + n_fft // 2], of mel energies, [frames, n_mels]. Bins outside of all bands are 0."""
        # Each bin begins with the mean of its bands' own means.
        gains = np.asarray(self._filters.sum(1)).reshape(-1)
        means = np.divide(energies, gains, out=np.zeros_like(energies), where=gains > 0)
        bins: Values = self._spread(means)
        for _ in range(_FITS):
            bins = self._fitted(bins, energies)
        return self._roots(bins)

    def fitted(self, magnitudes: Magnitudes, energies: Values) -> Magnitudes:
        """Return magnitudes near those given, of which the mel energies are closer to these."""
        base = magnitudes**2 + self._epsilon
        return self._roots(self._fitted(base if self._power == 2 else np.sqrt(base), energies))

    def _fitted(self, bins: Values, energies: Values) -> Values:
        """Return the next step of Richardson's and Lucy's iteration, which keeps bins positive and counts the ratio of energies."""
        now = (self._filters @ bins.T).T
        ratios = energies / np.maximum(now, np.finfo(float).tiny)
        found: Values = bins * self._spread(np.minimum(ratios, 1e12))
        return found

    def _spread(self, of_bands: Values) -> Values:
        """Return, for each bin, the mean of its bands, weighted by their filters: [frames, bins]."""
        sums = (self._back @ of_bands.T).T
        found: Values = np.divide(sums, self._sums, out=np.zeros_like(sums), where=self._sums > 0)
        return found

    def _roots(self, bins: Values) -> Magnitudes:
        """Return the magnitudes of bins, which are powers, or magnitudes with `power: 1`."""
        found: Magnitudes = np.sqrt(np.maximum((bins if self._power == 2 else bins**2) - self._epsilon, 0.0))
        return found


def level_of_energy(magnitudes: Magnitudes, log_energy: Values, window: Values, spec: Any) -> Values:
    """Return the factor of each frame's magnitudes by which the frame gets its energy: float64 [frames, 1].

    Kaldi's energy is that of samples before pre-emphasis and window. Pre-emphasis multiplies a bin by |1 - p exp(-iw)|, and the window
    a sound of even level by the root of its mean square.

    Parameters
    ----------
    log_energy : natural logarithm of the frames' energy, [frames]
    window : float64 [win_length], with the scale of samples
    """
    n_fft = spec.n_fft
    response = np.abs(1.0 - spec.preemphasis * np.exp(-2j * np.pi * np.arange(n_fft // 2 + 1) / n_fft)) ** 2
    twice = np.full(n_fft // 2 + 1, 2.0)
    twice[0] = 1.0
    if n_fft % 2 == 0:
        twice[-1] = 1.0
    powers = magnitudes**2 * (twice / np.maximum(response, 1e-12))
    scale = spec.scale**2 / np.mean(window**2)
    energies = powers.sum(1) / n_fft * scale
    factor: Values = np.sqrt(np.exp(log_energy) / np.maximum(energies, np.finfo(float).tiny))
    return factor[:, None]
