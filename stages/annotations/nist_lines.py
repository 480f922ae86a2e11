"""Read the lines of the formats of the NIST scoring tools, in which fields are cut at blanks and `;;` begins a comment."""

from __future__ import annotations

import re
from collections.abc import Iterator

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.file_text import lines

EMPTY = "<NA>"
"""Stands for a field without a value."""
_CHANNEL = re.compile(r"[A-Za-z]|[0-9]{1,3}")
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}")
_LETTERS = {"A": "1", "B": "2"}


def nist_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are neither empty nor comments, each with its number, from 1."""
    for number, line in enumerate(lines(text), 1):
        if line.strip() and not line.lstrip().startswith(";;"):
            yield number, line


def channel_cell(cells: dict[str, str], spec: Annotations) -> dict[str, str]:
    """Return cells of which `channel` is a number, counted from 1, if the configuration reads it: telephone speech has A and B."""
    if "channel" in spec.roles and "channel" in cells:
        cells["channel"] = _LETTERS.get(cells["channel"].upper(), cells["channel"])
    return cells


def is_channel(text: str) -> bool:
    """Return whether a field can be a channel: a letter or a small number."""
    return _CHANNEL.fullmatch(text) is not None


def is_number(text: str) -> bool:
    """Return whether a field can be a time in seconds."""
    return _NUMBER.fullmatch(text) is not None
