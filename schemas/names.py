"""Give one spelling to names that look the same.

Unicode has two spellings for many letters: é is one code point (NFC) or e and an accent (NFD). macOS writes NFD into file names and most
editors write NFC into files, so the same folder, label or speaker occurs in both. Names are compared and stored as NFC. Only the path of a
recording, and so its id and address, keeps the spelling under which the file exists.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from typing import Any

TRANSCRIPT_FIELDS = ("text", "transcript", "normalized_text")
"""Fields that hold a clip's transcript: the first one that a dataset has."""
_AS_THEY_ARE = frozenset({"root", "storage_options"})


def to_nfc(name: str) -> str:
    """Return a name in NFC."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def transcript_field(names: Collection[str]) -> str | None:
    """Return the field that holds the transcripts, None if there is none. names : of a dataset's fields"""
    return next((name for name in TRANSCRIPT_FIELDS if name in names), None)


def paths_by_nfc(paths: Iterable[str]) -> dict[str, str]:
    """Return paths by their spelling in NFC, without pure ASCII paths, which have one spelling only."""
    return {to_nfc(path): path for path in paths if not path.isascii()}


def normalize_names(value: Any) -> Any:
    """Return a configuration's plain data with all texts and keys in NFC, except addresses and storage options."""
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
