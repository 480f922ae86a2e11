"""Turn the plain data of JSON into records, and name what does not fit."""

from __future__ import annotations

from dataclasses import MISSING
from typing import Any, TypeVar

from clipmill.schemas.errors import BadRecordError

_NUMBER = (int, float)
_TYPES: dict[str, tuple[Any, Any]] = {
    "int": (int, None),
    "float": (_NUMBER, None),
    "str": (str, None),
    "list[str]": (list, str),
    "list[int]": (list, int),
    "list[float]": (list, _NUMBER),
    "list[dict[str, Any]]": (list, dict),
    "dict[str, Any]": (dict, None),
    "dict[str, int]": (dict, int),
    "dict[str, float]": (dict, _NUMBER),
    "dict[str, str]": (dict, str),
    "dict[str, dict[str, float]]": (dict, dict),
    "dict[str, dict[str, dict[str, float]]]": (dict, dict),
}
T = TypeVar("T")


def as_object(plain: Any, place: str = "") -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise BadRecordError(f"{f'{place} should be' if place else 'it should hold'} an object with keys and values")
    return plain


def parse(kind: type[T], plain: Any, place: str = "") -> T:
    """Return plain data as a record. place : the data's key in the file. Raises BadRecordError."""
    values, about = as_object(plain, place), kind.__dataclass_fields__  # type: ignore[attr-defined]
    at = f"{place}." if place else ""
    if unknown := [name for name in values if name not in about]:
        raise BadRecordError(f"{at}{unknown[0]} is an unknown key")
    required = [n for n, f in about.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in values]:
        raise BadRecordError(f"{at}{missing[0]} is missing")
    return _check_types(kind(**values), at)


def _check_types(record: T, at: str = "") -> T:
    """Return the record itself. Raises BadRecordError when a field or one of its values has the wrong type."""
    for name, about in record.__dataclass_fields__.items():  # type: ignore[attr-defined]
        outer, inner = _TYPES.get(about.type, (object, None))
        value = getattr(record, name)
        inside = value.values() if isinstance(value, dict) else value
        if not isinstance(value, outer) or (inner is not None and not all(isinstance(v, inner) for v in inside)):
            raise BadRecordError(f"{at}{name} should be {_type_name(about.type)}")
    return record


def _type_name(kind: str) -> str:
    """Return the name of a field's type in the words of JSON."""
    one = {"int": "a whole number", "float": "a number", "str": "text"}
    many = {"int": "whole numbers", "float": "numbers", "str": "texts", "Any": "values"}
    outer, _, inner = kind.removesuffix("]").partition("[")
    if outer == "list":
        return f"a list of {many.get(inner, 'objects')}"
    return f"an object of {many.get(inner.partition(', ')[2], 'objects')}" if outer == "dict" else one.get(kind, kind)
