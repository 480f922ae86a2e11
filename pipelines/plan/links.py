"""Find the symbolic link by which a path of a source leads out of its root."""

from __future__ import annotations

import os

from clipmill.schemas.config import Source
from clipmill.schemas.errors import ConfigError
from clipmill.stages.storage.root import Root


def is_in(path: str, folder: str) -> bool:
    """Return whether an absolute path is a folder or inside it. Both are without links."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def link_out_of(root: Root, path: str) -> tuple[str, str] | None:
    """Return the first link in a path that leads out of its root, relative to the root, and where it leads; None if none does."""
    if not root.is_local:
        return None
    top = os.path.realpath(root.full())
    parts = path.split("/")
    for k in range(1, len(parts) + 1):
        link = "/".join(parts[:k])
        real = os.path.realpath(root.full(link))
        if not is_in(real, top):
            return link, real
    return None


def check_link(root: Root, path: str, source: Source, key: str, what: str) -> None:
    """Raise ConfigError if a file is reached by a link out of its source's root, and these are not followed.

    key : of the configuration; what : the file is, such as a table
    """
    if source.follow_links or (found := link_out_of(root, path)) is None:
        return
    link, target = found
    how = "is a link" if link == path else f"is reached by {link}, a link"
    raise ConfigError(
        f"{path} {how} to {target}, which is outside {root.url}: set follow_links: true for this source, or copy the"
        f" {what} into its root",
        key=key,
    )
