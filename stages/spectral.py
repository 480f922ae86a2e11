"""Spectrogram, log-mel and MFCC of many signals at once, from one short-time Fourier transform of each.

The unit of work is a block of frames, not of clips: the frames of all signals are laid under each other and transformed
in blocks of a fixed shape. Every kernel then runs on the same shapes whatever the batch holds, so the features of a
signal are the same to the last bit in any company, and nothing is padded to the longest clip.

Formulas and defaults are librosa's (0.11): `librosa.stft`, `librosa.filters.mel`, `librosa.power_to_db`,
`librosa.amplitude_to_db`, `librosa.feature.mfcc`. Needs torch and numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

BLOCK_FRAMES = {"cpu": 512, "cuda": 16384}
_FILTERS_AT_ONCE = 16  # on a CPU; `docs/performance.md` has the times
_AMIN_POWER, _AMIN_MAGNITUDE = 1e-10, 1e-5
Signal = npt.NDArray[np.int16] | npt.NDArray[np.float32]
_WINDOWS = {"hann": torch.hann_window, "hamming": torch.hamming_window, "blackman": torch.blackman_window}


def hz_to_mel(hz: npt.NDArray[np.float64], scale: str) -> npt.NDArray[np.float64]:
    """Return mels. slaney: linear to 1 kHz, then logarithmic (Auditory Toolbox, 1998); htk: 2595 log10(1 + f / 700)."""
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    linear = hz * 3.0 / 200.0
    return np.where(hz >= 1000.0, 15.0 + np.log(np.maximum(hz, 1e-9) / 1000.0) / (math.log(6.4) / 27.0), linear)


def mel_to_hz(mel: npt.NDArray[np.float64], scale: str) -> npt.NDArray[np.float64]:
    """The inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel >= 15.0, 1000.0 * np.exp((math.log(6.4) / 27.0) * (mel - 15.0)), mel * 200.0 / 3.0)


def mel_filters(
    sample_rate_hz: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None, scale: str, norm: str | None
) -> npt.NDArray[np.float32]:
    """Return triangular filters, float32 [n_mels, 1 + n_fft // 2], as `librosa.filters.mel`.

    Parameters
    ----------
    fmin, fmax : Hz, edges of the lowest and highest filter; None: half the sample rate
    scale : slaney | htk
    norm : "slaney" gives every filter the area 1 (in Hz), None the peak 1
    """
    top = sample_rate_hz / 2 if fmax is None else fmax
    bins = (
        np.linspace(0, sample_rate_hz / 2, 1 + n_fft // 2)
        if n_fft % 2 == 0
        else np.fft.rfftfreq(n_fft, 1 / sample_rate_hz)
    )
    low, high = hz_to_mel(np.array([fmin, top]), scale)
    edges = mel_to_hz(np.linspace(low, high, n_mels + 2), scale)
    slopes = edges[:, None] - bins[None, :]
    widths = np.diff(edges)[:, None]
    filters = np.maximum(0.0, np.minimum(-slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]))
    if norm == "slaney":
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters.astype(np.float32)


def dct_matrix(n_in: int, n_out: int) -> npt.NDArray[np.float32]:
    """Return the orthonormal DCT-II as float32 [n_in, n_out]: ``x @ matrix`` are the first n_out coefficients."""
    k = np.arange(n_out)[None, :]
    n = np.arange(n_in)[:, None]
    matrix = np.cos(np.pi * (n + 0.5) * k / n_in) * math.sqrt(2.0 / n_in)
    matrix[:, 0] = math.sqrt(1.0 / n_in)
    return matrix.astype(np.float32)


