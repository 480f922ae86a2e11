"""Write HTML. Everything that comes from a dataset is text and is escaped; only what this module made is taken as HTML.

A template engine would be one more dependency for a page of some tables, and escapes by its own settings. Here the type decides: a `Safe`
text is HTML, any other value is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from clipmill.schemas.legible_text import visible
from clipmill.schemas.secret_values import hide_secrets

_VOID = frozenset({"br", "hr", "img", "link", "meta"})


class Safe(str):
    """A text that is HTML."""

    __slots__ = ()


Content = Any
"""A `Safe` text, a text or number that will be escaped, None for nothing, or a list of these."""


def escaped(value: object) -> Safe:
    """Return a value as HTML. Secrets are hidden, and characters without a glyph are written as Python does."""
    return Safe(html.escape(visible(hide_secrets(str(value))), quote=True))


def join(*contents: Content) -> Safe:
    """Return contents one after the other."""
    return Safe("".join(_flat(contents)))


def _flat(contents: Iterable[Content]) -> Iterable[str]:
    for content in contents:
        if content is None:
            continue
        if isinstance(content, Safe):
            yield content
        elif isinstance(content, list | tuple):
            yield from _flat(content)
        else:
            yield escaped(content)


def tag(name: str, /, *contents: Content, **attributes: Any) -> Safe:
    """Return an element. attributes : `class_` is written as class, `aria_label` as aria-label; None leaves one out, True writes it bare"""
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        written.append(f" {attribute}" if value is True else f' {attribute}="{_attribute(value)}"')
    start = f"<{name}{''.join(written)}>"
    return Safe(start if name in _VOID else f"{start}{join(*contents)}</{name}>")


def _attribute(value: object) -> str:
    return value if isinstance(value, Safe) else escaped(value)


def lines(text: str) -> Safe:
    """Return a text of several lines for an element that keeps them, such as `pre`."""
    return Safe("\n".join(escaped(line) for line in text.split("\n")))


def table(
    heads: Iterable[Content], rows: Iterable[Iterable[Content]], *, numbers_from: int = 1, caption: str = ""
) -> Safe:
    """Return a table that scrolls by itself where it is wider than the page.

    numbers_from : index of the first column of numbers, which are aligned to the right
    caption : what the table shows, for those who do not see it
    """

    def cells(name: str, row: Iterable[Content]) -> list[Safe]:
        scope = "col" if name == "th" else None
        return [
            tag(name, cell, class_="number" if i >= numbers_from else None, scope=scope) for i, cell in enumerate(row)
        ]

    head = tag("thead", tag("tr", *cells("th", heads)))
    body = tag("tbody", *(tag("tr", *cells("td", row)) for row in rows))
    named = tag("caption", caption, class_="unseen") if caption else None
    return tag("div", tag("table", named, head, body), class_="scrolls")
