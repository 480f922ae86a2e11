"""Read a configuration from YAML, with errors that name the file, the line and the key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from clipmill.schemas.config import Config
from clipmill.schemas.config.problems import explain, find_misspelt_features, key_path
from clipmill.schemas.config.yaml_document import Document, KeyPath
from clipmill.schemas.errors import ConfigError, Problem
from clipmill.schemas.secret_values import remember_secrets, secrets_of_config
from clipmill.stages.annotations.registered import complete_sources
from clipmill.stages.models.model_paths import with_model_paths

MAX_BYTES = 1_000_000
_MAX_DEPTH = 50
_MAPPING = "<mapping>"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_UNCLOSED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-[^}]*)?$")
_NO_SPACE = re.compile(r"[\w-]+:\S")


@dataclass(frozen=True, repr=False)
class ConfigFile:
    """A checked configuration and where it came from.

    config : with environment variables filled in
    public : the configuration as plain data, with ``${VAR}`` as written and without storage_options: safe to publish
    path : path of the file
    lines : line number of each key, from 1; empty for a mapping
    """

    config: Config
    public: dict[str, Any]
    path: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        sources = ", ".join(source.name for source in self.config.sources)
        return f"ConfigFile({self.path!r}, name={self.config.name!r}, sources={sources}, root={self.public['output']['root']!r})"

    def located(self, error: ConfigError) -> ConfigError:
        """Return the same error with the file and the line of each problem that has a key but no line."""
        problems = [
            replace(p, file=self.path, line=p.line or self._line(key_path(p.key))) if p.key and p.line is None else p
            for p in error.problems
        ]
        return ConfigError.of(problems)

    def _line(self, path: KeyPath) -> int | None:
        names = [source.name for source in self.config.sources]
        if path[:1] == ("sources",) and len(path) > 1 and path[1] in names:  # by name, not by index
            path = ("sources", names.index(str(path[1])), *path[2:])
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def load_config(
    config: str | os.PathLike[str] | Mapping[str, Any] | ConfigFile, *, environ: Mapping[str, str] | None = None
) -> ConfigFile:
    """Read and check a configuration.

    Parameters
    ----------
    config : path of a YAML file, or its content as a mapping, which may hold paths, tuples, sets and numpy scalars
    environ : values for ``${VAR}``; None: the environment of this process

    Raises
    ------
    ConfigError : all problems at once, each with its key, and for a file with path and line
    """
    if isinstance(config, ConfigFile):
        return config
    if isinstance(config, str | os.PathLike):
        return load(os.fspath(config), environ=environ)
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"a configuration is the path of a YAML file, or a mapping; this is {type(config).__name__}",
            code="config.unreadable",
        )
    try:
        text = yaml.safe_dump(_plain(config, 0), sort_keys=False, allow_unicode=True)
        file = loads(text, file=_MAPPING, environ=environ)
    except ConfigError as error:  # drop the lines of the generated text
        raise ConfigError.of([replace(p, file="", line=None) for p in error.problems]) from None
    return replace(file, lines={})


def _plain(value: Any, depth: int, key: str = "") -> Any:
    if depth > _MAX_DEPTH:
        raise ConfigError("is nested too deeply", key=key, code="config.invalid_value")
    if isinstance(value, Mapping):
        return {
            k if isinstance(k, str | int) else str(k): _plain(v, depth + 1, f"{key}.{k}" if key else str(k))
            for k, v in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        values = sorted(value) if isinstance(value, set | frozenset) else value
        return [_plain(v, depth + 1, f"{key}[{i}]") for i, v in enumerate(values)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item") and callable(value.item) and getattr(value, "ndim", None) == 0:
        return value.item()
    if value is None or isinstance(value, str | int | float):
        return value
    raise ConfigError(
        f"is {type(value).__name__}, which YAML cannot represent; give text, a number, a list or a mapping",
        key=key,
        code="config.invalid_value",
    )


def load(path: str | Path, *, environ: Mapping[str, str] | None = None) -> ConfigFile:
    """Read and check the YAML file of a configuration.

    Raises
    ------
    ConfigError : all problems in the order of their lines, each with file, line and key
    """
    file = str(path)
    try:
        with open(path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise _unreadable("is a folder; give the YAML file of a configuration", file) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _unreadable(f"cannot read the configuration: {why}", file) from None
    if len(raw) > MAX_BYTES:
        raise _unreadable(f"the configuration has more than {MAX_BYTES} bytes, the most that is read", file)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or 0 in raw[:2]:
        raise _unreadable("is UTF-16 text, or not text at all; save it as UTF-8", file)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte, line = raw[error.start], raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 text: this line has the byte 0x{byte:02x}; save the file as UTF-8"
        raise _unreadable(message, file, line) from None
    return loads(text, file=file, environ=environ)


def _unreadable(message: str, file: str, line: int | None = None) -> ConfigError:
    return ConfigError(message, file=file, line=line, code="config.unreadable")


def loads(text: str, *, file: str = "<text>", environ: Mapping[str, str] | None = None) -> ConfigFile:
    """Check a configuration given as text. See `load`."""
    document = Document(text, file)
    if not isinstance(document.data, dict) and not document.problems:
        content = {list: "it is a list", type(None): "the file is empty"}.get(type(document.data), "it is text")
        hint = ""
        if isinstance(document.data, str) and _NO_SPACE.match(document.data):
            hint = "; a space is missing after the colon"
        raise ConfigError(
            f"the configuration must be a mapping that starts with `name:`; {content}{hint}",
            file=file,
            line=1,
            code="config.invalid_yaml",
        )
    filled = _fill_in(document.data, (), document, os.environ if environ is None else environ)
    remember_secrets(secrets_of_config(filled))
    filled = with_model_paths(filled, "" if file == _MAPPING else os.path.dirname(file))
    problems: list[Problem] = []
    config = None
    completed, of_formats = complete_sources(filled)
    try:
        config = Config.model_validate(completed)
    except ValidationError as error:
        problems = explain(error, document)
    problems += find_misspelt_features(document) + document.problems
    problems += [_placed(problem, document) for problem in (*of_formats, *_stage_problems(filled))]
    if problems or config is None:
        raise ConfigError.of(sorted(problems, key=lambda p: (p.line or 0, p.code != "config.unknown_key")))
    return ConfigFile(config=config, public=_without_secrets(document.data), path=file, lines=document.lines)


def _stage_problems(filled: Any) -> list[Problem]:
    if not isinstance(filled, dict):
        return []
    from clipmill.pipelines.clip_lists import stage_problems

    return stage_problems(filled)


def _placed(problem: Problem, document: Document) -> Problem:
    """Return a problem with the file and the line of its key, or of the nearest one around it."""
    path = key_path(problem.key)
    while path and path not in document.lines:
        path = path[:-1]
    return replace(problem, file=document.file, line=document.lines.get(path))


def _fill_in(value: Any, path: KeyPath, document: Document, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _fill_in(v, (*path, k), document, environ) for k, v in value.items()}
    if isinstance(value, list):
        return [_fill_in(v, (*path, i), document, environ) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    if (open_ := _UNCLOSED.search(_VARIABLE.sub("", value))) is not None:
        name = open_[1]  # the rest is not shown, since it may be a secret
        document.report(
            "config.invalid_value",
            f"the brace of ${{{name} is not closed; write ${{{name}}}, or ${{{name}:-default}}",
            path,
        )
        return value

    def substitute(match: re.Match[str]) -> str:
        name, default = match.groups()
        variable = environ.get(name) or default
        if variable is None:
            message = f"the environment variable {name} is not set (or empty); set it, or write ${{{name}:-default}}"
            document.report("config.environment", message, path)
            return match[0]
        return variable

    return _VARIABLE.sub(substitute, value)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_secrets(v) for k, v in value.items() if k != "storage_options"}
    if isinstance(value, list):
        return [_without_secrets(v) for v in value]
    return value
