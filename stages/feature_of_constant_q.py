"""What features of librosa's constant-Q transform have in common: where their frames lie, and what does not fit the sample rate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from clipmill.schemas.config.model import Frozen
from clipmill.schemas.config.stft_config import Hop
from clipmill.stages.features.kernels.constant_q import ConstantQ
from clipmill.stages.features_by_clip import FeatureByClip


class ConstantQSettings(Frozen):
    """Configure a constant-Q transform. Names and defaults are librosa's."""

    hop_length: Hop = Field(
        512, description="samples from one frame to the next; fastest if it is a multiple of a large power of two"
    )
    fmin: Annotated[float, Field(ge=1, le=1e6)] | None = Field(
        None, description="lowest frequency in Hz; null: C1, 32.7 Hz"
    )


@dataclass(frozen=True)
class FeatureOfConstantQ(FeatureByClip):
    """Compute a feature of a constant-Q transform.

    bins_key : the setting that says how many bins there are
    shorter_by : settings besides fmin that make filters shorter, for messages
    """

    libraries = ("librosa", "numpy", "scipy", "soxr")
    bins_key: ClassVar[str]
    shorter_by: ClassVar[str]

    @property
    @abstractmethod
    def transform(self) -> ConstantQ:
        """Return the transform with these settings."""

    @property
    def bins_of_key(self) -> int:
        """Return how many bins one of `bins_key` stands for."""
        return 1

    @property
    def frames(self) -> Mapping[str, Any]:
        return self.transform.frames

    @property
    def min_samples(self) -> int:
        return self.transform.min_samples

    @property
    def problem(self) -> tuple[str, str] | None:
        match self.transform.problem:
            case ("bins", text):
                most = self.transform.most_bins // self.bins_of_key
                remedy = f"set {self.bins_key}: {most} or fewer" if most else "lower fmin"
                return self.bins_key, f"{text}; {remedy}"
            case (_, text):
                return "fmin", f"{text}; raise fmin, or lower {self.shorter_by}"
        return None
