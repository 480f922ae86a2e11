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

from clipmill.schemas.frame_layout import Framing
from clipmill.schemas.log_scale import PAD_SUFFIX, least_energy, per_db
from clipmill.stages.features.kernels.framed import Block, Frames
from clipmill.stages.features.kernels.mel_filters import Band, bands, dct_matrix, even_columns, mel_filters
from clipmill.stages.features.kernels.transfer import DeviceBatch, Pending, Transfer, batches

BLOCK_FRAMES = {"cpu": 512, "cuda": 16384}
BATCH_S = {"cpu": 60.0, "cuda": 300.0}
"""Seconds of signal per batch. This limits memory; a GPU computes one batch while the next is copied to it."""
_FILTERS_AT_ONCE = 16  # on a CPU; see the times in docs/performance.md
_AMIN_MAGNITUDE = 1e-5
_NORMALISE_EPSILON = 1e-5
_MEL_OF_MFCC, _ENERGY = "mel of mfcc", "energy"
Signal = npt.NDArray[np.int16] | npt.NDArray[np.float32]
Feature = npt.NDArray[np.float32] | npt.NDArray[np.float16]
Values = dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Mel:
    """Describe one log-mel to compute from a transform. name : its column, None when only its coefficients are stored."""

    name: str | None
    spec: Any
    mfcc: Any  # None without coefficients


