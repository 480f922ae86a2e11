"""Say where the frames of a short-time transform lie in a clip, how many there are, and what is padded for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FrameLayout:
    """The frames of a clip: frame i takes `frame_length` samples from ``first + i * hop_length`` of the padded clip.

    n_fft : length of a transform
    hop_length : samples from one frame to the next
    win_length : length of the window
    frame_length : samples that a frame takes
    place : where they lie among the n_fft samples of the transform; the others are 0
    span : samples of the padded clip that must be there for a frame
    first : where frame 0 begins in the padded clip
    zeros_behind : zeros after the clip, before other padding
    before : samples of padding before the clip
    after : samples of padding after the clip and its zeros; None: as many as the last frame needs
    pad_mode : numpy's name of the kind of padding
    by_centres : there is a frame for each hop whose middle is in the clip (Kaldi without snip_edges), not for each that fits
    beyond : what becomes of frames after the clip's own n_samples // hop_length: keep | drop | zero
    """

    n_fft: int
    hop_length: int
    win_length: int
    frame_length: int
    place: int
    span: int
    first: int
    zeros_behind: int
    before: int
    after: int | None
    pad_mode: str
    by_centres: bool
    beyond: str

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> FrameLayout:
        """Return the layout of a transform with these settings, in samples. Keys that are missing or None have their defaults.

        about : `n_fft` and `hop_length`; `win_length`, `center`, `pad_mode`, `snip_edges`, `pad_length`, `zeros_behind`, `remove_dc`,
            `preemphasis`, `preemphasis_by`, `frames_beyond` as in a configuration
        """
        given = {key: value for key, value in about.items() if value is not None}
        n_fft, hop, win = given["n_fft"], given["hop_length"], given.get("win_length", given["n_fft"])
        zeros, beyond = given.get("zeros_behind", 0), given.get("frames_beyond", "keep")
        snip_edges = given.get("snip_edges")
        if snip_edges is not None:
            # Kaldi's: a frame has the length of its window, and zeros follow it in the transform.
            start = 0 if snip_edges else hop // 2 - win // 2
            after = 0 if snip_edges else None
            return cls(
                n_fft, hop, win, win, 0, win, max(0, start), zeros, max(0, -start), after, "symmetric", not snip_edges, beyond
            )  # fmt: skip
        pad = given.get("pad_length", n_fft // 2 if given.get("center", True) else 0)
        # What changes single frames must see no more than the window does.
        is_short = given.get("remove_dc") or (given.get("preemphasis") and given.get("preemphasis_by") == "frame")
        place = (n_fft - win) // 2 if is_short else 0
        length = win if is_short else n_fft
        mode = given.get("pad_mode", "constant")
        return cls(n_fft, hop, win, length, place, n_fft, place, zeros, pad, pad, mode, False, beyond)

    def n_computed(self, n_samples: int) -> int:
        """Return how many frames a clip has before those beyond it are dropped."""
        n = n_samples + self.zeros_behind
        if self.by_centres:
            return (n + self.hop_length // 2) // self.hop_length
        n += self.before + (self.after or 0)
        return 1 + (n - self.span) // self.hop_length if n >= self.span else 0

    def n_own(self, n_samples: int) -> int:
        """Return how many frames are the clip's own: all of them, unless those beyond it are dropped or zero."""
        n = self.n_computed(n_samples)
        return n if self.beyond == "keep" else min(n, n_samples // self.hop_length)

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of a clip."""
        return self.n_own(n_samples) if self.beyond == "drop" else self.n_computed(n_samples)

    def n_after(self, n_samples: int) -> int:
        """Return how many samples are padded after the clip and its zeros."""
        if self.after is not None:
            return self.after
        end = self.first - self.before + (self.n_computed(n_samples) - 1) * self.hop_length + self.frame_length
        return max(0, end - n_samples - self.zeros_behind)

    @property
    def min_samples(self) -> int:
        """Return the length of the shortest clip that has a frame of its own."""
        fitting = self.span - self.before - (self.after or 0)
        least = self.hop_length - self.hop_length // 2 if self.by_centres else fitting
        return max(1, least - self.zeros_behind, self.hop_length if self.beyond != "keep" else 1)


@dataclass(frozen=True)
class Framing:
    """What two features must have in common to share one transform: where frames lie, and what is done to their samples.

    window : name of the window's shape
    is_periodic : whether the window's last sample is not its first
    window_dtype : type in which the window is computed
    scale : factor of samples
    remove_mean, remove_dc : subtract the mean of the clip, of the frame
    preemphasis : its coefficient; 0: none
    by_frame : whether pre-emphasis starts again at each frame
    """

    layout: FrameLayout
    window: str
    is_periodic: bool
    window_dtype: str
    scale: float
    remove_mean: bool
    remove_dc: bool
    preemphasis: float
    by_frame: bool

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Framing:
        """Return the framing of settings in samples, as `FrameLayout.of`."""
        given = {key: value for key, value in about.items() if value is not None}
        window = given.get("window", "hann")
        return cls(
            FrameLayout.of(given), window, not given.get("symmetric", window == "povey"),
            given.get("window_dtype", "float64"), given.get("scale", 1.0),
            given.get("remove_mean", False), given.get("remove_dc", False), given.get("preemphasis", 0.0),
            given.get("preemphasis_by") == "frame",
        )  # fmt: skip
