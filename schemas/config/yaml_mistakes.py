"""What is wrong with a text that is not YAML, in words: which line, why, and what to write instead.

PyYAML says what its grammar expected ("expected <block end>, but found '?'"), which helps nobody who wrote a colon too many. No value
of the file is repeated: it can be a secret.
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
    "this line is indented otherwise than the lines that it belongs with: the keys of one map begin in the same column,"
    " with spaces, and those of an entry of a list below the first key behind its `- `"
)


def describe_yaml_error(error: yaml.MarkedYAMLError, text: str) -> tuple[str, int | None]:
    """Return what is wrong with a text that PyYAML refuses, and in which line, from 1."""
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
    if (opened := _quote_over_lines(text, mark.line)) is not None:
        return (
            f"the quote that begins here is closed only in line {mark.line + 1}; close it in its own line",
            opened + 1,
        )
    for begins, told in _BY_CONTEXT.items():
        if context.startswith(begins):
            return told, start + 1
    for begins, told in _BY_PROBLEM.items():
        if problem.startswith(begins):
            return told, mark.line + 1
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
    "while scanning an alias": f"a value cannot begin with `*`, which stands for an alias; {_QUOTE_IT.format('*.wav')}",
    "while scanning an anchor": f"a value cannot begin with `&`, which stands for an anchor; {_QUOTE_IT.format('& more')}",
    "while scanning a tag": f"a value cannot begin with `!`, which stands for a tag; {_QUOTE_IT.format('!x')}",
    "while parsing a tag": f"a value cannot begin with `!`, which stands for a tag; {_QUOTE_IT.format('!x')}",
    "while scanning a directive": "a line cannot begin with `%`; put the key in quotes, as in '%x': value",
    "while scanning a block scalar": f"a value cannot begin with `|` or `>` with text in the same line; {_QUOTE_IT.format('>x')}",
    "found duplicate anchor": "an anchor of this name stands twice in the file; give one of them another name",
    "while constructing a mapping": "`<<` takes in the keys of another map: give the alias of a map, as in <<: *other",
}
_BY_PROBLEM = {
    "found undefined alias": f"`*` stands for an alias, and no anchor (`&`) has this name; {_QUOTE_IT.format('*name')} if none is meant",
    "found undefined tag handle": f"a value cannot begin with `!`, which stands for a tag; {_QUOTE_IT.format('!x')}",
    "found incompatible YAML": "this version of YAML is not known; leave the line out",
    "found duplicate": "a line that begins with `%` stands twice; leave both out",
}


def _tab(lines: list[str], start: int, end: int, column: int | None) -> tuple[str, int] | None:
    for number in range(start, min(end + 1, len(lines))):
        line = lines[number]
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return "the line is indented by a tab; YAML takes spaces only", number + 1
    if column is not None:
        return "a tab stands where a space is expected; replace it by a space", end + 1
    return None


def _first_character(problem: str) -> str:
    found = re.search(r"'(.)'", problem)
    what = "this character" if found is None else "a backtick" if found[1] == "`" else f"`{found[1]}`"
    return f"a value cannot begin with {what}; {_QUOTE_IT.format((found[1] if found else '@') + 'x')}"


def _quoted(problem: str, start: int, end: int) -> tuple[str, int]:
    if "escape" in problem or "hexadecimal" in problem or "code" in problem:
        return (
            r"in double quotes a backslash changes what follows it; use single quotes, as in '\d+' or 'C:\data'",
            end + 1,
        )
    return "the quote that begins here is not closed; close it in the same line", start + 1


def _quote_over_lines(text: str, end: int) -> int | None:
    """Return the line of a quote that was closed by one of line `end`, where the error is."""
    opened = None
    with contextlib.suppress(yaml.YAMLError):
        for token in yaml.scan(text, yaml.SafeLoader):  # type: ignore[no-untyped-call]
            if token.start_mark.line > end:
                break
            if isinstance(token, yaml.ScalarToken) and token.style in ("'", '"'):
                is_long = token.start_mark.line < token.end_mark.line == end
                opened = token.start_mark.line if is_long else opened
    return opened


def _brackets(problem: str, context: str, lines: list[str], start: int, mark: yaml.error.Mark) -> tuple[str, int]:
    opening, closing = ("{", "}") if "mapping" in context else ("[", "]")
    got = problem.rsplit("got ", 1)[-1].strip("'")
    before = lines[mark.line][: mark.column] if mark.line < len(lines) else ""
    if got == "{" and before.endswith("$"):
        return 'inside brackets ${...} must stand in quotes, as in ["${NAME}"]', mark.line + 1
    if got == ":" and start == mark.line:
        return "a value inside brackets holds a colon and a space; put the value in quotes, as in {key: 'a: b'}", (
            mark.line + 1
        )
    if got in ("]", "}"):
        return f"the bracket {opening} of line {start + 1} is closed by {got}; close it by {closing}", mark.line + 1
    if start == mark.line:
        return f"a comma is missing between the values in {opening}{closing}, or quotes around one", mark.line + 1
    return f"the bracket {opening} that begins here is not closed, or a comma is missing; close it by {closing}", (
        start + 1
    )


def _colon(lines: list[str], mark: yaml.error.Mark) -> tuple[str, int]:
    number = mark.line
    if _WITH_VALUE.match(lines[number][: mark.column]):
        return f"a second colon with a space behind it in one line; {_QUOTE_IT.format('a: b')}", number + 1
    above = next(
        (n for n in range(number - 1, -1, -1) if lines[n].strip() and not lines[n].lstrip().startswith("#")), None
    )
    if above is None:
        return _INDENTATION, number + 1
    if _NO_SPACE.match(lines[above]):
        return "a space is missing behind the colon; write `key: value`", above + 1
    if ":" not in lines[above]:
        return "this line has no colon, and is no entry of a list; write `key: value` or `- value`", above + 1
    return "this line is indented deeper than the line above, whose key has a value already; " + (
        "begin it in the same column as that key, or give that key no value of its own"
    ), number + 1


def _no_colon(lines: list[str], number: int) -> tuple[str, int]:
    if number < len(lines) and _NO_SPACE.match(lines[number]):
        return "a space is missing behind the colon; write `key: value`", number + 1
    return "this line has no colon, and is no entry of a list; write `key: value` or `- value`", number + 1


def _documents(lines: list[str], number: int) -> tuple[str, int]:
    marked = [n for n, line in enumerate(lines[: number + 1]) if _MARKERS.match(line) and n > 0]
    if marked:
        return "the file holds several documents, of which this line begins another; keep one", marked[-1] + 1
    return _INDENTATION, number + 1


def _block_end(problem: str) -> str:
    found = problem.rsplit("found ", 1)[-1].strip("'")
    if found == "<scalar>":
        return "text follows a closing quote; in single quotes an apostrophe is written twice, as in 'it''s'"
    if found in ("}", "]"):
        return f"the bracket {found} closes nothing; leave it out, or open it"
    if found == ":":
        return "a colon without a key before it"
    if found == "-":
        return "an entry of a list stands among keys; indent it below the key that it belongs to"
    return _INDENTATION
