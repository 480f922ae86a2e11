"""Find out whether the quotes in an annotation file quote its cells or are part of its text."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from typing import Any

QUOTE = '"'
_TAB_CELL = r' *+(?:"(?:[^"]++|"")*+"|[^"\t ][^\t]*+|)'
_PAIRED = re.compile(rf"{_TAB_CELL}(?:\t{_TAB_CELL})*+")


def pair_up(line: str) -> bool:
    """Return whether, in a line cut at tabs, each cell that begins with a quote ends with one."""
    return QUOTE not in line or _PAIRED.fullmatch(line.rstrip("\r\n")) is not None


def is_quoted_tsv(lines: Callable[[], Iterable[str]], dialect: dict[str, Any]) -> bool:
    """Return whether the quotes of a tab-separated file quote its cells. In many such files they are text.

    They quote cells if they pair up on every line. Otherwise they do only if three things hold: lines cut at tabs differ in their
    number of cells, quoted rows do not, and no cell of several lines holds a tab, which would be a sign of swallowed rows.

    lines : returns the file's lines, from the first
    dialect : arguments of `csv.reader` with quoting
    """
    if all(map(pair_up, lines())):
        return True
    widths = {line.count("\t") for line in lines() if line.strip()}
    if len(widths) == 1 and 0 not in widths:
        return False
    widths = set()
    try:
        for row in csv.reader(lines(), **dialect):
            if any("\t" in cell and ("\n" in cell or "\r" in cell) for cell in row):
                return False
            if row:
                widths.add(len(row))
    except csv.Error:
        return False
    return len(widths) == 1 and min(widths) > 1