def n_frames(n_samples: int, n_fft: int, hop_length: int, center: bool) -> int:
    """Return how many frames a signal has; 0 when it is shorter than a frame and `center` is off."""
    padded = n_samples + (2 * (n_fft // 2) if center else 0)
    return 1 + (padded - n_fft) // hop_length if padded >= n_fft else 0


@dataclass(frozen=True)
class _Mel:
    """One log-mel to compute of a transform. name : column, None when only its coefficients are stored."""

    name: str | None
    spec: Any
    mfcc: Any  # None when no coefficients are made of it


class Spectral:
    """Computes what a configuration asks for.

    Parameters
    ----------
    spec : an object with the attributes of `schemas.feature_config.Features`
    sample_rate_hz : of the signals
    device : "cpu", "cuda", or "auto": CUDA when there is a device
    """

    def __init__(self, spec: Any, sample_rate_hz: int, device: str) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.sample_rate_hz, self.device = sample_rate_hz, torch.device(device)
        self._block = BLOCK_FRAMES[self.device.type]
        self._plans: dict[tuple[Any, ...], tuple[Any, list[_Mel]]] = {}
        mels: list[_Mel] = []
        mfcc_mel = spec.mfcc.log_mel(spec.log_mel) if spec.mfcc is not None else None
        shared = spec.log_mel is not None and mfcc_mel == spec.log_mel
        if spec.log_mel is not None:
            mels.append(_Mel("log_mel", spec.log_mel, spec.mfcc if shared else None))
        if mfcc_mel is not None and not shared:
            mels.append(_Mel(None, mfcc_mel, spec.mfcc))
        if spec.spectrogram is not None:
            self._plans[spec.spectrogram.stft] = (spec.spectrogram, [])
        for mel in mels:
            self._plans.setdefault(mel.spec.stft, (None, []))[1].append(mel)
        self._constants: dict[Any, torch.Tensor] = {}
        self._bands: dict[Any, list[_Band]] = {}

    def __call__(self, signals: Sequence[Signal]) -> dict[str, list[npt.NDArray[np.float32]]]:
        """Compute the features of signals.

        Parameters
        ----------
        signals : int16 (full scale 32768) or float32 (full scale 1) [samples], each long enough for a frame

        Returns
        -------
        by column name, for each signal float32 [bins, frames]
        """
        found: dict[str, list[npt.NDArray[np.float32]]] = {}
        with torch.inference_mode():
            for stft, (spectrogram, mels) in self._plans.items():
                found.update(self._transform(signals, stft, spectrogram, mels))
        return found

    def _transform(
        self, signals: Sequence[Signal], stft: tuple[Any, ...], spectrogram: Any, mels: list[_Mel]
    ) -> dict[str, list[npt.NDArray[np.float32]]]:
        n_fft, hop, _, _, center, _ = stft
        counts = [n_frames(len(s), n_fft, hop, center) for s in signals]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if counts else 0
        buffer, starts = self._lay_out(signals, stft)
        block_input = torch.zeros((self._block, n_fft), device=self.device)
        parts: dict[str, list[torch.Tensor]] = {}
        signal, frame = 0, 0
        for _ in range(0, total, self._block):
            filled = 0
            while filled < self._block and signal < len(counts):
                n = min(counts[signal] - frame, self._block - filled)
                view = buffer.as_strided((n, n_fft), (hop, 1), starts[signal] + frame * hop)
                torch.mul(view, self._window(stft), out=block_input[filled : filled + n])
                filled, frame = filled + n, frame + n
                if frame == counts[signal]:
                    signal, frame = signal + 1, 0
            if filled < self._block:
                block_input[filled:] = 0
            for name, values in self._block_features(block_input, spectrogram, mels).items():
                parts.setdefault(name, []).append(values[:filled])
        whole = {name: torch.cat(values) for name, values in parts.items()}
        return self._finish(whole, counts, ends, spectrogram, mels)

    def _lay_out(self, signals: Sequence[Signal], stft: tuple[Any, ...]) -> tuple[torch.Tensor, list[int]]:
        """Return all signals in one float32 buffer on the device, each padded on both sides, and where each starts."""
        n_fft, _, _, _, center, pad_mode = stft
        pad = n_fft // 2 if center else 0
        starts, position = [], 0
        for s in signals:
            starts.append(position)
            position += len(s) + 2 * pad
        dtype = np.int16 if all(s.dtype == np.int16 for s in signals) else np.float32
        laid = np.zeros(position + n_fft, dtype)
        for start, s in zip(starts, signals, strict=True):
            if pad_mode == "constant" or pad == 0:
                laid[start + pad : start + pad + len(s)] = s
            else:
                laid[start : start + len(s) + 2 * pad] = np.pad(s, pad, mode=pad_mode)
        buffer = torch.from_numpy(laid).to(self.device)
        if dtype == np.int16:
            buffer = buffer.to(torch.float32).mul_(1.0 / 32768.0)
        return buffer, starts

    def _block_features(self, frames: torch.Tensor, spectrogram: Any, mels: list[_Mel]) -> dict[str, torch.Tensor]:
        bins = torch.fft.rfft(frames)
        power = bins.real.square().add_(bins.imag.square())
        found: dict[str, torch.Tensor] = {}
        if spectrogram is not None:
            if spectrogram.output == "power":
                found["spectrogram"] = power
            elif spectrogram.output == "magnitude":
                found["spectrogram"] = power.sqrt()
            else:
                found["spectrogram"] = torch.log10(power.clamp(min=_AMIN_MAGNITUDE**2)).mul_(10.0)
            if spectrogram.phase:
                found["phase"] = torch.angle(bins)
        for mel in mels:
            base = power if mel.spec.power == 2 else power.sqrt()
            amin, factor = (_AMIN_POWER, 10.0) if mel.spec.power == 2 else (_AMIN_MAGNITUDE, 20.0)
            energies = self._mel_energies(base, mel.spec)
            found[mel.name or "mel of mfcc"] = energies.clamp_(min=amin).log10_().mul_(factor)
        return found

    def _mel_energies(self, base: torch.Tensor, spec: Any) -> torch.Tensor:
        """Return mel energies, [frames, n_mels], of a power or magnitude spectrogram, [frames, 1 + n_fft // 2]."""
        energies = torch.empty((len(base), spec.n_mels), device=self.device)
        for first, last, low, high, weights in self._filters(spec):
            energies[:, first:last] = (base[:, low:high] @ weights)[:, : last - first]
        return energies

    def _finish(
        self,
        whole: dict[str, torch.Tensor],
        counts: list[int],
        ends: npt.NDArray[np.int64],
        spectrogram: Any,
        mels: list[_Mel],
    ) -> dict[str, list[npt.NDArray[np.float32]]]:
        if spectrogram is not None and spectrogram.output == "magnitude_db" and "spectrogram" in whole:
            _limit_range(whole["spectrogram"], counts, ends, spectrogram.top_db)
        for mel in mels:
            values = whole.get(mel.name or "mel of mfcc")
            if values is None:
                continue
            _limit_range(values, counts, ends, mel.spec.top_db)
            if mel.mfcc is not None:
                whole["mfcc"] = self._coefficients(values, mel)
        whole.pop("mel of mfcc", None)
        found = {}
        alike = len(set(counts)) == 1
        for name, values in whole.items():
            if alike:  # one transposition for all
                found[name] = list(values.view(len(counts), counts[0], -1).transpose(1, 2).contiguous().cpu().numpy())
            else:
                on_host = values.cpu().numpy()
                found[name] = [
                    np.ascontiguousarray(on_host[end - n : end].T) for n, end in zip(counts, ends, strict=True)
                ]
        return found

    def _coefficients(self, values: torch.Tensor, mel: _Mel) -> torch.Tensor:
        matrix = self._dct(mel)
        n_mfcc = mel.mfcc.n_mfcc
        out = torch.empty((len(values), n_mfcc), device=self.device)
        block = torch.zeros((self._block, values.shape[1]), device=self.device)
        for start in range(0, len(values), self._block):
            n = min(self._block, len(values) - start)
            block[:n] = values[start : start + n]
            out[start : start + n] = (block @ matrix)[:n, :n_mfcc]
        return out

    def _window(self, stft: tuple[Any, ...]) -> torch.Tensor:
        n_fft, _, win_length, name, _, _ = stft
        key = ("window", n_fft, win_length, name)
        if key not in self._constants:
            kernel = _WINDOWS.get(name)
            window = (
                kernel(win_length, periodic=True, dtype=torch.float64)
                if kernel
                else torch.ones(win_length, dtype=torch.float64)
            )
            left = (n_fft - win_length) // 2
            window = torch.nn.functional.pad(window, (left, n_fft - win_length - left))
            self._constants[key] = window.to(torch.float32).to(self.device)
        return self._constants[key]

    def _filters(self, s: Any) -> list[_Band]:
        key = ("mel", s.n_fft, s.n_mels, s.fmin, s.fmax, s.mel_scale, s.norm)
        if key not in self._bands:
            filters = mel_filters(self.sample_rate_hz, s.n_fft, s.n_mels, s.fmin, s.fmax, s.mel_scale, s.norm)
            at_once = _FILTERS_AT_ONCE if self.device.type == "cpu" else s.n_mels
            self._bands[key] = [
                _Band(b.first, b.last, b.low, b.high, b.weights.to(self.device)) for b in _bands(filters, at_once)
            ]
        return self._bands[key]

    def _dct(self, mel: _Mel) -> torch.Tensor:
        key = ("dct", mel.spec.n_mels, mel.mfcc.n_mfcc, mel.mfcc.lifter)
        if key not in self._constants:
            matrix = dct_matrix(mel.spec.n_mels, mel.mfcc.n_mfcc)
            if mel.mfcc.lifter > 0:
                k = np.arange(1, mel.mfcc.n_mfcc + 1)
                matrix = (matrix * (1.0 + mel.mfcc.lifter / 2 * np.sin(np.pi * k / mel.mfcc.lifter))).astype(np.float32)
            self._constants[key] = _even_columns(matrix).to(self.device)
        return self._constants[key]


class _Band(NamedTuple):
    """Filters [first, last) and the bins [low, high) outside of which they are zero. weights : float32 [bins, filters]."""

    first: int
    last: int
    low: int
    high: int
    weights: torch.Tensor


def _bands(filters: npt.NDArray[np.float32], at_once: int) -> list[_Band]:
    """Divide filters, float32 [n_mels, bins], into bands: a triangle covers few bins, and a product with all is mostly zeros."""
    found = []
    for first in range(0, len(filters), at_once):
        group = filters[first : first + at_once]
        used = np.flatnonzero(group.any(axis=0))
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        # From a multiple of 16 on, of a multiple of 16: whole vector registers.
        low, high = low // 16 * 16, min(-(-high // 16) * 16, filters.shape[1])
        found.append(_Band(first, first + len(group), low, high, _even_columns(group[:, low:high].T)))
    return found


def _even_columns(matrix: npt.NDArray[np.float32]) -> torch.Tensor:
    """Return a matrix with zero columns added to a multiple of 16.

    MKL multiplies by small odd-sized matrices with a kernel that rounds every other row differently (seen with 5 and 10
    columns); a frame's result would depend on its place in the block.
    """
    return torch.from_numpy(np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % 16))))


def _limit_range(db: torch.Tensor, counts: list[int], ends: npt.NDArray[np.int64], top_db: float | None) -> None:
    """Raise values that are more than top_db under their signal's maximum, in place."""
    if top_db is None:
        return
    if len(set(counts)) == 1:
        each = db.view(len(counts), -1)
        torch.maximum(each, each.amax(1, keepdim=True) - top_db, out=each)
        return
    for n, end in zip(counts, ends, strict=True):
        part = db[int(end) - n : int(end)]
        torch.maximum(part, part.max() - top_db, out=part)
