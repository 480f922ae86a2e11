"""Read several labels from one text, or from columns that are labels."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from clipmill.pipelines.plan.refused import RefusedError
from clipmill.schemas.config.model import did_you_mean
from clipmill.stages.annotations.rows import Row, field_name

SEPARATOR = ","
THRESHOLD = 0.5
_SHOWN = 10
_TRUTHS = {"true": 1.0, "false": 0.0}
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?")
_QUOTED = r"""'(?:[^'\\]|\\['\\])*'|"(?:[^"\\]|\\["\\])*\""""
_PYTHON_LIST = re.compile(rf"\[\s*(?:(?:{_QUOTED})\s*(?:,\s*(?:{_QUOTED})\s*)*,?)?\s*\]")
_ONE = re.compile(_QUOTED)


def texts_of(text: str, separator: str = SEPARATOR) -> list[str]:
    """Return the labels in a text, each once, in their order.

    A JSON array of texts and numbers is read as such, and so is a list as Python and pandas write it, ``['a', 'b']``. Any other text is cut
    at the separators; parts without text are no labels.

    Raises
    ------
    RefusedError : the text is a JSON array of other things
    """
    found = _array(text) if text.startswith("[") and text.endswith("]") else None
    parts = [part.strip() for part in (text.split(separator) if found is None else found)]
    return list(dict.fromkeys(part for part in parts if part))


def _array(text: str) -> list[str] | None:
    """Return the members of a list in JSON or Python's notation; None if the text is neither."""
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        if _PYTHON_LIST.fullmatch(text) is None:
            return None
        return [re.sub(r"\\(.)", r"\1", quoted[1:-1]) for quoted in _ONE.findall(text)]
    if any(isinstance(m, bool) or not isinstance(m, str | int | float) for m in members):
        raise RefusedError("label_not_a_list", f"{text[:80]!r} is a JSON array, and not all of its members are texts")
    return [str(m) for m in members]


class OneHot:
    """Read labels from columns, each of which is a label.

    columns : their names, or patterns with * and ?
    threshold : least number that sets a label
    """

    def __init__(self, columns: Sequence[str], threshold: float) -> None:
        self._columns, self._threshold = columns, threshold
        self._places = lru_cache(1000)(self._find)  # a million rows have few sets of names
        self.fields_of = lru_cache(1000)(self._fields_of)

    def texts_of(self, row: Row) -> list[str]:
        """Return the labels of a row, in the order of their columns.

        Raises
        ------
        RefusedError : a column is not there, or its value is neither a number nor true or false
        """
        values = row.fields
        labels = []
        for name, label in self._places(row.names).items():
            text = values[name].strip()
            number = _TRUTHS.get(text.lower())
            if number is None and _NUMBER.fullmatch(text) is not None:
                number = float(text)
            if number is None:
                raise RefusedError(
                    "label_not_a_number", f"{label} is {text[:50]!r}; expected 0, 1, true, false or another number"
                )
            if number >= self._threshold:
                labels.append(label)
        return labels

    def _find(self, names: tuple[str, ...]) -> dict[str, str]:
        """Return the labels by the names of a row's fields that are their columns. Raises RefusedError if a column is not there."""
        written = {name: _written(name) for name in names}
        found: dict[str, str] = {}
        for column in self._columns:
            own = {name: label for name, label in written.items() if _fits(label, column)}
            if not own:
                what = "no column fits" if _is_pattern(column) else "no column is called"
                known = ", ".join(list(written.values())[:_SHOWN])
                raise RefusedError(
                    "label_column_missing",
                    f"{what} {column!r}{did_you_mean(column, written.values())}; the row's fields are {known or 'none'}",
                )
            found |= own
        return found

    def _fields_of(self, names: tuple[str, ...]) -> frozenset[str]:
        """Return those of the names of fields that are columns of labels."""
        return frozenset(name for name in names if any(_fits(_written(name), column) for column in self._columns))


def _written(name: str) -> str:
    """Return the name of a field as the corpus has it; see `field_name`."""
    plain = name.removeprefix("annotation_")
    return plain if field_name(plain) == name else name


def _is_pattern(column: str) -> bool:
    return "*" in column or "?" in column


def _fits(name: str, column: str) -> bool:
    return fnmatchcase(name, column.replace("[", "[[]")) if _is_pattern(column) else name == column
