"""Compute spectrogram, log-mel and MFCC of many signals at once, from one short-time Fourier transform of each.

The unit of work is a block of frames, not of clips: the frames of all signals are stacked and transformed in blocks of a
fixed shape. Every kernel then has the same shapes for every batch, so the features of a signal are equal to the last bit
whatever other signals are in the batch, and nothing is padded to the longest clip.

Formulas and defaults are librosa's (0.11): `librosa.stft`, `librosa.power_to_db`, `librosa.amplitude_to_db`,
`librosa.feature.mfcc`. Needs torch and numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clipmill.stages.features.kernels.mel_filters import Band, bands, dct_matrix, even_columns, mel_filters
from clipmill.stages.features.kernels.transfer import DeviceBatch, Pending, Transfer, batches

BLOCK_FRAMES = {"cpu": 512, "cuda": 16384}
BATCH_S = {"cpu": 60.0, "cuda": 300.0}
"""Seconds of signal per batch. This limits memory; a GPU computes one batch while the next is copied to it."""
_FILTERS_AT_ONCE = 16  # on a CPU; see the times in docs/performance.md
_AMIN_POWER, _AMIN_MAGNITUDE = 1e-10, 1e-5
Signal = npt.NDArray[np.int16] | npt.NDArray[np.float32]
Feature = npt.NDArray[np.float32] | npt.NDArray[np.float16]
_WINDOWS = {"hann": torch.hann_window, "hamming": torch.hamming_window, "blackman": torch.blackman_window}


@dataclass(frozen=True)
class _Mel:
    """Describe one log-mel to compute from a transform. name : its column, None when only its coefficients are stored."""

    name: str | None
    spec: Any
    mfcc: Any  # None without coefficients


class Spectral:
    """Compute the configured features.

    Parameters
    ----------
    spec : an object with the attributes of `clipmill.schemas.config.feature_config.Features`
    sample_rate_hz : of the signals
    device : "cpu", "cuda", or "auto": CUDA when there is a device
    """

    def __init__(self, spec: Any, sample_rate_hz: int, device: str) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.sample_rate_hz, self.device = sample_rate_hz, torch.device(device)
        self._block = BLOCK_FRAMES[self.device.type]
        self._batch_samples = int(BATCH_S[self.device.type] * sample_rate_hz)
        self._dtype = {"float32": torch.float32, "float16": torch.float16}[getattr(spec, "dtype", "float32")]
        self._transfer = Transfer(self.device)
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
        self._bands: dict[Any, list[Band]] = {}

    def __call__(self, signals: Sequence[Signal]) -> dict[str, list[Feature]]:
        """Compute the features of signals.

        Parameters
        ----------
        signals : int16 (full scale 32768) or float32 (full scale 1) [samples], each long enough for a frame

        Returns
        -------
        by column name, for each signal, [bins, frames], float32 or float16 as configured
        """
        features: dict[str, list[Feature]] = {}
        with torch.inference_mode():
            for stft, (spectrogram, mels) in self._plans.items():
                pending: Pending | None = None
                for batch in batches(signals, self._batch_samples):
                    launched = self._launch(batch, stft, spectrogram, mels)
                    if pending is not None:
                        pending.collect(features)
                    pending = launched
                if pending is not None:
                    pending.collect(features)
        return features

    def _launch(self, signals: Sequence[Signal], stft: tuple[Any, ...], spectrogram: Any, mels: list[_Mel]) -> Pending:
        """Start a batch. On a GPU this returns before the batch is computed."""
        n_fft, hop, _, _, center, pad_mode = stft
        batch = self._transfer.upload(signals, n_fft, hop, n_fft // 2 if center else 0, pad_mode)
        return self._transfer.download(self._features(batch, stft, spectrogram, mels), batch)

    def _features(
        self, batch: DeviceBatch, stft: tuple[Any, ...], spectrogram: Any, mels: list[_Mel]
    ) -> dict[str, torch.Tensor]:
        """Return all features of a batch on the device, each [frames, bins] in its final type, the frames filled up to whole blocks."""
        values = self._values(batch, stft, spectrogram, mels)
        if spectrogram is not None and spectrogram.output == "magnitude_db":
            _limit_range(values["spectrogram"], batch, spectrogram.top_db)
        for mel in mels:
            log_mel = values[mel.name or "mel of mfcc"]
            _limit_range(log_mel, batch, mel.spec.top_db)
            if mel.mfcc is not None:
                values["mfcc"] = self._coefficients(log_mel, mel)
        values.pop("mel of mfcc", None)
        return {name: v.to(self._dtype) for name, v in values.items()}

    def _values(
        self, batch: DeviceBatch, stft: tuple[Any, ...], spectrogram: Any, mels: list[_Mel]
    ) -> dict[str, torch.Tensor]:
        """Return all features before top_db, each [frames, bins], the frames filled up to whole blocks."""
        n_fft, window = stft[0], self._window(stft)
        # A view with a row for every possible start of a frame. The frames of all signals are rows of it.
        everywhere = batch.samples.as_strided((len(batch.samples) - n_fft + 1, n_fft), (1, 1))
        n_rows = -(-batch.n_frames // self._block) * self._block
        starts = torch.full(
            (n_rows,), len(everywhere) - 1, dtype=torch.int64, device=self.device
        )  # silence, after all signals
        starts[: batch.n_frames] = batch.frame_starts
        result: dict[str, torch.Tensor] = {}
        frames = torch.empty((self._block, n_fft), device=self.device)
        for row in range(0, n_rows, self._block):
            torch.index_select(everywhere, 0, starts[row : row + self._block], out=frames)
            for name, values in self._block_features(frames.mul_(window), spectrogram, mels).items():
                if name not in result:
                    result[name] = torch.empty((n_rows, values.shape[1]), device=self.device)
                result[name][row : row + self._block] = values
        return result

    def _block_features(self, frames: torch.Tensor, spectrogram: Any, mels: list[_Mel]) -> dict[str, torch.Tensor]:
        bins = torch.fft.rfft(frames)
        power = bins.real.square().add_(bins.imag.square())
        result: dict[str, torch.Tensor] = {}
        if spectrogram is not None:
            if spectrogram.output == "power":
                result["spectrogram"] = power
            elif spectrogram.output == "magnitude":
                result["spectrogram"] = power.sqrt()
            else:
                result["spectrogram"] = torch.log10(power.clamp(min=_AMIN_MAGNITUDE**2)).mul_(10.0)
            if spectrogram.phase:
                result["phase"] = torch.angle(bins)
        for mel in mels:
            base = power if mel.spec.power == 2 else power.sqrt()
            amin, factor = (_AMIN_POWER, 10.0) if mel.spec.power == 2 else (_AMIN_MAGNITUDE, 20.0)
            energies = self._mel_energies(base, mel.spec)
            result[mel.name or "mel of mfcc"] = energies.clamp_(min=amin).log10_().mul_(factor)
        return result

    def _mel_energies(self, base: torch.Tensor, spec: Any) -> torch.Tensor:
        """Return the mel energies, [frames, n_mels], of a power or magnitude spectrogram, [frames, 1 + n_fft // 2]."""
        energies = torch.empty((len(base), spec.n_mels), device=self.device)
        for first, last, low, high, weights in self._filters(spec):
            energies[:, first:last] = (base[:, low:high] @ weights)[:, : last - first]
        return energies

    def _coefficients(self, values: torch.Tensor, mel: _Mel) -> torch.Tensor:
        matrix = self._dct(mel)
        out = torch.empty((len(values), mel.mfcc.n_mfcc), device=self.device)
        for row in range(0, len(values), self._block):
            out[row : row + self._block] = (values[row : row + self._block] @ matrix)[:, : mel.mfcc.n_mfcc]
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

    def _filters(self, s: Any) -> list[Band]:
        key = (s.n_fft, s.n_mels, s.fmin, s.fmax, s.mel_scale, s.norm)
        if key not in self._bands:
            filters = mel_filters(self.sample_rate_hz, s.n_fft, s.n_mels, s.fmin, s.fmax, s.mel_scale, s.norm)
            at_once = _FILTERS_AT_ONCE if self.device.type == "cpu" else s.n_mels
            self._bands[key] = [b._replace(weights=b.weights.to(self.device)) for b in bands(filters, at_once)]
        return self._bands[key]

    def _dct(self, mel: _Mel) -> torch.Tensor:
        key = ("dct", mel.spec.n_mels, mel.mfcc.n_mfcc, mel.mfcc.lifter)
        if key not in self._constants:
            matrix = dct_matrix(mel.spec.n_mels, mel.mfcc.n_mfcc)
            if mel.mfcc.lifter > 0:
                k = np.arange(1, mel.mfcc.n_mfcc + 1)
                matrix = (matrix * (1.0 + mel.mfcc.lifter / 2 * np.sin(np.pi * k / mel.mfcc.lifter))).astype(np.float32)
            self._constants[key] = even_columns(matrix).to(self.device)
        return self._constants[key]


def _limit_range(db: torch.Tensor, batch: DeviceBatch, top_db: float | None) -> None:
    """Raise values more than top_db below their signal's maximum to that floor, in place. db : [frames, bins], in whole blocks."""
    if top_db is None:
        return
    values = db[: batch.n_frames]
    floors = torch.full((batch.n_signals,), -torch.inf, device=db.device)
    floors.scatter_reduce_(0, batch.signal_of_frame, values.amax(1), "amax").sub_(top_db)
    torch.maximum(values, floors[batch.signal_of_frame][:, None], out=values)
