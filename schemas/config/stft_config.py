"""Define the configuration of a short-time Fourier transform. Names, defaults and conventions are librosa's; the keys that came later
are those of other front ends."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from clipmill.schemas.config.model import Frozen, Positive, later
from clipmill.schemas.feature_presets import given_twice
from clipmill.schemas.frame_layout import Framing

Size = Annotated[int, Field(ge=16, le=65536)]
Hop = Annotated[int, Field(ge=1, le=65536)]
Seconds = Annotated[float, Field(gt=0, le=4)]
Window = Literal["hann", "hamming", "blackman", "ones", "povey"]
PadMode = Literal["constant", "reflect", "edge"]
Samples = Annotated[int, Field(ge=0, le=65536)]
Factor = Annotated[float, Field(gt=0, le=1e6)]
Emphasis = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["float64", "float32"]
Beyond = Literal["keep", "drop", "zero"]

ABOUT = {
    "win_s": "the window's length in seconds, instead of win_length",
    "hop_s": "the time from one frame to the next in seconds, instead of hop_length",
    "round_to_power_of_two": "n_fft is the window's length, rounded up to a power of two",
    "symmetric": "the window's last sample is its first; default: of povey alone",
    "window_dtype": "type in which the window is computed: float64, as librosa does, or float32, as torch.hann_window does",
    "scale": "factor of samples, whose full scale is 1.0; 32768 for Kaldi's",
    "remove_mean": "subtract the clip's mean from its samples",
    "remove_dc": "subtract each frame's mean from its samples",
    "preemphasis": "coefficient of pre-emphasis: a sample less so much of the one before",
    "preemphasis_by": "the first sample of the clip, or of each frame (as Kaldi), has none before it; the frame's takes itself",
    "snip_edges": "frames as in Kaldi, instead of center: true, whole windows from the first sample on; false, one each hop, reflected"
    " at the ends",
    "pad_length": "samples of padding at both ends, of kind pad_mode, instead of center's n_fft // 2",
    "zeros_behind": "zeros behind the clip, before other padding",
    "frames_beyond": "frames after the clip's n_samples // hop_length: keep, drop, or set them to 0",
}
"""Descriptions of the later keys, which `mfcc` has too."""


class Frames(Frozen):
    """Configure the frames of a short-time Fourier transform. Names and defaults are librosa's."""

    n_fft: Size = Field(2048, description="samples that a transform takes")
    hop_length: Hop = Field(512, description="samples from one frame to the next")
    win_length: Annotated[int, Field(ge=1)] | None = Field(None, description="default: n_fft")
    window: Window = Field("hann", description="shape of the window; povey is hann ** 0.85")
    center: bool = Field(True, description="whether a frame is centred on its sample, with padding at both ends")
    pad_mode: PadMode = Field("constant", description="kind of that padding")

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if (self.win_length or 0) > self.n_fft:
            raise ValueError(f"win_length {self.win_length} exceeds n_fft {self.n_fft}")
        return self


class Stft(Frames):
    """Configure a short-time Fourier transform. Defaults and conventions are librosa's."""

    win_s: Seconds | None = later(None, description=ABOUT["win_s"])
    hop_s: Seconds | None = later(None, description=ABOUT["hop_s"])
    round_to_power_of_two: bool = later(False, description=ABOUT["round_to_power_of_two"])
    symmetric: bool | None = later(None, description=ABOUT["symmetric"])
    window_dtype: Precision = later("float64", description=ABOUT["window_dtype"])
    scale: Factor = later(1.0, description=ABOUT["scale"])
    remove_mean: bool = later(False, description=ABOUT["remove_mean"])
    remove_dc: bool = later(False, description=ABOUT["remove_dc"])
    preemphasis: Emphasis = later(0.0, description=ABOUT["preemphasis"])
    preemphasis_by: Literal["clip", "frame"] = later("clip", description=ABOUT["preemphasis_by"])
    snip_edges: bool | None = later(None, description=ABOUT["snip_edges"])
    pad_length: Samples | None = later(None, description=ABOUT["pad_length"])
    zeros_behind: Samples = later(0, description=ABOUT["zeros_behind"])
    frames_beyond: Beyond = later("keep", description=ABOUT["frames_beyond"])

    @model_validator(mode="before")
    @classmethod
    def _said_once(cls, data: Any) -> Any:
        if isinstance(data, dict) and (twice := given_twice(data)) is not None:
            raise ValueError(f"{twice[0]} and {twice[1]} exclude each other; leave one of them out")
        return data

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.win_s is None and not self.round_to_power_of_two and (self.win_length or 0) > self.n_fft:
            raise ValueError(f"win_length {self.win_length} exceeds n_fft {self.n_fft}")
        if self.preemphasis_by == "frame" and not self.preemphasis:
            raise ValueError("preemphasis_by needs preemphasis, as in preemphasis: 0.97")
        return self

    def at(self, sample_rate_hz: int) -> Self:
        """Return the same settings with all lengths in samples.

        Seconds are rounded down to whole samples, as Kaldi does; the thousandth of a sample that a decimal fraction lacks does not count.

        Raises
        ------
        ValueError : a window does not fit into n_fft, or has no sample
        """
        changed: dict[str, Any] = {}
        win_length = self.win_length
        if self.win_s is not None:
            changed |= {"win_s": None, "win_length": (win_length := _samples("win_s", self.win_s, sample_rate_hz))}
        if self.hop_s is not None:
            changed |= {"hop_s": None, "hop_length": _samples("hop_s", self.hop_s, sample_rate_hz)}
        if self.round_to_power_of_two:
            n_fft = max(16, 1 << ((win_length or self.n_fft) - 1).bit_length())
            changed |= {"round_to_power_of_two": False, "n_fft": n_fft}
        n_fft = changed.get("n_fft", self.n_fft)
        if win_length is not None and win_length > n_fft:
            raise ValueError(
                f"win_s {self.win_s:g} is {win_length} samples, more than n_fft {n_fft}; set n_fft, or round_to_power_of_two: true"
            )
        return self.model_copy(update=changed) if changed else self

    @property
    def framing(self) -> Framing:
        """Return where frames lie and what is done to their samples, of settings whose lengths are in samples (`at`)."""
        return Framing.of(self.model_dump())


class Spectrogram(Stft):
    """Configure magnitude, power or dB of the transform: [1 + n_fft // 2, frames]."""

    output: Literal["magnitude", "power", "magnitude_db"] = Field("magnitude_db", description="what is stored")
    phase: bool = Field(False, description="also store the phase in radians")
    top_db: Positive | None = Field(80.0, description="what is more than this below the clip's maximum is set to that")


def _samples(key: str, seconds: float, sample_rate_hz: int) -> int:
    n = math.floor(seconds * sample_rate_hz + 1e-3)
    if n < 1:
        raise ValueError(f"{key} {seconds:g} is less than a sample at {sample_rate_hz} Hz")
    return n
