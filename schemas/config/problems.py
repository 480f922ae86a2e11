"""What pydantic finds in a configuration, in words: each thing once, with its key, its line, and what to write instead."""

from __future__ import annotations

import re
import types
import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from clipmill.schemas.config import Config
from clipmill.schemas.config.model import did_you_mean, nearest
from clipmill.schemas.config.yaml_document import Document, KeyPath, format_path
from clipmill.schemas.errors import Problem

_FEW = 2
_OF_TEXT = ("string_type", "literal_error", "string_pattern_mismatch")
"""Kinds of problems of values that should be text."""
_NO_SPACE = re.compile(r"[\w-]+:\S")


def explain(error: ValidationError, document: Document) -> list[Problem]:
    """Return what is wrong with a document, one problem a place.

    What follows from something else is left out: a key that is missing since it is misspelt, and whatever is found at or around a
    value that is broken already.
    """
    found: dict[KeyPath, list[Any]] = {}
    for item in error.errors(include_url=False):
        path = _known_path(item["loc"], document, item["type"] in ("extra_forbidden", "missing"))
        found.setdefault(path, []).append(item)
    meant = {
        (*path[:-1], near)
        for path, items in found.items()
        if items[0]["type"] == "extra_forbidden"
        and (near := nearest(str(path[-1]), keys_at(Config, path[:-1]))) is not None
    }
    problems = []
    for path, items in found.items():
        unknown = items[0]["type"] == "extra_forbidden"
        if any(b[: len(path)] == path or path[: len(b)] == b for b in document.broken if not (unknown and b == path)):
            continue
        if items[0]["type"] == "missing" and path in meant:
            continue
        problems.append(_problem(path, items, document))
    return problems


def find_misspelt_features(document: Document) -> list[Problem]:
    """Return the keys of `features` that are nearly one of its own. All others name stages, which are looked up later."""
    given = document.data.get("features") if isinstance(document.data, dict) else None
    known = keys_at(Config, ("features",))
    return [
        Problem(
            "config.unknown_key",
            f"unknown key; did you mean {near!r}?",
            f"features.{key}",
            document.file,
            document.line(("features", key)),
        )
        for key in (given if isinstance(given, dict) else ())
        if key not in known and (near := nearest(str(key), known)) is not None
    ]


def key_path(key: str) -> KeyPath:
    """Return the path of a key that is written as ``sources[0].segment.mode``."""
    return tuple(int(p[1:-1]) if p.startswith("[") else p for p in re.findall(r"\[\d+\]|[^.\[\]]+", key))


def _problem(path: KeyPath, items: list[Any], document: Document) -> Problem:
    first = items[0]
    kind, key, line = first["type"], format_path(path), document.line(path)
    if kind == "extra_forbidden":
        return Problem("config.unknown_key", f"unknown key; {_hint(path)}", key, document.file, line)
    if kind == "missing":
        return Problem("config.missing_key", "is missing and has no default", key, document.file, line)
    message = describe_problem(first)
    if message.startswith("@"):
        _, key, message = message.split("@", 2)
        line = document.line(key_path(key))
    wanted = [i["msg"].removeprefix("Input should be ") for i in items if i["msg"].startswith("Input should be ")]
    if len(wanted) == len(items) > 1:  # of a union, whose branches report one each
        message = _plain_words(f"expected {' or '.join(dict.fromkeys(wanted))}")
    if kind == "model_type":
        example = getattr(_model_at(Config, path), "example", "")
        keys = ", ".join(keys_at(Config, path))
        message = f"expected a map, as in {example}" if example else f"expected a map; known here: {keys}"
        if isinstance(first["input"], str) and _NO_SPACE.match(first["input"]):
            message += "; a space is missing behind the colon"
    if kind == "less_than_equal" and first["ctx"].get("le") == 1 and (path[0] == "split" or "share" in str(path[-1])):
        message += "; a share is a fraction of 1: 0.8 for 80 %"
    if path[:2] == ("split", "map") and kind == "string_type" and _is_number(first["input"]):
        turned = f"{{{first['input']}: {path[-1]}}}"
        message = f"expected the name of a split: the map is {{VALUE: SPLIT}}, and the other way round it is {turned}"
    if not kind.startswith("value_error"):
        message += document.read_as(path, any(i["type"] in _OF_TEXT for i in items))
    return Problem("config.invalid_value", message, key, document.file, line)


