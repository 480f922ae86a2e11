"""Print text safely: a line stays one line, whatever names it contains.

Names of files, labels and annotations can contain anything. A control character in a name could clear the screen, overwrite earlier
output, or reverse the direction of a line; it is printed as ``\\x1b`` or ``\\u202e`` instead.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import click

from clipmill.schemas.secret_values import hide_in_data, hide_secrets

_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e007f]"
)
"""Control characters, line and paragraph separators, direction marks, other characters without a glyph (except joiners, which are part of
words), and bytes of names that are not UTF-8."""


def visible(text: str) -> str:
    """Return a line in which every character that a terminal would interpret, or could not show, is escaped as in Python."""
    return _HIDDEN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # Python's replacement for a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return ascii(match[0])[1:-1]


def say(*lines: str, err: bool = False) -> None:
    """Print lines to stdout, or to stderr if err is set. A line break within a line is escaped, and secrets are hidden."""
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = "\n".join(visible(hide_in_data(line)) for line in lines)
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err)


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
