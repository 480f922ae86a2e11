"""Write a configuration as YAML with the evidence for each key above it, and the alternatives as lines to uncomment.

Names of files, labels and columns can contain anything, so every text is written such that it is read as that text again.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.reader import Reader

from clipmill.schemas.legible_text import visible

_WIDTH = 120
_STEP = "  "
_PLAIN = re.compile(r"[A-Za-z_/.][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_VARIABLE = re.compile(r"\$\{(?=[A-Za-z_])")
_DOLLAR = "${CLIPMILL_DOLLAR:-$}{"
"""What `${` becomes: a variable that nobody sets, with a dollar for its default."""
_MOST_COMMENT = 600


@dataclass
class Instead:
    """Another value that a key could have. why : when it would be right; value : plain data"""

    why: str
    value: Any


@dataclass
class Part:
    """A key of a configuration with its value.

    value : plain data; or parts, for a map of which keys have comments of their own; or lists of parts, for a list of such maps
    because : the evidence, written above the key
    instead : other values, written below as comments
    only_instead : whether the key itself is left out, and only its alternatives are written
    """

    key: str
    value: Any = None
    because: list[str] = field(default_factory=list)
    instead: list[Instead] = field(default_factory=list)
    only_instead: bool = False


def plain(parts: Iterable[Part]) -> dict[str, Any]:
    """Return parts as plain data, without their comments."""
    return {part.key: _plain(part.value) for part in parts if not part.only_instead}


def write(parts: Sequence[Part], above: Sequence[str] = ()) -> str:
    """Return parts as the text of a YAML file. above : lines of comment with which it begins"""
    return "\n".join([*(comment_line(line) for line in above), *_lines(parts, "")]) + "\n"


def comment_line(text: str) -> str:
    """Return one line of comment, whatever the text contains."""
    return f"# {_shown(text)}".rstrip()


def flow(value: Any) -> str:
    """Return plain data in YAML's short form, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        return scalar(_VARIABLE.sub(lambda _: _DOLLAR, value))
    return str(yaml.safe_dump(value, width=10**6)).removesuffix("\n").removesuffix("\n...")


def scalar(text: str) -> str:
    """Return a text such that YAML reads exactly this text, in any place: plain if that is safe, else in quotes."""
    if _PLAIN.fullmatch(text) is not None and yaml.safe_load(text) == text:
        return text
    if visible(text) == text and Reader.NON_PRINTABLE.search(text) is None:
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(map(_escaped, text)) + '"'


def _are_parts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Part) for each in value)


def _plain(value: Any) -> Any:
    if _are_parts(value):
        return plain(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def _key(key: Any) -> str:
    return scalar(key) if isinstance(key, str) else str(key)


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    code = ord(character)
    if visible(character) == character and Reader.NON_PRINTABLE.search(character) is None:
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _shown(text: str) -> str:
    """Return a text for a comment: on one line, of limited length, without characters that a YAML file must not contain."""
    line = Reader.NON_PRINTABLE.sub(lambda match: ascii(match[0])[1:-1], visible(text))
    return line if len(line) <= _MOST_COMMENT else line[: _MOST_COMMENT - 3] + "..."


def _lines(parts: Sequence[Part], indent: str) -> list[str]:
    lines: list[str] = []
    for part in parts:
        lines += _comments(part.because, indent)
        if not part.only_instead:
            lines += _of_value(part.key, part.value, indent)
        for other in part.instead:
            lines += _comments([other.why], indent)
            lines += [f"{indent}# {line}" for line in _of_value(part.key, other.value, "")]
    return lines


def _of_value(key: str, value: Any, indent: str) -> list[str]:
    """Return the lines of a key with its value: on one line if that is short, otherwise a line for each of its keys."""
    name = _key(key)
    if _are_parts(value):
        return [f"{indent}{name}:", *_lines(value, indent + _STEP)]
    if isinstance(value, list) and value and all(map(_are_parts, value)):
        lines = [f"{indent}{name}:"]
        for parts in value:
            item = _lines(parts, indent + _STEP * 2)
            first = next(i for i, line in enumerate(item) if not line.lstrip().startswith("#"))
            item[first] = f"{indent}{_STEP}- {item[first].lstrip()}"
            lines += item
        return lines
    short = f"{indent}{name}: {flow(value)}"
    if len(short) <= _WIDTH or not isinstance(value, dict) or not value:
        return [short]
    return [f"{indent}{name}:", *(line for k, v in value.items() for line in _of_value(k, v, indent + _STEP))]


def _comments(texts: Iterable[str], indent: str) -> list[str]:
    width = _WIDTH - len(indent) - 2
    return [
        f"{indent}# {line}"
        for text in texts
        for line in textwrap.wrap(_shown(text), width, break_long_words=False, break_on_hyphens=False)
    ]
