"""Identifiers that must never change by accident: canonical JSON, digests, clip ids."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

FORMAT_VERSION = 1
"""Version of the dataset's files. Part of every shard key."""


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, non-ASCII kept."""
    return _ENCODER.encode(value)


def digest(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def shard_key(item_digests: Iterable[str], config_digest: str, split: str, partition: str) -> str:
    """Return the key of a shard, 64 hex digits.

    It is a function of what the shard holds (each item's digest covers the recording's version, its annotation rows
    and its source's configuration), of the configuration that matters to all, and of the shard's place.
    """
    return digest([FORMAT_VERSION, config_digest, split, partition, sorted(item_digests)])


def position_hash(text: str) -> int:
    """Return 64 bits that place an item in the trie of shards, or a group in a split."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def slug(text: str, limit: int = 40) -> str:
    """Return a readable piece of a name in [A-Za-z0-9_-], never empty, at most `limit` long."""
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:limit].rstrip("-")
    return cleaned or "x"


def clip_origin(recording_id: str, stem: str, annotation_range_us: tuple[int, int, int] | None) -> str:
    """Return the part of a clip's id that all clips of one recording (or of one annotated range in it) share.

    Parameters
    ----------
    recording_id : ``<source>/<path>``, unique in the dataset
    stem : the file's name without its last extension, for the reader's eye
    annotation_range_us : start and end in microseconds and a counter for rows with equal ranges; None without annotations
    """
    origin = recording_id if annotation_range_us is None else f"{recording_id}\n{annotation_range_us}"
    return f"{slug(stem)}-{hashlib.sha256(origin.encode()).hexdigest()[:12]}"


def clip_id(origin: str, start_s: float, channel: int | None = None) -> str:
    """Return the id of a clip: its origin and its start in microseconds; letters, digits, ``_`` and ``-`` only.

    channel : counted from 0, of a clip that is of one channel where each has its own; None else
    """
    return f"{origin}-{round(start_s * 1e6):010d}" + (f"-c{channel}" if channel is not None else "")
