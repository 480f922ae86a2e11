"""Print text safely: a line stays a line, whatever is in the names that it holds.

Names of files, labels and annotations come from anywhere. A control character in one could clear a screen, move the cursor over what was
printed before, or reverse the direction of a line; it is shown as ``\\x1b`` or ``\\u202e`` instead of being sent.
"""

from __future__ import annotations

import re
import sys

import click

_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e007f]"
)
"""Controls, line and paragraph separators, directions, other characters without a glyph (but no joiners, which are part of words), and
bytes of names that are not text."""


def visible(text: str) -> str:
    """Return a line with everything that a terminal would act on, or could not show, written out as in Python."""
    return _HIDDEN.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # Python's own stand-in for a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return ascii(match[0])[1:-1]


def say(*lines: str, err: bool = False) -> None:
    """Print lines to stdout, or to stderr. A line break within one is shown, not made."""
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = "\n".join(map(visible, lines))
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err)
