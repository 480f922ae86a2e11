"""The folder that an export goes to: one export's alone, so that no reader finds files of two snapshots in it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from clipmill.pipelines.exports import Export, checker
from clipmill.schemas.config import check_address
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.export_marks import FOLDER_MARK
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

UNFINISHED = ".clipmill-shar-"
"""What folders are called that appear under their names when all is in them."""
_NOT_WRITABLE = re.compile(r"(https?|ftp|sftp|github|data)://")
_OWN = ("shards", "commits", "snapshots", "builds")


def target_root(address: str, dataset: Root) -> Root:
    """Return the folder or address that a user gave for the files of an export.

    Raises
    ------
    ConfigError : nothing can be written there, or it is among the dataset's own files
    """
    if re.match(r"\w+:/(?!/)", address):
        raise ConfigError(f"--to {address}: a URL has two slashes, as in s3://BUCKET/FOLDER", code="usage")
    try:
        check_address(address)
    except ValueError as error:
        raise ConfigError(f"--to {error}", code="usage") from None
    if _NOT_WRITABLE.match(address):
        raise ConfigError(
            f"--to {address}: nothing can be written there; give a folder or s3://BUCKET/FOLDER", code="usage"
        )
    local = "://" not in address
    target = Root(os.path.abspath(os.path.expanduser(address)) if local else address, dataset.storage_options)
    if target.is_local == dataset.is_local:
        inside = os.path.realpath if local else str
        for name in _OWN:
            own = inside(dataset.full(name))
            if f"{inside(target.full())}/".startswith(f"{own}/"):
                raise ConfigError(
                    f"--to {address}: {name} is a folder of the dataset itself; give another one", code="usage"
                )
    return target


@contextlib.contextmanager
def claimed(asked: Export, format: str, replace: bool) -> Iterator[None]:
    """Take a folder for an export that can be made, as far as can be told before; it is marked as not finished until the block ends.

    replace : remove what an earlier export has left there

    Raises
    ------
    ConfigError : there is something else in it, or another snapshot's export
    ClipmillError : it cannot be made
    """
    target = asked.target
    asked.published.all_shards()  # which tells of missing ones
    checker(format)(asked)
    try:
        names = target.names("")
        mark = _read(target) if FOLDER_MARK in names else None
    except OSError as error:
        raise describe_os_error(error, target, "look into", then="export again") from None
    if names and mark is None:
        raise ConfigError(
            f"{target.url} is not empty, and {_what_is_in(names)} give another folder by --to", code="usage"
        )
    if mark is not None and mark != _mark(asked, format):
        if not replace:
            raise ConfigError(
                f"{target.url} holds the export of another snapshot or format ({mark['snapshot']} as {mark['format']}), of which files would"
                " stay: give another folder by --to, or --replace to remove what is in it",
                code="usage",
            )
        _remove(asked, names)
    elif mark is not None and target.is_local:  # what an export that was killed has left
        _remove(asked, [*(n for n in names if n.startswith(UNFINISHED)), *target.leftovers()])
    asked.write(FOLDER_MARK, [json.dumps({**_mark(asked, format), "finished": False})])
    yield
    asked.write(FOLDER_MARK, [json.dumps({**_mark(asked, format), "finished": True})])


def _what_is_in(names: list[str]) -> str:
    if FOLDER_MARK in names:
        return f"its mark, {FOLDER_MARK}, is damaged, so that nothing in it is removed; remove it yourself where it is an export, or"
    return f"no export of clipmill's is what is in it ({names[0]}):"


def _mark(asked: Export, format: str) -> dict[str, object]:
    return {"format": format, "snapshot": asked.published.identity}


def _read(target: Root) -> dict[str, object] | None:
    """Return what a mark says, None for what is none."""
    try:
        found = json.loads(target.read_bytes(FOLDER_MARK))
        return {name: found[name] for name in ("format", "snapshot")}
    except (ValueError, KeyError, TypeError):
        return None


def _remove(asked: Export, names: list[str]) -> None:
    """Remove files and folders of a marked folder, the mark last, so that what an interruption leaves is still marked."""
    target = asked.target
    with asked.writing(FOLDER_MARK):
        if not target.is_local:
            names = [path for path, _ in target.remote_files()]
        for name in sorted(names, key=lambda n: n == FOLDER_MARK):
            if target.is_local and (place := Path(target.full(name))).is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                target.remove(name)
