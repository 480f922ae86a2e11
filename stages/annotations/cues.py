"""Read what subtitle formats share: the times of a cue, and its text without markup."""

from __future__ import annotations

import re
from collections.abc import Iterable

from clipmill.stages.annotations.format import Record

ARROW = "-->"
_STAMP = r"(?:([0-9]{1,6}):)?([0-9]{1,3}):([0-9]{1,2})(?:[.,]([0-9]{1,9}))?"
_TIMES = re.compile(rf"\s*{_STAMP}\s*-->\s*{_STAMP}(?:\s.*)?", re.DOTALL)
_WITHOUT_ARROW = re.compile(rf"\s*{_STAMP}[^0-9]+{_STAMP}(?:\s.*)?", re.DOTALL)
_BRACES = re.compile(r"\{\\[^{}]*+\}")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*+>|<[0-9:.,]+>")
EXPECTED_TIMES = "expected times such as 00:00:01,500 --> 00:00:03,000"


def cue_times(line: str) -> tuple[str, str] | None:
    """Return start and end in seconds, as text, of a line such as ``00:01.500 --> 00:03.000``; None for any other line."""
    match = _TIMES.fullmatch(line)
    if match is None:
        return None
    parts = match.groups()
    return seconds(*parts[:4]), seconds(*parts[4:])


def is_like_times(line: str) -> bool:
    """Return whether a line has two times and something else than an arrow between them."""
    return _WITHOUT_ARROW.fullmatch(line) is not None


def seconds(hours: str | None, minutes: str, whole: str, fraction: str | None) -> str:
    """Return a time in seconds as text, without rounding."""
    return f"{int(hours or 0) * 3600 + int(minutes) * 60 + int(whole)}.{fraction or 0}"


def plain_text(lines: Iterable[str]) -> str:
    """Return the lines of a cue joined by blanks, without tags such as ``<i>`` and ``{\\an8}``."""
    stripped = (_TAG.sub("", _BRACES.sub("", line)).strip() for line in lines)
    return " ".join(line for line in stripped if line)


def cue_record(line: int, times: tuple[str, str] | None, text: str, found: str = "", **also: str) -> Record:
    """Return the record of a cue. One without text is passed over.

    Parameters
    ----------
    line : number of the line of its times
    times : its start and end in seconds; None if the line does not have them
    text : its text without markup
    found : the line that should hold its times
    also : further cells; empty ones are left out
    """
    if times is None:
        return Record({"text": text}, line, problem=f"{EXPECTED_TIMES}, found {found.strip()[:60]!r}")
    cells = {"start": times[0], "end": times[1], "text": text, **{name: value for name, value in also.items() if value}}
    return Record(cells, line, is_passed_over=not text)
