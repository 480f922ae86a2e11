"""Propose a configuration, check it as a build would, and step back until it holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from clipmill.pipelines.config_file import ConfigFile, loads
from clipmill.pipelines.proposals.commented_yaml import Part, write
from clipmill.pipelines.proposals.drafting_config import Way, draft
from clipmill.pipelines.proposals.findings_of_folder import Findings
from clipmill.pipelines.proposals.found_annotations import FoundAnnotations
from clipmill.schemas.errors import ClipmillError, ConfigError

_MOST_TRIES = 12
_USUAL_SHARE = 0.01
_MOST_REJECTED = 0.5
_FEWEST_COVERED, _ALL_ROWS = 0.2, 2000


class Foreseen(Protocol):
    """What a plan says about a build."""

    @property
    def rejected_share(self) -> float:
        """Greatest share that is rejected: of the recordings, or of the annotations."""

    @property
    def reasons(self) -> str:
        """What is rejected, and why, in words."""

    @property
    def empty_splits(self) -> list[str]:
        """Splits that get no recordings."""

    @property
    def clips(self) -> int:
        """Number of clips, as estimated."""


F = TypeVar("F", bound=Foreseen)


@dataclass
class Proposal(Generic[F]):
    """A configuration that builds.

    text : the YAML file; parts : its content
    used : the annotations that it uses
    foreseen : what the plan says
    notes : what was tried and left out
    """

    text: str
    parts: list[Part]
    file: ConfigFile
    used: FoundAnnotations | None
    foreseen: F
    notes: tuple[str, ...]


def propose(seen: Findings, output_root: str, above: Sequence[str], foresee: Callable[[ConfigFile], F]) -> Proposal[F]:
    """Return a configuration that loads, that can be planned, and of which a plan uses most recordings.

    Parameters
    ----------
    output_root : address of the dataset
    above : lines of comment with which the file begins

    Raises
    ------
    ClipmillError : not even a configuration without annotations, labels and split can be planned
    """
    way = _first(seen)
    for left in reversed(range(_MOST_TRIES)):
        parts = draft(seen, way, output_root)
        text = write(parts, above)
        try:
            file = loads(text, environ={})
            foreseen = foresee(file)
        except ClipmillError as error:
            blames_split = isinstance(error, ConfigError) and error.key.startswith("split")
            further = _step_back(seen, way, str(error), blames_split and _has_own_split(parts)) if left else None
            if further is None:
                raise
            way = further
            continue
        better = _better(seen, way, foreseen, _has_own_split(parts)) if left else None
        if better is None:
            used = seen.found[way.use] if way.use is not None else None
            return Proposal(text, parts, file, used, foreseen, (*way.notes, *_missing(seen, used)))
        way = better
    raise ClipmillError("no configuration of this folder can be planned")


def _missing(seen: Findings, used: FoundAnnotations | None) -> list[str]:
    """Return what the purpose needs and nobody found."""
    if seen.purpose.wants_text and (used is None or used.text_field is None):
        return [
            f"no transcripts were found, which {seen.purpose.name} needs: name them in annotations.columns, as text: COLUMN"
        ]
    return []


def _has_own_split(parts: Sequence[Part]) -> bool:
    """Return whether the split is one that the corpus has, rather than shares."""
    return any(part.key == "split" and not {"from", "from_files"}.isdisjoint(part.value) for part in parts)


def _first(seen: Findings, start: int = 0, notes_before: Sequence[str] = ()) -> Way:
    """Return the way that uses the first annotations, of those from an index on, that fit the recordings."""
    notes = [*notes_before]
    for use, found in enumerate(seen.found[start:], start):
        share = found.trial.beyond_share(seen.headers.lengths)
        covered = found.covered if found.covered is not None else len(found.trial.recordings)
        if covered < _FEWEST_COVERED * len(seen.tree.paths) and found.trial.n_rows < _ALL_ROWS:
            notes.append(
                f"{found.where!r} is not used: it is about only {covered:,} of {len(seen.tree.paths):,} recordings"
            )
            continue
        repeated = found.repeated
        if repeated is not None:
            notes.append(
                f"{found.where!r} is not used: no columns of it are times, and {repeated}, so each recording would be cut again for each of"
                " its rows, into the same clips with other labels"
            )
            continue
        if share <= _MOST_REJECTED:
            return Way(use=use, beyond_share=share, notes=tuple(notes))
        notes.append(f"{found.where!r} is not used: {share:.0%} of its rows end after their recordings do")
    return Way(use=None, notes=tuple(notes))


def _better(seen: Findings, way: Way, foreseen: Foreseen, has_own_split: bool) -> Way | None:
    """Return the way to go on if a plan falls short of what was asked, None if it does not, or if nothing can be left out."""
    if foreseen.clips == 0 or foreseen.rejected_share > _MOST_REJECTED:
        return _step_back(seen, way, f"a build would reject most of it: {foreseen.reasons}")
    if foreseen.empty_splits:
        names = ", ".join(foreseen.empty_splits)
        if has_own_split:
            return replace(way, has_own_split=False, notes=(*way.notes, f"the corpus's own split leaves {names} empty"))
        if way.has_split:
            return replace(way, has_split=False, notes=(*way.notes, f"no split: {names} would be empty"))
    allowed = way.rejected_share or _allowed(seen)
    if foreseen.rejected_share > allowed:
        share = math.ceil(100 * foreseen.rejected_share + 1) / 100
        return replace(way, rejected_share=share, notes=(*way.notes, f"a build will reject: {foreseen.reasons}"))
    return None


def _allowed(seen: Findings) -> float:
    return max(_USUAL_SHARE, 2 * seen.headers.unread_share) if seen.headers.unread else _USUAL_SHARE


def _step_back(seen: Findings, way: Way, why: str, blames_own_split: bool = False) -> Way | None:
    """Return a way that leaves more out: first the split, if that is what is wrong, then annotations one after the other, then labels."""
    short = " ".join(why.split())[:400]
    if blames_own_split:
        return replace(way, has_own_split=False, notes=(*way.notes, f"the corpus's own split is not used: {short}"))
    if way.use is not None:
        notes = (*way.notes, f"{seen.found[way.use].where!r} is not used: {short}")
        further = _first(seen, way.use + 1, notes)
        return replace(
            way, use=further.use, rejected_share=None, beyond_share=further.beyond_share, notes=further.notes
        )
    if way.has_labels:
        return replace(way, has_labels=False, notes=(*way.notes, f"labels from names are not used: {short}"))
    if way.has_split:
        return replace(way, has_split=False, notes=(*way.notes, f"no split: {short}"))
    return None
