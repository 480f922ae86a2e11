"""Cut a clip again out of its recording, and compare it with the stored one: samples, length, start and padding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.audits.audit_kinds import (
    FLOAT,
    FLOAT_LOSSY,
    LENGTH,
    LOSSY,
    PADDING,
    PADDING_NOISE,
    RESAMPLED,
    SAMPLES,
    START,
    Finding,
    Kind,
)
from clipmill.pipelines.audits.recording_reading import NotComparedError, ReadRecording
from clipmill.pipelines.audits.shard_reading import StoredClip
from clipmill.pipelines.audits.source_facts import SourceFacts

_FULL_SCALE = 32768.0
_MOST_ALIKE = 64
"""Samples by which padding may seem to begin later than it does."""
_LEAST_NOISE = 32
"""Samples of noise whose level is compared."""
_SPOILT_S = 0.1
"""Around a sample that is not finite, what resampling makes of the recording depends on where it begins."""
_QUIETEST_NOISE_DBFS = -75.0
"""Below, the rounding to 16 bits is part of the noise's level."""
Floats = npt.NDArray[np.float64]
NOT_FINITE = "the recording has samples beside the clip that are not finite, and was resampled"


def check_comparable(clip: StoredClip, facts: SourceFacts | None) -> None:
    """Raise NotComparedError if a clip's samples are not those of its recording, or cannot be read by others."""
    if facts is None:
        raise NotComparedError("the configuration does not say how the source is read")
    if clip.row.get("augmented_from") is not None:
        raise NotComparedError("the clip is a copy that `augment` changed")
    if facts.changing:
        raise NotComparedError(f"the clip stage {facts.changing[0]} changes samples")
    if facts.is_raw:
        raise NotComparedError("the recording has no header")
    if facts.names_track:
        raise NotComparedError("the configuration chooses an audio track")


@dataclass(frozen=True)
class MixedRecording:
    """A recording as clips are cut from it: channels mixed or chosen, at the clips' rate.

    samples : float64 [frames, channels]; a sample that the recording has no finite one for is not a number
    """

    samples: Floats
    is_resampled: bool
    is_lossless: bool


