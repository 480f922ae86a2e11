"""Compute the identifiers that must never change by accident: canonical JSON, digests, keys, clip ids."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_KEY_VERSION = 1
"""Part of every shard key. It is not the version of the dataset's files, so that those can change and shards stay."""


OLD_CLIP_ID_BITS = 48
"""Width of the hash in clips' ids, in datasets that were begun before it was widened: two names with one id can be found in minutes."""
CLIP_ID_BITS = 128
"""The same for new datasets."""

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return a value as canonical JSON: sorted keys, no spaces, non-ASCII characters kept."""
    return _ENCODER.encode(value)


def digest(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class ConfigDigests:
    """Digests of the parts of a configuration that decide the content of shards, and of their clips.

    config, clips : of most splits
    of_splits : of those splits for which they are others
    audio : of what else decides a shard's audio file, where features lie beside it; empty where they lie in it
    """

    config: str = ""
    clips: str = ""
    of_splits: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    audio: str = ""

    def of(self, split: str) -> tuple[str, str]:
        """Return the two digests for the shards of a split: of the whole configuration, and of what concerns clips."""
        return self.of_splits.get(split, (self.config, self.clips))

    def audio_of(self, split: str) -> str:
        """Return the digest for the audio files of a split; empty where features lie in them."""
        return digest([self.of(split)[1], self.audio]) if self.audio else ""


def shard_key(item_digests: Iterable[str], config_digest: str, split: str, partition: str) -> str:
    """Return the key of a shard, 64 hex digits.

    It depends on the shard's items (each digest covers the recording's version, its annotation rows and its source's
    configuration), on the configuration that affects all items, and on the shard's place.
    """
    return digest([_KEY_VERSION, config_digest, split, partition, sorted(item_digests)])


def excluding_digest(item_digest: str, clip_ids: Iterable[str]) -> str:
    """Return the digest of an item of which some clips are excluded: its own digest, and that of the clips' ids behind it.

    The clips that the item gives are the same before they are excluded, see `clips_digest_of`.
    """
    return f"{item_digest}-{digest(sorted(clip_ids))}"


def clips_digest_of(item_digest: str) -> str:
    """Return an item's digest without what is excluded of its clips: by it committed clips are found again."""
    return item_digest.partition("-")[0]


def position_hash(text: str) -> int:
    """Return 64 bits that decide an item's partition, or the split of a group."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def slug(text: str, limit: int = 40) -> str:
    """Return a readable part of a name in [A-Za-z0-9_-], never empty, at most `limit` characters long."""
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:limit].rstrip("-")
    return cleaned or "x"


def clip_origin(
    recording_id: str, stem: str, annotation_range_us: tuple[int, int, int] | None, clip_id_bits: int = OLD_CLIP_ID_BITS
) -> str:
    """Return the part of a clip's id that all clips of one recording (or of one annotated range in it) share.

    Parameters
    ----------
    recording_id : ``<source>/<path>``, unique in the dataset
    stem : the file's name without its last extension, which makes the id readable
    annotation_range_us : start and end in microseconds and a counter for rows with equal ranges; None without annotations
    clip_id_bits : of the hash, a multiple of 4
    """
    origin = recording_id if annotation_range_us is None else f"{recording_id}\n{annotation_range_us}"
    return f"{slug(stem)}-{hashlib.sha256(origin.encode()).hexdigest()[: clip_id_bits // 4]}"


def clip_id(origin: str, start_s: float, channel: int | None = None) -> str:
    """Return the id of a clip, its origin and its start in microseconds; it has letters, digits, ``_`` and ``-`` only.

    channel : counted from 0, where each channel has a clip of its own; otherwise None
    """
    return f"{origin}-{round(start_s * 1e6):010d}" + (f"-c{channel}" if channel is not None else "")
