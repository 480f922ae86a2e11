"""Keep a list of clips that a person has marked, in a file that `exclude_clips` reads."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipmill.schemas.clip_list import MAX_LIST_BYTES, parse_clip_list, with_changes
from clipmill.schemas.config import check_address
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.layout import OWN_FILES
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

HEAD = "# Clips that were marked in `clipmill report --serve`; for exclude_clips in the configuration.\n"


class MarkedClips:
    """A list of clips in a file. The file decides: it is read before each change, so lines and comments that others add to it stay.

    address : a local path or an address
    dataset : the root of the dataset, whose own files it must not be

    Raises
    ------
    ConfigError : nothing can be written there, or it is a file of the dataset
    ClipmillError : it cannot be read
    """

    def __init__(self, address: str, dataset: Root) -> None:
        try:
            check_address(address)
        except ValueError as error:
            raise ConfigError(f"--list {error}", code="usage") from None
        options: Mapping[str, Any] = dataset.storage_options
        if re.match(r"\w+://", address):
            folder, _, self._name = address.rpartition("/")
            self._root = Root(folder, dict(options))
        else:
            place = Path(os.path.abspath(os.path.expanduser(address)))
            if place.is_dir():
                raise ConfigError(f"--list {address}: this is a folder; give the name of a file", code="usage")
            self._root, self._name = Root(str(place.parent)), place.name
            if dataset.is_local:
                inside = os.path.relpath(os.path.realpath(place), os.path.realpath(dataset.full()))
                if OWN_FILES.fullmatch(inside) or inside == "dataset.json":
                    raise ConfigError(f"--list {address} is a file of the dataset itself; give another name", code="usage")  # fmt: skip
        self._lock = threading.Lock()
        found = parse_clip_list(self._text())
        if found.wrong:
            number, line = found.wrong[0]
            raise ConfigError(
                f"--list {address}: line {number} is {line[:100]!r}, which is no clip's id; give a list of clip ids, or a new file",
                code="usage",
            )
        self._ids = frozenset(found.ids)

    @property
    def address(self) -> str:
        """The address of the file."""
        return self._root.uri(self._name)

    @property
    def ids(self) -> frozenset[str]:
        """The ids in the list, as it was when it was last read."""
        return self._ids

    def change(self, add: list[str], remove: set[str]) -> frozenset[str]:
        """Add and remove ids, and return all that are in the list then. The file appears whole or stays as it was.

        Raises
        ------
        ClipmillError : the file cannot be read or written
        """
        with self._lock:
            before = self._text()
            text = with_changes(before or HEAD, add, remove)
            try:
                if text != before:
                    self._root.write_bytes(self._name, text.encode())
            except OSError as error:
                raise describe_os_error(error, self._root, "write", self._name, then="mark the clip again") from None
            self._ids = frozenset(parse_clip_list(text).ids)
            return self._ids

    def _text(self) -> str:
        try:
            content = self._root.read_bytes(self._name, limit=MAX_LIST_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            raise describe_os_error(error, self._root, f"read {self._name} at") from None
        if len(content) > MAX_LIST_BYTES:
            raise ClipmillError(f"{self.address} has more than {MAX_LIST_BYTES:,} bytes")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise ClipmillError(f"{self.address} is not UTF-8 text; give a list of clip ids, or a new file") from None
