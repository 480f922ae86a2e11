"""Mark damaged files, so that the next build repairs them. Each mark is a file of its own, so writers do not get in each other's way."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from clipmill.schemas.layout import BESIDE, COMMITS, DAMAGED, FORMAT_VERSION, OWN_FILES, SHARDS
from clipmill.schemas.seal import sealed, unsealed
from clipmill.stages.storage.root import Root

_KEY = re.compile(r"commits/([0-9a-f]{12})|-([0-9a-f]{12})\.\w+$")


@dataclass(frozen=True)
class Mark:
    """A file that was found damaged. path : relative to the root; why : what was seen; found : when, UTC in ISO 8601"""

    path: str
    why: str
    found: str

    @property
    def key12(self) -> str:
        """First digits of the key of the shard that the file belongs to; empty for other files.

        An audio file with features beside it is named by its content: which shards it belongs to is in their records.
        """
        return key12_of(self.path)


def key12_of(path: str) -> str:
    """Return the first 12 digits of the key of the shard that a file belongs to; empty for other files."""
    if not path.startswith((f"{COMMITS}/", f"{SHARDS}/", f"{BESIDE}/")):
        return ""
    match = _KEY.search(path)
    return (match[1] or match[2]) if match else ""


def _mark_path(path: str) -> str:
    return f"{DAMAGED}/{hashlib.sha256(path.encode()).hexdigest()[:16]}.json"


def mark(root: Root, path: str, why: str) -> bool:
    """Mark a file as damaged; return whether it is marked. A reader that may not write leaves no mark."""
    if OWN_FILES.fullmatch(path) is None:
        return False
    found = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"format_version": FORMAT_VERSION, "path": path, "why": why, "found": found}
    try:
        if _read(root, _mark_path(path)) is None:
            root.write_bytes(_mark_path(path), sealed(record))
    except root.errors:
        return False
    return True


def read_marks(root: Root) -> dict[str, Mark]:
    """Return what is marked as damaged, by path. A mark that is damaged itself is none: what it was for is found again when it is read."""
    found = [_read(root, f"{DAMAGED}/{name}") for name in root.names(DAMAGED)]
    return {mark.path: mark for mark in sorted((m for m in found if m is not None), key=lambda m: m.path)}


def _read(root: Root, path: str) -> Mark | None:
    try:
        record = unsealed(root.read_bytes(path), must_be_sealed=True)
        return Mark(str(record["path"]), str(record["why"]), str(record["found"]))
    except (FileNotFoundError, ValueError, KeyError, RecursionError):
        return None


def remove_marks(root: Root, paths: list[str]) -> None:
    """Remove the marks of files that were repaired."""
    for path in paths:
        root.remove(_mark_path(path))
