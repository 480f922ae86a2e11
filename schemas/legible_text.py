"""Make text safe to show: what a terminal or a page would interpret, or could not show, is escaped as Python writes it."""

from __future__ import annotations

import re

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
