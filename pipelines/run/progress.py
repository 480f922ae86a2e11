"""Progress of a build: counted on the workers, and shown as a bar on a terminal, elsewhere as plain lines."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_POLL_S = 0.5
_REPORT_EVERY_S = 0.25
_LINE_EVERY_S = 15.0


@dataclass(frozen=True)
class Tally:
    """How far a build is: numbers of recordings and of kept clips, and seconds of decoded audio."""

    recordings: int = 0
    clips: int = 0
    decoded_s: float = 0.0


class Tallies(Protocol):
    """Receives the reports of workers, and returns their sum."""

    def add(self, recordings: int, clips: int, decoded_s: float) -> None: ...

    def read(self) -> Tally: ...


class LocalTally:
    """Adds up what this process reports."""

    def __init__(self) -> None:
        self._tally = Tally()

    def add(self, recordings: int, clips: int, decoded_s: float) -> None:
        t = self._tally
        self._tally = Tally(t.recordings + recordings, t.clips + clips, t.decoded_s + decoded_s)

    def read(self) -> Tally:
        return self._tally


_unreported = LocalTally()
_reported_at = 0.0


class RayTally:
    """Adds up, in an actor, what the workers of a Ray cluster report. Calls cost time, so each worker reports a few times per second."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._last = Tally()

    @classmethod
    def start(cls) -> RayTally:
        """Start the actor, and wait until it answers."""
        import ray

        actor = ray.remote(num_cpus=0, max_restarts=-1)(LocalTally).remote()
        ray.get(actor.read.remote())
        return cls(actor)

    def add(self, recordings: int, clips: int, decoded_s: float) -> None:
        global _unreported, _reported_at  # per worker: tasks have copies of this object
        _unreported.add(recordings, clips, decoded_s)
        if (now := time.monotonic()) - _reported_at >= _REPORT_EVERY_S:
            t = _unreported.read()
            self._actor.add.remote(t.recordings, t.clips, t.decoded_s)
            _unreported, _reported_at = LocalTally(), now

    def read(self) -> Tally:
        import ray

        with suppress(ray.exceptions.RayError):
            self._last = ray.get(self._actor.read.remote(), timeout=2)
        return self._last

    def stop(self) -> None:
        """End the actor, and free the objects that Ray keeps in reference cycles.

        Otherwise a process that this one forks later, such as the loader of a training run, would free them: it would report that to
        Ray over this process's connections, and this process would get no more answers from Ray.
        """
        import ray

        with suppress(ray.exceptions.RayError):
            ray.kill(self._actor)
        gc.collect()


@dataclass(frozen=True)
class Watch:
    """A stage that passes tables through and reports their content. tally : None to report nothing"""

    tally: Tallies | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        if self.tally is not None:
            ended = table.filter(pc.equal(table["last"], True))
            clips = pc.sum(pc.equal(table["status"], "clip")).as_py() or 0
            self.tally.add(ended.num_rows, clips, pc.sum(ended["decoded_s"]).as_py() or 0.0)
        return table


def phase(text: str, quiet: bool) -> AbstractContextManager[object]:
    """Return a context manager that shows a text while the block runs, if stderr is a terminal."""
    if quiet or not sys.stderr.isatty():
        return nullcontext()
    return Console(stderr=True).status(text)


def told(quiet: bool) -> Callable[[str], None]:
    """Return a function that prints a line on stderr, whether or not it is a terminal; quiet : nothing"""
    return lambda line: None if quiet else print(line, file=sys.stderr, flush=True)


class Display:
    """Shows the progress of a build on stderr while the block runs.

    n_recordings, n_shards : to be processed
    quiet : show nothing, and only keep `text` up to date

    text : the progress, as returned by `describe`; never updated after the block
    """

    def __init__(self, tally: Tallies, n_recordings: int, n_shards: int, quiet: bool) -> None:
        self._tally, self._total, self._n_shards, self._quiet = tally, n_recordings, n_shards, quiet
        self._shards = 0
        self.text = ""
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Display:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            # Without a timeout, since the thread has its own: one that calls Ray after the shutdown would end the process.
            self._thread.join()

    def shard_done(self) -> None:
        """Count one shard as finished."""
        self._shards += 1

    def describe(self, tally: Tally) -> str:
        """Return a line such as ``120/200 recordings, 3,021 clips, 412 x realtime, 8 s left``."""
        elapsed = time.monotonic() - self._started
        parts = [
            f"{tally.recordings:,}/{self._total:,} recordings",
            f"{tally.clips:,} clips",
            f"{self._shards}/{self._n_shards} shards",
        ]
        if tally.decoded_s and elapsed > 0:
            parts.append(f"{tally.decoded_s / elapsed:,.0f} x realtime")
        if 0 < tally.recordings < self._total:
            parts.append(f"{elapsed * (self._total / tally.recordings - 1):,.0f} s left")
        return ", ".join(parts)

    def _run(self) -> None:
        on_terminal = sys.stderr.isatty() and not self._quiet
        bar = Progress(
            TextColumn("build"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
            console=Console(stderr=True), transient=True, disable=not on_terminal,
        )  # fmt: skip
        last_line = time.monotonic()
        with bar:
            task = bar.add_task("starting", total=max(1, self._total))
            while not self._stop.wait(_POLL_S):
                tally = self._tally.read()
                self.text = self.describe(tally)
                bar.update(task, completed=tally.recordings, description=self.text)
                if not on_terminal and not self._quiet and time.monotonic() - last_line >= _LINE_EVERY_S:
                    last_line = time.monotonic()
                    print(f"build: {self.text}", file=sys.stderr, flush=True)
