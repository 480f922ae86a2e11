"""Names of folders for labels: each its own on every file system, and readable back."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote

from clipmill.schemas.keys import digest

_NOT_IN_NAMES = frozenset('/\\:*?"<>|[]#%')
"""What some file system forbids, what `datasets` takes for a pattern, and the sign of escapes itself."""
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE | re.DOTALL)
"""Names that Windows keeps for devices."""
_MAX_BYTES = 120
_ASCII = re.compile(r"[a-z0-9_. -]")
_SHORTENED = "%~"


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """Return a folder's name for each label, all different, also where case does not count, and none of them special anywhere.

    Characters that cannot be in names are written as %XX, a byte of UTF-8 each, so `label_of` returns the label. So are all but small
    letters and digits in labels that a file system without case takes for one. A name that would be longer than 120 bytes is cut, and
    ends in %~ and 16 hex digits of the label's digest: such a label cannot be read back.
    """
    distinct = sorted(set(labels))
    alike: dict[str, int] = {}
    for label in distinct:
        alike[_caseless(label)] = alike.get(_caseless(label), 0) + 1
    return {label: _name(label, alike[_caseless(label)] > 1) for label in distinct}


def label_of(name: str) -> str | None:
    """Return the label that a folder stands for; None where its name was cut."""
    return None if _SHORTENED in name else unquote(name)


def _caseless(label: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())


def _name(label: str, is_shared: bool) -> str:
    parts = [_escaped(c) if _must_be_escaped(c, is_shared) else c for c in label]
    if label[0] == "." or label.startswith("__") or _RESERVED.fullmatch(label.rstrip(". ")):
        parts[0] = _escaped(label[0])  # hidden, left out by `datasets`, or a device
    if label[-1] in ". ":
        parts[-1] = _escaped(label[-1])
    if label[0] == " ":
        parts[0] = _escaped(" ")
    if len("".join(parts).encode()) <= _MAX_BYTES:
        return "".join(parts)
    ending = f"{_SHORTENED}{digest(label)[:16]}"
    while len("".join(parts).encode()) > _MAX_BYTES - len(ending):
        parts.pop()
    return "".join(parts) + ending


def _must_be_escaped(character: str, is_shared: bool) -> bool:
    return (
        character in _NOT_IN_NAMES
        or (character != " " and not character.isprintable())
        or (is_shared and not _ASCII.fullmatch(character))
    )


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
