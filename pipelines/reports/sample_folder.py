"""The folder of a sample: its own alone, so that no clip of another sample stays in it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from clipmill.schemas.errors import ConfigError
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

PAGE = "index.html"
MARK = "clipmill-sample.json"
"""Name of the file that marks the folder and says which files in it are the sample's."""
_OWN = re.compile(r"[0-9]{2,4}-[A-Za-z0-9_-]{1,40}\.(wav|png)|index\.html")


def check_folder(target: Root, force: bool) -> None:
    """Raise ConfigError if a folder holds something else than a sample. force : it may, and stays

    Raises
    ------
    ConfigError : as said
    ClipmillError : it cannot be looked into
    """
    try:
        names = target.names("")
    except OSError as error:
        raise describe_os_error(error, target, "look into", then="give the command again") from None
    if names and MARK not in names and not force:
        raise ConfigError(
            f"{target.url} is not empty, and no sample of clipmill's is what is in it ({sorted(names)[0]}): give another folder by --to, or"
            " --force to write the sample beside it",
            code="usage",
        )


def claim_folder(target: Root, files: Sequence[str], force: bool) -> None:
    """Take a folder for a sample: remove the files of an earlier one, and mark it as holding these. Raises as `check_folder` does."""
    check_folder(target, force)
    try:
        for name in _files_before(target):
            target.remove(name)
        target.write_bytes(MARK, (json.dumps({"files": list(files)}, indent=1) + "\n").encode())
    except OSError as error:
        raise describe_os_error(error, target, "write to", then="give the command again") from None


def _files_before(target: Root) -> list[str]:
    """Return the files of an earlier sample that are there, by its mark; what a damaged mark does not name stays."""
    names = set(target.names(""))
    if MARK not in names:
        return []
    try:
        named = json.loads(target.read_bytes(MARK, limit=1_000_000))["files"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    listed = named if isinstance(named, list) else []
    return [name for name in listed if isinstance(name, str) and _OWN.fullmatch(name) and name in names]
