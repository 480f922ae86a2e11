"""Check what transforms of audio have in common."""

from __future__ import annotations

import math
from typing import Any

from clipmill.pipelines.read.transforms.transform import Loaded
from clipmill.schemas.errors import ClipmillError


def check_audio(name: str, loaded: Loaded) -> None:
    """Raise ClipmillError unless samples have audio and no features, which are stored and would not change with it."""
    if "audio" not in loaded.columns:
        raise ClipmillError(f"{loaded.address}: {name} changes audio, which is not among the columns: add it")
    if loaded.features:
        raise ClipmillError(
            f"{loaded.address}: {name} changes audio, but not the features that are stored beside it ({', '.join(loaded.features)}): leave them out"
            " of columns, and compute them from the changed audio"
        )


def checked_range(name: str, value: Any) -> tuple[float, float]:
    """Return the least and the greatest value of a range.

    Raises
    ------
    ClipmillError : it is not two finite numbers in this order
    """
    pair = list(value) if isinstance(value, list | tuple) else []
    if len(pair) != 2 or not all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in pair
    ):
        raise ClipmillError(f"{name} is {value!r}; expected two numbers, the least and the greatest, as in (-6, 6)")
    if pair[0] > pair[1]:
        raise ClipmillError(f"{name} is {value!r}; the first number is the least, and must not be above the second")
    return float(pair[0]), float(pair[1])