def mixed(recording: ReadRecording, channels: Any, channel: int | None, rate_hz: int, resampler: str) -> MixedRecording:
    """Return a recording with the channels and at the rate of clips.

    Parameters
    ----------
    channels : of the source
    channel : the clip's own, counted from 0; None: it is not of one alone
    rate_hz : of clips
    resampler : soxr_hq | soxr_vhq | soxr_mq, librosa's names for the same

    Raises
    ------
    NotComparedError : another program finds other channels, or cannot resample the recording
    """
    y = recording.samples
    numbers: list[int] | None = (
        {"left": [0], "right": [1]}.get(channels) if isinstance(channels, str) else list(channels)
    )
    if channel is not None:
        numbers = [channel]
    if numbers is not None and max(numbers) >= y.shape[1]:
        raise NotComparedError(f"{recording.reader} finds fewer channels in the recording")
    if numbers is not None:
        y = y[:, numbers]
    if channel is not None or channels != "keep":
        y = y.mean(axis=1, keepdims=True)
    is_finite = np.isfinite(y)
    y = np.where(is_finite, y, np.nan)
    is_resampled = recording.sample_rate_hz != rate_hz
    if is_resampled:
        y = _resampled(np.where(is_finite, y, 0.0), recording.sample_rate_hz, rate_hz, resampler)
        frames, columns = np.nonzero(~is_finite)
        at = np.minimum(frames * rate_hz // recording.sample_rate_hz, len(y) - 1)
        y[at, columns] = np.nan
    return MixedRecording(y, is_resampled, recording.is_lossless)


def _resampled(y: Floats, from_hz: int, to_hz: int, resampler: str) -> Floats:
    import librosa

    try:
        found = librosa.resample(
            np.ascontiguousarray(y.T), orig_sr=from_hz, target_sr=to_hz, res_type=resampler, fix=False
        )
    except (librosa.LibrosaError, ValueError, RuntimeError) as error:
        raise NotComparedError(f"librosa cannot resample the recording: {error}") from None
    return np.asarray(found.T)


def compare_with_recording(clip: StoredClip, recording: MixedRecording, facts: SourceFacts) -> Iterator[Finding]:
    """Yield how a stored clip differs from the same stretch of its recording.

    The stretch is that of the clip's columns start_s and n_samples; where windows or whole recordings are cut without annotations, it
    is also compared with where the configuration puts it.

    Raises
    ------
    NotComparedError : another program reads less of the recording, whose codec does not say how long it is, or the recording has
        samples that are not finite beside the stretch and was resampled
    """
    row, rate_hz = clip.row, clip.sample_rate_hz
    first = math.floor(row["start_s"] * rate_hz + 0.5)
    n_frames = len(clip.samples)
    heard = recording.samples[first : first + n_frames]
    if recording.is_resampled and not np.isnan(heard).any():
        reach = math.ceil(_SPOILT_S * rate_hz)
        if np.isnan(recording.samples[max(0, first - reach) : first + n_frames + reach]).any():
            raise NotComparedError(NOT_FINITE)
    is_short = len(heard) < n_frames and facts.padding is None
    if is_short and not recording.is_lossless:
        raise NotComparedError("librosa reads less of the recording, whose codec does not tell its length")
    yield Finding(START, max(abs(row["start_s"] * rate_hz - first), _off_the_grid(row, facts, rate_hz, first)))
    lengths = [abs(n_frames - row["n_samples"]), abs(round(row["duration_s"] * rate_hz) - n_frames)]
    if is_short:
        lengths.append(n_frames - len(heard))
    if facts.mode == "whole" and not facts.has_rows and not facts.moves_starts:
        lengths.append(abs(len(recording.samples) - n_frames) if recording.is_lossless else 0)
    yield Finding(LENGTH, float(max(lengths)))
    if heard.shape[1] != clip.samples.shape[1]:
        yield Finding(
            _kind(clip, recording), math.inf, detail=f"{clip.samples.shape[1]} channels, {heard.shape[1]} expected"
        )
        return
    yield from _compare(_steps(clip.samples), _expected(heard, clip), _kind(clip, recording), facts)


def _off_the_grid(row: Mapping[str, Any], facts: SourceFacts, rate_hz: int, first: int) -> float:
    """Return how many samples a start is away from where the configuration alone puts it; 0 where annotations or what is heard decide."""
    if facts.has_rows or facts.moves_starts or facts.mode not in ("window", "whole"):
        return 0.0
    if facts.mode == "whole":
        return float(first)
    hop_s = facts.segment.get("hop_s") or facts.segment.get("length_s")
    if not isinstance(hop_s, int | float) or hop_s <= 0:
        return 0.0
    number = round(row["start_s"] / hop_s)
    return float(min(abs(first - math.floor(k * hop_s * rate_hz + 0.5)) for k in (number - 1, number, number + 1)))


def _kind(clip: StoredClip, recording: MixedRecording) -> Kind:
    if clip.samples.dtype != np.int16:
        return FLOAT if recording.is_lossless else FLOAT_LOSSY
    if not recording.is_lossless:
        return LOSSY
    return RESAMPLED if recording.is_resampled else SAMPLES


def _steps(samples: npt.NDArray[Any]) -> Floats:
    """Return stored samples in steps of 16 bits."""
    return samples.astype(np.float64) * (1.0 if samples.dtype == np.int16 else _FULL_SCALE)


def _expected(heard: Floats, clip: StoredClip) -> Floats:
    """Return what should be stored, in steps of 16 bits."""
    y = heard * _FULL_SCALE
    return y if clip.samples.dtype != np.int16 else np.clip(np.rint(y), -32768, 32767)


def _compare(stored: Floats, expected: Floats, kind: Kind, facts: SourceFacts) -> Iterator[Finding]:
    """Yield how samples differ, and what follows them. stored [frames, channels]; expected : as much of it as the recording has"""
    n = len(expected)
    apart = np.abs(stored[:n] - expected).max(axis=1, initial=0.0)
    padding = facts.padding
    if padding is not None and facts.has_rows and apart.max(initial=0.0) > kind.tolerance:
        # The annotated range ends before the clip does, and no column says where: where the clip stops to be the recording.
        # What follows may resemble the recording for a few samples, so that it begins a little earlier.
        differs = int(np.argmax(apart > kind.tolerance))
        for sound in range(differs, max(0, differs - _MOST_ALIKE), -1):
            found = _compare_padding(stored, sound, padding, facts)
            if found is not None and not found.is_beyond:
                yield _worst(kind, apart[:sound], stored, expected)
                yield replace(found, detail="where the range ends is taken from the clip")
                return
    yield _worst(kind, apart, stored, expected)
    if padding is not None and n < len(stored):
        found = _compare_padding(stored, n, padding, facts)
        if found is not None:
            yield found


def _worst(kind: Kind, apart: Floats, stored: Floats, expected: Floats) -> Finding:
    if not len(apart):
        return Finding(kind, 0.0)
    at = int(np.argmax(apart))
    rest = stored[: len(apart)] - expected[: len(apart)]
    power = float(np.mean(rest * rest)) / _FULL_SCALE**2
    level = f"{10 * math.log10(power):.1f} dBFS" if power else "none"
    return Finding(kind, float(apart[at]), detail=f"sample {at:,}; level of the difference: {level}")


def _compare_padding(stored: Floats, n: int, kind: str, facts: SourceFacts) -> Finding | None:
    """Return how what follows the n samples of a sound differs from its padding; None if it is too little to tell."""
    tail = stored[n:]
    if kind == "noise":
        wanted = float(facts.segment.get("tail_noise_dbfs", -50.0))
        if tail.size < _LEAST_NOISE or wanted < _QUIETEST_NOISE_DBFS:
            return None
        power = float(np.mean(tail * tail)) / _FULL_SCALE**2
        return Finding(PADDING_NOISE, abs(10 * math.log10(power) - wanted) if power else math.inf)
    if kind == "repeat":
        wanted_tail = np.resize(stored[:n], tail.shape)
    elif kind == "edge":
        wanted_tail = np.repeat(stored[n - 1 : n], len(tail), axis=0)
    else:
        wanted_tail = np.zeros_like(tail)
    return Finding(PADDING, float(np.abs(tail - wanted_tail).max(initial=0.0)))
