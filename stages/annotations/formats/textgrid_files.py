"""Read Praat's TextGrid files, long and short.

Praat's own rule for its text files is simple: numbers and quoted texts count where they stand alone, in a fixed order, and everything
else is for human readers. Long and short files are the same to it, and to this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.format import Content, Record, TranscriptFormat
from clipmill.stages.annotations.points import POINT, PointOptions, around
from clipmill.stages.annotations.rows import SettingError, UnreadableError
from clipmill.stages.annotations.tiers import TierOptions, choose_tiers, takes_several

_TOKEN = re.compile(
    r"""
    "(?P<text>(?:[^"]++|"")*+)"
    | (?P<open>")
    | ![^\n]*+                                               # a comment
    | (?P<number>[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)(?=[\s"]|\Z)
    | (?P<flag><[a-z]*+>)
    | [^\s"=]++
    | =
    """,
    re.VERBOSE,
)
_INTERVALS, _POINTS = "IntervalTier", "TextTier"
_BINARY = b"ooBinaryFile"
_EXPECTED = "not a TextGrid, which begins with 'File type = \"ooTextFile\"' and 'Object class = \"TextGrid\"'"
_MOST_TIERS = 10_000


class TextGridOptions(TierOptions, PointOptions):
    """Configure which tiers are read, and what becomes of points."""


@dataclass(slots=True)
class _Tier:
    """Describe a tier. n : number of its intervals or points, of which `n_texts` have a text"""

    name: str
    is_points: bool
    n: int
    n_texts: int = 0

    @property
    def kind(self) -> str:
        what = "point" if self.is_points else "interval"
        return f"{self.n:,} {what}{'' if self.n == 1 else 's'}"


class _Entry(NamedTuple):
    """Hold an interval or a point, which ends where it starts."""

    line: int
    start: str
    end: str
    text: str


class TextGrid(TranscriptFormat):
    """Read TextGrids. The text of an interval is the label; intervals without text are no rows."""

    name = "textgrid"
    about = "Praat's TextGrid, long and short: intervals of the tiers that are chosen"
    options = TextGridOptions
    header = ("tier",)
    sidecar = "{stem}.TextGrid"
    extensions = ("textgrid",)

    def decode(self, content: Content, spec: Annotations) -> str:
        if isinstance(content, bytes) and content.startswith(_BINARY):
            raise UnreadableError("a binary TextGrid; in Praat, save it by `Save as text file...`")
        text: str = super().decode(content, spec)
        return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text

    def read(self, content: str, spec: Annotations, options: TextGridOptions) -> Iterator[Record]:
        if not content.strip():
            return
        tiers = [
            part for part in _parts(content) if isinstance(part, _Tier)
        ]  # the whole file is sound, or gives no rows
        chosen = choose_tiers([tier.name for tier in tiers], [tier.kind for tier in tiers], options.tier)
        if options.points_s is None and chosen and all(tiers[at].is_points and tiers[at].n_texts for at in chosen):
            raise SettingError(
                f"tier {tiers[chosen[0]].name!r} holds points in time, which have no length; set `points_s` to the length of the"
                " stretch around each point, or choose another tier",
                "points_s",
            )
        named, at = takes_several(options.tier), -1
        for part in _parts(content):
            if isinstance(part, _Tier):
                at += 1
            elif part.text and at in chosen:
                cells = {"start": part.start, "end": part.end, "text": part.text}
                if named:
                    cells["tier"] = tiers[at].name
                problem = None
                if tiers[at].is_points:
                    stretch = around(part.start, options.points_s)
                    cells["start"], cells["end"] = stretch or (part.start, part.end)
                    problem = POINT if stretch is None else None
                yield Record(cells, part.line, problem=problem)

    def looks_like(self, head: str) -> bool:
        tokens = [match["text"] for match, _ in zip(_TOKEN.finditer(head), range(12), strict=False)]
        texts = [text for text in tokens if text is not None]
        return len(texts) > 1 and texts[0].startswith("ooTextFile") and texts[1] == "TextGrid"


class _Reader:
    """Read the numbers and texts of a TextGrid in turn. line : of the last one, from 1"""

    def __init__(self, text: str) -> None:
        self._text = text
        self._matches = _TOKEN.finditer(text)
        self._counted_to = 0
        self.line = 1

    def _next(self, what: str) -> re.Match[str]:
        for match in self._matches:
            if match.lastgroup is not None:
                self.line += self._text.count("\n", self._counted_to, match.start())
                self._counted_to = match.start()
                if match["open"] is not None:
                    raise UnreadableError(f"line {self.line}: the quotes around a text are not closed")
                return match
        raise UnreadableError(f"the file ends where {what} is expected; it is cut off, or not a TextGrid")

    def text(self, what: str) -> str:
        """Return the next token, which must be a text, without blanks around it."""
        match = self._next(what)
        if match["text"] is None:
            raise UnreadableError(f"line {self.line}: expected {what} in quotes, found {match[0][:40]!r}")
        return match["text"].replace('""', '"').strip()

    def number(self, what: str) -> str:
        """Return the next token, which must be a number, as it is written."""
        match = self._next(what)
        if match["number"] is None:
            raise UnreadableError(f"line {self.line}: expected {what}, found {match[0][:40]!r}")
        return match["number"]

    def count(self, what: str) -> int:
        """Return the next token, which must be a whole number, 0 or more."""
        text = self.number(what)
        if not (text.isascii() and text.isdigit() and len(text) < 12):
            raise UnreadableError(f"line {self.line}: expected {what}, a whole number, found {text[:40]!r}")
        return int(text)

    def check_end(self) -> None:
        """Raise UnreadableError if a number or text is left over."""
        if any(match.lastgroup is not None for match in self._matches):
            raise UnreadableError(
                f"more follows after line {self.line} than the numbers of tiers and entries in the file announce"
            )

    def flag(self, what: str) -> str:
        """Return the next token, which must be a flag such as ``<exists>``."""
        match = self._next(what)
        if match["flag"] is None:
            raise UnreadableError(f"line {self.line}: expected {what}, found {match[0][:40]!r}")
        return match["flag"]


def _parts(text: str) -> Iterator[_Tier | _Entry]:
    """Yield each tier of a TextGrid, and after it its entries. Raises UnreadableError if it is none, or does not end where it should."""
    reader = _Reader(text)
    try:
        file_type, kind = reader.text("the file type"), reader.text("the object class")
    except UnreadableError:
        raise UnreadableError(_EXPECTED) from None
    if "chronological" in file_type:
        raise UnreadableError("a chronological TextGrid; in Praat, open it and save it by `Save as text file...`")
    if not file_type.startswith("ooTextFile") or kind != "TextGrid":
        raise UnreadableError(_EXPECTED)
    reader.number("the start of the TextGrid"), reader.number("the end of the TextGrid")
    if reader.flag("<exists>, before the tiers") == "<exists>":
        n_tiers = reader.count("the number of tiers")
        if n_tiers > _MOST_TIERS:
            raise UnreadableError(f"a TextGrid of {n_tiers:,} tiers; at most {_MOST_TIERS:,} are read")
        for number in range(1, n_tiers + 1):
            yield from _parts_of_tier(reader, number)
    reader.check_end()


def _parts_of_tier(reader: _Reader, number: int) -> Iterator[_Tier | _Entry]:
    kind = reader.text(f"the class of tier {number}")
    if kind not in (_INTERVALS, _POINTS):
        raise UnreadableError(f"line {reader.line}: a tier is {_INTERVALS!r} or {_POINTS!r}, not {kind[:40]!r}")
    name, is_points = reader.text(f"the name of tier {number}"), kind == _POINTS
    reader.number(f"the start of tier {number}"), reader.number(f"the end of tier {number}")
    tier = _Tier(name, is_points, reader.count(f"the number of entries in tier {number}"))
    yield tier
    for _ in range(tier.n):
        start = end = reader.number("the time of a point" if is_points else "the start of an interval")
        line = reader.line
        if not is_points:
            end = reader.number("the end of an interval")
        entry = _Entry(line, start, end, reader.text("the text of an entry"))
        tier.n_texts += bool(entry.text)
        yield entry


FORMAT = TextGrid()
