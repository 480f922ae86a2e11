"""Errors that a user is meant to read. Each message says what was found, where, and what to do; each has a stable code."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from json import JSONDecodeError
from typing import Any

CODES = {
    "usage": "the command line is wrong: an option, an argument, or a value of one",
    "config.unreadable": "the configuration file cannot be read, is too large, or is not UTF-8 text",
    "config.invalid_yaml": "the file is not YAML, or not one map of keys and values",
    "config.duplicate_key": "a key stands twice in one map",
    "config.unknown_key": "there is no such key at this place",
    "config.missing_key": "a key without a default is not there",
    "config.invalid_value": "a value is of the wrong type, out of range, contradicts another key, or does not fit the corpus",
    "config.environment": "an environment variable that the file names is not set, and has no default",
    "config.no_gpu": "features.device is cuda, and there is no GPU",
    "source.unreadable": "a source's root is not there, or cannot be listed",
    "root.not_a_dataset": "there is no dataset at this place",
    "root.no_snapshot": "the dataset has no snapshot, or not the one that was asked for",
    "root.other_dataset": "the place holds a dataset of another name",
    "root.newer_format": "the dataset was written by a newer clipmill",
    "root.damaged": "a record of the dataset is missing or cannot be read",
    "root.unknown_recording": "the dataset has no recording of this id",
    "storage.missing": "a file or a folder is not there",
    "storage.full": "no space is left, or a quota is used up",
    "storage.permission": "the storage does not permit it, or is read-only",
    "storage.too_many_files": "the process has too many files open",
    "storage.invalid_path": "a path is too long, or a file stands where a folder is expected or the other way round",
    "storage.unavailable": "the storage did not answer; it may pass",
    "storage.failed": "the storage failed in another way",
    "ray.unavailable": "Ray cannot be started, or the cluster does not answer",
    "ray.failed": "Ray gave up while it worked",
    "stage.unknown": "a stage that the configuration names is not installed, or is none",
    "stage.failed": "a stage raised an exception, crashed, or did what it does not declare",
    "stage.other_version": "a worker has another version of a stage than the process that started the build",
    "not_published": "everything is built, and a limit holds the snapshot back",
    "out_of_memory": "the memory of this machine is used up",
    "interrupted": "the command was interrupted",
    "failed": "the work failed for a reason that has no code of its own; the message says it",
}
"""What a program can tell errors apart by, with the meaning of each. A code never changes its meaning."""

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
    """One thing that is wrong. key, file, line : where it stands, line from 1; empty and None where that says nothing."""

    code: str
    message: str
    key: str = ""
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = ":".join([p for p in (self.file, str(self.line) if self.line else "") if p])
        return ": ".join(p for p in (place, self.key, self.message) if p)


class ClipmillError(Exception):
    """The work failed; the command line prints the message and exits with 1.

    code : one of CODES
    """

    def __init__(self, message: str, *, code: str = "failed") -> None:
        self.code = code
        super().__init__(message)

    @property
    def problems(self) -> list[Problem]:
        """What is wrong, one entry a thing."""
        return [Problem(self.code, str(self))]

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain data: `error`, all of it as text, and the first problem's code and place beside all."""
        first = self.problems[0]
        where = {"code": first.code, "key": first.key, "file": first.file, "line": first.line}
        return {"error": str(self), **where, "problems": [asdict(p) for p in self.problems]}


class ConfigError(ClipmillError):
    """Wrong configuration or usage; found before any work starts; exit code 2.

    Parameters
    ----------
    message : what is wrong and what was expected
    key : the key as ``sources[0].segment.mode``
    file, line : where it stands, line from 1
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
        self._problems = list(problems)
        first = self._problems[0]
        self.key, self.file, self.line = first.key, first.file, first.line
        lines = [str(p) for p in self._problems[:_MAX_SHOWN]]
        if len(self._problems) > 1:  # each in a line of its own, whatever stands in a key
            lines = [line.replace("\n", "\\n") for line in lines]
        if len(self._problems) > _MAX_SHOWN:
            lines.append(f"... and {len(self._problems) - _MAX_SHOWN:,} more")
        super().__init__("\n".join(lines), code=first.code)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> ConfigError:
        """Return one error of all these problems, of which there is at least one."""
        error = cls("")
        error._take(problems)
        return error

    @property
    def problems(self) -> list[Problem]:
        return self._problems


class BadRecordError(ValueError):
    """A record of a dataset is not what it should be; the text says in words what is wrong with it."""


def describe_bad_record(error: Exception) -> str:
    """Say in words what is wrong with a record in JSON, of what reading it raised. Python's own texts speak of its code."""
    if isinstance(error, BadRecordError):
        return str(error)
    if isinstance(error, JSONDecodeError):
        return f"it is no JSON from line {error.lineno}, column {error.colno} on"
    if isinstance(error, UnicodeDecodeError):
        return f"it is no UTF-8 text: byte {error.start + 1} is 0x{error.object[error.start]:02x}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return "a field is missing, not known, or of another type than it should be"


class StorageError(ClipmillError):
    """Storage did not answer as it should, after retries. The shard stays uncommitted; building again goes on.

    transient : whether it may pass by itself
    """

    def __init__(self, message: str, *, transient: bool = False, code: str = "") -> None:
        self.transient = transient
        super().__init__(message, code=code or ("storage.unavailable" if transient else "storage.failed"))

    def __reduce__(self) -> tuple[Any, ...]:
        return (partial(StorageError, transient=self.transient, code=self.code), self.args)


class StageError(ClipmillError):
    """A stage failed, or did what it does not declare. The message names the stage and the clip. No recording is to blame."""

    def __init__(self, message: str, *, code: str = "stage.failed") -> None:
        super().__init__(message, code=code)

    def __reduce__(self) -> tuple[Any, ...]:
        return (partial(StageError, code=self.code), self.args)


class InputChangedError(Exception):
    """Recordings of a shard vanished or changed after it was planned; the shard must be planned anew without them.

    items : reason code and detail by item id
    """

    def __init__(self, items: dict[str, tuple[str, str]]) -> None:
        self.items = items
        super().__init__(f"{len(items)} recordings changed since they were planned")


class ItemRejectedError(Exception):
    """An item turned out to be bad when rows of it were there already; the shard must be built again without it.

    item : its id
    reason : a code of clipmill.schemas.reasons
    detail : what was found, and which limit that is over
    """

    def __init__(self, item: str, reason: str, detail: str) -> None:
        self.item, self.reason, self.detail = item, reason, detail
        super().__init__(f"{item}: {reason}: {detail}")


class DonorError(Exception):
    """A committed shard's clips cannot stand in for its recordings; they are to be read after all."""
