"""Cut the signals of a batch into frames, a block at a time, and transform them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from clipmill.schemas.frame_layout import Framing
from clipmill.stages.features.kernels.transfer import DeviceBatch

_WINDOWS = {"hann": torch.hann_window, "hamming": torch.hamming_window, "blackman": torch.blackman_window}
_POVEY_EXPONENT = 0.85
_LEAST_ENERGY = 2.0**-23
"""Kaldi's: the epsilon of float32."""


class Block(NamedTuple):
    """The transforms of as many frames as a block has.

    row : of the first frame in the batch
    bins : complex64 [frames, 1 + n_fft // 2]
    log_energy : float32 [frames], the natural logarithm of the frames' energy before pre-emphasis and window; None: not asked for
    """

    row: int
    bins: torch.Tensor
    log_energy: torch.Tensor | None


class Frames:
    """Cut signals into frames and transform them.

    Each frame goes through the steps in the order of Kaldi's ProcessWindow: its mean is subtracted, its energy is taken, pre-emphasis,
    window. The scale of samples is part of the window, since all steps before it are linear.

    block : frames at a time
    with_energy : also give the frames' energy
    """

    def __init__(self, framing: Framing, block: int, with_energy: bool, device: torch.device) -> None:
        self._framing, self._layout, self._block, self._with_energy = framing, framing.layout, block, with_energy
        self._device = device
        self._window = window_of(framing).to(device)

    def blocks(self, batch: DeviceBatch) -> Iterator[Block]:
        """Yield the blocks of a batch, the last one filled up with silence. A block is valid until the next one is asked for."""
        n = self._layout.frame_length
        # A view with a row for every possible start of a frame. The frames of all signals are rows of it.
        everywhere = batch.samples.as_strided((len(batch.samples) - n + 1, n), (1, 1))
        n_rows = self.n_rows(batch)
        starts = torch.full(
            (n_rows,), len(everywhere) - 1, dtype=torch.int64, device=self._device
        )  # silence, after all signals
        starts[: batch.n_frames] = batch.frame_starts
        frames = torch.empty((self._block, n), device=self._device)
        filled = torch.zeros((self._block, self._layout.n_fft), device=self._device) if n < self._layout.n_fft else None
        for row in range(0, n_rows, self._block):
            torch.index_select(everywhere, 0, starts[row : row + self._block], out=frames)
            if self._framing.remove_dc:
                frames.sub_(frames.mean(1, keepdim=True))
            log_energy = self._log_energy(frames) if self._with_energy else None
            if self._framing.by_frame and self._framing.preemphasis:
                before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
                frames.sub_(before.mul_(self._framing.preemphasis))
            if filled is None:
                frames.mul_(self._window)
            else:
                place = self._layout.place
                torch.mul(frames, self._window, out=filled[:, place : place + n])
            yield Block(row, torch.fft.rfft(frames if filled is None else filled), log_energy)

    def n_rows(self, batch: DeviceBatch) -> int:
        """Return how many frames the blocks of a batch have."""
        return -(-batch.n_frames // self._block) * self._block

    def _log_energy(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the natural logarithm of the energy of the part of frames that the window covers."""
        left = max(0, self._layout.frame_length - self._layout.win_length) // 2
        seen = frames[:, left : left + self._layout.win_length]
        return seen.square().sum(1).mul_(self._framing.scale**2).clamp_(min=_LEAST_ENERGY).log_()


def window_of(framing: Framing) -> torch.Tensor:
    """Return the window of frames, float32 [frame_length], with the scale of samples in it."""
    n, length = framing.layout.win_length, framing.layout.frame_length
    dtype = getattr(torch, framing.window_dtype)
    if framing.window == "povey":
        window = torch.hann_window(n, periodic=framing.is_periodic, dtype=dtype).pow(_POVEY_EXPONENT)
    elif (kernel := _WINDOWS.get(framing.window)) is not None:
        window = kernel(n, periodic=framing.is_periodic, dtype=dtype)
    else:
        window = torch.ones(n, dtype=dtype)
    left = (length - n) // 2
    window = torch.nn.functional.pad(window, (left, length - n - left))
    return (window * framing.scale).to(torch.float32)
