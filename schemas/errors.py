"""Define the errors that users read. A message says what is wrong, where, and what to do; its code is stable."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from json import JSONDecodeError
from typing import Any

from clipmill.schemas.secret_values import hide_in_data, hide_secrets

CODES = {
    "usage": "the command line is wrong: an option, an argument, or the value of one",
    "config.unreadable": "the configuration file cannot be read, is too large, or is not UTF-8 text",
    "config.invalid_yaml": "the file is not YAML, or not a single map of keys and values",
    "config.duplicate_key": "a key occurs twice in one map",
    "config.unknown_key": "clipmill does not know this key in this place",
    "config.missing_key": "a key that has no default is missing",
    "config.invalid_value": "a value has the wrong type, is out of range, contradicts another key, or does not fit the corpus",
    "config.environment": "the file names an environment variable that is not set and has no default",
    "config.no_gpu": "features.device is cuda, but there is no GPU",
    "source.unreadable": "a source's root does not exist or cannot be listed",
    "root.not_a_dataset": "this path is not a clipmill dataset",
    "root.no_snapshot": "the dataset has no snapshot, or not the requested one",
    "root.other_dataset": "this path holds a dataset with another name",
    "root.newer_format": "the dataset was written by a newer clipmill",
    "root.damaged": "a record of the dataset is missing or cannot be read",
    "root.unknown_recording": "the dataset has no recording with this id",
    "storage.missing": "a file or folder does not exist",
    "storage.full": "no space is left, or a quota is used up",
    "storage.permission": "the storage denies access or is read-only",
    "storage.too_many_files": "the process has too many open files",
    "storage.invalid_path": "a path is too long, or is a file where a folder is expected, or the other way round",
    "storage.unavailable": "the storage did not answer; this may be temporary",
    "storage.failed": "the storage failed in another way",
    "ray.unavailable": "Ray cannot be started, or the cluster does not answer",
    "ray.failed": "Ray failed during the work",
    "stage.unknown": "a stage that the configuration names is not installed, or is not a stage",
    "stage.failed": "a stage raised an exception, crashed, or did something that it does not declare",
    "stage.other_version": "a worker has another version of a stage than the process that started the build",
    "not_published": "everything is built, but a limit holds the snapshot back",
    "out_of_memory": "this machine has run out of memory",
    "interrupted": "the command was interrupted",
    "failed": "the work failed for a reason that has no code of its own; see the message",
}
"""Codes by which programs tell errors apart, with their meanings. A code never changes its meaning."""

_BY_ERRNO = {
    **dict.fromkeys((errno.ENOENT,), "storage.missing"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "storage.full"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "storage.permission"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "storage.too_many_files"),
    **dict.fromkeys(
        (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP), "storage.invalid_path"
    ),
    errno.ENOMEM: "out_of_memory",
}
_MAX_SHOWN = 100


def os_error_code(error: OSError) -> str:
    """Return the code of an error of the operating system."""
    return _BY_ERRNO.get(error.errno or 0, "storage.failed")


@dataclass(frozen=True)
class Problem:
    """Describe one thing that is wrong. key, file, line : its place, the line counted from 1; empty and None where they do not apply."""

    code: str
    message: str
    key: str = ""
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = ":".join([p for p in (self.file, str(self.line) if self.line else "") if p])
        return ": ".join(p for p in (place, self.key, self.message) if p)


class ClipmillError(Exception):
    """The work failed; the command line prints the message and exits with 1. Secrets in the message are replaced by ``***``.

    code : one of CODES
    """

    def __init__(self, message: str, *, code: str = "failed") -> None:
        self.code = code
        super().__init__(hide_secrets(message))

    @property
    def problems(self) -> list[Problem]:
        """Return everything that is wrong, one entry each."""
        return [Problem(self.code, str(self))]

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain data: the whole text as `error`, the first problem's code and place, and all problems."""
        first = self.problems[0]
        where = {"code": first.code, "key": first.key, "file": first.file, "line": first.line}
        return {"error": str(self), **where, "problems": [asdict(p) for p in self.problems]}


