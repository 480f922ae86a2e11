"""Print text safely: a line stays one line, whatever names it contains. On a terminal it is broken at blanks, and its first word coloured.

Names of files, labels and annotations can contain anything. A control character in a name could clear the screen, overwrite earlier
output, or reverse the direction of a line; it is printed as ``\\x1b`` or ``\\u202e`` instead.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import click

from clipmill.pipelines.cli.screen_layout import Section, fit, wrap
from clipmill.pipelines.run.surfaces import wants_colour
from clipmill.schemas.legible_text import visible
from clipmill.schemas.secret_values import hide_in_data, hide_secrets

_MAX_COLUMNS, _MIN_COLUMNS, _MIN_LINES = 100, 40, 24
_TONES = {
    "red": r"(?:[Ee]rror|failed|unreadable)(?=:|  )|(?<=, )[1-9][\d,]* failed\b|[\d,]+ problems?$",
    "yellow": r"(?:[Ww]arning|not[ _]published|accepted|interrupted|saturated|now rejected|not shown|rejected by reason)(?=:|  | )"
    r"|(?<=[+,:] )[1-9][\d,]* rejected\b",
    "green": r"(?:published|unchanged|repaired|finished|upgraded)(?=   *(?!nothing yet)\S)|all as committed$",
    "cyan": r"(?:next|what to do|note|hint|Usage)(?=:|  )",
}
_TONE = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _TONES.items()))
"""What is coloured of a line, at its beginning or in an account: red failed, yellow wants attention, green is well, cyan is advice. The
words say the same without colours."""


def say(*lines: str, err: bool = False) -> None:
    """Print lines to stdout, or to stderr if err is set. A line break within a line is escaped, and secrets are hidden.

    On a terminal, lines that are too long are broken at blanks, under their text. Elsewhere a line stays one line.
    """
    if not lines:
        return
    shown = [visible(hide_in_data(line)) for line in lines]
    _print(shown, err, [wrap(line, screen_size()[0]) for line in shown] if _is_terminal(err) else None)


def say_sections(sections: Sequence[Section]) -> None:
    """Print sections: on a terminal so that they fit its screen, elsewhere all of their lines."""
    plain = [replace(section, lines=[visible(hide_in_data(line)) for line in section.lines]) for section in sections]
    laid_out = [(s, list(s.lines)) for s in plain if s.lines and not _is_terminal(s.err)]
    laid_out += fit([s for s in plain if _is_terminal(s.err)], *screen_size())
    for section, lines in laid_out:
        _print(lines, section.err)


def screen_size() -> tuple[int, int]:
    """Return how many columns and lines there are for text, with a line left for the prompt."""
    columns, lines = shutil.get_terminal_size((80, 24))
    return max(_MIN_COLUMNS, min(columns, _MAX_COLUMNS)), max(_MIN_LINES, lines) - 1


def _is_terminal(err: bool) -> bool:
    return (sys.stderr if err else sys.stdout).isatty()


def _print(lines: Sequence[str], err: bool, parts: Sequence[Sequence[str]] | None = None) -> None:
    """Print safe lines. parts : what they were broken into"""
    stream = sys.stderr if err else sys.stdout
    colour = wants_colour(stream)
    told = ["\n".join(p) for p in parts] if parts is not None else lines
    text = "\n".join(_coloured(line) for line in told) if colour else "\n".join(told)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err, color=colour)


def _coloured(line: str) -> str:
    """Return a line with its first words in the colour of what they say, and the numbers of what failed or was rejected."""
    counts = re.match(r"(?:recordings|annotations|clips|shards|snapshot) ", line) is not None
    found = _TONE.finditer(line) if counts else filter(None, [_TONE.match(line)])
    for match in reversed(list(found)):
        styled = click.style(match[0], fg=match.lastgroup, bold=True if match.lastgroup == "red" else None)
        line = line[: match.start()] + styled + line[match.end() :]
    return line


JSON_VERSION = 1
"""Version of the objects that commands print with --json: raised when a key is removed, renamed or means something else. New keys may come
at any time. docs/json has their schemas."""


def versioned(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object that a command prints with --json, with its version under the key `schema`."""
    return {"schema": JSON_VERSION, **value}


def say_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object with its version; secrets in its texts are hidden."""
    click.echo(json.dumps(hide_in_data(versioned(value))))


def guard_stderr() -> None:
    """Hide secrets also in what Python itself prints: logs of libraries, and the traceback of a bug."""
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_hide_in_record)
    sys.excepthook = _print_hidden


def _hide_in_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = hide_secrets(record.getMessage()), ()
    if record.exc_info:
        record.exc_text = hide_secrets("".join(traceback.format_exception(*record.exc_info)).rstrip())
    return True


def _print_hidden(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(hide_secrets("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
