"""Write numbers of things with the right plural: 1 clip, 2 clips."""

from __future__ import annotations


def counted(n: int, thing: str) -> str:
    """Return ``1 clip``, ``0 clips`` or ``1,234 clips``."""
    return f"{n:,} {thing if n == 1 else thing + 's'}"


def counted_are(n: int, thing: str) -> str:
    """Return ``1 clip is``, or ``2 clips are``."""
    return f"{counted(n, thing)} {'is' if n == 1 else 'are'}"
