"""Count the progress of a build on its workers."""

from __future__ import annotations

import gc
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

_REPORT_EVERY_S = 0.25


@dataclass(frozen=True)
class Tally:
    """How far a build is: numbers of recordings, of clips that were cut and of rejections, and seconds of decoded audio."""

    recordings: int = 0
    clips: int = 0
    decoded_s: float = 0.0
    rejected: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.recordings + other.recordings,
            self.clips + other.clips,
            self.decoded_s + other.decoded_s,
            self.rejected + other.rejected,
        )


class Tallies(Protocol):
    """Receives the reports of workers, and returns their sum."""

    def add(self, more: Tally) -> None: ...

    def read(self) -> Tally: ...


class LocalTally:
    """Adds up what this process reports."""

    def __init__(self) -> None:
        self._tally = Tally()

    def add(self, more: Tally) -> None:
        self._tally += more

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

    def add(self, more: Tally) -> None:
        global _unreported, _reported_at  # per worker: tasks have copies of this object
        _unreported.add(more)
        if (now := time.monotonic()) - _reported_at >= _REPORT_EVERY_S:
            self._actor.add.remote(_unreported.read())
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
            numbers = {n["values"]: n["counts"] for n in table["status"].value_counts().to_pylist()}
            ended, decoded_s = (pc.sum(table[name]).as_py() or 0 for name in ("last", "decoded_s"))
            self.tally.add(Tally(ended, numbers.get("clip", 0), float(decoded_s), numbers.get("rejected", 0)))
        return table
