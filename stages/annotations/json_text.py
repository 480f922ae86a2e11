"""Read JSON and JSON Lines of annotation files: untrusted, so with bounds on size and depth, and with numbers as they are written."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from clipmill.stages.annotations.file_text import lines
from clipmill.stages.annotations.rows import UnreadableError

MAX_DOCUMENT_CHARS = 256 << 20
MAX_LINE_CHARS = 16 << 20
MAX_VALUES = 20_000_000
"""Most values in one document. An empty list takes 3 characters in a file and 64 bytes in memory."""
MAX_DEPTH = 100
_SMALLEST_LIMIT_BYTES, _MAX_RATIO = 64 << 20, 100
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = 60


class Number(str):
    """A number as the file writes it, so that 0.1 stays 0.1 and no integer is too long. NaN and Infinity are numbers here, and no times."""

    __slots__ = ()


@dataclass(slots=True)
class JsonLine:
    """Hold one line of JSON Lines.

    number : of the line, from 1
    value : its object; empty if it has a problem
    problem : why it cannot be used; None if it can
    """

    number: int
    value: dict[str, Any]
    problem: str | None = None


def read_json(text: str, max_chars: int = MAX_DOCUMENT_CHARS) -> Any:
    """Return the value of a JSON document: dictionaries, lists, texts, numbers as `Number`, true, false and None.

    Raises
    ------
    UnreadableError : it is not JSON, too large or nested too deeply, an object has a key twice, or a text is no Unicode
    """
    if len(text) > max_chars:
        raise UnreadableError(f"JSON of {len(text):,} characters; at most {max_chars:,} are read")
    n_opened = text.count("[") + text.count("{")
    if n_opened + text.count(",") > MAX_VALUES:
        raise UnreadableError(f"JSON of more than {MAX_VALUES:,} values")
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise UnreadableError(f"JSON that is nested more than {MAX_DEPTH} deep") from None
    except json.JSONDecodeError as error:
        raise UnreadableError(f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    if n_opened > MAX_DEPTH or _SURROGATE_ESCAPE.search(text) is not None:
        _check(value)
    return value


def read_json_lines(text: str) -> Iterator[JsonLine]:
    """Yield the objects of a JSON Lines file, one per line that is not empty. A line that is no object has a problem.

    Raises
    ------
    UnreadableError : no line is an object, while iterating
    """
    first: JsonLine | None = None
    n_objects = 0
    for number, line in enumerate(lines(text, longest=None), 1):
        if not line.strip():
            continue
        found = _read_line(number, line)
        n_objects += found.problem is None
        if n_objects == 0:
            first = first or found
        yield found
    if first is not None and n_objects == 0:
        raise UnreadableError(f"not JSON Lines: line {first.number}: {first.problem}")


def _read_line(number: int, line: str) -> JsonLine:
    try:
        value = read_json(line.strip(), MAX_LINE_CHARS)
    except UnreadableError as error:
        return JsonLine(number, {}, str(error).replace("not JSON: line 1, ", "not JSON: "))
    if not isinstance(value, dict):
        return JsonLine(number, {}, f"{shown(value)} is not a JSON object")
    return JsonLine(number, value)


def text_of(value: Any) -> str:
    """Return a value as the text of a cell: texts and numbers as they are, null as nothing, lists and objects as JSON."""
    if isinstance(value, str):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _written(value)


def shown(value: Any) -> str:
    """Return the beginning of a value as JSON, for a message."""
    text = _written(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _written(value: Any) -> str:
    """Return a value of `read_json` as JSON. Numbers are texts there, so that `json.dumps` would quote them."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(key)}: {_written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def unpack_gzip(content: bytes, limit: int) -> bytes:
    """Return what gzip packed; other content unchanged.

    limit : most bytes that it may unpack to. It may not unpack to more than 100 times its size either, unless that is below 64 MiB

    Raises
    ------
    UnreadableError : it is damaged, or unpacks to more
    """
    if not content.startswith(b"\x1f\x8b"):
        return content
    limit = min(limit, max(_SMALLEST_LIMIT_BYTES, _MAX_RATIO * len(content)))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableError(f"damaged gzip: {error}") from None
    if len(unpacked) > limit:
        raise UnreadableError(f"gzip that unpacks to more than {limit:,} bytes; if it is what you expect, unpack it")
    return unpacked


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise UnreadableError(f"JSON with an object that has the key {twice[:_SHOWN]!r} twice")
    return found


_DECODER = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=Number, object_pairs_hook=_object)


def _check(value: Any) -> None:
    """Raise UnreadableError if a value is nested too deeply or has a text that no file can hold, half of a surrogate pair."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below += each
                below += each.values()
            elif isinstance(each, list):
                below += each
            elif isinstance(each, str) and _SURROGATE.search(each) is not None:
                raise UnreadableError(f"JSON with a text that is no Unicode: {each[:_SHOWN]!r}")
        if not below:
            return
        level = below
    raise UnreadableError(f"JSON that is nested more than {MAX_DEPTH} deep")
