"""Write lengths of time and sizes with a unit that fits them."""

from __future__ import annotations

from clipmill.schemas.plural import counted


def format_duration(seconds: float) -> str:
    """Return ``0.4 s``, ``3 min 5 s`` or ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def format_size(n_bytes: int) -> str:
    """Return ``1 byte``, ``12.3 kB`` or ``4.5 GB``."""
    value = float(n_bytes)
    if n_bytes < 1000:
        return counted(n_bytes, "byte")
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
