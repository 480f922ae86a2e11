"""Digest everything besides a source's files that decides what is kept of it: the configuration and the code."""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import regex

from clipmill.schemas.config import Config, Source
from clipmill.schemas.keys import digest

_TOP = Path(__file__).resolve().parents[2]
_READING = (
    "pipelines/plan/annotations",
    "stages/annotations",
    "schemas/config",
    "schemas/names.py",
    "schemas/tables.py",
)
_PLANNING = ("pipelines/plan", "pipelines/chain.py", "schemas", "stages/decode/families.py", "stages/storage")


def reading_settings(source: Source) -> str:
    """Return a digest of what decides the rows that a source's annotation files give."""
    specs = [spec.model_dump(mode="json") for spec in source.all_annotations]
    return digest([_code(_READING), specs])


def planning_settings(config: Config, source: Source, source_digest: str) -> str:
    """Return a digest of what decides the items of a source's recordings. source_digest : see `source_fingerprint`"""
    plain = config.model_dump(mode="json", include={"split", "classes", "audio", "output", "level"})
    return digest(
        [_code(_PLANNING), source.name, source_digest, _public(plain), _public(source.model_dump(mode="json"))]
    )


def _public(plain: Any) -> Any:
    """Return a configuration without what reaches storage: credentials do not decide what is read."""
    if isinstance(plain, dict):
        return {name: _public(value) for name, value in plain.items() if name != "storage_options"}
    return [_public(value) for value in plain] if isinstance(plain, list) else plain


@cache
def _code(places: Sequence[str]) -> str:
    """Return a digest of code, and of what the standard library decides. No one has to remember to raise a version."""
    hashed = hashlib.sha256()
    files = [p for place in places for p in ([_TOP / place] if place.endswith(".py") else (_TOP / place).rglob("*.py"))]
    for path in sorted(files):
        content = path.read_bytes()
        hashed.update(f"{path.relative_to(_TOP).as_posix()}\0{len(content)}\0".encode())
        hashed.update(content)
    return digest([hashed.hexdigest(), list(sys.version_info[:2]), unicodedata.unidata_version, regex.__version__])
