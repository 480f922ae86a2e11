"""Find exports of snapshots that are not kept. Some of them copy the audio, and all of them name files that will be removed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator

from clipmill.schemas.export_marks import CARD_FILE, CARD_MARK, CROISSANT_FILE, CROISSANT_MARK, FOLDER_MARK
from clipmill.stages.storage.root import Root

_NAMED = re.compile(
    rb"(?:shards|features)/\w+/\w+-b[01]*-[0-9a-f]{12}\.(?:parquet|tar)|snapshots/\d{6}/manifest\.parquet"
)


def find_stale_exports(
    root: Root, identities: Collection[str], needed: Collection[str]
) -> tuple[dict[str, int], list[str]]:
    """Return the files of exports of other than the kept snapshots, with their sizes in bytes, and the folders that hold nothing else.

    Files without a mark or signature of `clipmill export` are never returned. Everything in a marked folder belongs to the export.

    Parameters
    ----------
    identities : identities of the kept snapshots, as `Published.identity`
    needed : paths of the files that these snapshots need
    """
    files: dict[str, int] = {}
    snapshots = {folder: _snapshots_of(root, folder) for folder in _marked(root)}
    folders = sorted(folder for folder, held in snapshots.items() if not held <= {*identities})
    for folder in folders:
        sizes = root.sizes(folder)
        # The mark is removed last, so that the rest of an interrupted removal is still recognised as an export.
        files |= dict(sorted(sizes.items(), key=lambda f: (f[0] == f"{folder}/{FOLDER_MARK}", f[0])))
    for name, sign in ((CARD_FILE, CARD_MARK), (CROISSANT_FILE, CROISSANT_MARK)):
        if name not in root.names(""):
            continue
        content = root.read_bytes(name)
        if sign.encode() in content and any(m[0].decode() not in needed for m in _NAMED.finditer(content)):
            files[name] = len(content)
    return files, folders


def _marked(root: Root) -> Iterator[str]:
    """Yield the folders under a root that an export has marked."""
    if not root.is_local:
        try:
            yield from (
                path[: -len(FOLDER_MARK) - 1] for path, _ in root.remote_files() if path.endswith(f"/{FOLDER_MARK}")
            )
        except FileNotFoundError:
            return
        return
    top = root.full()
    for place, _, names in os.walk(top):  # an export of this user has no unreadable folders
        if FOLDER_MARK in names and place != top:
            yield os.path.relpath(place, top)


def _snapshots_of(root: Root, folder: str) -> set[str]:
    """Return the identities of the snapshots that an export holds; none if the mark is not clipmill's, and the folder must not be touched."""
    try:
        found = json.loads(root.read_bytes(f"{folder}/{FOLDER_MARK}"))
        return {str(found["snapshot"]), *map(str, found.get("snapshots", ()))}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return set()
