"""Define what a transform of clips is, and apply transforms with random numbers that depend on nothing but the clip."""

from __future__ import annotations

import hashlib
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from clipmill.pipelines.read.batches import BATCH_STEPS
from clipmill.schemas.columns import Column
from clipmill.schemas.errors import ClipmillError

Sample = dict[str, Any]


@dataclass(frozen=True)
class Loaded:
    """What a dataset tells its transforms before the first clip.

    address : of the dataset, for messages
    columns : that samples have
    features : names of the features among them
    described : the dataset's columns, see `clipmill.schemas.columns`
    """

    address: str
    columns: tuple[str, ...]
    features: tuple[str, ...]
    described: Sequence[Column]


class Transform(ABC):
    """Change one clip: the base of `SpecAugment`, `RandomCrop` and others, and of your own.

    Subclasses are frozen dataclasses. All random numbers must come from the generator that a call is given: it depends on the clip, the
    epoch, the dataset's seed and the place in the list of transforms, so the result is the same for any number of ranks and loading
    processes. The tensors of a sample belong to it and can be changed in place.

    needs : columns that are read for the transform, even if they were not asked for
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def for_dataset(self, loaded: Loaded) -> Transform:
        """Return what to apply to the clips of a dataset, by default the transform itself.

        Raises
        ------
        ClipmillError : the transform does not fit the dataset
        """
        return self

    @abstractmethod
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the changed sample. rng : for all random numbers"""


class BatchTransform(ABC):
    """Change the clips of a batch together: the base of `Mixup`. `padded` applies it.

    needs : columns that are read for the transform, even if they were not asked for
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def for_dataset(self, loaded: Loaded) -> BatchTransform:
        """Return what to apply to the batches of a dataset, as `Transform.for_dataset` does."""
        return self

    @abstractmethod
    def draw(self, sample: Sample, rng: np.random.Generator) -> Any:
        """Return what a clip contributes: what is drawn for it, and what the batch has to know about it."""

    def on_samples(self, samples: list[Sample], drawn: list[Any]) -> list[Sample]:
        """Return the changed samples, before they are made a batch. drawn : what `draw` returned for each"""
        return samples

    def on_batch(self, batch: dict[str, Any], drawn: list[Any]) -> dict[str, Any]:
        """Return the changed batch. drawn : what `draw` returned for each clip"""
        return batch


Step = Transform | BatchTransform | Callable[[Sample], Sample]


@dataclass(frozen=True)
class Transforms:
    """Transforms of a dataset, in their order.

    single : for one clip
    batched : for batches
    seed : the dataset's
    """

    single: tuple[Transform | Callable[[Sample], Sample], ...]
    batched: tuple[BatchTransform, ...]
    seed: int

    @classmethod
    def of(cls, steps: Sequence[Step], seed: int, loaded: Loaded) -> Transforms:
        """Return transforms that fit a dataset.

        Raises
        ------
        ClipmillError : one is not a transform, does not fit the dataset, or works on one clip and follows one that works on batches
        """
        single: list[Transform | Callable[[Sample], Sample]] = []
        batched: list[BatchTransform] = []
        for step in steps:
            if isinstance(step, BatchTransform):
                batched.append(step.for_dataset(loaded))
            elif not callable(step) or isinstance(step, type):
                raise ClipmillError(
                    f"transform has {step!r}; expected transforms such as SpecAugment(), or functions that take and return a sample"
                )
            elif batched:
                raise ClipmillError(
                    f"transform has {_name(step)} after {_name(batched[0])}, which works on batches: give those that work on batches last"
                )
            else:
                single.append(step.for_dataset(loaded) if isinstance(step, Transform) else step)
        if batched and BATCH_STEPS in loaded.columns:
            raise ClipmillError(
                f"the column {BATCH_STEPS!r} has the name that {_name(batched[0])} needs; leave one of them out"
            )
        return cls(tuple(single), tuple(batched), seed)

    @staticmethod
    def needed(steps: Sequence[Step]) -> list[str]:
        """Return the columns that must be read for the steps."""
        return [name for step in steps if isinstance(step, Transform | BatchTransform) for name in step.needs]

    def apply(self, sample: Sample, clip_id: str, epoch: int, copy: int) -> Sample:
        """Return a transformed sample. copy : how many times the clip was given before in the epoch

        Raises
        ------
        ClipmillError : a function returns something else than a sample
        """
        about = f"{self.seed}\n{epoch}\n{copy}\n{clip_id}"
        for i, transform in enumerate(self.single):
            sample = transform(sample, _rng(i, about)) if isinstance(transform, Transform) else transform(sample)
            if not isinstance(sample, dict):
                raise ClipmillError(
                    f"the transform {_name(transform)} returned {reprlib.repr(sample)}; it must return the sample, a dictionary"
                )
        if self.batched:
            n = len(self.single)
            steps = [(step, step.draw(sample, _rng(n + i, about))) for i, step in enumerate(self.batched)]
            sample[BATCH_STEPS] = steps
        return sample


def _rng(place: int, about: str) -> np.random.Generator:
    digest = hashlib.blake2b(f"{place}\n{about}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, "<u8")))


def _name(step: object) -> str:
    return getattr(step, "__name__", type(step).__name__)
