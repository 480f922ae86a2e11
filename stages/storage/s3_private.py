"""All that clipmill uses of s3fs's private and undocumented names, each with what it is for and what is done without it.

`tests/test_s3_private.py` says which name a new version of s3fs no longer has.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import logging
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from clipmill.schemas.errors import ConfigError
from clipmill.stages.meter import count_request

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
REQUEST = "_call_s3"
"""The coroutine that sends a request. Without it, its public form `call_s3` runs in a thread, at a higher cost."""
RETRIES = "retries"
"""How often s3fs tries a request. Without it, s3fs's attempts multiply clipmill's own, and failures are reported late."""
CLIENT = "s3"
"""The client, whose events say which requests are sent. Without it, requests are not counted."""
NEEDED = ("call_s3", "loop")
"""Names that nothing can replace."""


def prepare(fs: Any) -> None:
    """Check that a file system of s3fs has the names that clipmill uses, and have it try every request only once.

    Raises
    ------
    ConfigError : a name is missing that nothing can replace
    """
    for name in NEEDED:
        if not hasattr(type(fs), name):
            raise ConfigError(
                f"s3fs {_version()} has no S3FileSystem.{name}, which clipmill needs for s3:// addresses: install a version that"
                " has it (requirements.lock names one)"
            )
    if not hasattr(type(fs), REQUEST):
        _warn(f"S3FileSystem.{REQUEST}", "each request to S3 takes a thread, which makes small reads slower")
    if hasattr(fs, RETRIES):
        setattr(fs, RETRIES, 1)
    else:
        _warn(f"S3FileSystem.{RETRIES}", "s3fs also repeats failed requests, so that failures of S3 are reported later")


def count_requests(fs: Any) -> None:
    """Have the requests of a connected file system counted, see `clipmill.stages.meter`. A second call changes nothing."""
    events = getattr(getattr(getattr(fs, CLIENT, None), "meta", None), "events", None)
    if events is None:
        _warn(f"S3FileSystem.{CLIENT}", "requests to S3 are not counted")
        return
    events.register("before-send.s3", _count, unique_id="clipmill-count")


def _count(event_name: str = "", **_: Any) -> None:
    count_request(event_name.rpartition(".")[2])


async def request(fs: Any, method: str, **more: Any) -> Any:
    """Send a request and return its answer, as a coroutine of the file system's event loop.

    method : as botocore's client calls it, as `get_object`
    """
    send = getattr(fs, REQUEST, None)
    if send is None:
        return await asyncio.to_thread(fs.call_s3, method, **more)
    return await send(method, **more)


def begin(fs: Any, work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on the file system's event loop and return at once."""
    return asyncio.run_coroutine_threadsafe(work, fs.loop)


@functools.cache
def _warn(name: str, effect: str) -> None:
    """Warn once that a name is missing."""
    _LOG.warning("s3fs %s has no %s any more: %s", _version(), name, effect)


def _version() -> str:
    try:
        return importlib.metadata.version("s3fs")
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"
