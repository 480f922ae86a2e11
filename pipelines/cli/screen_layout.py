"""Lay lines out for a screen: break long ones under their text, and leave out what does not fit, saying so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clipmill.schemas.plural import counted

_COLUMN = re.compile(r"\s*\S(?:\S| (?! )){0,22}\s{2,}(?=\S)|\s*")
"""A line's first column with the blanks behind it, under whose end the rest of the line goes on; else the blanks before it."""
_LABEL = 13
_ELSEWHERE = "see --json, or a log of the same command"


@dataclass(frozen=True)
class Section:
    """Lines about one thing, the most important first.

    name : of the thing, for the line that lists what was left out
    keep : how many of the lines stay, however little room there is; 0: the section can be left out
    what : one of the lines, such as "reason", for the line that says how many were left out
    where : the command that shows those; without one, a log of the same command does
    err : whether they are errors or hints, for stderr
    whole : whether they have addresses, which are to be copied and so are never cut
    """

    name: str
    lines: Sequence[str]
    keep: int = 0
    what: str = "line"
    where: str = ""
    err: bool = False
    whole: bool = False


def wrap(line: str, width: int) -> list[str]:
    """Break a line at blanks, so that its parts have at most `width` columns; words that are wider, such as addresses, and commands in
    backquotes stay whole."""
    if _columns(line) <= width:
        return [line]
    column = _COLUMN.match(line)
    indent = column.end() if column is not None else 0
    if indent > width // 2:
        indent = len(line) - len(line.lstrip()) + 2
    words = re.findall(r"[(]?`[^`]*`\S*\s*|\S+\s*", line[len(line) - len(line.lstrip()) :])
    lines, current = [], line[: len(line) - len(line.lstrip())]
    for word in words:
        if current.strip() and _columns(current + word.rstrip()) > width:
            lines.append(current.rstrip())
            current = " " * indent
        current += word
    return [*lines, current.rstrip()]


def fit(sections: Sequence[Section], width: int, height: int) -> list[tuple[Section, list[str]]]:
    """Lay sections out in at most `height` lines of `width` columns each.

    Long sections lose their last lines first, then sections without which one can do are left out, then lines are cut. A line says how
    many are missing, another one which sections.
    """
    sections = [s for s in sections if s.lines]
    shown = [len(s.lines) for s in sections]
    for max_lines in (10, 3, 2, 1):
        while True:
            laid_out = _laid_out(sections, shown, width, max_lines)
            if sum(_height(lines, width) for _, lines in laid_out) <= height:
                return laid_out
            longest = max(range(len(sections)), key=lambda i: _spare(sections[i], shown[i], width, max_lines))
            if _spare(sections[longest], shown[longest], width, max_lines) <= 0:
                break
            shown[longest] -= 1
    return laid_out


def shortened(text: str, width: int) -> str:
    """Return a text of at most `width` columns; what is too long ends in three dots."""
    if _columns(text) <= width:
        return text
    text = text.removesuffix(" ...")
    while text and _columns(text) > width - 4:
        text = text[:-1]
    return text.rstrip() + " ..."


def _spare(section: Section, n_shown: int, width: int, max_lines: int) -> int:
    """Return how many screen lines a section has beyond the ones that it must keep; sections without any come last."""
    if n_shown <= section.keep:
        return 0
    lines = [part for line in section.lines[:n_shown] for part in _cut(section, wrap(line, width), max_lines, width)]
    return len(lines) * 2 + (section.keep == 0)


def _laid_out(
    sections: Sequence[Section], shown: Sequence[int], width: int, max_lines: int
) -> list[tuple[Section, list[str]]]:
    laid_out, missing = [], []
    for section, n in zip(sections, shown, strict=True):
        if n == 0:
            missing.append(section.name)
            continue
        lines = [part for line in section.lines[:n] for part in _cut(section, wrap(line, width), max_lines, width)]
        if n < len(section.lines):
            left_out = counted(len(section.lines) - n, f"more {section.what}")
            more = f"{'':<{_LABEL}}... and {left_out}: {section.where or _ELSEWHERE}"
            lines += _cut(section, wrap(more, width), max_lines, width)
        laid_out.append((section, lines))
    if missing:
        at = next((i for i, (s, _) in enumerate(laid_out) if s.err), len(laid_out))
        text = f"{'not shown':<{_LABEL}}{', '.join(missing)}: {_ELSEWHERE}"
        about = Section("not shown", [text])
        laid_out.insert(at, (about, _cut(about, wrap(text, width), max_lines, width)))
    return laid_out


def _cut(section: Section, lines: list[str], n: int, width: int) -> list[str]:
    """Cut what a line was broken into after n parts, and words that are wider than the screen."""
    if section.whole:
        return lines
    if len(lines) > n:
        lines = [*lines[: n - 1], lines[n - 1] + " ..."]
    return [shortened(line, width) for line in lines]


def _height(lines: Sequence[str], width: int) -> int:
    """Return how many lines a terminal of this width needs for them; it breaks those that are longer."""
    return sum(max(1, -(-_columns(line) // width)) for line in lines)


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