class ConfigError(ClipmillError):
    """The configuration or the command line is wrong. Raised before any work starts; exit code 2.

    Parameters
    ----------
    message : what is wrong and what was expected
    key : the key as ``sources[0].segment.mode``
    file, line : its place, the line counted from 1
    """

    def __init__(
        self,
        message: str,
        *,
        key: str = "",
        file: str = "",
        line: int | None = None,
        code: str = "config.invalid_value",
    ) -> None:
        self._take([Problem(code, message, key, file, line)])

    def _take(self, problems: Sequence[Problem]) -> None:
        self._problems = [replace(p, message=hide_secrets(p.message), key=hide_in_data(p.key)) for p in problems]
        first = self._problems[0]
        self.key, self.file, self.line = first.key, first.file, first.line
        lines = [str(p) for p in self._problems[:_MAX_SHOWN]]
        if len(self._problems) > 1:  # one line each, whatever a key contains
            lines = [line.replace("\n", "\\n") for line in lines]
        if len(self._problems) > _MAX_SHOWN:
            lines.append(f"... and {len(self._problems) - _MAX_SHOWN:,} more")
        super().__init__("\n".join(lines), code=first.code)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> ConfigError:
        """Return one error for all these problems, at least one."""
        error = cls("")
        error._take(problems)
        return error

    @property
    def problems(self) -> list[Problem]:
        return self._problems


class BadRecordError(ValueError):
    """A record of a dataset is invalid. The text says what is wrong with it."""


def describe_bad_record(error: Exception) -> str:
    """Return what is wrong with a JSON record, from the exception that reading it raised. Python's own messages describe code."""
    if isinstance(error, BadRecordError):
        return str(error)
    if isinstance(error, JSONDecodeError):
        return f"it is not JSON from line {error.lineno}, column {error.colno} on"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text: byte {error.start + 1} is 0x{error.object[error.start]:02x}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return "a field is missing, unknown, or of the wrong type"


class StorageError(ClipmillError):
    """Storage failed, after retries. The shard stays uncommitted; building again continues.

    transient : whether the failure may be temporary
    """

    def __init__(self, message: str, *, transient: bool = False, code: str = "") -> None:
        self.transient = transient
        super().__init__(message, code=code or ("storage.unavailable" if transient else "storage.failed"))

    def __reduce__(self) -> tuple[Any, ...]:
        return (partial(StorageError, transient=self.transient, code=self.code), self.args)


class StageError(ClipmillError):
    """A stage failed, or did something it does not declare. The message names the stage and the clip. No recording is rejected for it."""

    def __init__(self, message: str, *, code: str = "stage.failed") -> None:
        super().__init__(message, code=code)

    def __reduce__(self) -> tuple[Any, ...]:
        return (partial(StageError, code=self.code), self.args)


class InputChangedError(Exception):
    """Recordings of a shard vanished or changed after it was planned. The shard must be planned again without them.

    items : reason code and detail, by item id
    """

    def __init__(self, items: dict[str, tuple[str, str]]) -> None:
        self.items = items
        super().__init__(f"{len(items)} recordings changed since they were planned")


class ItemRejectedError(Exception):
    """An item turned out to be bad after some of its rows were written. The shard must be built again without it.

    item : its id
    reason : a code of clipmill.schemas.reasons
    detail : what was found, and the limit that it exceeds
    """

    def __init__(self, item: str, reason: str, detail: str) -> None:
        self.item, self.reason, self.detail = item, reason, detail
        super().__init__(f"{item}: {reason}: {detail}")


class OtherBytesError(Exception):
    """A damaged shard was rebuilt, and its bytes differ from those that were committed. None of its files was replaced."""


class DonorError(Exception):
    """The clips of a committed shard cannot be used, so its recordings must be read."""
