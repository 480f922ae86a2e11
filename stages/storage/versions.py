"""The version of a recording: what tells that its content is still the one that was planned."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from clipmill.stages.storage.root import Root

_CHUNK_BYTES = 1 << 20


def version_of(root: Root, path: str, kind: str) -> str:
    """Ask storage for the version of a recording.

    Parameters
    ----------
    kind : "auto": size and modification time, or the store's ETag; "sha256": of the content

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
    """
    if kind == "sha256":
        return "sha256-" + sha256_of(root, path)
    if root.is_local:
        return stat_version(os.stat(root.full(path)))
    return info_version(root.remote_info(path))


def stat_version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def info_version(info: Mapping[str, Any]) -> str:
    """Return the version of a remote file from its entry in a listing."""
    etag = info.get("ETag") or info.get("etag")
    if etag:
        return etag_version(str(etag))
    changed = next(
        (info[k] for k in ("LastModified", "mtime", "last_modified", "updated", "created") if info.get(k)), ""
    )
    # fsspec's memory file system lists a time as a number and gives it as a date when asked for the one file.
    moment = changed.timestamp() if hasattr(changed, "timestamp") else changed
    return f"{info.get('size')}-{f'{moment:.6f}' if isinstance(moment, float) else moment}"


def etag_version(etag: str) -> str:
    return "etag-" + etag.strip('"')


def sha256_of(root: Root, path: str) -> str:
    """Return the sha256 of a file's content, 64 hex digits."""
    total = hashlib.sha256()
    with root.open_read(path) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            total.update(chunk)
    return total.hexdigest()
