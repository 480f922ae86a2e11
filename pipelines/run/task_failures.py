"""What an exception in a task on Ray comes out as: its message, in one line, whatever it is.

Ray Data 2.60 wraps an exception of a task in a UserCodeException that arrives without its cause, which is left to the text of a
traceback; told to raise the original it adds advice of its own to the message and prints the traceback. So an exception travels as
what stages hand on: a table.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from clipmill.schemas.errors import ClipmillError

_FAILURE_COLUMN = "__clipmill_failure"
_MAX_TEXT = 500


@dataclass(frozen=True)
class ReportingTask:
    """A task's work, which gives a table with the message where it raises. What another task has told is passed on.

    logged : the traceback goes to stderr, which is a worker's log
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
                f"the memory of this machine was used up{_place(table)}: take fewer --workers, or lower output.shard_seconds, then"
                " build again: what is committed is kept"
            )
        except Exception as error:  # noqa: BLE001 - the process boundary: Ray would make a page of it
            if self.logged:
                traceback.print_exc()
            text = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_TEXT]
            return _failure(f"a stage failed, which is a defect of clipmill: {text}{_place(table)}")


class ReportingActor:
    """The same for the work of an actor, which is made there. make : returns it when called with the arguments."""

    def __init__(self, make: Callable[..., Callable[[pa.Table], pa.Table]], *arguments: Any) -> None:
        self._told = ReportingTask(make(*arguments))

    def __call__(self, table: pa.Table) -> pa.Table:
        return self._told(table)


def _place(table: pa.Table) -> str:
    """Return which shard a table is of, with one of its recordings, to add to a message."""
    if table.num_rows == 0 or not {"key", "split", "recording_id"} <= set(table.column_names):
        return ""
    first = {name: table[name][0].as_py() for name in ("key", "split", "recording_id")}
    more = len(table["recording_id"].unique()) - 1
    others = f" and {more:,} more" if more else ""
    return f" (in shard {first['split']}-{str(first['key'])[:12]} of {first['recording_id']}{others})"


def _failure(message: str) -> pa.Table:
    return pa.table({_FAILURE_COLUMN: [message]})


def checked(row: dict[str, Any]) -> dict[str, Any]:
    """Return a task's row. Raises ClipmillError with the message where the task failed."""
    if (message := row.get(_FAILURE_COLUMN)) is not None:
        raise ClipmillError(message)
    return row


def ray_gave_up(error: Exception) -> str:
    """Return what to tell of a `ray.exceptions.RayError`: one line, without the traceback that it carries."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        text = f"{type(cause).__name__}: {cause}"
    else:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        text = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
    return f"Ray gave up: {' '.join(text.split())[:_MAX_TEXT]}; what is committed is kept, build again"
