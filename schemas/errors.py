"""Errors that a user is meant to read. Each message says what was found, where, and what to do."""

from __future__ import annotations

from functools import partial
from typing import Any


class ClipmillError(Exception):
    """The work failed; the command line prints the message and exits with 1."""


class ConfigError(ClipmillError):
    """Wrong configuration or usage; found before any work starts; exit code 2.

    Parameters
    ----------
    message : what is wrong and what was expected
    key : the key as ``sources[0].segment.mode``
    file, line : where it stands, line from 1
    """

    def __init__(self, message: str, *, key: str = "", file: str = "", line: int | None = None) -> None:
        self.key, self.file, self.line = key, file, line
        place = ":".join([p for p in (file, str(line) if line else "") if p])
        super().__init__(": ".join(p for p in (place, key, message) if p))


class StorageError(ClipmillError):
    """Storage did not answer as it should, after retries. The shard stays uncommitted; building again goes on.

    transient : whether it may pass by itself
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        self.transient = transient
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return (partial(StorageError, transient=self.transient), self.args)


class InputMovedError(Exception):
    """Recordings of a shard vanished or changed after it was planned; the shard must be planned anew without them.

    items : reason code and detail by item id
    """

    def __init__(self, items: dict[str, tuple[str, str]]) -> None:
        self.items = items
        super().__init__(f"{len(items)} recordings changed since they were planned")


class ItemRejectedError(Exception):
    """An item turned out to be bad when rows of it were there already; the shard must be built again without it.

    item : its id
    reason : a code of schemas.reasons
    detail : what was found, and which limit that is over
    """

    def __init__(self, item: str, reason: str, detail: str) -> None:
        self.item, self.reason, self.detail = item, reason, detail
        super().__init__(f"{item}: {reason}: {detail}")


class DonorError(Exception):
    """A committed shard's clips cannot stand in for its recordings; they are to be read after all."""
