"""What a limit says of a build, or of a plan."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A limit that was exceeded.

    limit : its key
    found, allowed : what is there, and the bound
    message : a sentence with both
    """

    limit: str
    found: float
    allowed: float
    message: str
