"""Choose the side of the split for each clip: by a field's value, by its hash, or by its rank among all values.

The side depends on the corpus and the configuration, never on what was published before.
"""

from __future__ import annotations

import decimal
import math
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction

from clipmill.pipelines.plan.refused import RefusedError
from clipmill.schemas.config import Config
from clipmill.schemas.config.split_config import Split
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.keys import position_hash
from clipmill.stages.annotations.rows import field_name

_SHOWN = 3
_AFTER_ALL = (2**64, "")
_EXACT = decimal.Context(prec=50)
_NEAR = 1e-9
"""Costs whose relative difference is smaller are compared exactly. Logarithms differ between machines by about 1e-16."""


class SplitRule:
    """Choose the split of a clip from one value alone, so that it never changes as the corpus grows.

    n_without : number of clips so far without the value that decides
    """

    def __init__(self, split: Split) -> None:
        self._field = split.field
        self._stored = field_name(self._field) if self._field is not None else ""
        self._map = (split.map or {}) if split.from_ is not None else None
        self._default = split.default
        self._shares = list(split.shares.items())
        self._positive = [(name, share) for name, share in self._shares if share > 0]
        self._rendezvous = split.method == "rendezvous"
        self.n_without = 0

    @property
    def lists_digest(self) -> str:
        """Digest of what the lists of recordings say; empty without lists."""
        return ""

    @property
    def first(self) -> str:
        """The split of a recording without usable rows."""
        if self._map is not None:
            return [*self._map.values(), *([self._default] if self._default else [])][0]
        return self._shares[0][0]

    def group(self, recording_id: str, fields: dict[str, str], label: str | None) -> str:
        """Return the value that decides: clips with the same value are on the same side. Raises RefusedError if it is missing."""
        name = self._field
        if name is None:
            return recording_id
        value = fields.get(self._stored) or fields.get(name) or (label if name == "label" else None)
        if not value:
            self.n_without += 1
            raise RefusedError("split_field_missing", f"no value for {name!r}, which decides the split")
        return value

    def choose(self, recording_id: str, fields: dict[str, str], label: str | None) -> str:
        """Return a clip's split. Raises RefusedError if the value that decides is missing or not mapped."""
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
            return rendezvous(value, self._positive)
        point = position_hash(f"split:{value}") / 2**64
        for split, share in self._shares:
            point -= share
            if point < 0:
                return split
        return self._positive[-1][0]


class Survey(SplitRule):
    """Read all clips of a corpus before any gets its side, for `balance` and `stratify`."""

    def __init__(self, split: Split) -> None:
        super().__init__(split)
        self._split = split
        self._stratum: dict[str, str | None] = {}
        self._torn: dict[str, set[str]] = {}

    def choose(self, recording_id: str, fields: dict[str, str], label: str | None) -> str:
        """Record the group and the label of a clip, and return any split."""
        value = self.group(recording_id, fields, label)
        stratum = (label or None) if self._split.stratify is not None else None
        known = self._stratum.setdefault(value, stratum)
        if known != stratum:
            self._torn.setdefault(value, {known or "(none)"}).add(stratum or "(none)")
        return self.first

    def rule(self) -> SplitRule:
        """Return the rule for the corpus that was surveyed.

        Raises
        ------
        ClipmillError : a group has several labels, so that labels cannot be divided separately
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
                f" {'; '.join(examples)}{'; ...' if len(self._torn) > _SHOWN else ''}. All clips of one {what} are on the same side, so"
                " labels cannot be divided separately; split `by` something that has one label, or write `balance: true` instead of"
                " `stratify`"
            )
        return _Cut(self._split, self._stratum)


class _Cut(SplitRule):
    """Sort the values of each stratum by hash and cut the list at the shares. Only the borders are kept."""

    def __init__(self, split: Split, stratum_of: dict[str, str | None]) -> None:
        super().__init__(split)
        self._stratified = split.stratify is not None
        strata: dict[str | None, list[tuple[int, str]]] = {}
        for value, stratum in stratum_of.items():
            strata.setdefault(stratum, []).append(_position(value))
        self._borders: dict[str | None, list[tuple[int, str]]] = {}
        for stratum, positions in strata.items():
            positions.sort()
            cuts = cut_points([share for _, share in self._positive], len(positions))
            self._borders[stratum] = [positions[c] if c < len(positions) else _AFTER_ALL for c in cuts]

    def _side(self, value: str, label: str | None) -> str:
        borders = self._borders.get((label or None) if self._stratified else None)
        if borders is None:
            raise ClipmillError(
                f"split.stratify: no clip had the label {label!r} when the sources were first read: an annotation file or a folder"
                " changed meanwhile; run the command again"
            )
        return self._positive[bisect_right(borders, _position(value))][0]


def _position(value: str) -> tuple[int, str]:
    return position_hash(f"split:{value}"), value


def cut_points(shares: Sequence[float], n_groups: int) -> list[int]:
    """Return where a sorted list of groups is cut: for each border between two sides, the number of groups before it.

    Each side gets its share, rounded to whole groups, and at least one group. If there are fewer groups than sides, the sides with
    the largest shares get one each. Adding a group moves each border by one at most.

    Parameters
    ----------
    shares : one per side, in order, each above 0
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
    """Return a value's split by weighted rendezvous hashing: each split draws a number, and the lowest cost wins.

    The cost is -ln(u) / share, where u in (0, 1) is a hash of the split and the value. When shares change, a value moves only
    to a split whose share grew by a larger factor than that of the split it leaves.

    Parameters
    ----------
    shares : splits and their shares, each above 0
    """
    # 53 bits, never 0 or 1: the float is the same on every machine.
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
    """Return the split of one clip; see `SplitRule.choose`. Raises ClipmillError if the split depends on the whole corpus."""
    if config.split.needs_survey or config.split.from_files is not None:
        raise ClipmillError(
            "with split.balance, split.stratify and split.from_files, the side of a clip depends on more than the clip"
        )
    return SplitRule(config.split).choose(recording_id, fields, label)
