"""Explain what is wrong with a text that is not YAML: the line, the reason, and what to write instead.

PyYAML's messages describe its grammar ("expected <block end>, but found '?'"), which does not help a user who wrote one colon too many.
Messages repeat no value of the file, since it can be a secret.
"""

from __future__ import annotations

import contextlib
import re

import yaml

_NO_SPACE = re.compile(r"^\s*(?:- +)*[A-Za-z_][\w-]*:[^\s:/]")
_WITH_VALUE = re.compile(r"^\s*(?:- +)*[^\s:#'\"{\[][^:]*:\s+[^\s#]")
_MARKERS = re.compile(r"^(---|\.\.\.)(\s|$)")
_QUOTE_IT = "put the value in quotes, as in key: '{}'"
_INDENTATION = (
    "this line is indented differently from the lines that it belongs to: indent with spaces, begin all keys of a map in the same"
    " column, and those of a list entry below the first key after its `- `"
)


def describe_yaml_error(error: yaml.MarkedYAMLError, text: str) -> tuple[str, int | None]:
    """Return what is wrong with a text that PyYAML refuses, and the line, from 1; None without a line."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return "check indentation, quotes and brackets", None
    lines = text.splitlines() or [""]
    start = error.context_mark.line if error.context_mark is not None else mark.line
    problem, context = error.problem or "", error.context or ""
    tabbed = _tab(lines, start, mark.line, mark.column if "'\\t'" in problem else None)
    if tabbed is not None:
        return tabbed
    if problem.startswith("found character"):
        return _first_character(problem), mark.line + 1
    if "quoted scalar" in context:
        return _quoted(problem, start, mark.line)
    if (quote_line := _quote_over_lines(text, mark.line)) is not None:
        return (
            f"the quote that begins here is closed only in line {mark.line + 1}; close it in the same line",
            quote_line + 1,
        )
    for prefix, message in _BY_CONTEXT.items():
        if context.startswith(prefix):
            return message, start + 1
    for prefix, message in _BY_PROBLEM.items():
        if problem.startswith(prefix):
            return message, mark.line + 1
    if "while parsing a flow" in context:
        return _brackets(problem, context, lines, start, mark)
    if problem.startswith("mapping values"):
        return _colon(lines, mark)
    if problem.startswith("could not find expected"):
        return _no_colon(lines, start)
    if "document" in problem:
        return _documents(lines, mark.line)
    if problem.startswith("expected <block end>"):
        return _block_end(problem), mark.line + 1
    return "this line cannot be read; check its indentation, quotes and brackets, and those of the line above", (
        mark.line + 1
    )


_BY_CONTEXT = {
    "while scanning an alias": f"a value cannot begin with `*`, which marks an alias; {_QUOTE_IT.format('*.wav')}",
    "while scanning an anchor": f"a value cannot begin with `&`, which marks an anchor; {_QUOTE_IT.format('& more')}",
    "while scanning a tag": f"a value cannot begin with `!`, which marks a tag; {_QUOTE_IT.format('!x')}",
    "while parsing a tag": f"a value cannot begin with `!`, which marks a tag; {_QUOTE_IT.format('!x')}",
    "while scanning a directive": "a line cannot begin with `%`; put the key in quotes, as in '%x': value",
    "while scanning a block scalar": f"a value cannot begin with `|` or `>` with text in the same line; {_QUOTE_IT.format('>x')}",
    "found duplicate anchor": "the file has two anchors with this name; rename one of them",
    "while constructing a mapping": "`<<` inserts the keys of another map and needs the alias of a map, as in <<: *other",
}
_BY_PROBLEM = {
    "found undefined alias": f"`*` marks an alias, but no anchor (`&`) has this name; if no alias is meant, {_QUOTE_IT.format('*name')}",
    "found undefined tag handle": f"a value cannot begin with `!`, which marks a tag; {_QUOTE_IT.format('!x')}",
    "found incompatible YAML": "this version of YAML is not supported; remove the line",
    "found duplicate": "a line that begins with `%` occurs twice; remove both",
}


def _tab(lines: list[str], start: int, end: int, column: int | None) -> tuple[str, int] | None:
    for number in range(start, min(end + 1, len(lines))):
        line = lines[number]
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return "the line is indented with a tab; YAML allows only spaces", number + 1
    if column is not None:
        return "there is a tab where a space is expected; replace it with a space", end + 1
    return None


def _first_character(problem: str) -> str:
    match = re.search(r"'(.)'", problem)
    what = "this character" if match is None else "a backtick" if match[1] == "`" else f"`{match[1]}`"
    return f"a value cannot begin with {what}; {_QUOTE_IT.format((match[1] if match else '@') + 'x')}"


def _quoted(problem: str, start: int, end: int) -> tuple[str, int]:
    if "escape" in problem or "hexadecimal" in problem or "code" in problem:
        return (
            r"in double quotes a backslash changes what follows it; use single quotes, as in '\d+' or 'C:\data'",
            end + 1,
        )
    return "the quote that begins here is not closed; close it in the same line", start + 1


def _quote_over_lines(text: str, end: int) -> int | None:
    """Return the first line of a quote that ends in line `end`, where the error is; None without one."""
    quote_line = None
    with contextlib.suppress(yaml.YAMLError):
        for token in yaml.scan(text, yaml.SafeLoader):  # type: ignore[no-untyped-call]
            if token.start_mark.line > end:
                break
            if isinstance(token, yaml.ScalarToken) and token.style in ("'", '"'):
                is_long = token.start_mark.line < token.end_mark.line == end
                quote_line = token.start_mark.line if is_long else quote_line
    return quote_line


def _brackets(problem: str, context: str, lines: list[str], start: int, mark: yaml.error.Mark) -> tuple[str, int]:
    opening, closing = ("{", "}") if "mapping" in context else ("[", "]")
    symbol = problem.rsplit("got ", 1)[-1].strip("'")
    before = lines[mark.line][: mark.column] if mark.line < len(lines) else ""
    if symbol == "{" and before.endswith("$"):
        return 'inside brackets ${...} must be in quotes, as in ["${NAME}"]', mark.line + 1
    if symbol == ":" and start == mark.line:
        return "a value inside brackets contains a colon and a space; put the value in quotes, as in {key: 'a: b'}", (
            mark.line + 1
        )
    if symbol in ("]", "}"):
        return (
            f"the bracket {opening} of line {start + 1} is closed by {symbol}; close it with {closing}",
            mark.line + 1,
        )
    if start == mark.line:
        return f"a comma is missing between the values in {opening}{closing}, or quotes around a value", mark.line + 1
    return f"the bracket {opening} that begins here is not closed, or a comma is missing; close it with {closing}", (
        start + 1
    )


def _colon(lines: list[str], mark: yaml.error.Mark) -> tuple[str, int]:
    number = mark.line
    if _WITH_VALUE.match(lines[number][: mark.column]):
        return f"the line has a second colon followed by a space; {_QUOTE_IT.format('a: b')}", number + 1
    above = next(
        (n for n in range(number - 1, -1, -1) if lines[n].strip() and not lines[n].lstrip().startswith("#")), None
    )
    if above is None:
        return _INDENTATION, number + 1
    if _NO_SPACE.match(lines[above]):
        return "a space is missing after the colon; write `key: value`", above + 1
    if ":" not in lines[above]:
        return "this line has no colon and is not a list entry; write `key: value` or `- value`", above + 1
    return "this line is indented deeper than the line above, whose key already has a value; " + (
        "begin it in the same column as that key, or remove that value"
    ), number + 1


def _no_colon(lines: list[str], number: int) -> tuple[str, int]:
    if number < len(lines) and _NO_SPACE.match(lines[number]):
        return "a space is missing after the colon; write `key: value`", number + 1
    return "this line has no colon and is not a list entry; write `key: value` or `- value`", number + 1


def _documents(lines: list[str], number: int) -> tuple[str, int]:
    separators = [n for n, line in enumerate(lines[: number + 1]) if _MARKERS.match(line) and n > 0]
    if separators:
        return "the file contains several documents, and this line begins another; keep only one", separators[-1] + 1
    return _INDENTATION, number + 1


def _block_end(problem: str) -> str:
    symbol = problem.rsplit("found ", 1)[-1].strip("'")
    if symbol == "<scalar>":
        return "text follows a closing quote; within single quotes write an apostrophe twice, as in 'it''s'"
    if symbol in ("}", "]"):
        return f"the bracket {symbol} closes nothing; remove it, or open it"
    if symbol == ":":
        return "a colon without a key before it"
    if symbol == "-":
        return "a list entry is among keys; indent it below the key that it belongs to"
    return _INDENTATION
