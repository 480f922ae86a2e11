"""Make generators of random numbers for copies of clips, which depend on nothing but what they are for."""

from __future__ import annotations

import hashlib

import numpy as np


def rng_of(clip_id: str, copy: int, effect: str) -> np.random.Generator:
    """Return the generator for one effect on one copy of a clip. Other effects, copies and clips do not influence it."""
    digest = hashlib.sha256(f"{clip_id}\n{copy}\n{effect}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], "<u8")))
