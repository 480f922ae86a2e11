"""JSON of annotation files is read exactly, and what is too large, too deep or no JSON is refused in bounded time and memory."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmill.stages.annotations.json_text import (
    MAX_DEPTH,
    MAX_LINE_CHARS,
    Number,
    read_json,
    read_json_lines,
    text_of,
    unpack_gzip,
)
from clipmill.stages.annotations.rows import UnreadableError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    SCALARS, lambda each: st.lists(each) | st.dictionaries(st.text(st.characters(codec="utf-8")), each)
)


@contextmanager
def cheap(megabytes: int = 600) -> Iterator[None]:
    """Fail if a block takes long or much memory."""
    tracemalloc.start()
    started = time.monotonic()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes << 20
    assert time.monotonic() - started < 30


def as_written(value: Any) -> Any:
    """The value with numbers as `json.dumps` writes them."""
    if isinstance(value, bool | None | str):
        return value
    if isinstance(value, dict):
        return {key: as_written(each) for key, each in value.items()}
    return [as_written(each) for each in value] if isinstance(value, list) else json.dumps(value)


@given(VALUES)
def test_values_are_read_as_they_were_written(value: Any) -> None:
    assert read_json(json.dumps(value)) == as_written(value)
    assert read_json(json.dumps(value, ensure_ascii=False)) == as_written(value)


@given(VALUES)
def test_the_text_of_a_list_or_object_is_json_of_the_same_value(value: Any) -> None:
    text = text_of(read_json(json.dumps(value)))
    if isinstance(value, list | dict):
        assert json.loads(text) == value
    else:
        assert text == (as_written(value) or "" if not isinstance(value, bool) else str(value).lower())


def test_numbers_are_kept_as_they_are_written() -> None:
    value = read_json('{"a": 0.10, "b": 1e3, "c": NaN, "d": -Infinity, "e": ' + "9" * 5000 + "}")
    assert list(value.values()) == ["0.10", "1e3", "NaN", "-Infinity", "9" * 5000]
    assert all(isinstance(each, Number) for each in value.values())
    assert not isinstance(read_json('["1"]')[0], Number)


@given(st.text(st.characters(codec="utf-8")) | st.text('[]{}",:0 \\u\n'))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_json(text)
    except UnreadableError as error:
        assert str(error)
    try:
        lines = list(read_json_lines(text))
    except UnreadableError as error:
        assert "line " in str(error)
    else:
        assert all(bool(line.problem) <= (line.value == {}) for line in lines)


@pytest.mark.parametrize("sign", ["[", '{"a":'])
def test_depth_has_a_bound(sign: str) -> None:
    closing = "]" if sign == "[" else "}"
    read_json(sign * MAX_DEPTH + "0" + closing * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 900, 5_000_000):
        with cheap(), pytest.raises(UnreadableError, match="deep"):
            read_json(sign * depth + "0" + closing * depth)
    assert read_json("[" + "[]," * 1000 + "0]")[0] == []


def test_what_would_not_fit_in_memory_is_refused() -> None:
    with cheap(), pytest.raises(UnreadableError, match=r"more than 20,000,000 values"):
        read_json("[" + "{}," * 20_000_000 + "0]")
    with pytest.raises(UnreadableError, match=r"12 characters; at most 10 are read"):
        read_json("[1, 2, 3, 4]", max_chars=10)


def test_a_key_twice_and_half_a_character_are_refused() -> None:
    with pytest.raises(UnreadableError, match="has the key 'a' twice"):
        read_json('[{"b": 1, "a": 1, "a": 2}]')
    for text in (r'"\ud83d"', r'{"\udc00": 1}', r'[[["a\uDC00"]]]'):
        with pytest.raises(UnreadableError, match="no Unicode"):
            read_json(text)
    assert read_json(r'"\ud83d\udc36"') == "🐶"


def test_a_wrong_line_is_a_problem_of_its_own() -> None:
    lines = list(read_json_lines('{"a": 1}\r\n\n[1]\n{"a"\n{"b": {}, "b": 1}\n{"c": "\u2028"}'))
    assert [line.number for line in lines] == [1, 3, 4, 5, 6]
    assert [line.problem for line in lines] == [
        None,
        "[1] is not a JSON object",
        "not JSON: column 5: Expecting ':' delimiter",
        "JSON with an object that has the key 'b' twice",
        None,
    ]
    assert lines[-1].value == {"c": "\u2028"}


def test_a_line_that_is_too_long_costs_little() -> None:
    long = '{"a": "' + "x" * (MAX_LINE_CHARS * 6) + '"}'
    with cheap():
        first, second = read_json_lines('{"a": 1}\n' + long)
    assert first.problem is None
    assert second.problem is not None and "characters; at most" in second.problem


def test_a_file_without_any_object_is_not_json_lines() -> None:
    assert list(read_json_lines(" \n\n")) == []
    with pytest.raises(UnreadableError, match=r"not JSON Lines: line 2: not JSON: column 1: Expecting value"):
        list(read_json_lines("\nstart end\n[]\n"))


def test_gzip_is_unpacked_within_bounds() -> None:
    assert unpack_gzip(b"plain", 10) == b"plain"
    assert unpack_gzip(gzip.compress(b"one") + gzip.compress(b"two") + b"\0" * 512, 10) == b"onetwo"
    assert unpack_gzip(gzip.compress(b"x" * 10), 10) == b"x" * 10
    with pytest.raises(UnreadableError, match="more than 10 bytes"):
        unpack_gzip(gzip.compress(b"x" * 11), 10)
    bomb = gzip.compress(b"\0" * (300 << 20))
    with cheap(), pytest.raises(UnreadableError, match=r"more than 67,108,864 bytes"):
        unpack_gzip(bomb, 4 << 30)


@given(st.binary(max_size=30), st.integers(0, 40), st.binary(max_size=3))
def test_damaged_gzip_is_refused(content: bytes, at: int, change: bytes) -> None:
    packed = gzip.compress(content, mtime=0)
    damaged = packed[:at] + change + packed[at + len(change) :]
    try:
        unpack_gzip(damaged, 100)
    except UnreadableError as error:
        assert "gzip" in str(error)
