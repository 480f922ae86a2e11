"""Mix the clips of a batch in pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from clipmill.pipelines.read.transforms.transform import BatchTransform, Loaded, Sample
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.label_columns import LABELS_COLUMN
from clipmill.schemas.tables import IMAGE_COLUMN


@dataclass(frozen=True)
class Mixup(BatchTransform):
    """Mix each clip with another one of its batch, and their labels: mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412).

    `x = weight * x1 + (1 - weight) * x2` for audio, features and pictures, and `labels` alike. `labels` then holds soft labels: of two
    clips with one label each its sum is 1, and torch's `cross_entropy` takes it as a target. `label_id` and all other columns remain those of
    the first clip. The weight and the choice of the partner are drawn for each clip, so they depend on the clip, the epoch and the seed; who
    the partner is depends on the batch as well.

    alpha : of the distribution Beta(alpha, alpha) of the weights; the greater, the more evenly clips are mixed
    probability : share of the clips that are mixed

    Raises
    ------
    ClipmillError : an argument has another form, or the dataset's columns do not have labels as vectors
    """

    alpha: float = 0.2
    probability: float = 1.0
    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.alpha, int | float) or isinstance(self.alpha, bool) or not 0 < self.alpha < np.inf:
            raise ClipmillError(f"alpha of Mixup is {self.alpha!r}; expected a number above 0")
        if not isinstance(self.probability, int | float) or not 0 <= self.probability <= 1:
            raise ClipmillError(f"probability of Mixup is {self.probability!r}; expected a number from 0 to 1")

    def for_dataset(self, loaded: Loaded) -> BatchTransform:
        if LABELS_COLUMN not in loaded.columns:
            raise ClipmillError(
                f"{loaded.address}: Mixup mixes {LABELS_COLUMN}, which clips with one label have as well: add {LABELS_COLUMN} to columns"
            )
        if any(c["name"] == LABELS_COLUMN and c.get("kind") == "field" for c in loaded.described):
            raise ClipmillError(
                f"{loaded.address}: {LABELS_COLUMN} is a field of the corpus here, which Mixup cannot mix; give the field another name in the"
                " configuration"
            )
        return self

    def draw(self, sample: Sample, rng: np.random.Generator) -> Any:
        weight, partner, is_mixed = rng.beta(self.alpha, self.alpha), rng.random(), rng.random() < self.probability
        return (weight if is_mixed else 1.0), partner

    def on_batch(self, batch: dict[str, Any], drawn: list[Any]) -> dict[str, Any]:
        n = len(drawn)
        weights = torch.tensor([weight for weight, _ in drawn], dtype=torch.float32)
        partners = torch.tensor([(i + 1 + int(share * (n - 1))) % n for i, (_, share) in enumerate(drawn)])
        is_mixed = weights < 1
        for name, values in batch.items():
            if not isinstance(values, torch.Tensor):
                continue
            if values.is_floating_point() and values.ndim > 1:
                shape = (n, *[1] * (values.ndim - 1))
                batch[name] = torch.lerp(values[partners], values, weights.view(shape).to(values.dtype))
            elif name == IMAGE_COLUMN and values.dtype == torch.uint8:
                mixed = torch.lerp(values[partners].float(), values.float(), weights.view(n, 1, 1, 1))
                batch[name] = mixed.round_().to(torch.uint8)
            elif name.endswith("_length") and name.removesuffix("_length") in batch and values.dtype == torch.int64:
                batch[name] = torch.where(is_mixed, torch.maximum(values, values[partners]), values)
        return batch
