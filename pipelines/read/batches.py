"""Make batches out of samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.log_scale import PAD_SUFFIX
from clipmill.schemas.tables import IMAGE_COLUMN

Sample = dict[str, Any]

BATCH_STEPS = "batch_steps"
"""Key of samples under which transforms of batches leave what they need: a list of pairs, the transform and what was drawn for the clip."""


class Length(int):
    """The size of a tensor before it was padded, as a sample has it under `<name>_length`."""


def padded(samples: Iterable[Sample]) -> dict[str, Any]:
    """Collate samples of different lengths into a batch: a `collate_fn` for a DataLoader.

    Tensors are padded at the end to the longest in the batch and stacked, with `<name>_pad` if samples have it, as features of some presets do,
    otherwise with zeros. `<name>_length` (int64 [batch]) has their sizes in the last dimension; of pictures, their widths. Numbers become an
    int64 or float64 tensor; anything else stays a list. Zero is the mean of normalised features, but in decibels it is a loud sound, so mask by
    the length. Clips of a dataset with `crop_s="shortest"` are cut to the shortest of the batch instead, and `Mixup` is applied.

    Raises
    ------
    ClipmillError : there are no samples, or a column has the name of another one's length
    """
    rows = list(samples)
    if not rows:
        raise ClipmillError("there are no samples to put into a batch")
    if BATCH_STEPS in rows[0]:
        return _transformed(rows)
    batch: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if isinstance(values[0], torch.Tensor):
            batch[name] = _stacked(values, [row.get(name + PAD_SUFFIX) for row in rows])
            if values[0].ndim and name.removesuffix(PAD_SUFFIX) not in rows[0].keys() - {name}:
                batch[f"{name}_length"] = _lengths(name, values, rows)
        elif isinstance(values[0], Length):
            continue  # with its tensor
        elif all(isinstance(v, int | float) for v in values):
            whole = all(isinstance(v, int) for v in values)
            batch[name] = torch.tensor(values, dtype=torch.int64 if whole else torch.float64)
        else:
            batch[name] = values
    return batch


def _lengths(name: str, values: list[torch.Tensor], rows: list[Sample]) -> torch.Tensor:
    given = f"{name}_length"
    if given not in rows[0]:
        along = -2 if name == IMAGE_COLUMN and values[0].ndim == 3 else -1
        return torch.tensor([v.shape[along] for v in values])
    if not isinstance(rows[0][given], Length):
        raise ClipmillError(
            f"the column {given!r} has the name that {name!r} needs for its length; leave one of them out"
        )
    return torch.tensor([int(row[given]) for row in rows])


def _transformed(rows: list[Sample]) -> dict[str, Any]:
    """Return a batch of samples that transforms of batches work on."""
    steps = [row.get(BATCH_STEPS, ()) for row in rows]
    transforms = [transform for transform, _ in steps[0]]
    if any([transform for transform, _ in others] != transforms for others in steps):
        raise ClipmillError("the samples of a batch come from datasets with different transforms of batches")
    drawn = [[own[i][1] for own in steps] for i in range(len(transforms))]
    rows = [{name: value for name, value in row.items() if name != BATCH_STEPS} for row in rows]
    for transform, values in zip(transforms, drawn, strict=True):
        rows = transform.on_samples(rows, values)
    batch = padded(rows)
    for transform, values in zip(transforms, drawn, strict=True):
        batch = transform.on_batch(batch, values)
    return batch


def _stacked(values: list[torch.Tensor], silences: list[Any]) -> torch.Tensor:
    """Return tensors as one. silences : what fills each up instead of zeros, None for zeros"""
    shapes = {tuple(v.shape) for v in values}
    if len(shapes) == 1:
        return torch.stack(values)
    longest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    found = values[0].new_zeros((len(values), *longest))
    for i, value in enumerate(values):
        part = found[i]
        if silences[i] is not None:
            part.copy_(torch.as_tensor(silences[i], dtype=part.dtype).expand_as(part))
        for dimension, n in enumerate(value.shape):
            part = part.narrow(dimension, 0, n)
        part.copy_(value)
    return found
