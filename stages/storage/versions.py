"""Determine the version of a recording, by which a change of its content is detected."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from clipmill.stages.storage.file_system import TIMES_WRITTEN
from clipmill.stages.storage.root import Root

_BLOCK_BYTES = 1 << 20


def version_of(root: Root, path: str, kind: str) -> str:
    """Return the version of a recording from storage.

    Parameters
    ----------
    root, path : where the recording is
    kind : "auto": size and modification time, or the store's ETag; "sha256": hash of the content

    Raises
    ------
    FileNotFoundError, PermissionError : the recording is missing or must not be read
    OSError : storage failed
    """
    if kind == "sha256":
        return "sha256-" + sha256_of(root, path)
    if root.is_local:
        return stat_version(os.stat(root.full(path)))
    return info_version(root.remote_info(path))


def stat_version(status: os.stat_result) -> str:
    """Return the version of a local file: its size in bytes and its modification time in ns."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def info_version(info: Mapping[str, Any]) -> str:
    """Return the version of a remote file from its entry in a listing."""
    etag = info.get("ETag") or info.get("etag")
    if etag:
        return etag_version(str(etag))
    modified = next((info[k] for k in TIMES_WRITTEN if info.get(k)), "")
    # fsspec's memory file system has a number as the time in listings, but a date for a single file.
    time_value = modified.timestamp() if hasattr(modified, "timestamp") else modified
    return f"{info.get('size')}-{f'{time_value:.6f}' if isinstance(time_value, float) else time_value}"


def etag_version(etag: str) -> str:
    """Return the version of an object by its ETag, with or without quotes."""
    return "etag-" + etag.strip('"')


def sha256_hex(content: bytes) -> str:
    """Return the sha256 of bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of(root: Root, path: str) -> str:
    """Return the sha256 of a file's content, 64 hex digits."""
    digest = hashlib.sha256()
    with root.open_read(path) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
