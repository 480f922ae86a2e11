"""Find the clips of a recording around its speech, for `segment: {mode: speech}`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clipmill.schemas.units import to_samples
from clipmill.stages.packing import pack
from clipmill.stages.speech import SpeechActivity


class SpeechClips:
    """Finds stretches of speech as a recording's samples arrive, and packs them into clips.

    sample_rate_hz : of the recording
    min_s, max_s : length of clips
    pad_s : silence that stays before and after the speech of a clip, where there is room
    max_gap_s : longest silence inside a clip

    remarks : after `finish`, pairs of a code of `clipmill.schemas.remarks` and a detail
    """

    def __init__(self, sample_rate_hz: int, min_s: float, max_s: float, pad_s: float, max_gap_s: float) -> None:
        self._rate_hz = sample_rate_hz
        self._settings = min_s, max_s, pad_s, max_gap_s
        # Silero's own padding is left to the packing, which knows how much room there is.
        self._speech = SpeechActivity(sample_rate_hz, pad_s=0.0)
        self._n_frames = 0
        self.remarks: list[tuple[str, str]] = []

    def add(self, y: npt.NDArray[np.float32]) -> None:
        """Take the next samples. y : float32 [channels, samples]"""
        self._n_frames += y.shape[1]
        self._speech.add(y)

    def finish(self) -> list[tuple[int, int]]:
        """Return the clips: frames, half-open, ascending and disjoint."""
        speech = self._speech.finish()
        min_s, max_s, pad_s, max_gap_s = self._settings
        shortest, longest, pad, gap = (to_samples(t, self._rate_hz) for t in (min_s, max_s, pad_s, max_gap_s))
        packed = pack(
            speech.intervals, self._n_frames, min_samples=max(1, shortest), max_samples=longest, pad_samples=pad,
            max_gap_samples=gap, cut_at=speech.least_probable,
        )  # fmt: skip
        if packed.n_cuts:
            self.remarks.append(
                ("speech_cut", f"{packed.n_cuts} cuts inside speech that lasts longer than {max_s:g} s")
            )
        if packed.dropped:
            lost_s = sum(stop - start for start, stop in packed.dropped) / self._rate_hz
            self.remarks.append(
                (
                    "speech_left_out",
                    f"{lost_s:.1f} s of speech in {len(packed.dropped)} places have no room for a clip of {min_s:g} s",
                )
            )
        return packed.clips
