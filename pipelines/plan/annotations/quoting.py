"""Quotes: whether the quotes of an annotation file are its quoting, or part of its text."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from typing import Any

QUOTE = '"'
_TAB_CELL = r' *+(?:"(?:[^"]++|"")*+"|[^"\t ][^\t]*+|)'
_PAIRED = re.compile(rf"{_TAB_CELL}(?:\t{_TAB_CELL})*+")


def pair_up(line: str) -> bool:
    """Return whether each cell of a line that begins with a quote ends with one, the line being cut by tabs."""
    return QUOTE not in line or _PAIRED.fullmatch(line.rstrip("\r\n")) is not None


def quoted_by_tabs(lines: Callable[[], Iterable[str]], spoken: dict[str, Any]) -> bool:
    """Return whether the quotes of a file whose cells tabs part are its quoting. In many such files they are text.

    They are quoting where they pair up on every line. Else they are only where the lines, cut by tabs, do not all have as many
    cells, while the quoted rows do, and no cell that goes over several lines holds a tab, as one does that swallows rows.

    lines : gives the file's lines, from the first
    spoken : how `csv` reads quotes
    """
    if all(map(pair_up, lines())):
        return True
    widths = {line.count("\t") for line in lines() if line.strip()}
    if len(widths) == 1 and 0 not in widths:
        return False
    widths = set()
    try:
        for row in csv.reader(lines(), **spoken):
            if any("\t" in cell and ("\n" in cell or "\r" in cell) for cell in row):
                return False
            if row:
                widths.add(len(row))
    except csv.Error:
        return False
    return len(widths) == 1 and min(widths) > 1
