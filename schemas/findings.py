"""Define how an exceeded limit is reported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Describe a limit that a build or a plan exceeds.

    limit : its key
    found, allowed : the value, and the bound
    message : a sentence that states both
    """

    limit: str
    found: float
    allowed: float
    message: str
