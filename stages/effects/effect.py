"""Define Effect, the declaration of one change to copies of clips. Each effect is one module of this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clipmill.schemas.config.augment_config import EFFECTS, Augment, Span

Drawn = dict[str, Any]
"""What was drawn for a copy, as plain JSON. `apply` depends on nothing else but the samples, and on the noises that it names."""
_DIGITS = 6


class Noises(Protocol):
    """Noises and impulse responses; see `clipmill.stages.noise_library.NoiseLibrary`."""

    def n_files(self, collection: str) -> int:
        """Return the number of files of a tree."""
        ...

    def name(self, collection: str, i: int) -> str:
        """Return the path of a file."""
        ...

    def samples(self, collection: str, i: int) -> npt.NDArray[np.float32]:
        """Return a file's samples at the clips' rate: float32 [1, samples]."""
        ...


Draw = Callable[[np.random.Generator, Any, Noises], Drawn]
Apply = Callable[[npt.NDArray[np.float32], int, Drawn, Noises], npt.NDArray[np.float32]]


def _none(settings: Any) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Effect:
    """Declare an effect.

    name : its key under `augment`
    draw : draws for one copy; takes a generator, the settings and the noises
    apply : takes y : float32 [channels, samples], the sample rate in Hz, what was drawn, and the noises; returns float32 of as many channels
    version : to be raised when equal samples and draws give other samples
    libraries : packages that the samples depend on; commits record their versions
    retime : takes a time in the clip in seconds and what was drawn; returns when it is heard in the copy. None: at the same time
    noise_names : the entries of `noises` that settings name
    """

    name: str
    draw: Draw
    apply: Apply
    version: int = 1
    libraries: tuple[str, ...] = ()
    noise_names: Callable[[Any], Sequence[str]] = _none
    retime: Callable[[float, Drawn], float] | None = None


_MODULES = {
    "speed": "speed", "pitch": "pitch_shift", "reverb": "reverb", "noise": "noise_mix", "filter": "filtering", "codec": "codec",
    "gain_db": "gain", "shift_s": "shift", "fade_s": "fade",
}  # fmt: skip


def effects_of(spec: Augment) -> list[tuple[Effect, Any]]:
    """Return the effects that a configuration asks for, in the order in which they are applied, with their settings."""
    asked = [(name, getattr(spec, name)) for name in EFFECTS if getattr(spec, name) is not None]
    return [(import_module(f"clipmill.stages.effects.{_MODULES[name]}").EFFECT, settings) for name, settings in asked]


def uniform(rng: np.random.Generator, span: Span) -> float:
    """Return a number drawn from a range, with so few digits that its text is the number."""
    return float(f"{rng.uniform(span.low, span.high):.{_DIGITS}g}")
