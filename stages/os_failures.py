"""An error of the operating system, with the place where it happened: not with the root that is guessed to be it."""

from __future__ import annotations

import errno
import os
import resource

from schemas.errors import StorageError, os_error_code
from schemas.failures import describe_os_error
from schemas.storage import Root


def describe(error: OSError, root: Root | None, action: str = "use") -> StorageError:
    """Turn an error of the operating system into a message about the file that it names, else about the root.

    root : what was worked on, None where nothing is known of it
    """
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return too_many_files(error)
    named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if named and not (root is not None and not root.is_local and "://" in named):
        return describe_os_error(error, Root(named), action)
    if root is not None:
        return describe_os_error(error, root, action)
    return StorageError(f"{error.strerror or error}", code=os_error_code(error))


def too_many_files(error: OSError) -> StorageError:
    """Return the message for a process that has too many files open, which is no matter of a place."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return StorageError(
        f"too many files are open at once ({error.strerror}; this process may have {limit:,}): raise the limit, as with"
        " `ulimit -n 8192`, then build again: what is committed is kept",
        code=os_error_code(error),
    )
