"""Cut clips to a length, their audio, features and events alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch

from clipmill.pipelines.read.batches import Length
from clipmill.pipelines.read.frame_grid import FrameGrid, grids_of
from clipmill.pipelines.read.transforms.transform import BatchTransform, Loaded, Sample, Transform
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.label_columns import EVENTS_COLUMN
from clipmill.schemas.log_scale import PAD_SUFFIX
from clipmill.schemas.tables import IMAGE_COLUMN

At = Literal["random", "start", "center"]
Pad = Literal["zero", "repeat"]
Grids = Mapping[str, FrameGrid]
_NEEDS = ("n_samples", "sample_rate_hz")


@dataclass(frozen=True)
class Crop(Transform):
    """Cut clips to a length. Audio and features are cut at the same place, which is a multiple of the features' hop length.

    A feature is cut out of the stored one, so its first and last frames may have heard samples that were cut off. `events`, `start_s`,
    `duration_s` and `n_samples` become those of the crop; labels and all other columns remain those of the whole clip.

    length_s : length in seconds
    at : cut at "random", or the "start" or "center" of the clip
    pad : fill up shorter clips, "zero": with zeros at the end, features that have a `<name>_pad` with that, and samples have the length before
        as `<name>_length`; "repeat": with the clip again. None: leave them short

    Raises
    ------
    ClipmillError : an argument has another form; the dataset's pictures or a feature cannot be cut; a crop would have no frame
    """

    length_s: float
    at: At = "random"
    pad: Pad | None = None
    needs: ClassVar[tuple[str, ...]] = _NEEDS

    def __post_init__(self) -> None:
        number = self.length_s
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 < number < math.inf:
            raise ClipmillError(f"the length of a crop is {number!r}; expected seconds, a number above 0")
        _check("at", self.at, get_args(At))
        _check("pad", self.pad, (None, *get_args(Pad)))

    def for_dataset(self, loaded: Loaded) -> Transform:
        return _CropOfDataset(self.length_s, self.at, self.pad, _grids(loaded))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        raise TypeError("a crop needs the frames of a dataset's features: give it to ClipDataset(transform=...)")


@dataclass(frozen=True)
class _CropOfDataset(Transform):
    length_s: float
    at: At
    pad: Pad | None
    grids: Grids

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        n, rate = sample["n_samples"], sample["sample_rate_hz"]
        length = max(1, round(self.length_s * rate))
        if n > length:
            cut(sample, _start(n - length, self.at, rng.random(), self.grids), length, self.grids)
        if self.pad == "zero":
            _pad_with_zeros(sample, n, length, self.grids)
        elif self.pad == "repeat" and 0 < n < length:
            _repeat(sample, n, length, self.grids)
        return sample


@dataclass(frozen=True)
class CropToShortest(BatchTransform):
    """Cut the clips of a batch to the shortest of them.

    at : as of `Crop`
    grids : of the dataset's features
    """

    at: At = "random"
    grids: Grids = field(default_factory=dict)
    needs: ClassVar[tuple[str, ...]] = _NEEDS

    def __post_init__(self) -> None:
        _check("at", self.at, get_args(At))

    def for_dataset(self, loaded: Loaded) -> BatchTransform:
        return replace(self, grids=_grids(loaded))

    def draw(self, sample: Sample, rng: np.random.Generator) -> Any:
        return {"share": rng.random(), **{name: sample[name] for name in _NEEDS}}

    def on_samples(self, samples: list[Sample], drawn: list[Any]) -> list[Sample]:
        shortest = min(clip["n_samples"] for clip in drawn)
        for sample, clip in zip(samples, drawn, strict=True):
            more = clip["n_samples"] - shortest
            if more:
                known = {name: clip[name] for name in _NEEDS}
                whole = {**sample, **known}
                cut(whole, _start(more, self.at, clip["share"], self.grids), shortest, self.grids)
                sample |= {name: value for name, value in whole.items() if name in sample}
        return samples


def cut(sample: Sample, start: int, length: int, grids: Grids) -> None:
    """Cut a sample in place, to views of its tensors.

    sample : has `n_samples` and `sample_rate_hz`
    start, length : in samples; the start is a multiple of the hop lengths
    """
    if "audio" in sample:
        sample["audio"] = sample["audio"][..., start : start + length]
    for name, grid in grids.items():
        first = start // grid.hop_length
        sample[name] = sample[name][..., first : first + _n_frames(name, grid, length)]
    _tell_times(sample, start, length)


def _start(more: int, at: At, share: float, grids: Grids) -> int:
    """Return where a crop begins. more : samples that the clip is longer; share : a random number in [0, 1)"""
    step = math.lcm(*(grid.hop_length for grid in grids.values()))
    if at == "random":
        return step * int(share * (more // step + 1))
    return 0 if at == "start" else more // 2 // step * step


def _n_frames(name: str, grid: FrameGrid, length: int) -> int:
    n = grid.n_frames(length)
    if n < 1:
        raise ClipmillError(
            f"a crop of {length} samples has no frame of {name}, whose frames have {grid.span} samples: crop to more"
        )
    return n


def _tell_times(sample: Sample, start: int, length: int) -> None:
    rate = sample["sample_rate_hz"]
    if sample.get("start_s") is not None:
        sample["start_s"] += start / rate
    if "duration_s" in sample:
        sample["duration_s"] = length / rate
    sample["n_samples"] = length
    if sample.get(EVENTS_COLUMN):
        sample[EVENTS_COLUMN] = _events(sample[EVENTS_COLUMN], -start / rate, length / rate)


def _events(events: list[dict[str, Any]], shift_s: float, end_s: float) -> list[dict[str, Any]]:
    """Return the events that are heard before `end_s`, with times that are moved by `shift_s`."""
    found = []
    for event in events:
        onset_s, offset_s = event["onset_s"] + shift_s, event["offset_s"] + shift_s
        if onset_s < end_s and offset_s > 0:
            found.append({**event, "onset_s": max(0.0, onset_s), "offset_s": min(end_s, offset_s)})
    return found


def _pad_with_zeros(sample: Sample, n: int, length: int, grids: Grids) -> None:
    sizes = {name: _n_frames(name, grid, length) for name, grid in grids.items()}
    for name, size in [*([("audio", length)] if "audio" in sample else []), *sizes.items()]:
        there = sample[name].shape[-1]
        sample[f"{name}_length"] = Length(there)
        if there < size:
            filled = torch.nn.functional.pad(sample[name], (0, size - there))
            if (silence := sample.get(name + PAD_SUFFIX)) is not None:
                filled[..., there:] = silence
            sample[name] = filled
    if n < length:
        _tell_times(sample, 0, length)


def _repeat(sample: Sample, n: int, length: int, grids: Grids) -> None:
    if "audio" in sample:
        sample["audio"] = sample["audio"][..., torch.arange(length) % n]
    for name, grid in grids.items():
        # The frame that is nearest before where a frame lies in the repeated clip.
        frames = torch.arange(_n_frames(name, grid, length)) * grid.hop_length % n // grid.hop_length
        sample[name] = sample[name][..., frames.clamp(max=sample[name].shape[-1] - 1)]
    events, rate = sample.get(EVENTS_COLUMN), sample["sample_rate_hz"]
    if events:
        times = range(0, length, n)
        sample[EVENTS_COLUMN] = [e for start in times for e in _events(events, start / rate, length / rate)]
    _tell_times(sample, 0, length)


def _grids(loaded: Loaded) -> dict[str, FrameGrid]:
    if IMAGE_COLUMN in loaded.columns and any(
        c["name"] == IMAGE_COLUMN and c.get("kind") == "image" for c in loaded.described
    ):
        raise ClipmillError(
            f"{loaded.address}: pictures show whole clips and cannot be cropped; ask for log_mel instead of {IMAGE_COLUMN}"
        )
    return {name: grid for name, grid in grids_of(loaded.described, loaded.features).items() if grid is not None}


def _check(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ClipmillError(f"{name} of a crop is {value!r}; it can be {' or '.join(map(repr, choices))}")
