"""Recognise a well-known corpus by its layout: the recipe whose patterns fit the recordings, or whose tables are there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import regex
import yaml

from clipmill.pipelines.plan.path_patterns import Patterns

_LOOKED_AT = 1000
_NEARLY_ALL = 0.9
_FEWEST_GROUPS = 2
_VARIABLE = re.compile(r"\$\{[A-Z]+(?::-([^}]*))?\}")
_TIMEOUT_S = 0.5
_OFTEN = frozenset(("metadata.csv", "train.csv", "train.tsv", "meta.csv", "labels.csv"))
"""Names of tables that many corpora have."""


@dataclass(frozen=True)
class FittingRecipe:
    """A recipe that fits a folder.

    label, fields : of its source, where they are patterns of paths that nearly all recordings fit; else None
    by : what its split keeps together
    because : what fits
    """

    name: str
    label: dict[str, Any] | None
    fields: str | None
    by: str | None
    because: str


def fitting_recipe(recipes: Mapping[str, str], paths: Sequence[str], others: Sequence[str]) -> FittingRecipe | None:
    """Return the recipe that fits best, None if none does.

    Parameters
    ----------
    recipes : texts by name
    paths, others : of recordings, and of other files
    """
    some = list(paths[:: max(1, len(paths) // _LOOKED_AT)])
    known = set(others)
    best: tuple[float, FittingRecipe] | None = None
    for name, text in sorted(recipes.items()):
        found = _fit(name, _parsed(text), some, known)
        if found is not None and (best is None or found[0] > best[0]):
            best = found
    return best[1] if best is not None else None


@cache
def _parsed(text: str) -> Any:
    return yaml.safe_load(text)


def _fit(name: str, config: dict[str, Any], paths: list[str], others: set[str]) -> tuple[float, FittingRecipe] | None:
    source = config["sources"][0]
    below = _filled(source["root"]).strip("/")
    here = [path for path in paths if not below or path.startswith(f"{below}/")]
    here = [path[len(below) + 1 :] if below else path for path in here]
    patterns = Patterns([_filled(p) for p in source.get("include", ["**/*"])], source.get("exclude", []))
    included = [path for path in here if patterns.match(path)]
    if len(included) < 0.5 * len(paths) or (below and not here):
        return None
    label = source.get("label")
    label = label if isinstance(label, dict) and label.get("from") == "path" else None
    fields = source.get("fields")
    tables = [_filled(one["annotations"]["table"]) for one in config["sources"] if _has_table(one)]
    score, because = 0.0, []
    for pattern in (label["regex"] if label else None, fields):
        if pattern is None:
            continue
        share = _share(pattern, included)
        if share < _NEARLY_ALL:
            return None
        if len(regex.compile(pattern).groupindex) >= _FEWEST_GROUPS:
            score += len(regex.compile(pattern).groupindex)
            because.append(f"{share:.0%} of the names fit its pattern {pattern!r}")
    if tables:
        if not all(table in others for table in tables):
            return None
        is_own = not all(table.rpartition("/")[2] in _OFTEN for table in tables) or "include" in source
        score += 3 if is_own else 0
        because.append(f"it has {', '.join(map(repr, tables))}")
    elif isinstance(source.get("annotations"), dict) and not score:
        return None
    if score < _FEWEST_GROUPS:
        return None
    by = config.get("split", {}).get("by")
    own = not below
    return score, FittingRecipe(
        name, label if own else None, fields if own else None, by if by != "recording" else None, "; ".join(because)
    )


def _has_table(source: Mapping[str, Any]) -> bool:
    given = source.get("annotations")
    return isinstance(given, dict) and isinstance(given.get("table"), str) and "*" not in given["table"]


def _filled(text: str) -> str:
    return _VARIABLE.sub(lambda match: match[1] or "", text)


def _share(pattern: str, paths: Sequence[str]) -> float:
    compiled = regex.compile(pattern)
    try:
        fitting = sum(compiled.search(path, timeout=_TIMEOUT_S) is not None for path in paths)
    except TimeoutError:
        return 0.0
    return fitting / max(1, len(paths))
