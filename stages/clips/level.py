"""Level: bring clips to a peak, a level or a loudness, and keep their true peaks under a ceiling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.columns import column
from clipmill.schemas.config import Config
from clipmill.schemas.config.level_config import Level
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.units import SATURATED, level_dbfs, to_samples
from clipmill.stages.clip_samples import waveforms, with_waveforms
from clipmill.stages.limiter import limited
from clipmill.stages.measures.lufs import BLOCK_S, LOWEST_RATE_HZ, block_powers, gated_lufs, integrated_lufs
from clipmill.stages.stage import Stage, with_column
from clipmill.stages.true_peak import peak_envelope

_LARGEST_DBFS = 20 * math.log10(SATURATED)
"""A target of 0 dBFS means the largest sample of 16-bit PCM, 0.0003 dB less, so that nothing clips."""

_LARGEST, _SMALLEST = 32767.5 / 32768, -32768.5 / 32768
"""Samples beyond these are rounded to values beyond 16-bit PCM."""

_MISSED_DB = 0.5
_CLOSE_DB, _ATTEMPTS = 0.05, 8
_MOST_EXTRA_DB = 12.0
"""What a limiter takes from a clip's level is made up for by at most this gain. With more, noise would come up and all peaks be equal."""


class _Levelled(NamedTuple):
    """A clip's new samples, None for those that it had; the gain, None if there is none; the note, None if there is nothing to say."""

    y: npt.NDArray[np.float32] | None
    gain_db: float | None
    note: str | None


