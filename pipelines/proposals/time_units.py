"""Find out in which unit times are, by the lengths of the recordings that they lie in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipmill.pipelines.proposals.header_facts import seconds_text
from clipmill.stages.decode.header_length import HeaderLength

_RATES_HZ = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
_FRAMES_HZ = (100, 50)
_TOLERANCE_S = 0.05
_ENOUGH = 0.9
_NEAR = 0.5
_LEAST_COVER = 0.02
_LEAST_COVER_OF_FRACTIONS = 0.25
"""Times that reach no further than this in their recordings are probably times in something else. Fractions of a millisecond are rare."""
_HINTS = (
    ("ms", "ms"),
    ("msec", "ms"),
    ("millis", "ms"),
    ("sample", "samples"),
    ("frame", "frames"),
    ("sec", "s"),
    ("_s", "s"),
)


@dataclass
class Unit:
    """A unit of times, as `annotations.time_unit`.

    value : plain data; None if nothing fits
    because : evidence
    others : units that fit as well, with what speaks for them
    """

    value: Any
    because: str
    others: list[tuple[Any, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Fit:
    value: Any
    share: float
    cover: float


def guess_unit(
    ends: Mapping[str, float],
    lengths: Mapping[str, HeaderLength],
    *,
    is_whole: bool,
    names: Sequence[str] = (),
) -> Unit:
    """Return the unit in which times fit their recordings and reach furthest in them.

    Parameters
    ----------
    ends : last time of each recording, in the unknown unit
    lengths : of recordings
    is_whole : whether all times are whole numbers
    names : of the columns
    """
    known = [(ends[path], lengths[path]) for path in ends if path in lengths]
    hinted = next((unit for name in names for word, unit in _HINTS if _ends_so(name, word)), None)
    if not known:
        return Unit(
            hinted if hinted in ("s", "ms", "samples") else "s",
            "no header of the recordings that these rows name was read, so nothing shows the unit of their times",
            [("ms", "if they are milliseconds")],
        )
    fits = [_fit(value, known) for value in _candidates(is_whole, "frames" in str(hinted))]
    good = [fit for fit in fits if fit.share >= _ENOUGH and (fit.value == "s" or _is_of(fit.value, str(hinted)))]
    least = _LEAST_COVER if is_whole else _LEAST_COVER_OF_FRACTIONS
    good += [fit for fit in fits if fit.share >= _ENOUGH and fit.cover >= least and fit not in good]
    good.sort(key=lambda fit: -fit.cover)
    last, length = max(known, key=lambda one: one[0])
    longest = max(one.seconds for _, one in known)
    if not good:
        return Unit(
            None,
            f"its times fit the recordings in no unit: the largest end is {last:,.10g}, that recording has {seconds_text(length.seconds)}",
        )
    chosen = good[0]
    if hinted is not None:
        chosen = next((fit for fit in good if _is_of(fit.value, hinted)), chosen)
    rejected = [fit for fit in fits if fit.share < _ENOUGH and isinstance(fit.value, str)]
    because = (
        f"the largest end, {last:,.10g}, is in a recording of {seconds_text(length.seconds)} (the longest looked at has {longest:,.1f} s);"
        f" in {unit_text(chosen.value)}, {chosen.share:.0%} of {len(known):,} recordings hold their times, which reach"
        f" {min(chosen.cover, 1):.0%} of their length in the median"
    )
    if rejected:
        because += f"; {' and '.join(unit_text(fit.value) for fit in rejected)} would lead beyond the end"
    others = [
        (fit.value, f"if times are {unit_text(fit.value)}: they would reach {fit.cover:.1%} of the length")
        for fit in good
        if fit is not chosen and (fit.cover >= _NEAR * chosen.cover or chosen.cover < 0.05)
    ]
    return Unit(chosen.value, because, others[:3])


def unit_text(value: Any) -> str:
    """Return a unit in words."""
    words = {
        "s": "seconds",
        "ms": "milliseconds",
        "samples": "samples of the recording's own rate",
        "clock": "clock times",
    }
    if isinstance(value, dict):
        rate = value["samples_at_hz"]
        return f"frames at {rate} a second" if rate in _FRAMES_HZ else f"samples at {rate:,} Hz"
    return words[str(value)]


def _candidates(is_whole: bool, has_frames: bool) -> list[Any]:
    plain: list[Any] = ["s", "ms"]
    if is_whole:
        plain += ["samples", *({"samples_at_hz": rate} for rate in _RATES_HZ)]
    if is_whole and has_frames:
        plain += [{"samples_at_hz": rate} for rate in _FRAMES_HZ]
    return plain


def _fit(value: Any, known: Sequence[tuple[float, HeaderLength]]) -> _Fit:
    reached = np.array([end / _per_s(value, length) for end, length in known])
    seconds = np.array([length.seconds for _, length in known])
    if isinstance(value, dict) and {length.sample_rate_hz for _, length in known} == {value["samples_at_hz"]}:
        return _Fit(value, 0.0, 0.0)  # the same as `samples`
    return _Fit(value, float(np.mean(reached <= seconds + _TOLERANCE_S)), float(np.median(reached / seconds)))


def _per_s(value: Any, length: HeaderLength) -> float:
    if isinstance(value, dict):
        return float(value["samples_at_hz"])
    return {"s": 1.0, "ms": 1e3, "samples": float(length.sample_rate_hz or 1)}[value]


def _ends_so(name: str, word: str) -> bool:
    lower = name.lower()
    return lower.endswith(word) if word in ("ms", "_s") else word in lower


def _is_of(value: Any, hinted: str) -> bool:
    if hinted == "frames":
        return isinstance(value, dict) and value["samples_at_hz"] in _FRAMES_HZ
    return bool(value == hinted)
