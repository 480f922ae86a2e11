"""Make the noise that follows a clip that is too short."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt


def white_noise(identity: str, n: int, channels: int, dbfs: float) -> npt.NDArray[np.float32]:
    """Return white Gaussian noise with a given rms level, always the same for a clip id.

    Parameters
    ----------
    identity : id of the clip, which seeds the noise
    dbfs : level, 20 log10(rms)

    Returns
    -------
    y : float32 [n, channels]
    """
    seed = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:16], "big")
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal((n, channels))
    rms = math.sqrt(float(np.mean(noise * noise)))
    scaled: npt.NDArray[np.float32] = (noise * (10.0 ** (dbfs / 20.0) / rms)).astype(np.float32)
    return scaled
