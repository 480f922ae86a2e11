"""Define Measure, the declaration of one measurement of clips. Each measure is one module of this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Compute = Callable[[npt.NDArray[np.float32], int], Sequence[float | int | None]]
"""Takes y : float32 [channels, samples], full scale 1.0, and the sample rate in Hz; returns a value for each column, None if unknown."""

OfText = Callable[[str, float], Sequence[float | int | None]]
"""Takes a clip's text and its length in seconds; returns a value for each column, None if unknown."""


@dataclass(frozen=True)
class Measure:
    """Declare what a measure adds to each clip.

    name : in the list `measure` of a configuration
    columns : made by `clipmill.schemas.columns.column`, with unit and meaning
    compute : see `Compute`; None for a measure of text, and for one whose values the decoder counts
    of_text : see `OfText`; None for a measure of samples. A clip without text has null in all columns
    version : to be raised when equal samples give other values
    libraries : packages that the values depend on; commits record their versions
    extra : clipmill's extra that installs them, empty if they are always there
    """

    name: str
    columns: tuple[pa.Field, ...]
    compute: Compute | None
    version: int = 1
    libraries: tuple[str, ...] = ()
    extra: str = ""
    of_text: OfText | None = None
