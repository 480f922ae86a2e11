"""Read EAF, the XML files of ELAN: annotations in tiers, which have times of their own or those of the annotations they refer to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from xml.etree.ElementTree import ParseError

from defusedxml.ElementTree import DefusedXMLParser

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.format import Content, Record, TranscriptFormat
from clipmill.stages.annotations.rows import UnreadableError
from clipmill.stages.annotations.tiers import TierOptions, choose_tiers, takes_several

_ROOT = "ANNOTATION_DOCUMENT"
_EXPECTED = f"not an EAF file of ELAN, which is XML with the root {_ROOT}"
_MAX_DEPTH = 100
_MAX_DIGITS = 12
_INTERPOLATED, _SHARED, _SHIFTED = "times_interpolated", "times_shared", "times_shifted"


@dataclass(slots=True)
class _Annotation:
    """Hold an annotation. start, end : time slots; refers_to : the annotation that has its times, if it has none itself"""

    name: str
    start: str = ""
    end: str = ""
    refers_to: str = ""
    text: str = ""


@dataclass(slots=True)
class _Tier:
    name: str
    participant: str
    annotator: str
    annotations: list[_Annotation] = field(default_factory=list)

    @property
    def kind(self) -> str:
        n = len(self.annotations)
        return f"{n:,} annotation{'' if n == 1 else 's'}"


@dataclass(slots=True)
class _Document:
    """Hold an EAF file. It is the target of the XML parser, which calls `start`, `data` and `end`.

    slots : time in ms of each time slot, in the order of the file; None for those without one
    origins : where each medium stands when the annotations' time is 0, in ms, by its kind
    """

    slots: dict[str, int | None] = field(default_factory=dict)
    tiers: list[_Tier] = field(default_factory=list)
    origins: list[tuple[str, int]] = field(default_factory=list)
    _depth: int = 0
    _text: list[str] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Take in an element."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnreadableError(f"XML that is nested more than {_MAX_DEPTH} deep")
        if self._depth == 1 and tag != _ROOT:
            raise UnreadableError(f"{_EXPECTED}, not {tag[:40]!r}")
        if tag == "HEADER" and attributes.get("TIME_UNITS", "milliseconds") != "milliseconds":
            raise UnreadableError(f"times in {attributes['TIME_UNITS'][:40]!r}; only milliseconds are read")
        if tag == "MEDIA_DESCRIPTOR":
            self.origins.append(
                (attributes.get("MIME_TYPE", ""), _milliseconds(attributes.get("TIME_ORIGIN", "0"), "TIME_ORIGIN"))
            )
        elif tag == "TIME_SLOT":
            slot, value = attributes.get("TIME_SLOT_ID", ""), attributes.get("TIME_VALUE")
            self.slots[slot] = None if value is None else _milliseconds(value, f"TIME_VALUE of {slot[:40]}")
        elif tag == "TIER":
            name, participant, annotator = (attributes.get(key, "") for key in ("TIER_ID", "PARTICIPANT", "ANNOTATOR"))
            self.tiers.append(_Tier(name, participant, annotator))
        elif tag in ("ALIGNABLE_ANNOTATION", "REF_ANNOTATION"):
            if not self.tiers:
                raise UnreadableError(f"{_EXPECTED}; an annotation stands outside of a tier")
            keys = ("ANNOTATION_ID", "TIME_SLOT_REF1", "TIME_SLOT_REF2", "ANNOTATION_REF")
            self.tiers[-1].annotations.append(_Annotation(*(attributes.get(key, "") for key in keys)))
        elif tag == "ANNOTATION_VALUE":
            self._text = []

    def data(self, text: str) -> None:
        """Take in the text of an element."""
        if self._text is not None:
            self._text.append(text)

    def end(self, tag: str) -> None:
        """Take in the end of an element."""
        self._depth -= 1
        if tag == "ANNOTATION_VALUE" and self._text is not None and self.tiers and self.tiers[-1].annotations:
            self.tiers[-1].annotations[-1].text = "".join(self._text).strip()
        if tag == "ANNOTATION_VALUE":
            self._text = None


class Eaf(TranscriptFormat):
    """Read EAF. The text of an annotation is the label; one that refers to another has the times of that."""

    name = "eaf"
    about = "EAF of ELAN: annotations of the tiers that are chosen"
    options = TierOptions
    header = ("tier", "participant", "annotator")
    sidecar = "{stem}.eaf"
    extensions = ("eaf",)

    def decode(self, content: Content, spec: Annotations) -> bytes:
        if not isinstance(content, bytes):
            raise UnreadableError("a folder, not a file")
        return content

    def read(self, content: bytes, spec: Annotations, options: TierOptions) -> Iterator[Record]:
        if not content.strip():
            return
        document = _parse(content, None if "auto" in spec.encoding else spec.encoding)
        tiers = document.tiers
        chosen = choose_tiers([tier.name for tier in tiers], [tier.kind for tier in tiers], options.tier)
        times = _Times(document)
        for at in chosen:
            tier = tiers[at]
            also = {"participant": tier.participant, "annotator": tier.annotator}
            also = {name: value for name, value in also.items() if value}
            if takes_several(options.tier):
                also["tier"] = tier.name
            n_on = Counter(annotation.refers_to for annotation in tier.annotations)
            for annotation in tier.annotations:
                place = f"tier {tier.name[:40]!r}, annotation {annotation.name[:40]}"
                span, notes, problem = times.of(annotation)
                if n_on[annotation.refers_to] > 1 and annotation.refers_to:
                    notes = (*notes, _SHARED)
                cells = {"start": _seconds(span[0]), "end": _seconds(span[1])} if span is not None else {}
                yield Record(cells | {"text": annotation.text} | also, place=place, problem=problem, notes=notes)

    def looks_like(self, head: str) -> bool:
        return f"<{_ROOT}" in head


def _parse(content: bytes, encoding: str | None) -> _Document:
    """Return a document. Raises UnreadableError for what is no EAF; XML with a DTD or entities, which EAF has not, is refused"""
    document = _Document()
    parser = DefusedXMLParser(target=document, encoding=encoding, forbid_dtd=True)
    try:
        parser.feed(content)
        parser.close()
    except ParseError as error:
        raise UnreadableError(f"{_EXPECTED}: {error}") from None
    except (ValueError, LookupError) as error:  # refused by defusedxml, or an encoding that the parser does not know
        raise UnreadableError(f"XML that is not read: {str(error)[:100] or type(error).__name__}") from None
    return document


def _milliseconds(text: str, what: str) -> int:
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
        raise UnreadableError(f"{what} is {text[:40]!r}; expected a whole number of milliseconds")
    return int(text)


def _seconds(ms: int) -> str:
    return f"{'-' if ms < 0 else ''}{abs(ms) // 1000}.{abs(ms) % 1000:03d}"


class _Times:
    """Find the times of the annotations of a document, in ms."""

    def __init__(self, document: _Document) -> None:
        self._slots = _interpolated(document)
        self._without_value = {name for name, value in document.slots.items() if value is None}
        self._by_name: dict[str, _Annotation] = {}
        for tier in document.tiers:
            for annotation in tier.annotations:
                self._by_name.setdefault(annotation.name, annotation)
        self._aligned: dict[str, _Annotation | str] = {}
        self._origin_ms = _origin(document.origins)

    def of(self, annotation: _Annotation) -> tuple[tuple[int, int] | None, tuple[str, ...], str | None]:
        """Return start and end of an annotation, notes on them, and why it has none."""
        found = self._alignable(annotation)
        if isinstance(found, str):
            return None, (), found
        for slot in (found.start, found.end):
            if self._slots.get(slot) is None:
                what = "has no time, and no slots around it have" if slot in self._slots else "is missing"
                return None, (), f"its time slot {slot[:40]!r} {what}"
        start, end = (self._slots[slot] or 0 for slot in (found.start, found.end))
        notes: tuple[str, ...] = (_INTERPOLATED,) if {found.start, found.end} & self._without_value else ()
        notes += (_SHIFTED,) if self._origin_ms else ()
        return (start + self._origin_ms, end + self._origin_ms), notes, None

    def _alignable(self, annotation: _Annotation) -> _Annotation | str:
        """Return the annotation with the times of one that refers to it, by way of others or not; or why there is none."""
        if not annotation.refers_to:
            return annotation
        path: dict[str, None] = {}
        name = annotation.refers_to
        found: _Annotation | str | None = None
        while found is None:
            other = self._by_name.get(name)
            if name in self._aligned:
                found = self._aligned[name]
            elif other is None:
                found = f"it refers to {name[:40]!r}, which is missing"
            elif name in path:
                found = f"it refers to itself, by way of {name[:40]!r}"
            elif not other.refers_to:
                found = other
            else:
                path[name] = None
                name = other.refers_to
        self._aligned.update(dict.fromkeys(path, found))
        return found


def _origin(origins: list[tuple[str, int]]) -> int:
    """Return where the recording stands when the annotations' time is 0. Raises UnreadableError if media differ in it."""
    of_audio = {ms for kind, ms in origins if kind.startswith("audio/")}
    found = of_audio or {ms for _, ms in origins} or {0}
    if len(found) > 1:
        listed = ", ".join(str(ms) for ms in sorted(found)[:10])
        raise UnreadableError(f"its media have several TIME_ORIGINs ({listed} ms), so that the recording's is unknown")
    return found.pop()


