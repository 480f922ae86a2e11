"""Transform a clip into the frames that its features were computed from, and back by overlap and add."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal

from clipmill.schemas.frame_layout import Framing

Signal = npt.NDArray[np.float64]
Bins = npt.NDArray[np.complex128]


class Overlap:
    """Hold the transform of a feature for clips of one length, and its inverse in the sense of least squares.

    Both work on the clip after pre-emphasis, which `deemphasised` takes back. Where frames begin, what is padded and the window are those
    of `clipmill.stages.features`.

    Parameters
    ----------
    framing : of the feature
    n_samples : of the clip
    n_frames : how many of its frames are known, the first ones
    least_weight : share of the largest sum of squared windows below which a sample's sum counts as this share. Samples that few
        windows see are made quieter rather than louder than they were.
    """

    def __init__(self, framing: Framing, n_samples: int, n_frames: int, least_weight: float) -> None:
        from clipmill.stages.features.kernels.framed import window_of

        layout = self._layout = framing.layout
        self._framing, self._n_samples, self._n_frames = framing, n_samples, n_frames
        self.window: Signal = window_of(framing).numpy().astype(np.float64)
        last = layout.first + (n_frames - 1) * layout.hop_length + layout.frame_length
        mode: Any = layout.pad_mode  # numpy's, for which it has a type of its own
        place = np.arange(n_samples + layout.zeros_behind)
        place[n_samples:] = n_samples  # a zero behind the clip
        widths = (layout.before, layout.n_after(n_samples))
        silent = {"constant_values": n_samples} if mode == "constant" else {}
        padded = np.pad(place, widths, mode=mode, **silent)
        self._place = np.pad(padded, (0, max(0, last - len(padded))), constant_values=n_samples)[:last]
        weights = self._added(np.broadcast_to(self.window**2, (n_frames, layout.frame_length)))
        self._weights = np.maximum(weights, least_weight * weights.max(initial=0.0) + np.finfo(float).tiny)

    def analysed(self, y: Signal) -> Bins:
        """Return the transforms of a clip's frames, complex128 [frames, 1 + n_fft // 2]. y : float64 [samples], after pre-emphasis"""
        layout = self._layout
        padded = np.append(y, 0.0)[self._place]
        frames = np.lib.stride_tricks.sliding_window_view(padded[layout.first :], layout.frame_length)
        frames = frames[:: layout.hop_length][: self._n_frames] * self.window
        found: Bins = scipy.fft.rfft(self._in_place(frames), axis=1, workers=1)
        return found

    def synthesised(self, bins: Bins) -> Signal:
        """Return the clip whose frames have these transforms, or come closest to it: float64 [samples], after pre-emphasis."""
        layout = self._layout
        frames = scipy.fft.irfft(bins, layout.n_fft, axis=1, workers=1)
        frames = frames[:, layout.place : layout.place + layout.frame_length] * self.window
        y: Signal = self._added(frames) / self._weights
        return y

    def deemphasised(self, y: Signal) -> Signal:
        """Return a clip before its pre-emphasis. That of frames is taken back as if it were the clip's: windows hide where they begin."""
        if not self._framing.preemphasis:
            return y
        found: Signal = scipy.signal.lfilter([1.0], [1.0, -self._framing.preemphasis], y)
        return found

    def _in_place(self, frames: Signal) -> Signal:
        """Return frames with the zeros around them that the transform takes."""
        layout = self._layout
        if layout.frame_length == layout.n_fft:
            return frames
        return np.pad(frames, ((0, 0), (layout.place, layout.n_fft - layout.place - layout.frame_length)))

    def _added(self, frames: npt.NDArray[np.float64]) -> Signal:
        """Return the sum of overlapping frames over the clip's own samples: float64 [samples]. frames : [frames, frame_length]"""
        layout, n = self._layout, len(frames)
        hop, parts = layout.hop_length, -(-layout.frame_length // layout.hop_length)
        # By pieces of a hop: piece k of all frames is added at once, one hop further on than piece k - 1.
        pieces = np.pad(frames, ((0, 0), (0, parts * hop - layout.frame_length))).reshape(n, parts, hop)
        total = np.zeros((n + parts - 1, hop))
        for k in range(parts):
            total[k : k + n] += pieces[:, k]
        start = layout.before - layout.first
        flat = np.pad(total.reshape(-1), (max(0, -start), 0))[max(0, start) :][: self._n_samples]
        return np.pad(flat, (0, self._n_samples - len(flat)))
