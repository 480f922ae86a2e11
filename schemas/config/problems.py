"""Turn pydantic's errors about a configuration into messages: one per mistake, with key, line and what to write instead."""

from __future__ import annotations

import re
import types
import typing
from typing import Any

from pydantic import BaseModel, RootModel, ValidationError

from clipmill.schemas.config import Config
from clipmill.schemas.config.model import did_you_mean, nearest
from clipmill.schemas.config.yaml_document import Document, KeyPath, format_path
from clipmill.schemas.errors import Problem

_FEW = 2
_OF_TEXT = ("string_type", "literal_error", "string_pattern_mismatch")
"""Pydantic's error types for values that should be text."""
_NO_SPACE = re.compile(r"[\w-]+:\S")


def explain(error: ValidationError, document: Document) -> list[Problem]:
    """Return what is wrong with a document, one problem per place.

    Consequences of other mistakes are left out: a key that is missing because it is misspelt, and errors at or around a value that
    is already reported as invalid.
    """
    errors: dict[KeyPath, list[Any]] = {}
    for item in error.errors(include_url=False):
        path = _known_path(item["loc"], document, item["type"] in ("extra_forbidden", "missing"))
        errors.setdefault(path, []).append(item)
    misspelt = {
        (*path[:-1], near)
        for path, items in errors.items()
        if items[0]["type"] == "extra_forbidden"
        and (near := nearest(str(path[-1]), keys_at(Config, path[:-1]))) is not None
    }
    problems = []
    for path, items in errors.items():
        unknown = items[0]["type"] == "extra_forbidden"
        if any(b[: len(path)] == path or path[: len(b)] == b for b in document.broken if not (unknown and b == path)):
            continue
        if items[0]["type"] == "missing" and path in misspelt:
            continue
        problems.append(_problem(path, items, document))
    return problems


def find_misspelt_features(document: Document) -> list[Problem]:
    """Return the problems of keys of `features` that resemble known ones. Other unknown keys name stages, which are looked up later."""
    section = document.data.get("features") if isinstance(document.data, dict) else None
    known = keys_at(Config, ("features",))
    return [
        Problem(
            "config.unknown_key",
            f"unknown key; did you mean {near!r}?",
            f"features.{key}",
            document.file,
            document.line(("features", key)),
        )
        for key in (section if isinstance(section, dict) else ())
        if key not in known and (near := nearest(str(key), known)) is not None
    ]


def key_path(key: str) -> KeyPath:
    """Return the path of a key written as ``sources[0].segment.mode``."""
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
    alternatives = [i["msg"].removeprefix("Input should be ") for i in items if i["msg"].startswith("Input should be ")]
    if len(alternatives) == len(items) > 1:  # each branch of a union reports one
        message = _plain_words(f"expected {' or '.join(dict.fromkeys(alternatives))}")
    if kind == "model_type":
        example = getattr(_model_at(Config, path), "example", "")
        keys = ", ".join(keys_at(Config, path))
        message = f"expected a map, as in {example}" if example else f"expected a map; known here: {keys}"
        if isinstance(first["input"], str) and _NO_SPACE.match(first["input"]):
            message += "; a space is missing after the colon"
    if kind == "less_than_equal" and first["ctx"].get("le") == 1 and (path[0] == "split" or "share" in str(path[-1])):
        message += "; a share is a fraction of 1: 0.8 for 80 %"
    if path[:2] == ("split", "map") and kind == "string_type" and _is_number(first["input"]):
        swapped = f"{{{first['input']}: {path[-1]}}}"
        message = f"expected the name of a split: the map is {{VALUE: SPLIT}}; did you mean {swapped}?"
    if not kind.startswith("value_error"):
        message += document.read_as(path, any(i["type"] in _OF_TEXT for i in items))
    return Problem("config.invalid_value", message, key, document.file, line)


def describe_problem(item: Any) -> str:
    """Return pydantic's message about one value in plain words. item : of `ValidationError.errors`"""
    if (text := _BY_TYPE.get(item["type"])) is not None:
        return text
    if item["type"] == "too_short":
        least = item["ctx"]["min_length"]
        return f"expected at least {least} {'entry' if least == 1 else 'entries'}"
    message = _plain_words(item["msg"].removeprefix("Value error, ").replace("Input should be", "expected"))
    if item["type"] == "literal_error":
        message += did_you_mean(item["input"], re.findall(r"'([\w-]+)'", str(item.get("ctx", {}).get("expected"))))
    return message


_BY_TYPE = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "list_type": "expected a list, as in [x, y]",
    "model_type": "expected a map, as in {key: value}, or true for the defaults",
    "dict_type": "expected a map, as in {key: value}",
    "string_type": "expected text",
    "string_pattern_mismatch": "expected a name of at most 64 letters, digits, - and _ that begins with a letter or digit",
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
    key, known = str(path[-1]), keys_at(Config, path[:-1])
    if (near := nearest(key, known)) is not None:
        return f"did you mean {near!r}?"
    if re.match(r"[\w-]+:\S", key) and key.split(":", 1)[0] in known:
        return "a space is missing after the colon; write `key: value`"
    if key in keys_at(Config, ()):
        return f"`{key}` belongs at the top level of the file, like `sources`"
    places = [place for place in _places_of(key, Config, "") if place]
    if 1 <= len(places) <= _FEW:
        return f"it belongs under {' or '.join(f'`{place}`' for place in places)}"
    return f"known here: {', '.join(known)}"


def _places_of(key: str, model: Any, place: str) -> list[str]:
    """Return the keys of the configuration under which a key is known."""
    places = []
    for name, annotation in _model_fields(model).items():
        if name == key:
            places.append(place)
        if (inner := _inner_model(annotation)) is not None:
            places += _places_of(key, inner, f"{place}.{name}" if place else name)
    return places


def _known_path(loc: tuple[str | int, ...], document: Document, absent: bool) -> KeyPath:
    """Return an error's place without the parts that name a branch of a union instead of a key of the file.

    absent : whether the last part is a key that is missing or unknown
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
    """Return the known keys at a place of the configuration."""
    inner = _model_at(model, path)
    return list(_model_fields(inner)) if inner is not None else []


def _model_at(model: Any, path: KeyPath) -> Any:
    """Return the model at a place of the configuration, None where there is none."""
    for part in path:
        if isinstance(part, int):
            continue
        if issubclass(model, RootModel):  # a map, whose keys are the user's
            annotation = typing.get_args(model.model_fields["root"].annotation)[-1]
        else:
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
