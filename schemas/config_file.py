"""Reading a configuration from YAML, with errors that name the file, the line and the key."""

from __future__ import annotations

import difflib
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from schemas.config import Config
from schemas.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_Path = tuple[str | int, ...]


@dataclass(frozen=True)
class ConfigFile:
    """A checked configuration and the text it came from.

    config : with environment variables filled in
    public : the same as plain data with ``${VAR}`` as written and without storage_options: safe to publish
    path : the file
    """

    config: Config
    public: dict[str, Any]
    path: str


class _Document:
    """A YAML document as plain data, with the line of every key."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.lines: dict[_Path, int] = {}
        self._n_nodes = 0
        self._loader = yaml.SafeLoader(text)
        try:
            node = self._loader.get_single_node()
            self.data = {} if node is None else self._build(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise ConfigError(
                f"not valid YAML: {error.problem}", file=file, line=mark.line + 1 if mark else None
            ) from None
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"not valid YAML: {error}", file=file) from None
        finally:
            self._loader.dispose()

    def _build(self, node: yaml.Node, path: _Path) -> Any:
        self._n_nodes += 1
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if self._n_nodes > MAX_NODES or len(path) > 50:
            raise ConfigError(
                "the file expands to too much; are there aliases within aliases?", file=self.file, line=line
            )
        if isinstance(node, yaml.MappingNode):
            self._loader.flatten_mapping(node)
            mapping: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = self._loader.construct_object(key_node)  # type: ignore[no-untyped-call]
                if isinstance(key, float):
                    key = str(key)
                if not isinstance(key, str | int):
                    raise ConfigError("a key must be a plain word", file=self.file, line=key_node.start_mark.line + 1)
                key_path = (*path, key)
                if key in mapping:
                    raise ConfigError(
                        "the key is given twice",
                        key=dotted(key_path),
                        file=self.file,
                        line=key_node.start_mark.line + 1,
                    )
                self.lines[key_path] = key_node.start_mark.line + 1
                mapping[key] = self._build(value_node, key_path)
            return mapping
        if isinstance(node, yaml.SequenceNode):
            return [self._build(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._loader.construct_object(node)  # type: ignore[no-untyped-call]

    def line(self, path: _Path) -> int | None:
        """Return the line of a key, or of the nearest key above it that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def load(path: str | Path, *, environ: Mapping[str, str] = os.environ) -> ConfigFile:
    """Read and check a configuration.

    Raises
    ------
    ConfigError : one message for the first thing that is wrong, with file, line and key
    """
    file = str(path)
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the configuration: {error.strerror}", file=file) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"the configuration has {len(raw)} bytes; at most {MAX_BYTES} are read", file=file)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"not UTF-8 text: byte {error.start}", file=file) from None
    return loads(text, file=file, environ=environ)


def loads(text: str, *, file: str = "<text>", environ: Mapping[str, str] = os.environ) -> ConfigFile:
    """Check a configuration given as text. See `load`."""
    document = _Document(text, file)
    if not isinstance(document.data, dict):
        raise ConfigError("the configuration must be a mapping that starts with `name:`", file=file, line=1)
    filled = _fill_in(document.data, (), document, environ)
    try:
        config = Config.model_validate(filled)
    except ValidationError as error:
        raise _explain(error, document) from None
    return ConfigFile(config=config, public=_without_secrets(document.data), path=file)


def dotted(path: _Path) -> str:
    """Return a key's path as ``sources[0].segment.mode``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _fill_in(value: Any, path: _Path, document: _Document, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _fill_in(v, (*path, k), document, environ) for k, v in value.items()}
    if isinstance(value, list):
        return [_fill_in(v, (*path, i), document, environ) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def substitute(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = environ.get(name) or default
        if found is None:
            raise ConfigError(
                f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}",
                key=dotted(path),
                file=document.file,
                line=document.line(path),
            )
        return found

    return _VARIABLE.sub(substitute, value)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_secrets(v) for k, v in value.items() if k != "storage_options"}
    if isinstance(value, list):
        return [_without_secrets(v) for v in value]
    return value


def _explain(error: ValidationError, document: _Document) -> ConfigError:
    """Turn pydantic's list into one message about the most telling problem."""
    problems = error.errors(include_url=False)
    # An unknown key is nearly always the cause of what else is reported.
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    path = _known_path(first["loc"], document)
    key, line = dotted(path), document.line(path)
    kind = first["type"]
    if kind == "extra_forbidden":
        known = _keys_at(Config, path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return ConfigError(f"unknown key; {hint}", key=key, file=document.file, line=line)
    if kind == "missing":
        return ConfigError("is missing and has no default", key=key, file=document.file, line=line)
    message = first["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be", "expected")
    return ConfigError(message, key=key, file=document.file, line=line)


def _known_path(loc: tuple[str | int, ...], document: _Document) -> _Path:
    """Drop the parts of an error's place that name a branch of a union rather than a key of the file."""
    path: _Path = ()
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
        elif i == len(loc) - 1 and isinstance(value, dict):
            path = (*path, part)
    return path


def _keys_at(model: Any, path: _Path) -> list[str]:
    """Return the keys that the configuration knows at a place."""
    for part in path:
        if isinstance(part, int):
            continue
        field = _model_fields(model).get(str(part))
        if field is None:
            return []
        model = _inner_model(field)
        if model is None:
            return []
    return list(_model_fields(model))


def _model_fields(model: Any) -> dict[str, Any]:
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (list, typing.Union, types.UnionType, typing.Annotated):
        return next((m for m in map(_inner_model, typing.get_args(annotation)) if m is not None), None)
    return None
