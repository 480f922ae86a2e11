"""Copy signals to the device that computes features, and the features back, in batches.

To a GPU, a batch is copied as 16-bit PCM from pinned memory while the batch before is computed. Its features are copied back
in their final type while the batch after it is computed. On the CPU the same code runs without copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def n_frames(n_samples: int, n_fft: int, hop_length: int, center: bool) -> int:
    """Return the number of frames of a signal, 0 when it is shorter than a frame and `center` is off."""
    padded = n_samples + (2 * (n_fft // 2) if center else 0)
    return 1 + (padded - n_fft) // hop_length if padded >= n_fft else 0


def batches(signals: Sequence[Any], n_samples: int) -> Iterator[Sequence[Any]]:
    """Divide signals into batches of at most n_samples; a longer signal is a batch of its own."""
    start = total = 0
    for i, signal in enumerate(signals):
        if total and total + len(signal) > n_samples:
            yield signals[start:i]
            start, total = i, 0
        total += len(signal)
    if start < len(signals):
        yield signals[start:]


@dataclass(frozen=True)
class DeviceBatch:
    """Hold a batch on the device.

    samples : float32 [samples], all signals with their padding, concatenated, and a frame of zeros at the end
    counts : int64 [signals], number of frames of each signal, on the host
    frame_starts : int64 [frames], index in `samples` at which each frame begins
    signal_of_frame : int64 [frames], index of each frame's signal
    """

    samples: torch.Tensor
    counts: npt.NDArray[np.int64]
    frame_starts: torch.Tensor
    signal_of_frame: torch.Tensor

    @property
    def n_signals(self) -> int:
        """Return the number of signals."""
        return len(self.counts)

    @property
    def n_frames(self) -> int:
        """Return the number of frames of all signals."""
        return len(self.frame_starts)


class Pending:
    """Hold features that are being copied back to the host. done : event of the end of the copy, None without a copy."""

    def __init__(
        self, values: dict[str, torch.Tensor], counts: npt.NDArray[np.int64], done: torch.cuda.Event | None
    ) -> None:
        self._values, self._counts, self._done = values, counts, done

    def collect(self, features: dict[str, list[Any]]) -> None:
        """Wait for the copy, and append each signal's features, [bins, frames], to the lists by name."""
        if self._done is not None:
            self._done.synchronize()
        for name, values in self._values.items():
            flat = values.numpy()
            bins = len(flat) // int(self._counts.sum())
            ends = np.cumsum(self._counts) * bins
            parts = np.split(flat, ends[:-1])
            features.setdefault(name, []).extend(p.reshape(bins, -1) for p in parts)


class Transfer:
    """Copy batches to a device and features back."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._on_gpu = device.type == "cuda"
        if self._on_gpu:
            streams: Any = torch.cuda.Stream  # untyped in torch
            self._up, self._down = streams(device), streams(device)

    def upload(self, signals: Sequence[Any], n_fft: int, hop_length: int, pad: int, pad_mode: Any) -> DeviceBatch:
        """Copy signals to the device, arranged for frames of n_fft samples every hop_length.

        Parameters
        ----------
        signals : int16 (full scale 32768) or float32 [samples]
        pad : samples to add on both sides of each signal, by numpy's pad_mode
        """
        lengths = np.array([len(s) for s in signals], np.int64)
        places = np.concatenate([[0], np.cumsum(lengths + 2 * pad)])
        is_pcm = all(s.dtype == np.int16 for s in signals)
        host = torch.zeros(
            int(places[-1]) + n_fft, dtype=torch.int16 if is_pcm else torch.float32, pin_memory=self._on_gpu
        )
        flat = host.numpy()
        for place, s in zip(places.tolist(), signals, strict=False):
            if pad_mode == "constant" or pad == 0:
                flat[place + pad : place + pad + len(s)] = s
            else:
                flat[place : place + len(s) + 2 * pad] = np.pad(s, pad, mode=pad_mode)
        counts = np.maximum(0, 1 + (lengths + 2 * pad - n_fft) // hop_length)
        of_frame, first = self._to_device(
            torch.from_numpy(np.repeat(np.arange(len(counts), dtype=np.int32), counts)),
            # For each signal: where its frames would start if the batch's first frame belonged to it.
            torch.from_numpy(places[:-1] - (np.cumsum(counts) - counts) * hop_length),
        )
        (samples,) = self._to_device(host)
        if is_pcm:
            samples = samples.to(torch.float32).mul_(1.0 / 32768.0)
        of_frame = of_frame.to(torch.int64)
        frame_starts = torch.arange(len(of_frame), device=self._device).mul_(hop_length).add_(first[of_frame])
        return DeviceBatch(samples, counts, frame_starts, of_frame)

    def _to_device(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        if not self._on_gpu:
            return list(tensors)
        now = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._up):
            copies = [(t if t.is_pinned() else t.pin_memory()).to(self._device, non_blocking=True) for t in tensors]
        now.wait_stream(self._up)
        for t in copies:
            t.record_stream(now)
        return copies

    def download(self, values: dict[str, torch.Tensor], batch: DeviceBatch) -> Pending:
        """Start to copy features back. values : by name, [at least batch.n_frames, bins]."""
        flat = {name: clip_major(v[: batch.n_frames], batch) for name, v in values.items()}
        if not self._on_gpu:
            return Pending(flat, batch.counts, None)
        event: Any = torch.cuda.Event
        done = event()
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        copies = {}
        with torch.cuda.stream(self._down):
            for name, v in flat.items():
                copies[name] = torch.empty(v.shape, dtype=v.dtype, pin_memory=True)
                copies[name].copy_(v, non_blocking=True)
                v.record_stream(self._down)
            done.record(self._down)
        return Pending(copies, batch.counts, done)


def clip_major(values: torch.Tensor, batch: DeviceBatch) -> torch.Tensor:
    """Return features, [frames, bins], as one flat tensor that concatenates the [bins, frames] of each signal."""
    bins = values.shape[1]
    if (batch.counts == batch.counts[0]).all():
        return values.view(batch.n_signals, -1, bins).transpose(1, 2).reshape(-1)
    if values.device.type == "cpu":
        return torch.cat([part.T.reshape(-1) for part in torch.split(values, batch.counts.tolist())])
    return _scatter(values, batch)


def _scatter(values: torch.Tensor, batch: DeviceBatch) -> torch.Tensor:
    """Do the work of `clip_major` for signals of different lengths, without a kernel launch for each."""
    n_rows, bins = values.shape
    counts = torch.from_numpy(batch.counts).to(values.device)
    first = torch.cumsum(counts, 0) - counts
    of_frame = batch.signal_of_frame
    within = torch.arange(n_rows, device=values.device) - first[of_frame]
    place = (first[of_frame] * bins + within)[:, None] + torch.arange(bins, device=values.device) * counts[of_frame][
        :, None
    ]
    flat = torch.empty(n_rows * bins, dtype=values.dtype, device=values.device)
    flat[place.reshape(-1)] = values.reshape(-1)
    return flat
