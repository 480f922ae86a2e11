"""Let Ctrl-C and SIGTERM end a command cleanly, also where a library swallows the KeyboardInterrupt.

Python raises KeyboardInterrupt wherever the main thread happens to be. In the callback of a weak reference, as imports use them, or of a
library written in C or Rust, it is printed or dropped, and the work would go on. So an interrupt is also remembered, and raised again at
the next step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked = threading.Event()
_n_held = 0


@contextmanager
def interruptible() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C in the block, and remember both. In other threads than the main one nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    mine = [number for number in _SIGNALS if number == signal.SIGTERM or before[number] is signal.default_int_handler]
    _asked.clear()
    for number in mine:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number] or signal.SIG_DFL)
        _asked.clear()


def check_interrupt() -> None:
    """Raise KeyboardInterrupt if there was an interrupt. Between the steps of work, never while it is being cleaned up."""
    if _asked.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Let an interrupt wait until the end of the block, which must be short."""
    global _n_held
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _n_held += 1
    was_asked = _asked.is_set()
    try:
        yield
    finally:
        _n_held -= 1
    if not was_asked:
        check_interrupt()


def _interrupt(*_: object) -> None:
    _asked.set()
    if not _n_held:
        raise KeyboardInterrupt
