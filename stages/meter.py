"""Count what this process spends: seconds by what they are spent on, requests to stores by operation, and attempts that were repeated.

The counts only grow. Whoever wants those of a piece of work takes the difference between its end and its start.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
_KINDS = {
    "Get": "GET",
    "Put": "PUT",
    "Upload": "PUT",
    "Head": "HEAD",
    "List": "LIST",
    "Delete": "DELETE",
    "Copy": "COPY",
}
_lock = threading.Lock()
_seconds: defaultdict[str, float] = defaultdict(float)
_requests: Counter[str] = Counter()
_retries = 0
_running: list[str] = []


@dataclass(frozen=True)
class Spent:
    """What was spent.

    seconds : by a stage's name, or what else they were spent on
    requests : number of requests sent to object stores, repeated ones included: GET, PUT, HEAD, LIST, DELETE, COPY or OTHER
    retries : how often something was done again: after a failure of storage that may pass, or of the decoding process
    """

    seconds: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    retries: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.seconds + other.seconds, self.requests + other.requests, self.retries + other.retries)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.seconds - other.seconds, self.requests - other.requests, self.retries - other.retries)

    def to_json(self) -> str:
        seconds = {name: round(s, 6) for name, s in self.seconds.items()}
        return json.dumps({"seconds": seconds, "requests": dict(self.requests), "retries": self.retries})

    @classmethod
    def from_json(cls, text: str | bytes | None) -> Spent:
        """Return what `to_json` wrote; nothing for an empty text."""
        plain: Mapping[str, Any] = json.loads(text) if text else {}
        return cls(Counter(plain.get("seconds", {})), Counter(plain.get("requests", {})), plain.get("retries", 0))


def spent() -> Spent:
    """Return what this process has spent since it started."""
    with _lock:
        return Spent(Counter(_seconds), Counter(_requests), _retries)


def add_spent(more: Spent) -> None:
    """Add what another process spent for this one."""
    global _retries
    with _lock:
        _retries += more.retries
        for name, seconds in more.seconds.items():
            _seconds[name] += seconds
        _requests.update(more.requests)


def add_seconds(name: str, seconds: float) -> None:
    with _lock:
        _seconds[name] += seconds


def count_request(operation: str) -> None:
    """Count a request. operation : as botocore calls it, as `GetObject`"""
    kind = next((kind for start, kind in _KINDS.items() if operation.startswith(start)), "OTHER")
    with _lock:
        _requests[kind] += 1


def count_retry() -> None:
    global _retries
    with _lock:
        _retries += 1


def running() -> str:
    """Return the name of the block of `timing` that was entered last and still runs, as text to show; empty if there is none."""
    with _lock:
        return _running[-1] if _running else ""


@contextmanager
def timing(name: str) -> Iterator[None]:
    """Count the time of a block."""
    start_s = time.perf_counter()
    with _lock:
        _running.append(name)
    try:
        yield
    finally:
        with _lock:
            del _running[len(_running) - 1 - _running[::-1].index(name)]
        add_seconds(name, time.perf_counter() - start_s)


def timed(name: str, values: Iterable[T]) -> Iterator[T]:
    """Yield values and count the time that it takes to make them, but not what is done with them."""
    iterator = iter(values)
    while True:
        start_s = time.perf_counter()
        try:
            value = next(iterator)
        except StopIteration:
            return
        finally:
            add_seconds(name, time.perf_counter() - start_s)
        yield value