@dataclass
class _Plan:
    """What is computed from one transform. spectrogram : its settings, None where it is not asked for"""

    spectrogram: Any
    mels: list[_Mel]


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
        self._plans: dict[Framing, _Plan] = {}
        at_rate = spec.at(sample_rate_hz)
        mels: list[_Mel] = []
        shared = at_rate.log_mel is not None and at_rate.of_mfcc == at_rate.log_mel
        if at_rate.log_mel is not None:
            mels.append(_Mel("log_mel", at_rate.log_mel, spec.mfcc if shared else None))
        if at_rate.of_mfcc is not None and not shared:
            mels.append(_Mel(None, at_rate.of_mfcc, spec.mfcc))
        if at_rate.spectrogram is not None:
            self._plans[at_rate.spectrogram.framing] = _Plan(at_rate.spectrogram, [])
        for mel in mels:
            self._plans.setdefault(mel.spec.framing, _Plan(None, [])).mels.append(mel)
        self._frames = {
            framing: Frames(framing, self._block, any(m.mfcc and m.mfcc.use_energy for m in plan.mels), self.device)
            for framing, plan in self._plans.items()
        }
        self._constants: dict[Any, torch.Tensor] = {}
        self._bands: dict[Any, list[Band]] = {}

    def __call__(self, signals: Sequence[Signal]) -> dict[str, list[Feature]]:
        """Compute the features of signals.

        Parameters
        ----------
        signals : int16 (full scale 32768) or float32 (full scale 1) [samples], each long enough for a frame

        Returns
        -------
        by column name, for each signal, [bins, frames], float32 or float16 as configured; `log_mel_pad`, where it is configured, is
        float32 [1, 1]
        """
        features: dict[str, list[Feature]] = {}
        with torch.inference_mode():
            for framing in self._plans:
                pending: Pending | None = None
                for part in batches(signals, self._batch_samples):
                    launched = self._launch(self._transfer.upload(part, framing), framing)
                    if pending is not None:
                        pending.collect(features)
                    pending = launched
                if pending is not None:
                    pending.collect(features)
        return features

    def _launch(self, batch: DeviceBatch, framing: Framing) -> Pending:
        """Start a batch. On a GPU this returns before the batch is computed."""
        values, by_signal, own = self.compute(batch, framing)
        return self._transfer.download(values, by_signal, own)

    def compute(self, batch: DeviceBatch, framing: Framing) -> tuple[Values, Values, DeviceBatch]:
        """Compute all features of a batch on the device.

        Returns
        -------
        values : by name, [frames, bins] in their final type
        by_signal : by name, float32 [signals]
        batch : with the frames that the features have
        """
        plan, by_signal = self._plans[framing], {}
        values = self._values(batch, framing)
        energy = values.pop(_ENERGY, None)
        if plan.spectrogram is not None and plan.spectrogram.output == "magnitude_db":
            _limit_range(values["spectrogram"], batch, plan.spectrogram.top_db)
        for mel in plan.mels:
            log_mel = values[mel.name or _MEL_OF_MFCC]
            floors = self._scaled(log_mel, mel.spec, batch)
            if mel.name is not None and mel.spec.pad_value == "floor":
                by_signal[mel.name + PAD_SUFFIX] = floors
            if mel.mfcc is not None:
                values["mfcc"] = self._coefficients(log_mel, mel)
                if mel.mfcc.use_energy and energy is not None:
                    values["mfcc"][:, :1] = energy
        values.pop(_MEL_OF_MFCC, None)
        values = {name: v.to(self._dtype) for name, v in values.items()}
        if framing.layout.beyond == "keep":
            return values, by_signal, batch
        is_own = batch.is_own
        if framing.layout.beyond == "zero":
            beyond = ~is_own[:, None]
            return {n: v[: batch.n_frames].masked_fill(beyond, 0) for n, v in values.items()}, by_signal, batch
        kept = torch.nonzero(is_own)[:, 0]
        return {name: v[kept] for name, v in values.items()}, by_signal, batch.of_frames(kept)

    def _values(self, batch: DeviceBatch, framing: Framing) -> Values:
        """Return all features before steps that work on whole clips, each [frames, bins], the frames filled up to whole blocks."""
        frames, plan, result = self._frames[framing], self._plans[framing], {}
        n_rows = frames.n_rows(batch)
        for block in frames.blocks(batch):
            for name, values in self._block_features(block, plan).items():
                if name not in result:
                    result[name] = torch.empty((n_rows, values.shape[1]), device=self.device)
                result[name][block.row : block.row + self._block] = values
        return result

    def _block_features(self, block: Block, plan: _Plan) -> Values:
        bins = block.bins
        power = bins.real.square().add_(bins.imag.square())
        result: Values = {}
        spectrogram = plan.spectrogram
        if spectrogram is not None:
            if spectrogram.output == "power":
                result["spectrogram"] = power
            elif spectrogram.output == "magnitude":
                result["spectrogram"] = power.sqrt()
            else:
                result["spectrogram"] = torch.log10(power.clamp(min=_AMIN_MAGNITUDE**2)).mul_(10.0)
            if spectrogram.phase:
                result["phase"] = torch.angle(bins)
        for mel in plan.mels:
            base = power + mel.spec.epsilon if mel.spec.epsilon else power
            energies = self._mel_energies(base if mel.spec.power == 2 else base.sqrt(), mel.spec)
            result[mel.name or _MEL_OF_MFCC] = _logarithm(energies, mel.spec)
        if block.log_energy is not None:
            result[_ENERGY] = block.log_energy[:, None]
        return result

    def _scaled(self, values: torch.Tensor, spec: Any, batch: DeviceBatch) -> torch.Tensor:
        """Limit the range of logarithms, scale and normalise them, in place.

        values : [frames, n_mels], in whole blocks

        Returns
        -------
        floors : float32 [signals], the stored value of silence in each
        """
        # Of a whole vector register, since the logarithm of a single value may be rounded differently.
        silence = _logarithm(torch.zeros(16, device=values.device), spec)
        floors = silence[:1].expand(batch.n_signals)
        top = None if spec.top_db is None else spec.top_db * per_db(spec.log, spec.power)
        limits = _limit_range(values, batch, top)
        if limits is not None:
            floors = torch.maximum(floors, limits)
        if spec.subtract or spec.divide_by != 1.0:
            values.sub_(spec.subtract).div_(spec.divide_by)
            floors = (floors - spec.subtract) / spec.divide_by
        if spec.normalise is not None:
            _normalise(values, batch)
        return floors

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

    def _filters(self, s: Any) -> list[Band]:
        key = (s.n_fft, s.n_mels, s.fmin, s.fmax, s.mel_scale, s.norm)
        if key not in self._bands:
            filters = mel_filters(self.sample_rate_hz, s.n_fft, s.n_mels, s.fmin, s.fmax, s.mel_scale, s.norm)
            at_once = _FILTERS_AT_ONCE if self.device.type == "cpu" else s.n_mels
            self._bands[key] = [b._replace(weights=b.weights.to(self.device)) for b in bands(filters, at_once)]
        return self._bands[key]

    def _dct(self, mel: _Mel) -> torch.Tensor:
        key = ("dct", mel.spec.n_mels, mel.mfcc.n_mfcc, mel.mfcc.lifter, mel.mfcc.lifter_from)
        if key not in self._constants:
            matrix = dct_matrix(mel.spec.n_mels, mel.mfcc.n_mfcc)
            if mel.mfcc.lifter > 0:
                k = np.arange(mel.mfcc.n_mfcc) + mel.mfcc.lifter_from
                matrix = (matrix * (1.0 + mel.mfcc.lifter / 2 * np.sin(np.pi * k / mel.mfcc.lifter))).astype(np.float32)
            self._constants[key] = even_columns(matrix).to(self.device)
        return self._constants[key]


