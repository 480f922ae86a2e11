"""Limiter: keep a clip's true peak under a ceiling, by a smooth gain that begins to fall before a peak."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clipmill.stages.true_peak import peak_envelope

ATTACK_S, RELEASE_S = 0.005, 0.08
"""How long before a peak the gain begins to fall, and the time constant with which its reduction decays."""

_PASSES = 6
_MARGIN = 10 ** (-0.05 / 20)
"""Peaks over the ceiling are brought 0.05 dB under it, since the waveform can be a little higher between the points that are measured."""

_NEGLIGIBLE = 1e-3
"""A reduction by 0.009 dB. The decay ends there, and the clip is left as it is until the next peak."""


def limited(
    y: npt.NDArray[np.float32],
    sample_rate_hz: int,
    ceiling_dbtp: float,
    peaks: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Return a clip whose true peak is at most a ceiling, of the same length and without delay.

    All channels get the same gain. It is 1 except around peaks over the ceiling: it falls within `ATTACK_S` before such a peak, and
    recovers with the time constant `RELEASE_S`. A changing gain changes the waveform between samples slightly, so that what is still
    over the ceiling is limited again.

    Parameters
    ----------
    y : float32 [channels, samples], full scale 1.0
    ceiling_dbtp : <= 0
    peaks : `clipmill.stages.true_peak.peak_envelope` of y, where the caller has it

    Returns
    -------
    y : float32 [channels, samples]; the array that was given, if nothing of it is over the ceiling
    """
    ceiling = 10 ** (ceiling_dbtp / 20)
    aim = ceiling * _MARGIN
    gain = np.ones(y.shape[1], np.float32)
    out = y
    for _ in range(_PASSES):
        if peaks is None:
            peaks = peak_envelope(out)
        if peaks.max() <= ceiling:
            return out
        reduction = np.maximum(peaks, ceiling, dtype=np.float64)
        np.divide(aim, reduction, out=reduction)
        np.subtract(1.0, reduction, out=reduction)
        reduction[peaks <= ceiling] = 0.0
        peaks = None
        reduction = _smooth_reduction(reduction, sample_rate_hz)
        gain *= np.subtract(1.0, reduction, out=reduction)
        out = y * gain
        aim *= _MARGIN
    # What is left is a small part of a decibel, in clips whose gain cannot be smooth, as those of a few samples.
    peak = float(peak_envelope(out).max())
    return out * np.float32(min(1.0, aim / peak))


def _smooth_reduction(needed: npt.NDArray[np.float64], sample_rate_hz: int) -> npt.NDArray[np.float64]:
    """Return reductions of the gain that are smooth and nowhere less than needed.

    Parameters
    ----------
    needed : float64 [samples], in [0, 1): 1 minus the gain that each sample needs. It is overwritten, since clips can be long

    Returns
    -------
    reduction : float64 [samples], in [0, 1)
    """
    from scipy import ndimage  # type: ignore[import-untyped] # here, since few commands need what takes it a second to load

    # The largest reduction within half the attack on both sides, decaying after that, averaged over the same span: each mean is over
    # values that are at least what its sample needs.
    half = max(1, round(ATTACK_S * sample_rate_hz / 2))
    held = ndimage.maximum_filter1d(needed, 2 * half + 1, mode="constant", cval=0.0)
    # d[n] = max(held[n], d[n - 1] exp(-1 / release)), as a running maximum of logarithms, in place.
    decay = np.arange(len(held)) / (RELEASE_S * sample_rate_hz)
    with np.errstate(divide="ignore"):
        decaying = np.log(held, out=needed)
    decaying += decay
    np.maximum.accumulate(decaying, out=decaying)
    decaying -= decay
    np.exp(decaying, out=decaying)
    decaying[decaying <= _NEGLIGIBLE] = 0.0
    reduction: npt.NDArray[np.float64] = np.maximum(decaying, held, out=decaying)
    for width in (half // 2, half - half // 2):  # two means in a row, so that the gain has no corners
        ndimage.uniform_filter1d(reduction, 2 * width + 1, mode="nearest", output=held)
        reduction, held = held, reduction
    # The means are running sums, whose rounding errors must not reach samples that need no reduction.
    reduction[reduction <= 1e-9] = 0.0
    return reduction
