"""Start and end of annotation rows: numbers and their units."""

from __future__ import annotations

import math


def number(text: str) -> float | None:
    try:
        value = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None
