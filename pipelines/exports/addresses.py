"""Addresses in exports: relative where the files stay together, and those that a reader cannot open, told."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from clipmill.pipelines.exports import Export
from clipmill.stages.storage.root import Root


def beside(asked: Export, path: str) -> str:
    """Return where a file of the dataset is, for a list in the export's folder: from that folder on where it lies in the dataset's
    root, so that a root that was moved or copied keeps its lists; else the whole address.
    """
    root, target = asked.published.root, asked.target
    if root.is_local and target.is_local:
        home, folder = os.path.realpath(root.full()), os.path.realpath(target.full())
        if folder.startswith(f"{home}/"):
            return os.path.relpath(os.path.join(home, path), folder)
    return root.uri(path)


def note_patterns(asked: Export, root: Root) -> None:
    """Note where `datasets` takes a folder's name for a pattern, or for several file systems one behind the other."""
    signs = [sign for sign in ("::", "[", "*", "?") if sign in _path(root)]
    if root.is_local and signs:
        patterns = [repr(sign) for sign in signs if sign != "::"]
        meant = ["'::' in an address for file systems one behind the other"] if "::" in signs else []
        meant += [
            f"{' and '.join(patterns)} in an address for {'patterns' if len(patterns) > 1 else 'a pattern'}"
        ] * bool(patterns)
        asked.notes.append(
            f"datasets cannot load {root.url} from where it is, or not it alone: it takes {', and '.join(meant)}; move the"
            f" dataset to a folder without {'them' if len(signs) > 1 else 'it'} (a link will not do)"
        )


def note_cut(asked: Export, root: Root, reader: str = "webdataset") -> None:
    """Note where a reader of tar files cuts an address off."""
    signs = [sign for sign in ("?", "#") if sign in _path(root)]
    if root.is_local and signs:
        asked.notes.append(
            f"{reader} cannot open files under {root.url} by their whole address: it ends an address at {' or '.join(map(repr, signs))};"
            f" move the dataset to a folder without {'them' if len(signs) > 1 else 'it'}, or export from a link to it"
        )


def _path(root: Root) -> str:
    return root.full() if root.is_local else urlsplit(root.url).path
