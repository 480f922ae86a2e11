"""Show what a build does: the steps that it goes through, and how far its work is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from clipmill.pipelines.run.interrupts import check_interrupt, held
from clipmill.pipelines.run.progress import Tallies
from clipmill.pipelines.run.standing import Pace, Standing
from clipmill.pipelines.run.surfaces import Nowhere, Surface, choose_surface
from clipmill.schemas.legible_amounts import format_duration
from clipmill.schemas.records import Commit
from clipmill.stages import meter
from clipmill.stages.meter import Spent, spent

_POLL_S = 0.5
_DOING = {"inventory": "listing recordings", "annotations": "reading annotations"}
_NOT_STAGES = ("inventory", "annotations")


def told(quiet: bool) -> Callable[[str], None]:
    """Return a function that prints a line on stderr, whether or not it is a terminal; quiet : nothing"""
    return lambda line: None if quiet else print(line, file=sys.stderr, flush=True)


class Progress:
    """Shows the progress of one command on stderr, or in the cell of a notebook. quiet : show nothing"""

    def __init__(self, quiet: bool) -> None:
        self._surface = choose_surface(quiet)

    @contextmanager
    def phase(self, step: str, text: str | Callable[[], str]) -> Iterator[None]:
        """Show a text, or what a function returns, and the time that has passed while the block runs. step : a word such as plan

        An interrupt that was dropped before the block, or in it, is raised.
        """
        check_interrupt()
        if isinstance(self._surface, Nowhere):
            yield
            check_interrupt()
            return
        begun = time.monotonic()

        def show() -> None:
            doing = _DOING.get(meter.running()) or (text if isinstance(text, str) else text())
            doing += f", {format_duration(time.monotonic() - begun)}"
            self._surface.show(step, None, [doing], doing)

        with _Ticker(show, self._surface):
            yield
        check_interrupt()

    def counting(self, tally: Tallies, n_items: int, n_shards: int, divided: bool, workers: int, here: bool) -> Display:
        """Return the display of the work on shards.

        n_items, n_shards : to be processed
        divided : whether some items are only parts of a recording
        workers : CPUs that build shards
        here : whether this process builds them
        """
        standing = Standing(total=n_items, of_shards=n_shards, divided=divided, workers=workers)
        return Display(self._surface, tally, standing, here)


class Display:
    """Shows the progress of the work on shards while the block runs.

    text : the progress as a line, for the build's note; never updated after the block
    """

    def __init__(self, surface: Surface, tally: Tallies, at_first: Standing, here: bool) -> None:
        self._surface, self._tally, self._first = surface, tally, at_first
        self._started, self._before = time.monotonic(), spent() if here else None
        self._shards = self._failed = self._unread = self._size_bytes = 0
        self._spent_on_shards = Spent()
        self._pace = Pace()
        self._ticker = _Ticker(self._show, surface)
        self.text = ""

    def __enter__(self) -> Display:
        self._ticker.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticker.__exit__(kind, error, trace)
        del self._tally  # a note may keep this object, and handles of Ray must not outlive the build in cycles

    def shard_done(self, commit: Commit | None, built: bool, failed: bool, on_it: Spent) -> None:
        """Count one shard as finished.

        commit : None if there is none
        built : whether this build has made it
        """
        self._shards += 1
        self._failed += failed
        self._spent_on_shards += on_it
        if commit is not None:
            self._size_bytes += sum(o.size_bytes for o in commit.outputs) if built else 0
            # Nobody reported the recordings of shards that another build has made, or that were made from committed clips.
            self._unread += commit.n_items if commit.donor is not None or not built else 0

    def standing(self) -> Standing:
        """Return how far the work is now."""
        tally, first = self._tally.read(), self._first
        on_it = spent() - self._before if self._before is not None else self._spent_on_shards
        elapsed_s = time.monotonic() - self._started
        done = min(first.total, tally.recordings + self._unread)  # what was done again is counted again
        return Standing(
            done, first.total, first.divided, tally.clips, tally.rejected, tally.decoded_s, self._size_bytes, self._shards,
            first.of_shards, self._failed, on_it.retries, first.workers, elapsed_s,
            self._pace.left_s(elapsed_s, done, first.total),
            type(on_it.seconds)({name: s for name, s in on_it.seconds.items() if name not in _NOT_STAGES}),
        )  # fmt: skip

    def _show(self) -> None:
        standing = self.standing()
        self.text = str(standing)
        self._surface.show("build", standing.share, standing.lines(), self.text)


class _Ticker:
    """Calls a function twice a second, in a thread, while the block runs, and closes the surface that it shows something on."""

    def __init__(self, show: Callable[[], None], surface: Surface) -> None:
        self._show, self._surface = show, surface
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with held():
            self._stop.set()
            if self._thread.is_alive():
                # Without a timeout, since the thread has its own: one that calls Ray after the shutdown would end the process.
                self._thread.join()
            self._surface.close()

    def _run(self) -> None:
        while not self._stop.wait(_POLL_S):
            self._show()
