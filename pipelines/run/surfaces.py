"""Where progress is shown: redrawn in place on a terminal, as one output that is updated in a notebook, and as lines in a log.

A log gets a line after 10, 30 and 60 s, then every minute, and less and less often: some hundred lines for a day. No control character
is written to anything but a terminal that understands them.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TextIO

from clipmill.pipelines.run.standing import bar
from clipmill.schemas.legible_text import visible
from clipmill.schemas.secret_values import hide_secrets

_FIRST_LINES_S = (10.0, 30.0, 60.0)
_LINE_EVERY_S = ((600.0, 60.0), (7200.0, 300.0), (float("inf"), 900.0))
"""Until when a line is printed how often, in seconds."""
_BAR_CELLS = 20
_NOTEBOOK_EVERY_S = 1.0
_INDENT = 9


class Surface(Protocol):
    """Shows how far a build is.

    `show` takes the step's name (plan, build, publish), the share that is done or None if that is unknown, lines for a terminal, and a
    line for a log. `close` ends a step.
    """

    def show(self, step: str, share: float | None, lines: Sequence[str], line: str) -> None: ...

    def close(self) -> None: ...


def choose_surface(quiet: bool) -> Surface:
    """Return where to show progress. quiet : nowhere"""
    if quiet:
        return Nowhere()
    if (display := _notebook_display()) is not None:
        return NotebookOutput(display)
    return TerminalBlock(sys.stderr) if can_redraw(sys.stderr) else LogLines(sys.stderr)


def can_redraw(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "dumb").lower() not in ("dumb", "unknown", "")


def wants_colour(stream: TextIO) -> bool:
    """Return whether to write colours: as `--color` and `--no-color` say, else NO_COLOR and FORCE_COLOR, else to terminals alone."""
    import click

    context = click.get_current_context(silent=True)
    if context is not None and context.color is not None:
        return context.color
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or can_redraw(stream)


class Nowhere:
    """Shows nothing."""

    def show(self, step: str, share: float | None, lines: Sequence[str], line: str) -> None: ...

    def close(self) -> None: ...


class LogLines:
    """Writes a line with its time, rarely. stream : of text"""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._begun = stream, time.monotonic()
        self._due = due_times_s()
        self._next_s = next(self._due)

    def show(self, step: str, share: float | None, lines: Sequence[str], line: str) -> None:
        if (elapsed_s := time.monotonic() - self._begun) < self._next_s:
            return
        while self._next_s <= elapsed_s:
            self._next_s = next(self._due)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        print(f"{now} {step}: {_harmless(line)}", file=self._stream, flush=True)

    def close(self) -> None: ...


def due_times_s() -> Iterator[float]:
    """Yield when a log gets its lines, in seconds since the beginning."""
    yield from _FIRST_LINES_S
    due = _FIRST_LINES_S[-1]
    while True:
        due += next(every for until, every in _LINE_EVERY_S if due < until)
        yield due


class TerminalBlock:
    """Redraws a block of lines in place, and removes it at the end. What is printed meanwhile appears above it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live: Any = None
        self._colour = wants_colour(stream)
        self._restore: list[Callable[[], object]] = []
        text = (stream.encoding or "ascii").lower()
        self._cells = "█░" if text.startswith("utf") else "#-"

    def show(self, step: str, share: float | None, lines: Sequence[str], line: str) -> None:
        from rich.console import Group
        from rich.text import Text

        done = "" if share is None else f"{bar(share, _BAR_CELLS, self._cells)} {share:4.0%}  "
        head = f"{step:<{_INDENT}}{done}{_harmless(lines[0])}"
        rest = [f"{'':<{_INDENT}}{_harmless(text)}" for text in lines[1:]]
        texts = [Text(text, no_wrap=True, overflow="ellipsis") for text in (head, *rest)]
        texts[0].stylize("bold", 0, len(step))
        if share is not None:
            texts[0].stylize("green", _INDENT, _INDENT + _BAR_CELLS)
        self._opened().update(Group(*texts), refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        while self._restore:
            self._restore.pop()()

    def _opened(self) -> Any:
        """Return rich's display, which is started with the first block."""
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = Console(
                file=self._stream, force_terminal=True, force_jupyter=False, no_color=not self._colour, highlight=False
            )
            # Without a terminal on stdout, what is printed there must not end up on stderr.
            self._live = Live(
                console=console, auto_refresh=False, transient=True, redirect_stdout=sys.stdout.isatty(),
                vertical_overflow="crop",
            )  # fmt: skip
            self._live.start()
            self._redirect_logs()
        return self._live

    def _redirect_logs(self) -> None:
        """Let the handlers of loggers that hold the stream itself write above the block too."""
        loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
        for handler in itertools.chain.from_iterable(logger.handlers for logger in loggers):
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._stream:
                handler.setStream(sys.stderr)
                self._restore.append(partial(handler.setStream, self._stream))


class NotebookOutput:
    """Updates one output of a notebook's cell. display : of IPython"""

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None
        self._last_s, self._step = float("-inf"), ""

    def show(self, step: str, share: float | None, lines: Sequence[str], line: str) -> None:
        if (now := time.monotonic()) - self._last_s < _NOTEBOOK_EVERY_S:
            return
        self._last_s, self._step = now, step
        self._put(f"{step}: {_harmless(line)}")

    def close(self) -> None:
        self._last_s = float("-inf")
        if self._handle is not None:
            self._put(f"{self._step}: done")

    def _put(self, text: str) -> None:
        data = {"text/plain": text}
        if self._handle is None:
            self._handle = self._display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def _notebook_display() -> Callable[..., Any] | None:
    """Return IPython's function that shows something in a cell, None outside of notebooks."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    display: Callable[..., Any] = importlib.import_module("IPython.display").display
    return display


def _harmless(line: str) -> str:
    return visible(hide_secrets(line))
