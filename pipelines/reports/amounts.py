"""Write durations, sizes and measured values for people."""

from __future__ import annotations

import math
from collections.abc import Iterable


def duration_text(seconds: float) -> str:
    """Return ``850 ms``, ``12.3 s``, ``5 min 12 s`` or ``3.2 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    return f"{seconds / 3600:,.1f} h"


def size_text(n_bytes: float) -> str:
    """Return ``850 B``, ``12.3 kB``, ``4.5 MB`` or ``1.2 GB``."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= least:
            return f"{n_bytes / least:,.1f} {unit}"
    return f"{n_bytes:.0f} B"


def value_text(value: float | None, unit: str = "") -> str:
    """Return a measured value with four digits and its unit; None and NaN are ``unknown``."""
    if value is None or math.isnan(value):
        return "unknown"
    if math.isinf(value):
        number = "-∞" if value < 0 else "∞"
    elif value and (abs(value) >= 1e6 or abs(value) < 1e-4):
        number = f"{value:.3g}"
    else:
        number = f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return f"{number} {unit}".rstrip()


def share_text(part: float, whole: float) -> str:
    """Return a share in per cent: ``0 %``, ``0.03 %``, ``4.2 %``, ``37 %``; without a whole ``-``."""
    if not whole:
        return "-"
    share = 100 * part / whole
    if 0 < share < 0.01:
        return "under 0.01 %"
    return f"{share:.2g} %" if share < 10 else f"{share:.0f} %"


def in_order(splits: Iterable[str]) -> list[str]:
    """Return the names of splits in the order in which people think of them: train, then what is for validation, then test."""
    usual = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
    return sorted(splits, key=lambda name: (usual.index(name) if name in usual else len(usual), name))


def moment_text(moment: str) -> str:
    """Return a time as records have it, ``2026-11-27T04:33:59+00:00``, as ``2026-11-27 04:33 UTC``; another text stays as it is."""
    day, _, time = moment.partition("T")
    return f"{day} {time[:5]} UTC" if time.endswith(("+00:00", "Z")) else moment
