"""Count what this process spends: seconds by what they are spent on, and requests to stores by operation.

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


@dataclass(frozen=True)
class Spent:
    """What was spent.

    seconds : by a stage's name, or what else they were spent on
    requests : number of requests sent to object stores, repeated ones included: GET, PUT, HEAD, LIST, DELETE, COPY or OTHER
    """

    seconds: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.seconds + other.seconds, self.requests + other.requests)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.seconds - other.seconds, self.requests - other.requests)

    def to_json(self) -> str:
        seconds = {name: round(s, 6) for name, s in self.seconds.items()}
        return json.dumps({"seconds": seconds, "requests": dict(self.requests)})

    @classmethod
    def from_json(cls, text: str | bytes | None) -> Spent:
        """Return what `to_json` wrote; nothing for an empty text."""
        plain: Mapping[str, Any] = json.loads(text) if text else {}
        return cls(Counter(plain.get("seconds", {})), Counter(plain.get("requests", {})))


def spent() -> Spent:
    """Return what this process has spent since it started."""
    with _lock:
        return Spent(Counter(_seconds), Counter(_requests))


def add_spent(more: Spent) -> None:
    """Add what another process spent for this one."""
    with _lock:
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


@contextmanager
def timing(name: str) -> Iterator[None]:
    """Count the time of a block."""
    start_s = time.perf_counter()
    try:
        yield
    finally:
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