def _interpolated(document: _Document) -> dict[str, int | None]:
    """Return the times of all slots. As in ELAN, annotations of a tier in a row without times between share their time equally.

    Slots that no such row explains are put between their neighbours in the list of slots.
    """
    slots = dict(document.slots)
    if None not in slots.values():
        return slots
    for tier in document.tiers:
        after = {a.start: a.end for a in tier.annotations if not a.refers_to}
        for first in [start for start in after if slots.get(start) is not None]:
            row = [first]
            while slots.get(row[-1]) is None or len(row) == 1:
                following = after.pop(row[-1], None)
                if following is None or following not in slots:
                    break
                row.append(following)
            _spread(slots, row)
    names = list(slots)
    known = [at for at, name in enumerate(names) if slots[name] is not None]
    for before, behind in pairwise(known):
        if behind - before > 1:
            _spread(slots, names[before : behind + 1])
    return slots


def _spread(slots: dict[str, int | None], row: list[str]) -> None:
    """Give slots in a row times at equal distances, if the first and the last have times and the others have none."""
    first, last = slots[row[0]], slots[row[-1]]
    if first is None or last is None:
        return
    for n, name in enumerate(row[1:-1], 1):
        slots[name] = first + round(n * (last - first) / (len(row) - 1))


FORMAT = Eaf()
