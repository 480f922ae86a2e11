"""Relate the logarithms in which mel energies are stored. The module needs no other package."""

from __future__ import annotations

import math

PAD_SUFFIX = "_pad"
"""What is behind a feature's name in the name of its value of silence: of a column, and of a key of samples."""
_PER_DB_OF_POWER = {"log10": 0.1, "ln": math.log(10.0) / 10.0}
_AMIN = {1: 1e-5, 2: 1e-10}
"""librosa's `amin`, of a magnitude and of a power."""


def per_db(log: str, power: int) -> float:
    """Return what a decibel is. log : db | ln | log10; power : 1 for logarithms of magnitudes, 2 for those of powers"""
    if log == "db":
        return 1.0
    return _PER_DB_OF_POWER[log] * power / 2


def least_energy(floor: float | None, offset: float, power: int) -> float | None:
    """Return the value to which smaller ones are raised before the logarithm; None: none. floor : as it was given"""
    if floor is not None:
        return floor
    return None if offset else _AMIN[power]
