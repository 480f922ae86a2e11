"""Make clips louder or quieter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipmill.pipelines.read.transforms.audio_change import check_audio, checked_range
from clipmill.pipelines.read.transforms.transform import Loaded, Sample, Transform


@dataclass(frozen=True)
class RandomGain(Transform):
    """Change the level of the audio by a gain that is drawn uniformly. Samples are changed in place, and can exceed [-1, 1).

    gain_db : the least and the greatest gain in dB

    Raises
    ------
    ClipmillError : the argument has another form; the dataset's columns do not have audio, or have features, which would not change
    """

    gain_db: tuple[float, float] = (-6.0, 6.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain_db", checked_range("gain_db of RandomGain", self.gain_db))

    def for_dataset(self, loaded: Loaded) -> Transform:
        check_audio("RandomGain", loaded)
        return self

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        sample["audio"] *= 10 ** (rng.uniform(*self.gain_db) / 20)
        return sample
