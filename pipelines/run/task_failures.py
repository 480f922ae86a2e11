"""Pass exceptions of tasks on Ray to the driver as one-line messages.

Ray Data 2.60 wraps an exception of a task in a UserCodeException that arrives without its cause, which is only in the text of a
traceback. Configured to raise the original exception, it adds advice of its own to the message and prints the traceback. So an
exception travels in the form of what stages return: a table.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.secret_values import hide_secrets

_FAILURE_COLUMN = "__clipmill_failure"
_MAX_TEXT = 500


@dataclass(frozen=True)
class ReportingTask:
    """A task that returns a table with the message if its work raises. A table with the message of an earlier task is passed on.

    logged : print tracebacks to stderr, which on a worker is its log
    """

    work: Callable[[pa.Table], pa.Table]
    logged: bool = True

    def __call__(self, table: pa.Table) -> pa.Table:
        if _FAILURE_COLUMN in table.column_names:
            return table
        try:
            return self.work(table)
        except ClipmillError as error:
            return _failure(str(error))
        except MemoryError:
            return _failure(
                f"the machine ran out of memory{_place(table)}: use fewer --workers, or lower output.shard_seconds, then"
                " build again; what is committed is kept"
            )
        except Exception as error:  # noqa: BLE001 - the process boundary: Ray would print a page
            if self.logged:
                print(hide_secrets(traceback.format_exc()), end="", file=sys.stderr)
            text = hide_secrets(" ".join(f"{type(error).__name__}: {error}".split()))[:_MAX_TEXT]
            return _failure(f"a stage failed, which is a bug in clipmill: {text}{_place(table)}")


class ReportingActor:
    """The same for an actor. make : called with the arguments in the actor, returns its work"""

    def __init__(self, make: Callable[..., Callable[[pa.Table], pa.Table]], *arguments: Any) -> None:
        self._task = ReportingTask(make(*arguments))

    def __call__(self, table: pa.Table) -> pa.Table:
        return self._task(table)


def _place(table: pa.Table) -> str:
    """Return the shard of a table and one of its recordings, as text to append to a message."""
    if table.num_rows == 0 or not {"key", "split", "recording_id"} <= set(table.column_names):
        return ""
    first = {name: table[name][0].as_py() for name in ("key", "split", "recording_id")}
    more = len(table["recording_id"].unique()) - 1
    others = f" and {more:,} more" if more else ""
    return f" (in shard {first['split']}-{str(first['key'])[:12]} of {first['recording_id']}{others})"


def _failure(message: str) -> pa.Table:
    return pa.table({_FAILURE_COLUMN: [message]})


def check_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a task. Raises ClipmillError with its message if the task failed."""
    if (message := row.get(_FAILURE_COLUMN)) is not None:
        raise ClipmillError(message)
    return row


def describe_ray_error(error: Exception) -> str:
    """Return a one-line message for a `ray.exceptions.RayError`, without its traceback."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        text = f"{type(cause).__name__}: {cause}"
    else:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        text = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
    return f"Ray failed: {hide_secrets(' '.join(text.split()))[:_MAX_TEXT]}; what is committed is kept; build again"
