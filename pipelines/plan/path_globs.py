"""Match paths with patterns in which `*`, `?` and `**` stand for parts of names."""

from __future__ import annotations

import regex

from clipmill.schemas.config.raw_config import names_extension
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.names import to_nfc

_MATCH_TIMEOUT_S = 1.0


def fits(pattern: regex.Pattern[str], path: str, partial: bool = False) -> bool:
    """Return whether a pattern fits a path. partial : whether it is enough that a longer path could fit

    Raises
    ------
    ConfigError : finding that out takes too long
    """
    try:
        return pattern.fullmatch(to_nfc(path), timeout=_MATCH_TIMEOUT_S, partial=partial) is not None
    except TimeoutError:
        raise ConfigError(f"an include or exclude pattern takes too long on {path!r}; use fewer stars") from None


def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """Return the regular expression of a pattern; see `Patterns`."""
    text = pattern if "/" in pattern else f"**/{pattern}"
    ending = ""
    if names_extension(text):
        text, dot, extension = text.rpartition(".")
        ending = f"(?i:{regex.escape(dot + extension)})"
    out, i = "", 0
    while i < len(text):
        if text.startswith("**/", i) and (i == 0 or text[i - 1] == "/"):
            out, i = out + "(?:.*/)?", i + 3
        elif text.startswith("**", i):
            out, i = out + ".*", i + 2
        elif text[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif text[i] == "?":
            out, i = out + "[^/]", i + 1
        else:
            out, i = out + regex.escape(text[i]), i + 1
    return regex.compile(out + ending, regex.DOTALL)
