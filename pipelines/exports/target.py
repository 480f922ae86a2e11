"""The folder that an export goes to: one export's alone, so that no reader finds files of two snapshots in it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipmill.pipelines.exports import Export, checker
from clipmill.pipelines.exports.export_format import Format
from clipmill.schemas.config import check_address
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.export_marks import FOLDER_MARK
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

UNFINISHED = ".clipmill-shar-"
"""What folders are called that appear under their names when all is in them."""
_NOT_WRITABLE = re.compile(r"(https?|ftp|sftp|github|data)://")
_OWN = ("shards", "features", "commits", "snapshots", "builds")


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


def check_made(asked: Export, format: str, about: Format) -> None:
    """Raise a ClipmillError where an export cannot be made, as far as can be told before."""
    about.check_packages(format)
    asked.published.all_shards()  # which tells of missing ones
    checker(format)(asked)


@contextlib.contextmanager
def claimed(asked: Export, format: str, about: Format, replace: bool) -> Iterator[None]:
    """Take a folder for an export that can be made, as far as can be told before; it is marked as not finished until the block ends.

    replace : remove what an earlier export has left there

    Raises
    ------
    ConfigError : there is something else in it, or another snapshot's export
    ClipmillError : it cannot be made
    """
    target = asked.target
    check_made(asked, format, about)
    try:
        names = target.names("")
        mark = read_mark(target) if FOLDER_MARK in names else None
    except OSError as error:
        raise describe_os_error(error, target, "look into", then="export again") from None
    if names and mark is None:
        raise ConfigError(
            f"{target.url} is not empty, and {_what_is_in(names)} give another folder by --to", code="usage"
        )
    own = _mark(asked, format)
    has_versions = about.place == "versions"
    if mark is not None and not _is_of(mark, own, has_versions):
        if not replace:
            raise ConfigError(_what_else(asked, mark, own, has_versions), code="usage")
        _remove(asked, names)
    elif mark is not None and target.is_local:  # what an export that was killed has left
        _remove(asked, [*(n for n in names if n.startswith(UNFINISHED)), *target.leftovers()])
    if has_versions:
        before = [] if mark is None or not _is_of(mark, own, True) else mark.get("snapshots", [])
        own["snapshots"] = list(dict.fromkeys([*before, asked.published.identity]))
    asked.write(FOLDER_MARK, [json.dumps({**own, "finished": False})])
    yield
    asked.write(FOLDER_MARK, [json.dumps({**own, "finished": True})])


def _is_of(mark: dict[str, Any], own: dict[str, Any], has_versions: bool) -> bool:
    """Whether a folder's export is the one that is asked for, or an earlier version of it."""
    if has_versions:
        mark, own = (
            {**{k: v for k, v in m.items() if k != "snapshots"}, "snapshot": _dataset_of(m["snapshot"])}
            for m in (mark, own)
        )
    return mark == own


def _dataset_of(identity: object) -> str:
    """Return the name of a snapshot's dataset. identity : as `Published.identity`"""
    return str(identity).partition(" of ")[2].rpartition(", ")[0]


def _what_else(asked: Export, mark: dict[str, Any], own: dict[str, Any], has_versions: bool) -> str:
    """Return what to say of a folder that holds another export."""
    url = asked.target.url
    if (
        has_versions
        and mark["format"] == own["format"]
        and _dataset_of(mark["snapshot"]) != _dataset_of(own["snapshot"])
    ):
        what = f"the export of another dataset, {_dataset_of(mark['snapshot'])}"
    elif (mark["format"], mark["snapshot"]) == (own["format"], own["snapshot"]) or (
        has_versions and mark["format"] == own["format"]
    ):
        theirs = mark.get("asked", {})
        what = f"this export as it was asked for differently ({json.dumps(theirs) if theirs else 'without options'})"
    else:
        what = f"the export of another snapshot or format ({mark['snapshot']} as {mark['format']})"
    return f"{url} holds {what}, of which files would stay: give another folder by --to, or --replace to remove what is in it"


def _what_is_in(names: list[str]) -> str:
    if FOLDER_MARK in names:
        return f"its mark, {FOLDER_MARK}, is damaged, so that nothing in it is removed; remove it yourself where it is an export, or"
    return f"no export of clipmill's is what is in it ({names[0]}):"


def _mark(asked: Export, format: str) -> dict[str, Any]:
    """Return what a mark says of an export: its format, snapshot, and what decides which files there are, where that was asked for."""
    options = asked.options.model_dump(mode="json", exclude_defaults=True) if asked.options is not None else {}
    where = asked.where.model_dump(mode="json") if asked.where is not None else None
    besides = {"where": where, "options": options}
    besides = {name: value for name, value in besides.items() if value}
    found: dict[str, Any] = {"format": format, "snapshot": asked.published.identity}
    return {**found, **({"asked": besides} if besides else {})}


def read_mark(target: Root) -> dict[str, Any] | None:
    """Return what the mark of a folder says besides whether it is finished, None for what is none."""
    try:
        found = json.loads(target.read_bytes(FOLDER_MARK))
        mark = {name: found[name] for name in ("format", "snapshot")}
        return {**mark, **{name: found[name] for name in ("asked", "snapshots") if name in found}}
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
