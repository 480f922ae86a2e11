"""Open the fsspec file system of an address, and say in words why it cannot be opened."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Mapping
from typing import Any

import fsspec

from clipmill.schemas.errors import ConfigError
from clipmill.schemas.secret_values import remember_secrets, secrets_of
from clipmill.stages.storage.s3_private import count_requests, prepare

CONNECTIONS = 32
"""To one store at a time, as many as there are threads that read small objects from it. botocore's default is 10."""

_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

TIMES_WRITTEN = ("LastModified", "mtime", "last_modified", "updated", "created")
"""What fsspec's file systems call the time at which a file was written."""


def hide_secrets_in(url: str, storage_options: Mapping[str, Any], is_s3: bool) -> None:
    """Have secrets in an address's options, and those of the environment that it would use, hidden in all that is shown from now on."""
    if storage_options:
        remember_secrets(secrets_of(storage_options, [url]))
    if is_s3:
        remember_secrets(value for name in _SECRET_VARIABLES if (value := os.environ.get(name)))


def new_file_system(
    url: str, storage_options: Mapping[str, Any], is_local: bool, is_s3: bool, errors: tuple[type[Exception], ...]
) -> Any:
    """Return a file system of fsspec for an address.

    errors : what its first request can raise

    Raises
    ------
    ConfigError : the scheme is unknown, its package is missing, or its options are wrong
    """
    scheme = "file" if is_local else url.split("://", 1)[0]
    options = dict(storage_options)
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        raise ConfigError(
            f"{url}: {scheme}:// is an unknown kind of address; known are a folder, s3://BUCKET/FOLDER, and other stores that"
            " fsspec has a file system for, as gs:// and az://"
        ) from None
    except ImportError:
        pass  # told below
    try:
        if is_s3:
            # One layer of retries is enough: with three of them, one inside the other, failures take minutes (`patience`).
            ours = {"retries": {"max_attempts": 0}, "max_pool_connections": CONNECTIONS}
            options["config_kwargs"] = {**ours, **(options.get("config_kwargs") or {})}
        found = fsspec.filesystem(scheme, **options)
        if is_s3:
            prepare(found)
            with contextlib.suppress(*errors):  # the first request will say so, and know of what
                found.connect()
                count_requests(found)
        return found
    except ImportError as error:
        raise ConfigError(f"cannot open {scheme}:// storage for {url}: {error}") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        # What is wrong can be a secret in the wrong place, so no value is shown.
        why = str(error) if scheme not in ("s3", "s3a") else f"{type(error).__name__}{_named(error)}"
        raise ConfigError(
            f"cannot open {url}: {why}; check storage_options, and that endpoint_url (or AWS_ENDPOINT_URL) is like https://host:port"
        ) from None


def _named(error: Exception) -> str:
    """Return the argument that a library does not know, as it names it; nothing of values."""
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    return f": there is no option {found[1]!r}" if found else ""


def time_written(info: Mapping[str, Any], path: str) -> float:
    """Return when a file was written, in seconds since 1970, from what a store says of it.

    Raises
    ------
    OSError : ENOTSUP if it does not tell
    """
    written = next((info[k] for k in TIMES_WRITTEN if info.get(k)), None)
    if written is None:
        raise OSError(errno.ENOTSUP, "this store does not tell when a file was written", path)
    return float(written.timestamp() if hasattr(written, "timestamp") else written)


def discard(remote: Any) -> None:
    """Have a file that fsspec opened for writing never appear."""
    if not remote.closed:
        if hasattr(remote, "discard"):
            remote.discard()
        remote.closed = True  # or the garbage collector would try to finish the upload
