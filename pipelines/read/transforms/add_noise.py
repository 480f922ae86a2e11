"""Add noise to clips: white, pink, or recorded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy.fft
import torch

from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.read.transforms.audio_change import check_audio, checked_range
from clipmill.pipelines.read.transforms.recorded_noises import RecordedNoises, recorded_noises
from clipmill.pipelines.read.transforms.transform import Loaded, Sample, Transform
from clipmill.schemas.errors import ClipmillError

_MADE = ("white", "pink")


@dataclass(frozen=True)
class AddNoise(Transform):
    """Add noise to the audio at a ratio of signal to noise that is drawn uniformly. Samples are changed in place, and can exceed [-1, 1).

    The ratio is that of the mean powers over the clip. A recorded noise is drawn, begins at a random place, and begins again where it ends; all
    channels get it alike. A silent clip stays as it is, and so does one for which a silent stretch of noise was drawn.

    snr_db : the least and the greatest ratio in dB
    noise : "white"; "pink", whose power falls by 3 dB per octave; a folder of audio files; or a dataset, as its root or what `open_dataset`
        returned, of whose clips each is a noise
    probability : share of the clips that get noise
    storage_options : for fsspec, as in a configuration

    Raises
    ------
    ClipmillError : an argument has another form; there are no noises, or they have another sample rate than the clips; the dataset's columns do
        not have audio, or have features, which would not change
    """

    snr_db: tuple[float, float] = (5.0, 20.0)
    noise: str | os.PathLike[str] | Published = "white"
    probability: float = 1.0
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    needs: ClassVar[tuple[str, ...]] = ("sample_rate_hz",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "snr_db", checked_range("snr_db of AddNoise", self.snr_db))
        if not isinstance(self.probability, int | float) or not 0 <= self.probability <= 1:
            raise ClipmillError(f"probability of AddNoise is {self.probability!r}; expected a number from 0 to 1")
        recorded = None if self.noise in _MADE else recorded_noises(self.noise, self.storage_options)
        object.__setattr__(self, "_recorded", recorded)

    def for_dataset(self, loaded: Loaded) -> Transform:
        check_audio("AddNoise", loaded)
        return self

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.probability:
            return sample
        snr_db = rng.uniform(*self.snr_db)
        audio: torch.Tensor = sample["audio"]
        n = int(sample.get("audio_length", audio.shape[-1]))  # without zeros that the clip was padded with
        heard = audio[..., :n].numpy()
        noise = self._stretch(heard.shape, sample["sample_rate_hz"], rng)
        power, of_noise = _power(heard), _power(noise)
        if power > 0 and of_noise > 0:
            noise *= np.float32(np.sqrt(power / of_noise) * 10 ** (-snr_db / 20))
            heard += noise
        return sample

    def _stretch(
        self, shape: tuple[int, ...], sample_rate_hz: int, rng: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        """Return noise that the caller may change: float32 [channels, samples], or [1, samples] for all channels."""
        recorded: RecordedNoises | None = self.__dict__["_recorded"]
        if recorded is not None:
            whole = recorded.samples(int(rng.integers(recorded.n_noises)), sample_rate_hz)
            first = int(rng.integers(max(1, len(whole))))
            return np.take(whole, np.arange(first, first + shape[-1]), mode="wrap")[None, :]
        if self.noise == "white":
            return rng.standard_normal(shape, np.float32)
        return pink(shape, rng)


def pink(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return noise whose power falls by 3 dB per octave, without a constant part: float32 of this shape, along its last dimension."""
    n = scipy.fft.next_fast_len(max(2, shape[-1]), real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal((*shape[:-1], n), np.float32))
    spectrum[..., 0] = 0
    spectrum[..., 1:] /= np.sqrt(np.arange(1, spectrum.shape[-1], dtype=np.float32))
    found: npt.NDArray[np.float32] = scipy.fft.irfft(spectrum, n)[..., : shape[-1]]
    return found


def _power(y: npt.NDArray[np.float32]) -> float:
    return float(np.mean(np.square(y))) if y.size else 0.0
