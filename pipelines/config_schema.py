"""The JSON Schema of configurations: what the models say, and what only stages and annotation formats know.

Editors complete and check configurations with it. It accepts whatever `load_config` accepts; what depends on several keys or on the
corpus, only `load_config` finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from clipmill.schemas.config import Config
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.errors import StageError
from clipmill.stages.annotations.format import COMMON_KEYS
from clipmill.stages.annotations.registered import MODULES, find_format
from clipmill.stages.lookup import find_stage, known_names, own_names
from clipmill.stages.stage import Scope

SCHEMA_FILE = Path(__file__).parent.parent / "schemas/clipmill.schema.json"
"""The schema of the stages and formats that are clipmill's own, as the package has it."""
DIALECT = "http://json-schema.org/draft-07/schema#"
"""What most editors know."""
_DEFINITIONS = "#/$defs/"
_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}
_MAY_BE_VARIABLE = {"x-variable": True}  # pydantic follows references, and knows only those to models
_FOREIGN = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
_SHOWN_BY_NO_EDITOR = ("title", "later")


class _Written(GenerateJsonSchema):
    """Generate schemas of values as YAML has them: any of them can be a text with ``${VAR}``, and numbers and truths can be in quotes."""

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return _or(super().int_schema(schema), {"type": "string", "pattern": r"^\s*[+-]?[\d_]+(\.0+)?\s*$"})

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return _or(super().float_schema(schema), {"type": "string", "pattern": r"^\s*[+-]?[\d_.]+([eE][+-]?\d+)?\s*$"})

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        texts = {
            "type": "string",
            "pattern": "^([tTyYfFnN01]|[tT][rR][uU][eE]|[fF][aA][lL][sS][eE]|[yY][eE][sS]|[nN][oO]|[oO][nN]|[oO][fF][fF])$",
        }
        return _or(super().bool_schema(schema), {"enum": [0, 1]}, texts)

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        return _or(super().literal_schema(schema))

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        text = super().str_schema(schema)
        return _or(text) if text.keys() > {"type"} else text


def _or(plain: JsonSchemaValue, *others: JsonSchemaValue) -> JsonSchemaValue:
    return {"anyOf": [plain, *others, _MAY_BE_VARIABLE]}