def _logarithm(energies: torch.Tensor, spec: Any) -> torch.Tensor:
    """Replace energies by their logarithms, in place."""
    if spec.offset:
        energies.add_(spec.offset)
    least = least_energy(spec.floor, spec.offset, spec.power)
    if least is not None:
        energies.clamp_(min=least)
    if spec.log == "ln":
        return energies.log_()
    if spec.log == "log10":
        return energies.log10_()
    return energies.log10_().mul_(10.0 if spec.power == 2 else 20.0)


def _limit_range(values: torch.Tensor, batch: DeviceBatch, top: float | None) -> torch.Tensor | None:
    """Raise values more than top below their signal's maximum to that floor, in place.

    values : [frames, bins], in whole blocks

    Returns
    -------
    floors : float32 [signals], None without a limit
    """
    if top is None:
        return None
    values = values[: batch.n_frames]
    floors = torch.full((batch.n_signals,), -torch.inf, device=values.device)
    floors.scatter_reduce_(0, batch.signal_of_frame, values.amax(1), "amax").sub_(top)
    torch.maximum(values, floors[batch.signal_of_frame][:, None], out=values)
    return floors


def _normalise(values: torch.Tensor, batch: DeviceBatch) -> None:
    """Give each bin of each signal mean 0 and standard deviation 1 over the signal's own frames, in place.

    (x - mean) / (std + 1e-5), with n - 1 in the variance, as NeMo; one frame alone has the deviation 0. Sums are made signal by signal in
    float64, so that they depend on the signal's frames alone.

    values : [frames, bins], in whole blocks
    """
    values = values[: batch.n_frames]
    if values.device.type == "cpu":
        for part, n_own in zip(torch.split(values, batch.counts.tolist()), batch.n_own.tolist(), strict=True):
            exact = part.double()
            exact.sub_(exact[:n_own].sum(0).div_(n_own))
            deviations = exact[:n_own].square().sum(0).div_(max(1, n_own - 1)).sqrt_()
            part.copy_(exact.div_(deviations.add_(_NORMALISE_EPSILON)))
        return
    # The same without a kernel launch for each signal.
    n_own = torch.from_numpy(batch.n_own).to(values.device)
    is_own, of_frame = batch.is_own, batch.signal_of_frame
    exact = values.double()
    exact.sub_((torch.segment_reduce(exact[is_own], "sum", lengths=n_own, axis=0) / n_own[:, None])[of_frame])
    squares = torch.segment_reduce(exact[is_own].square(), "sum", lengths=n_own, axis=0)
    deviations = (squares / (n_own - 1).clamp_(min=1)[:, None]).sqrt_().add_(_NORMALISE_EPSILON)
    values.copy_(exact.div_(deviations[of_frame]))
