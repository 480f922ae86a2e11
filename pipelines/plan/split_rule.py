"""The split's rule: on which side a clip stands, by a field's value, by its hash, or by its place among all values.

The side is a function of the corpus and the configuration, never of what was published before.
"""

from __future__ import annotations

import decimal
import math
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction

from clipmill.pipelines.plan.annotations.rows import field_name
from clipmill.pipelines.plan.refused import RefusedError
from clipmill.schemas.config import Config
from clipmill.schemas.config.split_config import Split
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.keys import position_hash

_SHOWN = 3
_BEHIND_ALL = (2**64, "")
_EXACT = decimal.Context(prec=50)
_NEAR = 1e-9
"""Costs that are apart by less than this share are compared exactly. The logarithms of two machines differ by some 1e-16."""


class SplitRule:
    """Says on which split a clip stands. It depends on one value alone, so it never changes as the corpus grows.

    n_without : of how many clips the value that decides was missing so far
    """

    def __init__(self, split: Split) -> None:
        self._field = split.field
        self._stored = field_name(self._field) if self._field is not None else ""
        self._map = (split.map or {}) if split.from_ is not None else None
        self._default = split.default
        self._shares = list(split.shares.items())
        self._asked = [(name, share) for name, share in self._shares if share > 0]
        self._rendezvous = split.method == "rendezvous"
        self.n_without = 0

    @property
    def first(self) -> str:
        """The split of a recording that no row gives one."""
        if self._map is not None:
            return [*self._map.values(), *([self._default] if self._default else [])][0]
        return self._shares[0][0]

    def group(self, recording_id: str, fields: dict[str, str], label: str | None) -> str:
        """Return the value that decides: clips that have it in common stand on one side. Raises RefusedError when it is missing."""
        name = self._field
        if name is None:
            return recording_id
        value = fields.get(self._stored) or fields.get(name) or (label if name == "label" else None)
        if not value:
            self.n_without += 1
            raise RefusedError("split_field_missing", f"no value for {name!r}, which decides the split")
        return value

    def choose(self, recording_id: str, fields: dict[str, str], label: str | None) -> str:
        """Return a clip's split. Raises RefusedError when the value that decides is missing or not mapped."""
        value = self.group(recording_id, fields, label)
        if self._map is not None:
            mapped = self._map.get(value, self._default)
            if mapped is None:
                raise RefusedError("split_not_mapped", f"{self._field} is {value!r}")
            return mapped
        return self._side(value, label)

    def _side(self, value: str, label: str | None) -> str:
        if len(self._shares) == 1:
            return self._shares[0][0]
        if self._rendezvous:
            return rendezvous(value, self._asked)
        point = position_hash(f"split:{value}") / 2**64
        for split, share in self._shares:
            point -= share
            if point < 0:
                return split
        return self._asked[-1][0]


class Survey(SplitRule):
    """Looks at all clips of a corpus before any of them gets its side, for `balance` and `stratify`."""

    def __init__(self, split: Split) -> None:
        super().__init__(split)
        self._split = split
        self._stratum: dict[str, str | None] = {}
        self._torn: dict[str, set[str]] = {}

    def choose(self, recording_id: str, fields: dict[str, str], label: str | None) -> str:
        """Take note of a clip, and return any split."""
        value = self.group(recording_id, fields, label)
        stratum = (label or None) if self._split.stratify is not None else None
        known = self._stratum.setdefault(value, stratum)
        if known != stratum:
            self._torn.setdefault(value, {known or "(none)"}).add(stratum or "(none)")
        return self.first

    def rule(self) -> SplitRule:
        """Return the rule for the corpus that was looked at.

        Raises
        ------
        ClipmillError : groups have several labels, and each label is to be divided by itself
        """
        if self._torn:
            what = "recording" if self._field is None else f"value of {self._field!r}"
            named = what if len(self._torn) == 1 else what.replace("recording", "recordings").replace("value", "values")
            examples = [
                f"{group!r} ({', '.join(map(repr, sorted(labels)[:_SHOWN]))}{', ...' if len(labels) > _SHOWN else ''})"
                for group, labels in sorted(self._torn.items())[:_SHOWN]
            ]
            raise ClipmillError(
                f"split.stratify: {len(self._torn):,} {named} {'has' if len(self._torn) == 1 else 'have'} clips of several labels:"
                f" {'; '.join(examples)}{'; ...' if len(self._torn) > _SHOWN else ''}. All clips of one {what} stand on one side, so labels"
                " cannot be divided each by itself; split `by` something that has one label, or write `balance: true` instead of"
                " `stratify`"
            )
        return _Cut(self._split, self._stratum)