@dataclass(frozen=True)
class LevelGain(Stage):
    """Bring each clip to a level by one gain for all of it, and limit its true peaks if a ceiling is configured.

    With `of: recording` all clips of a recording, or of a channel of it where each has its own clips, have the gain that brings the
    recording to the level. Clips without a level pass unchanged; the column `level_note` says why.
    """

    spec: Level

    section = "level"
    scope = "clip"
    settings = Level
    columns = (
        column("gain_db", pa.float64(), "gain of the stage `level`, before limiting; null: unchanged", "dB"),
        column(
            "level_note",
            pa.string(),
            "why the level is not as configured: silent, too_short (under 0.4 s, which has no loudness), limited_gain (by max_gain_db),"
            " missed_target (by more than 0.5 dB), clips (samples were beyond full scale); null: it is",
        ),
    )
    libraries = ("scipy",)
    keeps_lengths = True
    changes_samples = True

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        if settings is not None and settings.to == "lufs" and config.audio.sample_rate_hz < LOWEST_RATE_HZ:
            raise ConfigError(
                f"`level: {{to: lufs}}` needs at least {LOWEST_RATE_HZ:,} Hz; use `to: rms` at lower rates",
                key="audio.sample_rate_hz",
            )
        return super().of(config, settings)

    def __call__(self, table: pa.Table) -> pa.Table:
        rates_hz = table["sample_rate_hz"].to_pylist()
        if self.spec.of == "recording":
            levels = table["recording_level"].to_pylist()
            levelled = {row: self._with_recording(y, rates_hz[row], levels[row]) for row, y in waveforms(table)}
        else:
            levelled = {row: self._levelled(y, rates_hz[row]) for row, y in waveforms(table)}
        table = with_waveforms(table, {row: clip.y for row, clip in levelled.items() if clip.y is not None})
        table = with_column(table, self.columns[0], {row: clip.gain_db for row, clip in levelled.items()})
        return with_column(table, self.columns[1], {row: clip.note for row, clip in levelled.items()})

    def _levelled(self, y: npt.NDArray[np.float32], sample_rate_hz: int) -> _Levelled:
        wanted_db = self._wanted_db(y, sample_rate_hz)
        if wanted_db is None:
            is_short = self.spec.to == "lufs" and y.shape[1] < to_samples(BLOCK_S, sample_rate_hz)
            return _Levelled(None, None, "too_short" if is_short else "silent")
        out, gain_db, missing_db = self._apply(y, sample_rate_hz, wanted_db)
        is_missed, is_most = abs(missing_db) > _MISSED_DB, gain_db == self.spec.max_gain_db
        if wanted_db > self.spec.max_gain_db or (is_missed and is_most):
            return _Levelled(out, gain_db, "limited_gain")
        if is_missed:
            return _Levelled(out, gain_db, "missed_target")
        return _Levelled(out, gain_db, "clips" if out.max() > _LARGEST or out.min() < _SMALLEST else None)

    def _with_recording(self, y: npt.NDArray[np.float32], sample_rate_hz: int, level: float | None) -> _Levelled:
        """Return a clip with the gain that brings its whole recording to the target. level : of the recording, None if it has none"""
        spec = self.spec
        if level is None:
            return _Levelled(None, None, "silent")
        wanted_db = (min(spec.target, _LARGEST_DBFS) if spec.to == "peak" else spec.target) - level
        gain_db = min(wanted_db, spec.max_gain_db)
        whole = y * np.float32(10 ** (gain_db / 20))
        out, lost_db = whole, 0.0
        if spec.true_peak_dbtp is not None:
            out = limited(whole, sample_rate_hz, min(spec.true_peak_dbtp, _LARGEST_DBFS))
            lost_db = level_dbfs(whole) - level_dbfs(out) if out is not whole else 0.0
        if wanted_db > spec.max_gain_db:
            return _Levelled(out, gain_db, "limited_gain")
        if lost_db > _MISSED_DB:
            return _Levelled(out, gain_db, "missed_target")
        return _Levelled(out, gain_db, "clips" if out.max() > _LARGEST or out.min() < _SMALLEST else None)

    def _wanted_db(self, y: npt.NDArray[np.float32], sample_rate_hz: int) -> float | None:
        """Return the gain that brings a clip to the target, None if the clip has no level."""
        target = self.spec.target
        if self.spec.to != "lufs":
            level = self._level(y, sample_rate_hz)
            return None if level is None else (min(target, _LARGEST_DBFS) if self.spec.to == "peak" else target) - level
        # Loudness does not grow exactly with the gain: louder, a clip can have more blocks over the absolute gate.
        powers = block_powers(y, sample_rate_hz)
        loudness, gain_db = gated_lufs(powers), 0.0
        for _ in range(_ATTEMPTS):
            if loudness is None:
                break
            gain_db += target - loudness
            loudness = gated_lufs(powers * 10 ** (gain_db / 10))
        return None if loudness is None else gain_db

    def _level(self, y: npt.NDArray[np.float32], sample_rate_hz: int) -> float | None:
        """Return the level that is to be the target, None if the clip has none."""
        if self.spec.to == "lufs":
            return integrated_lufs(y, sample_rate_hz)
        if self.spec.to == "rms":
            level = level_dbfs(y)
        else:
            peak = float(np.abs(y).max())
            level = 20 * math.log10(peak) if peak > 0 else -math.inf
        return level if level > -math.inf else None

    def _apply(
        self, y: npt.NDArray[np.float32], sample_rate_hz: int, wanted_db: float
    ) -> tuple[npt.NDArray[np.float32], float, float]:
        """Return a clip with a gain and within the ceiling, the gain in dB, and by how much its level is under the target, in dB.

        A limiter takes from the level, so that a larger gain is tried, except for a peak, which is what the limiter limits.
        """
        spec, ceiling_dbtp = self.spec, self.spec.true_peak_dbtp
        most_db = min(
            spec.max_gain_db, wanted_db + (0.0 if ceiling_dbtp is None or spec.to == "peak" else _MOST_EXTRA_DB)
        )
        gain_db, peaks = min(wanted_db, most_db), None if ceiling_dbtp is None else peak_envelope(y)
        slope, before = 1.0, None
        for attempt in range(_ATTEMPTS):
            factor = np.float32(10 ** (gain_db / 20))
            out = y * factor
            if ceiling_dbtp is not None and peaks is not None:
                out = limited(out, sample_rate_hz, min(ceiling_dbtp, _LARGEST_DBFS), peaks * factor)
            level = self._level(out, sample_rate_hz)
            missing_db = math.inf if level is None else spec.target - level
            if abs(missing_db) <= _CLOSE_DB or (missing_db > 0 and gain_db >= most_db) or attempt == _ATTEMPTS - 1:
                break
            if before is not None and gain_db != before[0]:
                slope = min(1.0, max(0.2, (before[1] - missing_db) / (gain_db - before[0])))
            before = gain_db, missing_db
            gain_db = min(gain_db + missing_db / slope, most_db)
        return out, gain_db, missing_db
