"""Define the section `segment` of a source: how clips are cut out of recordings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clipmill.schemas.config.model import Frozen, Positive, later

Mode = Literal["annotation", "window", "whole", "fixed", "silence", "speech"]
_KEYS: dict[str, set[str]] = {
    "window": {"length_s", "hop_s", "tail", "tail_noise_dbfs", "keep_every"},
    "fixed": {"length_s", "pad", "crop", "tail_noise_dbfs"},
    "silence": {"below_dbfs", "min_silence_s", "pad_s"},
    "speech": {"min_s", "max_s", "max_gap_s", "pad_s"},
}
"""Keys of single modes. The other keys belong to all of them."""


class Segment(Frozen):
    """Configure how a recording, or each annotated range of it, is cut into clips."""

    mode: Mode = Field(
        "whole",
        description="whole recordings or ranges, windows of one length, clips of a fixed length, or cut at silences or around speech",
    )
    length_s: Positive | None = Field(None, description="length of a window, or of a clip of mode fixed")
    hop_s: Positive | None = Field(None, description="default: length_s")
    tail: Literal["drop", "keep", "pad_zero", "pad_noise"] = Field(
        "drop", description="what happens to the last window, if it is shorter"
    )
    tail_noise_dbfs: Annotated[float, Field(ge=-200, le=0)] = Field(-50.0, description="level of noise that pads")
    keep_every: Annotated[int, Field(ge=1)] = Field(1, description="keep one window of so many")
    max_clip_s: Annotated[float, Field(gt=0, le=3600)] = Field(600.0, description="a longer clip is rejected")
    pad_s: Annotated[float, Field(ge=0, le=60)] = later(0.1, description="silence that stays on each side of a clip")

    pad: Literal["zero", "noise", "repeat", "edge"] = later(
        "zero", description="what follows a range that is too short"
    )
    crop: Literal["start", "center"] = later("start", description="which part is taken of a range that is too long")
    below_dbfs: Annotated[float, Field(ge=-200, le=0)] = later(-50.0, description="level of silence, at most")
    min_silence_s: Annotated[float, Field(ge=0.001, le=600)] = later(
        0.5, description="shortest silence between two clips"
    )
    min_s: Positive = later(1.0, description="shortest clip of mode speech")
    max_s: Positive = later(20.0, description="longest clip of mode speech, at least twice min_s")
    max_gap_s: Annotated[float, Field(ge=0, le=600)] = later(
        0.5, description="longest pause inside a clip of mode speech"
    )

    @model_validator(mode="after")
    def _check(self) -> Segment:
        if "length_s" in _KEYS.get(self.mode, set()):
            if self.length_s is None:
                raise ValueError(f"mode {self.mode} needs length_s")
            if self.length_s > self.max_clip_s:
                raise ValueError(f"length_s {self.length_s:g} exceeds max_clip_s {self.max_clip_s:g}")
        if self.mode == "speech" and not 2 * self.min_s <= self.max_s <= self.max_clip_s:
            raise ValueError(
                f"max_s {self.max_s:g} must be at least twice min_s {self.min_s:g}, and at most max_clip_s {self.max_clip_s:g}"
            )
        for key in sorted(self.model_fields_set):
            modes = [mode for mode, keys in _KEYS.items() if key in keys]
            if modes and self.mode not in modes:
                raise ValueError(f"{key} belongs to mode {' and '.join(modes)}, not {self.mode}")
        return self

    @property
    def hop(self) -> float:
        """Return the seconds from the start of one window to the start of the next."""
        return self.hop_s if self.hop_s is not None else float(self.length_s or 0)
