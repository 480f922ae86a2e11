"""Find phases for magnitudes by the fast Griffin-Lim algorithm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from clipmill.stages.inverse.overlap import Bins, Overlap, Signal

Magnitudes = npt.NDArray[np.float64]
_MOMENTUM = 0.99


def griffin_lim(
    overlap: Overlap, first: Magnitudes, fitted: Callable[[Magnitudes], Magnitudes], n_iter: int, seed: int
) -> Signal:
    """Return a clip whose transforms have about these magnitudes.

    D. W. Griffin and J. S. Lim, Signal estimation from modified short-time Fourier transform, 1984; with the momentum of N. Perraudin,
    P. Balazs and P. L. Sondergaard, A fast Griffin-Lim algorithm, 2013, as `librosa.griffinlim`. The first phases are random.

    Parameters
    ----------
    first : magnitudes at the start, float64 [frames, 1 + n_fft // 2]
    fitted : gives, for the magnitudes that a clip has, those that it should have
    n_iter : steps, each of which makes a clip of transforms and transforms of that clip
    seed : of the first phases

    Returns
    -------
    float64 [samples], after pre-emphasis
    """
    random = np.random.default_rng(seed)
    wanted: Bins = first * np.exp(2j * np.pi * random.random(first.shape))
    before: Bins | None = None
    for _ in range(n_iter):
        found = overlap.analysed(overlap.synthesised(wanted))
        further = found if before is None else found + _MOMENTUM * (found - before)
        before = found
        levels = np.abs(further)
        wanted = further * (fitted(np.abs(found)) / np.maximum(levels, np.finfo(float).tiny))
    return overlap.synthesised(wanted)
