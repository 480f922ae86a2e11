"""Which failures of storage pass by themselves, and how long to wait for it."""

from __future__ import annotations

import errno
import functools
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

from clipmill.schemas.errors import StorageError
from clipmill.stages.meter import count_retry

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS = 7
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 10.0

_FINAL = frozenset(
    {
        errno.ENOENT, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOSPC, errno.EROFS, errno.EDQUOT,
        errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG, errno.EXDEV, errno.ENOTEMPTY, errno.EMFILE,
        errno.EINVAL, errno.ENOSYS, errno.EMSGSIZE, errno.EREMCHG,  # what s3fs makes of a store's "your request is wrong"
        errno.ESTALE,  # an object that was exchanged
    }
)  # fmt: skip
_FINAL_KINDS = (FileNotFoundError, PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)
_FINAL_NAMES = frozenset(
    {
        "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound", "ConfigParseError",
        "ConfigNotFound", "InvalidConfigError", "NoRegionError", "UnknownEndpointError", "ParamValidationError",
        "TokenRetrievalError", "SSOTokenLoadError", "UnauthorizedSSOTokenError", "InvalidRegionError",
    }
)  # fmt: skip
"""botocore's, by name, since most roots need no botocore: configurations that will be wrong the next time too."""
_PASSING_LOCALLY = frozenset(
    {
        errno.EIO, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.ECONNRESET,
        errno.ECONNREFUSED, errno.ECONNABORTED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENOLINK,
    }
)  # fmt: skip


_OF_ALL = frozenset(
    {
        "NoSuchBucket", "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "AccountProblem",
        "NotSignedUp", "AllAccessDisabled", "InvalidSecurity", "UserSuspended",
    }
)  # fmt: skip
"""A store's codes that have nothing to do with the one object that was asked for."""


class StoreClosedError(OSError):
    """A store refuses whatever is asked of it: the bucket is not there, the credentials are not good any more.

    Not a FileNotFoundError or PermissionError, as which libraries raise it, since those are said of a single file.
    """


def is_transient(error: BaseException, local: bool) -> bool:
    """Return whether trying again may help.

    A local file system's errors are final but for those of a disk or a network below it; a remote store's pass by
    themselves but for those that say what is wrong: not found, no permission, full.
    """
    if isinstance(error, StorageError):
        return error.transient
    if isinstance(error, _FINAL_KINDS) or type(error).__name__ in _FINAL_NAMES:  # the former also come without a number
        return False
    number = error.errno if isinstance(error, OSError) else None
    return number in _PASSING_LOCALLY if local else number not in _FINAL


def waits(attempts: int | None = None) -> Iterator[float | None]:
    """Yield what to wait after each attempt, in seconds, and None after the last.

    The bound doubles, and each wait is drawn at random below it, so that many who failed together do not come back together.
    """
    bound = FIRST_WAIT_S
    for _ in range((attempts or ATTEMPTS) - 1):
        yield random.uniform(0, bound)
        bound = min(2 * bound, LONGEST_WAIT_S)
    yield None


def patiently(
    work: Callable[[], T], errors: tuple[type[Exception], ...], local: bool, attempts: int | None = None
) -> T:
    """Do something again, from its start, while its failure may pass.

    Parameters
    ----------
    errors : what it can raise when storage fails; what remains is raised as OSError or StorageError, whatever a library calls it
    local : whether storage is a local file system
    """
    for wait in waits(attempts):
        try:
            return work()
        except errors as error:
            if wait is None or not is_transient(error, local):
                if isinstance(error, OSError) and code_of(error) in _OF_ALL:
                    raise StoreClosedError(errno.EPERM, error.strerror or str(error)) from error.__cause__
                if isinstance(error, OSError | StorageError):
                    raise  # with its cause, which knows the store's own code
                raise as_os_error(error) from error
            count_retry()
            time.sleep(wait)
    raise AssertionError("waits() ends with None")


def patient(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Have a method of an object with `is_local` and `errors` (see `patiently`) try again while its failure may pass."""

    @functools.wraps(method)
    def wrapper(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return patiently(lambda: method(self, *args, **kwargs), self.errors, self.is_local)

    return wrapper


def as_os_error(error: Exception) -> OSError | StorageError:
    """Return an error of a store's library as the operating system would have raised it."""
    return error if isinstance(error, OSError | StorageError) else OSError(errno.EIO, " ".join(str(error).split()))


def code_of(error: BaseException) -> str:
    """Return what the store called an error that s3fs has made one of the operating system's of."""
    cause = error.__cause__ or error.__context__
    response = getattr(cause, "response", None) or {}  # some of botocore's errors have none, or None
    return str(response.get("Error", {}).get("Code", ""))
