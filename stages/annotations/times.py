"""Read the start and end of annotation rows: numbers, clock times and units."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.rows import HINT, AmbiguousError, Row

EITHER = "either"
_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:[.,][0-9]{3})+")  # 16,000: thousands or thousandths
_THOUSANDS = {
    sign: re.compile(rf"[+-]?[1-9][0-9]{{0,2}}(?:\{other}[0-9]{{3}})+(?:\{sign}[0-9]*)?")
    for sign, other in ((".", ","), (",", "."))
}
_CLOCK = re.compile(r"(?:([0-9]{1,9}):(?=[0-5][0-9]:))?([0-9]{1,9}):([0-5][0-9])(?:[.,]([0-9]{1,18}))?")
_CLOCK_EXPECTED = "expected hh:mm:ss.fff or mm:ss.fff"
_LONGEST_S = 1e9
_HIGHEST_RATE_HZ = 1e6
_LOWEST_RATE_HZ = 8000
"""Assumed for recordings of unknown rate: 0.05 s are then 400 samples, which are at most 0.05 s at any higher rate."""


def number(text: str, decimal: str = EITHER) -> float | None:
    """Return a finite number, or None for any other text.

    decimal : the sign before the fraction, ``.`` or ``,``; the other one may separate thousands, as in ``1.234,5``. With `EITHER`,
        a single one of the two is decimal, and nothing separates thousands
    """
    if decimal == EITHER:
        text = text.replace(",", ".") if text.count(",") == 1 and "." not in text else text
    elif ("," if decimal == "." else ".") in text:
        if _THOUSANDS[decimal].fullmatch(text) is None:
            return None
        text = text.replace("," if decimal == "." else ".", "").replace(",", ".")
    elif decimal == ",":
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def plain_number(text: str) -> float | None:
    """Return a finite number with a decimal point and nothing between thousands, or None for any other text."""
    return None if "," in text else number(text, ".")


def with_point(text: str) -> str:
    """Return a number with a decimal point. For programs that write the sign of their language, and separate no thousands."""
    return text.replace(",", ".") if text.count(",") == 1 and "." not in text else text


def clock_seconds(text: str) -> float | None:
    """Return the seconds of ``hh:mm:ss.fff``, ``mm:ss`` or ``mm:ss.fff`` to the nearest float64 (comma or point), or None for other text."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    return float(f"{int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)}.{fraction or 0}")


def decimal_of(texts: Iterable[str], time_unit: str) -> str:
    """Return the decimal sign of a file, as shown by the first of its times that can; a point if no time has a separator.

    A point in seconds is always decimal, so the result is `EITHER` if a comma in seconds turns out to be decimal too. A time that
    can be read with thousands or with thousandths, such as 16,000, shows nothing.

    Raises
    ------
    AmbiguousError : some times can be read in both ways, and no time shows which is right
    """
    unsure = ""
    for text in texts:
        if time_unit == "s" and "." in text and number(text, ".") is not None:
            return "."
        if _GROUPED.fullmatch(text) is not None:
            unsure = unsure or text
        else:
            fitting = [sign for sign in (".", ",") if number(text, sign) is not None]
            if len(fitting) == 1:
                return EITHER if time_unit == "s" and fitting == [","] else fitting[0]
    if unsure:
        whole = re.sub("[.,]", "", unsure)
        raise AmbiguousError(
            f"{unsure!r} can be {whole} or a number with a decimal {'comma' if ',' in unsure else 'point'}, and no time in the file shows which",
            unsure,
        )
    return "."


class Times:
    """Read start and end from the cells of a row, in the unit `Annotations.row_unit`.

    asks_decimal : whether `settle` must be called with the decimal sign; before that, all that can be a number is read as one
    """

    def __init__(self, spec: Annotations, places: dict[str, int]) -> None:
        self._places = list(places.items())
        unit, self._unit = spec.row_unit, spec.time_unit
        self._rate_hz = spec.samples_at_hz
        self._is_clock, self._is_whole = self._unit == "clock", self._rate_hz is not None or unit == "samples"
        per_s = self._rate_hz or {"s": 1.0, "ms": 1e3, "samples": _HIGHEST_RATE_HZ}[unit]
        self._longest = _LONGEST_S * per_s
        self._tolerance = spec.end_tolerance_s * (_LOWEST_RATE_HZ if per_s == _HIGHEST_RATE_HZ else per_s)
        self._decimal: str = EITHER if spec.decimal == "auto" else spec.decimal
        self.asks_decimal = bool(places) and spec.decimal == "auto" and not self._is_clock
        self._also = ("." if self._unit == "s" else ".,") if self.asks_decimal else ""

    def settle(self, decimal: str) -> None:
        """Set the decimal sign for the rows to come; see `decimal_of`."""
        self._decimal, self._also = decimal, ""

    def separated(self, rows: Iterable[list[str]]) -> Iterator[str]:
        """Yield the times with a point or a comma."""
        for cells in rows:
            for _, at in self._places:
                if at < len(cells) and ("." in cells[at] or "," in cells[at]):
                    yield cells[at]

    def read(self, row: Row, cells: list[str]) -> None:
        """Fill in start and end, or the reason why the row is rejected."""
        values: dict[str, float] = {}
        for name, at in self._places:
            text = cells[at]
            value = clock_seconds(text) if self._is_clock else number(text, self._decimal)
            if value is None and self._also:
                value = next((n for sign in self._also if (n := number(text, sign)) is not None), None)
            if value is None:
                row.reason, row.detail = "annotation_not_a_number", f"{name} is {text[:50]!r}{self._expected(text)}"
                return
            if self._is_whole and not value.is_integer():
                row.reason, row.detail = "annotation_fraction_of_sample", f"{name} is {text[:50]!r}"
                return
            values[name] = value
        start, end = values.get("start"), values.get("end")
        if "duration" in values:
            end = (start or 0.0) + values["duration"]
        if start is not None and -self._tolerance <= start < 0 and (end is None or end > 0):
            start = 0.0
            row.noted += ("starts_cut",)
        self._check(row, start, end)
        if self._rate_hz is not None:
            start = start / self._rate_hz if start is not None else None
            end = end / self._rate_hz if end is not None else None
        row.start, row.end = start, end if end is None or math.isfinite(end) else None

    def _check(self, row: Row, start: float | None, end: float | None) -> None:
        if max(abs(start or 0.0), abs(end or 0.0)) > self._longest:
            far = f"start {start or 0.0:g}, end {end:g}" if end is not None else f"start {start:g}"
            row.reason, row.detail = "annotation_out_of_range", f"{far}: no recording is so long"
        elif start is not None and start < 0:
            row.reason, row.detail = "annotation_negative", f"start is {start:g}"
        elif end is not None and end <= (start or 0.0):
            row.reason, row.detail = "annotation_end_before_start", f"start {start or 0.0:g}, end {end:g}"

    def _expected(self, text: str) -> str:
        if self._is_clock:
            return f"; {_CLOCK_EXPECTED}"
        if clock_seconds(text) is not None:
            return f"{HINT}it looks like a clock time; set annotations.time_unit: clock"
        if self._decimal != EITHER and ("." in text or "," in text):
            return f", and the decimal sign is {self._decimal!r} here"
        return ""
