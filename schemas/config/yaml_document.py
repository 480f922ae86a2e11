"""Read a YAML text as plain data, with the line of every key and every mistake."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.reader import Reader

from clipmill.schemas.config.yaml_mistakes import describe_yaml_error
from clipmill.schemas.errors import ConfigError, Problem
from clipmill.schemas.secret_values import may_hold_secrets

MAX_NODES = 100_000
_TAG = "tag:yaml.org,2002:"
_LARGEST = 1 << 63
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")  # from escapes in double quotes; neither file names nor UTF-8 contain them
KeyPath = tuple[str | int, ...]


def format_path(path: KeyPath) -> str:
    """Return a key's path as ``sources[0].segment.mode``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class Document:
    """Hold a YAML document as plain data.

    data : the content, None for an empty document
    lines : line of every key, from 1
    written : type and original text of every scalar that is not read as text
    problems : problems of single keys and values
    broken : places of these problems; further problems at these places are not reported

    Raises
    ------
    ConfigError : the text is not YAML
    """

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {}
        self.written: dict[KeyPath, tuple[str, str]] = {}
        self.problems: list[Problem] = []
        self.broken: set[KeyPath] = set()
        if (control := Reader.NON_PRINTABLE.search(text)) is not None:
            raise self._invalid(
                f"the file contains the control character {ascii(control[0])[1:-1]}; remove it",
                text.count("\n", 0, control.start()) + 1,
            )
        try:
            self._loader = yaml.SafeLoader(text)
            node = self._loader.get_single_node()
            self._check_size(node)
            self.data = None if node is None else self._build(node, ())
        except yaml.MarkedYAMLError as error:
            raise self._invalid(*describe_yaml_error(error, text)) from None
        except RecursionError:
            raise self._invalid("nested too deeply", None) from None

    def _invalid(self, message: str, line: int | None) -> ConfigError:
        return ConfigError(f"not valid YAML: {message}", file=self.file, line=line, code="config.invalid_yaml")

    def _check_size(self, root: yaml.Node | None) -> None:
        """Refuse a document whose aliases expand to too many values, before expanding any. Raises ConfigError."""
        sizes: dict[int, int] = {}
        under_way: set[int] = set()

        def too_much(node: yaml.Node, why: str) -> ConfigError:
            line = node.start_mark.line + 1
            return ConfigError(
                f"the file expands to too many values{why}", file=self.file, line=line, code="config.invalid_yaml"
            )

        def size(node: yaml.Node) -> int:
            if id(node) in under_way:
                raise too_much(node, ": an alias contains itself")
            if id(node) not in sizes:
                under_way.add(id(node))
                children = (
                    [c for pair in node.value for c in pair] if isinstance(node, yaml.MappingNode) else node.value
                )
                sizes[id(node)] = 1 + (sum(size(c) for c in children) if isinstance(node, yaml.CollectionNode) else 0)
                under_way.discard(id(node))
            if sizes[id(node)] > MAX_NODES:
                raise too_much(node, "")
            return sizes[id(node)]

        if root is not None:
            size(root)

    def report(self, code: str, message: str, path: KeyPath, line: int | None = None) -> None:
        """Add a problem of a key or its value. Further problems at this place are then not reported."""
        self.broken.add(path)
        self.problems.append(Problem(code, message, format_path(path), self.file, line or self.line(path)))

    def _build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._value(node, path)
        kind = "map" if isinstance(node, yaml.MappingNode) else "seq"
        if node.tag != _TAG + kind:
            self._unknown_tag(node, path)
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self._build(child, (*path, i)) for i, child in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode)  # noqa: S101
        if not self._keys_are_sound(node, path):
            return None
        self._loader.flatten_mapping(node)
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key_path = (*path, str(key_node.value))
            self.lines[key_path] = key_node.start_mark.line + 1
            mapping[key_path[-1]] = self._build(value_node, key_path)
        return mapping

    def _keys_are_sound(self, node: yaml.MappingNode, path: KeyPath) -> bool:
        """Return whether every key is a plain word; report those that are not, and those that occur twice.

        Keys are compared as they are written: 01 is not a number and `no` is not false when they name a speaker.
        """
        first: dict[str, int] = {}
        sound = True
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _TAG + "null":
                self.report(
                    "config.invalid_yaml",
                    "a key must be a plain word; put it in quotes, or the value around it",
                    path,
                    line,
                )
                sound = False
                continue
            key = str(key_node.value)
            if (match := _NO_TEXT.search(key)) is not None:
                self.report("config.invalid_value", _no_text(match), (*path, key), line)
            if key in first:
                message = f"the key occurs twice, first in line {first[key]}; remove one"
                self.report("config.duplicate_key", message, (*path, key), line)
            first.setdefault(key, line)
        return sound

    def _unknown_tag(self, node: yaml.Node, path: KeyPath) -> None:
        self.report(
            "config.invalid_yaml",
            "a value cannot begin with `!`, which marks a tag; clipmill supports no tags; remove the tag, or put the value in"
            " quotes",
            path,
            node.start_mark.line + 1,
        )

    def _value(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        kind = node.tag.removeprefix(_TAG)
        if kind in ("value", "merge"):  # `=` and `<<` as a value
            return node.value
        if kind not in ("str", "int", "float", "bool", "null", "timestamp"):
            self._unknown_tag(node, path)
            return None
        try:
            value = self._loader.construct_object(node)  # type: ignore[no-untyped-call]
        except (ValueError, IndexError, KeyError, AttributeError, OverflowError, TypeError):
            # PyYAML's constructors raise these on values that do not fit their tag.
            given = "the value" if may_hold_secrets(path) else repr(node.value[:50])
            message = f"{given} cannot be read as {_KINDS[kind]}; put it in quotes if it is text"
            self.report("config.invalid_value", message, path, line)
            return None
        if isinstance(value, str) and (match := _NO_TEXT.search(value)) is not None:
            self.report("config.invalid_value", _no_text(match), path, line)
            return None
        if kind == "int" and abs(value) >= _LARGEST:
            self.report("config.invalid_value", "the number is too large", path, line)
            return None
        if kind in ("int", "float") and (":" in node.value or re.match(r"[-+]?0[0-7_]+$", node.value)):
            given = "the value is a number" if may_hold_secrets(path) else f"{node.value} is read as {value}"
            message = f"{given}: YAML takes it as a number in base {60 if ':' in node.value else 8}"
            self.report(
                "config.invalid_value", f"{message}; put it in quotes, or write the intended number", path, line
            )
            return None
        if kind != "str":
            self.written[path] = (kind, node.value)
        return value

    def line(self, path: KeyPath) -> int | None:
        """Return the line of a key, or of its nearest parent that is in the file; None without one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def read_as(self, path: KeyPath, wants_text: bool = True) -> str:
        """Return how a value that is not text is read and, where text is expected, how to write it as text."""
        kind, text = self.written.get(path, ("", ""))
        if kind == "null":
            return "; the value is empty; give one, or remove the key"
        if not kind or not wants_text:
            return ""
        if may_hold_secrets(path):
            return f"; the value is read as {_KINDS[kind]}; put it in quotes"
        return f"; {text[:50]} is read as {_KINDS[kind]}; put it in quotes: '{text[:50]}'"


def _no_text(match: re.Match[str]) -> str:
    return f"contains {ascii(match[0])[1:-1]}, which names and paths cannot contain"


_KINDS = {
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "timestamp": "a date",
    "null": "nothing",
    "str": "text",
}
