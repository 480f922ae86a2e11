"""Print text safely: a line stays one line, whatever names it contains.

Names of files, labels and annotations can contain anything. A control character in a name could clear the screen, overwrite earlier
output, or reverse the direction of a line; it is printed as ``\\x1b`` or ``\\u202e`` instead.
"""

from __future__ import annotations

import re
import sys

import click

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
    """Print lines to stdout, or to stderr if err is set. A line break within a line is escaped."""
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = "\n".join(map(visible, lines))
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err)
