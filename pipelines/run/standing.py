"""How far a build is, in words: on a terminal a few lines, in a log and in the build's note one line that can be read alone."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from clipmill.schemas.legible_amounts import format_duration, format_size
from clipmill.schemas.plural import counted

_KNOWN_AFTER_S = 2.0
"""Before, what little was done says nothing about the rest."""
_RECENT_SHARE = 0.25
_MAX_SAMPLES = 240
_SHOWN_STAGES = 4
_MIN_SHARE = 0.01


@dataclass(frozen=True)
class Standing:
    """How far a build is.

    done, total : numbers of recordings, or of parts of them if `divided`, because some are long
    clips : that were cut; what measured columns drop is still among them
    rejected : recordings, annotations and clips that were rejected
    decoded_s : seconds of audio that were decoded
    size_bytes : of the files of finished shards
    shards, of_shards, failed : numbers of finished, planned and failed shards
    retries : how often something was done again after a failure
    workers : CPUs that build shards
    elapsed_s : since the work began; left_s : shortest and longest time until its end, None while unknown
    stage_s : seconds by stage, added up over all workers
    """

    done: int = 0
    total: int = 0
    divided: bool = False
    clips: int = 0
    rejected: int = 0
    decoded_s: float = 0.0
    size_bytes: int = 0
    shards: int = 0
    of_shards: int = 0
    failed: int = 0
    retries: int = 0
    workers: int = 1
    elapsed_s: float = 0.0
    left_s: tuple[float, float] | None = None
    stage_s: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """Share of the recordings that are done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    def __str__(self) -> str:
        """Return the line for logs: ``120 of 200 recordings (60%), 3,021 clips cut, 2 of 4 shards, 412 x realtime, 8 to 11 s left``."""
        parts = [f"{self._done} ({self.share:.0%})", f"{counted(self.clips, 'clip')} cut", *self._trouble, *self._yield]
        return ", ".join([*parts, self._shards, *self._rates, *self._left])

    def lines(self) -> list[str]:
        """Return the lines for a terminal, the most important first."""
        return [
            ", ".join([self._done, *self._left]),
            ", ".join([f"{counted(self.clips, 'clip')} cut", *self._trouble, *self._yield]),
            ", ".join([self._shards, *self._rates]),
            "; ".join([counted(self.workers, "worker"), *self._stages]),
        ]

    @property
    def _done(self) -> str:
        return f"{self.done:,} of {counted(self.total, 'part' if self.divided else 'recording')}{' of recordings' * self.divided}"

    @property
    def _trouble(self) -> list[str]:
        retried = f"{self.retries:,} {'retry' if self.retries == 1 else 'retries'}"
        return [f"{self.rejected:,} rejected"] * (self.rejected > 0) + [retried] * (self.retries > 0)

    @property
    def _yield(self) -> list[str]:
        audio = [f"{format_duration(self.decoded_s)} of audio"] if self.decoded_s else []
        return audio + ([f"{format_size(self.size_bytes)} written"] if self.size_bytes else [])

    @property
    def _shards(self) -> str:
        return f"{self.shards:,} of {counted(self.of_shards, 'shard')}" + f", {self.failed:,} failed" * (
            self.failed > 0
        )

    @property
    def _rates(self) -> list[str]:
        if self.elapsed_s < _KNOWN_AFTER_S or not self.done:
            return []
        per_s = self.done / self.elapsed_s
        pace = f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.1f}"
        realtime = [f"{self.decoded_s / self.elapsed_s:,.0f} x realtime"] if self.decoded_s else []
        return [*realtime, f"{pace} {'parts' if self.divided else 'recordings'}/s"]

    @property
    def _left(self) -> list[str]:
        return [] if self.left_s is None else [f"{describe_left(*self.left_s)} left"]

    @property
    def _stages(self) -> list[str]:
        """Return where the time of finished work went, as ``decode 61%, log_mel 22%``."""
        in_all = self.stage_s.total()
        shares = [(name, s / in_all) for name, s in self.stage_s.most_common(_SHOWN_STAGES)] if in_all > 0 else []
        told = ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= _MIN_SHARE)
        return [told] if told else []


class Pace:
    """Estimates the rest of the time, from the speed so far and that of the last quarter of the time."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque([(0.0, 0)], maxlen=_MAX_SAMPLES)

    def left_s(self, elapsed_s: float, done: int, total: int) -> tuple[float, float] | None:
        """Note how far the work is; return the shortest and the longest time until its end in seconds, None while unknown."""
        self._samples.append((elapsed_s, done))
        if elapsed_s < _KNOWN_AFTER_S or not 0 < done < total:
            return None
        quarter = elapsed_s * (1 - _RECENT_SHARE)
        since, was = next(((t, n) for t, n in reversed(self._samples) if t <= quarter), self._samples[0])
        speeds = [done / elapsed_s]
        if done > was and elapsed_s > since:
            speeds.append((done - was) / (elapsed_s - since))
        return (total - done) / max(speeds), (total - done) / min(speeds)


def describe_left(least_s: float, most_s: float) -> str:
    """Return ``about 40 s``, ``8 to 11 s``, ``50 s to 2 min`` or ``1 to 3 h``: rounded, since both are guesses."""
    (least, unit), (most, other) = _rounded(least_s), _rounded(most_s)
    if (least, unit) == (most, other):
        return f"about {least} {unit}"
    return f"{least} to {most} {unit}" if unit == other else f"{least} {unit} to {most} {other}"


def _rounded(seconds: float) -> tuple[str, str]:
    if seconds < 10:
        return f"{max(1, round(seconds))}", "s"
    if seconds < 57.5:
        return f"{5 * round(seconds / 5)}", "s"
    if seconds < 59.5 * 60:
        return f"{max(1, round(seconds / 60))}", "min"
    hours = seconds / 3600
    return (f"{hours:.1f}".removesuffix(".0") if hours < 10 else f"{hours:,.0f}"), "h"


def bar(share: float, n_cells: int, cells: Iterable[str]) -> str:
    """Return a bar of a width. cells : the characters of what is done and of what is not"""
    full, empty = cells
    n_full = int(share * n_cells)
    return full * n_full + empty * (n_cells - n_full)
