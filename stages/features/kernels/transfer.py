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

from clipmill.schemas.frame_layout import Framing


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
    n_own : int64 [signals], how many of them are the signal's own, the first ones
    frame_starts : int64 [frames], index in `samples` at which each frame begins
    signal_of_frame : int64 [frames], index of each frame's signal
    """

    samples: torch.Tensor
    counts: npt.NDArray[np.int64]
    n_own: npt.NDArray[np.int64]
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

    @property
    def is_own(self) -> torch.Tensor:
        """Return which frames are their signal's own: bool [frames]."""
        counts, n_own = (torch.from_numpy(n).to(self.frame_starts.device) for n in (self.counts, self.n_own))
        within = (
            torch.arange(self.n_frames, device=counts.device) - (torch.cumsum(counts, 0) - counts)[self.signal_of_frame]
        )
        return within < n_own[self.signal_of_frame]

    def of_frames(self, kept: torch.Tensor) -> DeviceBatch:
        """Return the batch with the signals' own frames alone. kept : their indexes, int64"""
        return DeviceBatch(self.samples, self.n_own, self.n_own, self.frame_starts[kept], self.signal_of_frame[kept])


class Pending:
    """Hold features that are being copied back to the host.

    values : by name, what `clip_major` returns, and the number of frames of each signal
    done : event of the end of the copy, None without a copy
    """

    def __init__(
        self, values: dict[str, tuple[torch.Tensor, npt.NDArray[np.int64]]], done: torch.cuda.Event | None
    ) -> None:
        self._values, self._done = values, done

    def collect(self, features: dict[str, list[Any]]) -> None:
        """Wait for the copy, and append each signal's features, [bins, frames], to the lists by name."""
        if self._done is not None:
            self._done.synchronize()
        for name, (values, counts) in self._values.items():
            flat = values.numpy()
            bins = len(flat) // int(counts.sum())
            ends = np.cumsum(counts) * bins
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

    def upload(self, signals: Sequence[Any], framing: Framing) -> DeviceBatch:
        """Copy signals to the device, arranged for frames. signals : int16 (full scale 32768) or float32 [samples]"""
        layout = framing.layout
        pad_mode: Any = layout.pad_mode  # numpy's, for which it has a type of its own
        signals = [_changed(s, framing) for s in signals]
        lengths = np.array([len(s) for s in signals], np.int64)
        afters = [layout.n_after(n) for n in lengths.tolist()]
        places = np.concatenate([[0], np.cumsum(lengths + layout.before + layout.zeros_behind + afters)])
        is_pcm = all(s.dtype == np.int16 for s in signals)
        host = torch.zeros(
            int(places[-1]) + layout.frame_length,
            dtype=torch.int16 if is_pcm else torch.float32,
            pin_memory=self._on_gpu,
        )
        flat = host.numpy()
        for place, after, s in zip(places.tolist(), afters, signals, strict=False):
            start = place + layout.before
            if pad_mode == "constant" or not (layout.before or after):
                flat[start : start + len(s)] = s
            else:
                longer = np.pad(s, (0, layout.zeros_behind)) if layout.zeros_behind else s
                flat[place : start + len(longer) + after] = np.pad(longer, (layout.before, after), mode=pad_mode)
        counts = np.array([layout.n_computed(n) for n in lengths.tolist()], np.int64)
        of_frame, first = self._to_device(
            torch.from_numpy(np.repeat(np.arange(len(counts), dtype=np.int32), counts)),
            # For each signal: where its frames would start if the batch's first frame belonged to it.
            torch.from_numpy(places[:-1] + layout.first - (np.cumsum(counts) - counts) * layout.hop_length),
        )
        (samples,) = self._to_device(host)
        if is_pcm:
            samples = samples.to(torch.float32).mul_(1.0 / 32768.0)
        of_frame = of_frame.to(torch.int64)
        frame_starts = torch.arange(len(of_frame), device=self._device).mul_(layout.hop_length).add_(first[of_frame])
        n_own = np.array([layout.n_own(n) for n in lengths.tolist()], np.int64)
        return DeviceBatch(samples, counts, n_own, frame_starts, of_frame)

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

    def download(
        self, values: dict[str, torch.Tensor], by_signal: dict[str, torch.Tensor], batch: DeviceBatch
    ) -> Pending:
        """Start to copy features back.

        Parameters
        ----------
        values : by name, [at least batch.n_frames, bins]
        by_signal : by name, one value of each signal
        """
        flat = {name: (clip_major(v[: batch.n_frames], batch), batch.counts) for name, v in values.items()}
        flat |= {name: (v, np.ones(batch.n_signals, np.int64)) for name, v in by_signal.items()}
        if not self._on_gpu:
            return Pending(flat, None)
        event: Any = torch.cuda.Event
        done = event()
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        copies = {}
        with torch.cuda.stream(self._down):
            for name, (v, counts) in flat.items():
                copies[name] = torch.empty(v.shape, dtype=v.dtype, pin_memory=True), counts
                copies[name][0].copy_(v, non_blocking=True)
                v.record_stream(self._down)
            done.record(self._down)
        return Pending(copies, done)


def _changed(signal: Any, framing: Framing) -> Any:
    """Return a signal after the steps that work on all of it: float32 [samples] if there are any."""
    if not framing.remove_mean and (framing.by_frame or not framing.preemphasis):
        return signal
    y = signal.astype(np.float32)
    if signal.dtype == np.int16:
        y *= np.float32(1.0 / 32768.0)
    if framing.remove_mean:
        y -= np.float32(y.mean(dtype=np.float64))
    if framing.preemphasis and not framing.by_frame:
        y[1:] -= np.float32(framing.preemphasis) * y[:-1]
    return y


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
