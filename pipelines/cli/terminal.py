"""Print text safely: a line stays one line, whatever names it contains.

Names of files, labels and annotations can contain anything. A control character in a name could clear the screen, overwrite earlier
output, or reverse the direction of a line; it is printed as ``\\x1b`` or ``\\u202e`` instead.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import click

from clipmill.schemas.legible_text import visible
from clipmill.schemas.secret_values import hide_in_data, hide_secrets


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
