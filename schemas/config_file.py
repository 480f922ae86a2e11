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
from schemas.model import did_you_mean

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
        try:
            self._loader = yaml.SafeLoader(text)
            node = self._loader.get_single_node()
            self._check_size(node)
            self.data = {} if node is None else self._build(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise ConfigError(
                f"not valid YAML: {error.problem}", file=file, line=mark.line + 1 if mark else None
            ) from None
        except yaml.YAMLError as error:
            raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}", file=file) from None
        except RecursionError:
            raise ConfigError("not valid YAML: nested too deeply", file=file) from None

    def _check_size(self, root: yaml.Node | None) -> None:
        """Refuse a document whose aliases expand to too much, before anything is expanded."""
        sizes: dict[int, int] = {}
        under_way: set[int] = set()

        def size(node: yaml.Node) -> int:
            if id(node) in under_way:
                raise ConfigError(
                    "the file expands to too much: an alias holds itself", file=self.file, line=node.start_mark.line + 1
                )
            if id(node) not in sizes:
                under_way.add(id(node))
                children = (
                    [c for pair in node.value for c in pair] if isinstance(node, yaml.MappingNode) else node.value
                )
                sizes[id(node)] = 1 + (sum(size(c) for c in children) if isinstance(node, yaml.CollectionNode) else 0)
                under_way.discard(id(node))
            if sizes[id(node)] > MAX_NODES:
                raise ConfigError("the file expands to too much", file=self.file, line=node.start_mark.line + 1)
            return sizes[id(node)]

        if root is not None:
            size(root)

    def _build(self, node: yaml.Node, path: _Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            own: set[Any] = set()
            for key_node, _ in node.value:
                if key_node.tag == "tag:yaml.org,2002:merge":
                    continue
                key = self._scalar(key_node)
                if key in own:
                    raise ConfigError(
                        "the key is given twice",
                        key=dotted((*path, key)),
                        file=self.file,
                        line=key_node.start_mark.line + 1,
                    )
                own.add(key)
            self._loader.flatten_mapping(node)
            mapping: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key_path = (*path, self._scalar(key_node))
                self.lines[key_path] = key_node.start_mark.line + 1
                mapping[key_path[-1]] = self._build(value_node, key_path)
            return mapping
        if isinstance(node, yaml.SequenceNode):
            return [self._build(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._value(node)

    def _scalar(self, node: yaml.Node) -> str:
        """Return a key as it is written: 01 is no number and `no` no truth value where they stand for a speaker."""
        if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
            raise ConfigError("a key must be a plain word", file=self.file, line=node.start_mark.line + 1)
        return str(node.value)

    def _value(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node)  # type: ignore[no-untyped-call]
        except (ValueError, IndexError, KeyError, AttributeError, OverflowError, TypeError):
            # PyYAML's own constructors raise these on values that do not fit their tag.
            raise ConfigError(
                f"{str(node.value)[:50]!r} is no value of its type", file=self.file, line=node.start_mark.line + 1
            ) from None

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
                f"the environment variable {name} is not set (or empty); set it, or write ${{{name}:-default}}",
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
    path = _known_path(first["loc"], document, first["type"] in ("extra_forbidden", "missing"))
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
    if message.startswith("@"):
        _, key, message = message.split("@", 2)
        line = document.line(
            tuple(int(p[1:-1]) if p.startswith("[") else p for p in re.findall(r"\[\d+\]|[^.\[\]]+", key))
        )
    message = message.replace("Input should be", "expected")
    if kind == "literal_error":
        message += did_you_mean(first["input"], re.findall(r"'(\w+)'", str(first.get("ctx", {}).get("expected"))))
    if kind == "dict_type":
        message = "expected a map, as in {key: value}"
    if kind == "model_type":
        example = getattr(_model_at(Config, path), "example", "")
        keys = ", ".join(_keys_at(Config, path))
        message = f"expected a map, as in {example}" if example else f"expected a map; known here: {keys}"
    if kind == "string_pattern_mismatch":
        message = "expected a name of up to 64 letters, digits, - and _, a letter or digit first"
    return ConfigError(message, key=key, file=document.file, line=line)


def _known_path(loc: tuple[str | int, ...], document: _Document, absent: bool) -> _Path:
    """Drop the parts of an error's place that name a branch of a union rather than a key of the file.

    absent : the last part is a key that is not in the file, or not known
    """
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
        elif absent and i == len(loc) - 1 and isinstance(value, dict):
            path = (*path, part)
    return path


def _keys_at(model: Any, path: _Path) -> list[str]:
    """Return the keys that the configuration knows at a place."""
    found = _model_at(model, path)
    return list(_model_fields(found)) if found is not None else []


def _model_at(model: Any, path: _Path) -> Any:
    """Return which part of the configuration a place is, None for none."""
    for part in path:
        if isinstance(part, int):
            continue
        field = _model_fields(model).get(str(part))
        model = _inner_model(field) if field is not None else None
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