def describe_problem(item: Any) -> str:
    """Return what pydantic says of one value, without its own terms. item : of `ValidationError.errors`"""
    if (known := _BY_TYPE.get(item["type"])) is not None:
        return known
    message = _plain_words(item["msg"].removeprefix("Value error, ").replace("Input should be", "expected"))
    if item["type"] == "literal_error":
        message += did_you_mean(item["input"], re.findall(r"'(\w+)'", str(item.get("ctx", {}).get("expected"))))
    return message


_BY_TYPE = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "list_type": "expected a list, as in [x, y]",
    "dict_type": "expected a map, as in {key: value}",
    "string_type": "expected text",
    "string_pattern_mismatch": "expected a name of up to 64 letters, digits, - and _, a letter or digit first",
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_PYDANTICS = {
    r"a valid integer(, unable to parse string as an integer)?": "a whole number",
    r"a valid number(, unable to parse string as a number)?": "a number",
    r"a valid boolean(, unable to interpret input)?": "true or false",
    r"a valid string": "text",
    r"a valid list": "a list",
    r"a valid dictionary": "a map",
}


def _plain_words(message: str) -> str:
    for pattern, words in _PYDANTICS.items():
        message = re.sub(pattern, words, message)
    return message


def _hint(path: KeyPath) -> str:
    """Return what to write instead of an unknown key."""
    given, known = str(path[-1]), keys_at(Config, path[:-1])
    if (near := nearest(given, known)) is not None:
        return f"did you mean {near!r}?"
    if re.match(r"[\w-]+:\S", given) and given.split(":", 1)[0] in known:
        return "a space is missing behind the colon; write `key: value`"
    if given in keys_at(Config, ()):
        return f"`{given}` belongs at the top of the file, beside `sources`"
    elsewhere = [place for place in _places_of(given, Config, "") if place]
    if 1 <= len(elsewhere) <= _FEW:
        return f"it belongs under {' or '.join(f'`{place}`' for place in elsewhere)}"
    return f"known here: {', '.join(known)}"


def _places_of(key: str, model: Any, place: str) -> list[str]:
    """Return under which keys of the configuration a key is known."""
    found = []
    for name, annotation in _model_fields(model).items():
        if name == key:
            found.append(place)
        if (inner := _inner_model(annotation)) is not None:
            found += _places_of(key, inner, f"{place}.{name}" if place else name)
    return found


def _known_path(loc: tuple[str | int, ...], document: Document, absent: bool) -> KeyPath:
    """Drop the parts of an error's place that name a branch of a union rather than a key of the file.

    absent : the last part is a key that is not in the file, or not known
    """
    path: KeyPath = ()
    value: Any = document.data
    for i, part in enumerate(loc):
        inside = (
            part in value
            if isinstance(value, dict)
            else isinstance(part, int) and isinstance(value, list) and part < len(value)
        )
        if inside:
            value = value[part]
            path = (*path, part)
        elif absent and i == len(loc) - 1 and isinstance(value, dict):
            path = (*path, part)
    return path


def keys_at(model: Any, path: KeyPath) -> list[str]:
    """Return the keys that the configuration knows at a place."""
    found = _model_at(model, path)
    return list(_model_fields(found)) if found is not None else []


def _model_at(model: Any, path: KeyPath) -> Any:
    """Return which part of the configuration a place is, None for none."""
    for part in path:
        if isinstance(part, int):
            continue
        annotation = _model_fields(model).get(str(part))
        model = _inner_model(annotation) if annotation is not None else None
        if model is None:
            return None
    return model


def _model_fields(model: Any) -> dict[str, Any]:
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (list, typing.Union, types.UnionType, typing.Annotated):
        return next((m for m in map(_inner_model, typing.get_args(annotation)) if m is not None), None)
    return None