def config_schema(*, installed: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of configurations (draft 7).

    installed : also know the stages that other packages have registered in this environment
    """
    definitions: dict[str, Any] = {"variable": {"description": "filled in from the environment", **_VARIABLE}}
    top = _model(Config, definitions)
    _add_steps(top, definitions, installed)
    _add_features(definitions, installed)
    _add_annotations(definitions)
    _add_recordings(definitions)
    return {
        "$schema": DIALECT,
        "title": "clipmill",
        **_for_editors(top),
        "$defs": {name: _for_editors(definitions[name]) for name in sorted(definitions)},
    }


def _model(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a model, and add those that it refers to to the definitions."""
    mode: JsonSchemaMode = "validation"
    made = model.model_json_schema(
        by_alias=True, ref_template=_DEFINITIONS + "{model}", schema_generator=_Written, mode=mode
    )
    definitions.update(made.pop("$defs", {}))
    return made


def _names(scope: Scope, installed: bool) -> list[str]:
    return known_names(scope) if installed else own_names(scope)


def _settings(scope: Scope, installed: bool, definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each stage, and the schema of its settings, with the stage's purpose as its description."""
    for name in _names(scope, installed):
        try:
            kind = find_stage(name, scope).kind
        except StageError:  # another package's, for the other place, or it cannot be imported; builds tell that
            if name in own_names(scope):
                raise
            continue
        settings: dict[str, Any] = {"type": "object", "maxProperties": 0}
        if kind.settings is not None:
            made = _model(kind.settings, definitions)
            definitions[kind.settings.__name__] = made
            settings = {"$ref": _DEFINITIONS + kind.settings.__name__}
        lines = (kind.__doc__ or "").strip().splitlines()
        needs_none = kind.settings is None or _has_defaults(kind.settings)
        yield (
            name,
            {
                "description": lines[0] if lines else "",
                "anyOf": [settings, {"type": "null"}] if needs_none else [settings],
            },
        )


def _has_defaults(model: type[BaseModel]) -> bool:
    """Return whether settings can be left out: whether no key is required."""
    try:
        model.model_validate({})
    except ValueError:
        return False
    return True


def _add_steps(top: dict[str, Any], definitions: dict[str, Any], installed: bool) -> None:
    """Define the list of clip stages: entries are names, or maps of one name to its settings."""
    stages = dict(_settings("clip", installed, definitions))
    bare = [name for name, made in stages.items() if {"type": "null"} in made["anyOf"]]
    entry = {
        "anyOf": [
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "properties": stages,
                "patternProperties": {_FOREIGN: {"description": "settings of a stage of another package"}},
                "additionalProperties": False,
            },
            {"anyOf": [{"enum": bare}, {"type": "string", "pattern": _FOREIGN}, _MAY_BE_VARIABLE]},
        ]
    }
    definitions["clip_stages"] = {
        "description": "stages that clips go through, in this order",
        "type": "array",
        "items": entry,
    }
    for place in (top, definitions["Source"]):
        place["properties"]["clips"] = _about(place["properties"]["clips"], "clip_stages")


def _add_features(definitions: dict[str, Any], installed: bool) -> None:
    """Define the keys of `features` that name stages."""
    made = definitions["Features"]
    for name, settings in _settings("derived", installed, definitions):
        settings["anyOf"].append({"type": "boolean"})
        made["properties"][name] = settings
    made["patternProperties"] = {_FOREIGN: {"description": "settings of a stage of another package"}}
    made["additionalProperties"] = False


def _about(field: dict[str, Any], definition: str) -> dict[str, Any]:
    """Return the schema of an optional field that a definition describes, with the field's own description."""
    kept: dict[str, Any] = {key: field[key] for key in ("description", "default") if key in field}
    return {**kept, "anyOf": [{"$ref": _DEFINITIONS + definition}, {"type": "null"}]}


def _add_annotations(definitions: dict[str, Any]) -> None:
    """Define annotations: a format decides which keys there are."""
    common = definitions.pop(Annotations.__name__)["properties"]
    shared = "annotation_keys"
    branches = []
    for name in MODULES:
        kind = find_format(name)
        own = _model(kind.options, definitions)["properties"] if kind.options.model_fields else {}
        keys: dict[str, Any] = {
            key: {"$ref": f"{_DEFINITIONS}{shared}/properties/{key}"}
            for key in common
            if key in COMMON_KEYS | kind.takes
        }
        keys["format"] = {"description": kind.about, "anyOf": [{"const": name}, _MAY_BE_VARIABLE]}
        definitions[f"annotations_{name}"] = {
            "description": f"Annotations of format {name}: {kind.about}",
            "type": "object",
            "properties": {**keys, **own},
            "additionalProperties": False,
        }
        is_it: dict[str, Any] = {"properties": {"format": {"const": name}}, "required": ["format"]}
        branches.append({"if": is_it, "then": {"$ref": f"{_DEFINITIONS}annotations_{name}"}})
    without = {"if": {"not": {"required": ["format"]}}, "then": {"$ref": f"{_DEFINITIONS}annotations_csv"}}
    about = {name: find_format(name).about for name in MODULES}
    formats: dict[str, Any] = {
        "description": common["format"]["description"]
        + "; "
        + "; ".join(f"{name}: {text}" for name, text in about.items()),
        "default": "csv",
        "anyOf": [{"enum": sorted(MODULES)}, _MAY_BE_VARIABLE],
    }
    definitions[shared] = {"description": "Keys that several formats have.", "properties": common}
    definitions["annotations"] = {
        "description": (Annotations.__doc__ or "").strip().splitlines()[0],
        "type": "object",
        "properties": {"format": formats},
        "allOf": [without, *branches],
    }


def _add_recordings(definitions: dict[str, Any]) -> None:
    """Let a source have a list of annotations, or more of them under `joins`."""
    source = definitions["Source"]["properties"]
    one = {"$ref": f"{_DEFINITIONS}annotations"}
    several = {"type": "array", "items": one, "minItems": 1}
    source["annotations"] = {**source["annotations"], "anyOf": [one, several, {"type": "null"}]}
    source["joins"] = {**source["joins"], "items": one}


def _for_editors(made: Any) -> Any:
    """Return a schema without what no editor shows, and in the words of draft 7."""
    if isinstance(made, list):
        return [_for_editors(part) for part in made]
    if not isinstance(made, dict):
        return made
    if made == _MAY_BE_VARIABLE:
        return {"$ref": f"{_DEFINITIONS}variable"}
    plain: dict[str, Any] = {}
    for key, value in made.items():
        if key in ("properties", "patternProperties"):  # names of the user's keys, not words of the schema
            plain[key] = {name: _for_editors(part) for name, part in value.items()}
        elif key == "prefixItems":
            plain["items"] = _for_editors(value)
        elif key == "oneOf":  # a text that is also a number fits two
            plain["anyOf"] = _for_editors(value)
        elif key in ("const", "enum", "default"):
            plain[key] = value
        elif key not in _SHOWN_BY_NO_EDITOR:
            plain[key] = _for_editors(value)
    if "description" in plain and isinstance(plain["description"], str):
        plain["description"] = plain["description"].split("\n\n")[0]
    if "$ref" in plain and len(plain) > 1:  # draft 7 ignores what stands beside a reference
        plain["allOf"] = [{"$ref": plain.pop("$ref")}]
    return plain