class _Cut(SplitRule):
    """Values sorted by hash, within each stratum, and the list cut at the shares. Only the borders are kept."""

    def __init__(self, split: Split, stratum_of: dict[str, str | None]) -> None:
        super().__init__(split)
        self._stratified = split.stratify is not None
        strata: dict[str | None, list[tuple[int, str]]] = {}
        for value, stratum in stratum_of.items():
            strata.setdefault(stratum, []).append(_position(value))
        self._borders: dict[str | None, list[tuple[int, str]]] = {}
        for stratum, positions in strata.items():
            positions.sort()
            cuts = cut_points([share for _, share in self._asked], len(positions))
            self._borders[stratum] = [positions[c] if c < len(positions) else _BEHIND_ALL for c in cuts]

    def _side(self, value: str, label: str | None) -> str:
        borders = self._borders.get((label or None) if self._stratified else None)
        if borders is None:
            raise ClipmillError(
                f"split.stratify: the label {label!r} was not there when the sources were first read: an annotation file or a folder"
                " changed meanwhile; run it again"
            )
        return self._asked[bisect_right(borders, _position(value))][0]


def _position(value: str) -> tuple[int, str]:
    return position_hash(f"split:{value}"), value


def cut_points(shares: Sequence[float], n_groups: int) -> list[int]:
    """Return where a sorted list of groups is cut: for each border between two sides, how many groups stand before it.

    Each side has its share to the nearest group, and at least one group. Where there are fewer groups than sides, the sides with
    the largest shares have one each. One more group moves no border, or moves it by one.

    Parameters
    ----------
    shares : of the sides in their order, each over 0
    """
    # Fractions, since a sum of floats may fall on either side of a half.
    exact = [Fraction(repr(float(share))) for share in shares]
    n_sides, total = len(exact), sum(exact)
    if n_groups < n_sides:
        served = sorted(range(n_sides), key=lambda k: (-exact[k], k))[:n_groups]
        return [sum(k < border for k in served) for border in range(1, n_sides)]
    cuts: list[int] = []
    before = 0
    for border in range(1, n_sides):
        nearest = math.floor(sum(exact[:border]) / total * n_groups + Fraction(1, 2))
        before = min(max(nearest, before + 1), n_groups - n_sides + border)
        cuts.append(before)
    return cuts


def rendezvous(value: str, shares: Sequence[tuple[str, float]]) -> str:
    """Return a value's split by weighted rendezvous hashing: each split draws a number for it, and the least cost wins.

    The cost is -ln(u) / share, u being the split's and the value's own hash in (0, 1). When shares change, a value moves only
    to a split whose share grew by a greater factor than that of the split that it leaves.

    Parameters
    ----------
    shares : split and share, each over 0
    """
    # 53 bits that are never 0 or 1: every machine has the same float.
    draws = [(((position_hash(f"split:{name}:{value}") >> 12) * 2 + 1) / 2**53, share, name) for name, share in shares]
    costs = [-math.log(u) / share for u, share, _ in draws]
    least = min(costs)
    near = [draw for draw, cost in zip(draws, costs, strict=True) if cost <= least * (1 + _NEAR)]
    if len(near) == 1:
        return near[0][2]
    return min(
        (_EXACT.divide(-_EXACT.ln(decimal.Decimal(u)), decimal.Decimal(share)), name) for u, share, name in near
    )[1]


def choose_split(config: Config, recording_id: str, fields: dict[str, str], label: str | None) -> str:
    """Return the split of one clip; see `SplitRule.choose`. Not for a split that all of a corpus decides."""
    if config.split.needs_survey:
        raise ClipmillError("with split.balance and split.stratify, the side of a clip depends on the whole corpus")
    return SplitRule(config.split).choose(recording_id, fields, label)
