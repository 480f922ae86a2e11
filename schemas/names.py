"""Names: one spelling for those that look and mean the same.

Unicode spells many letters in two ways, é as one code point (NFC) or as e and an accent (NFD). macOS writes NFD into file names and most
editors NFC into files, so the same folder, label or speaker comes in both. Names are compared and stored as NFC; only the path of a
recording, and with it its id and address, keeps the spelling by which the file is found.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

_AS_THEY_ARE = frozenset({"root", "storage_options"})


def to_nfc(name: str) -> str:
    """Return a name in NFC."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def paths_by_nfc(paths: Iterable[str]) -> dict[str, str]:
    """Return paths by their names in NFC, but for those of ASCII alone, which have one spelling."""
    return {to_nfc(path): path for path in paths if not path.isascii()}


def normalize_names(value: Any) -> Any:
    """Return a configuration's plain data with all texts and keys in NFC, but for addresses and what is handed to storage."""
    if isinstance(value, str):
        return to_nfc(value)
    if isinstance(value, list):
        return [normalize_names(v) for v in value]
    if isinstance(value, dict):
        return {
            to_nfc(k) if isinstance(k, str) else k: v if k in _AS_THEY_ARE else normalize_names(v)
            for k, v in value.items()
        }
    return value
