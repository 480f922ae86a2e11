"""Check addresses of trees of files."""

from __future__ import annotations


def check_address(root: str) -> str:
    """Return a root's address. Raises ValueError when it is empty or incomplete, or may contain secrets."""
    if not root:
        raise ValueError("is empty; give a folder or a URL")
    if root.startswith(("s3://", "s3a://")) and not root.split("://", 1)[1].split("/", 1)[0]:
        raise ValueError("names no bucket; give s3://BUCKET/FOLDER")
    if "://" in root and "@" in root.split("://", 1)[1].split("/", 1)[0]:
        raise ValueError("contains credentials; put them into storage_options, preferably as ${VAR}")
    if "://" in root and "?" in root:
        raise ValueError("has a query after ?, which can contain a signature or a version; give a plain address")
    return root
