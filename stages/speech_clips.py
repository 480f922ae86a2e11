"""Find the clips of a recording around its speech, for `segment: {mode: speech}`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clipmill.schemas.units import to_samples
from clipmill.stages.packing import pack
from clipmill.stages.silence_clips import Interval, common
from clipmill.stages.speech import Speech, SpeechActivity


class SpeechClips:
    """Finds stretches of speech as a recording's samples arrive, and packs them into clips.

    sample_rate_hz : of the recording
    min_s, max_s : length of clips
    pad_s : silence that stays before and after the speech of a clip, where there is room
    max_gap_s : longest silence inside a clip
    """

    def __init__(self, sample_rate_hz: int, min_s: float, max_s: float, pad_s: float, max_gap_s: float) -> None:
        self._rate_hz = sample_rate_hz
        self._settings = min_s, max_s, pad_s, max_gap_s
        # Silero's own padding is left to the packing, which knows how much room there is.
        self._speech = SpeechActivity(sample_rate_hz, pad_s=0.0)
        self._found: Speech | None = None
        self._n_cuts, self._dropped = 0, list[Interval]()

    def add(self, y: npt.NDArray[np.float32]) -> None:
        """Take the next samples. y : float32 [channels, samples]"""
        self._speech.add(y)

    def clips_in(self, start: int, stop: int) -> list[Interval]:
        """Return the clips within a range, after the last samples: frames, half-open, ascending and disjoint."""
        if self._found is None:
            self._found = self._speech.finish()
        found = self._found
        min_s, max_s, pad_s, max_gap_s = self._settings
        shortest, longest, pad, gap = (to_samples(t, self._rate_hz) for t in (min_s, max_s, pad_s, max_gap_s))
        inside = [(a - start, b - start) for a, b in common(found.intervals, start, stop)]
        packed = pack(
            inside, stop - start, min_samples=max(1, shortest), max_samples=longest, pad_samples=pad, max_gap_samples=gap,
            cut_at=lambda a, b: found.least_probable(a + start, b + start) - start,
        )  # fmt: skip
        self._n_cuts += packed.n_cuts
        self._dropped += packed.dropped
        return [(a + start, b + start) for a, b in packed.clips]

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """Return what is to be said of the clips so far: pairs of a code of `clipmill.schemas.remarks` and a detail."""
        min_s, max_s, _, _ = self._settings
        remarks = []
        if self._n_cuts:
            remarks.append(("speech_cut", f"{self._n_cuts} cuts inside speech that lasts longer than {max_s:g} s"))
        if self._dropped:
            lost_s = sum(stop - start for start, stop in self._dropped) / self._rate_hz
            place = "place has" if len(self._dropped) == 1 else "places have"
            remarks.append(
                (
                    "speech_left_out",
                    f"{lost_s:.1f} s of speech in {len(self._dropped)} {place} no room for a clip of {min_s:g} s",
                )
            )
        return remarks
