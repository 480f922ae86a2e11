"""Balance labels: decide how often each clip is given in an epoch, so that rare labels are given more often than they occur.

With a temperature T, a label with n clips makes up a share of the epoch proportional to n ** (1 / T): 1 leaves the labels as they are, and
infinity gives all of them the same share. Multilingual speech recognition and translation sample languages like this (Arivazhagan et al.
2019, https://arxiv.org/abs/1907.05019, with T = 5; Conneau et al. 2020, https://arxiv.org/abs/2006.13979, with 1 / T = 0.5).

An epoch keeps its number of clips. Within a label, clips are taken without replacement: they form a circle in an order that the seed
decides, and each epoch continues where the last one stopped. So of the clips of a label, none is given twice more often than another is
given, neither in one epoch nor in several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.schemas.errors import ClipmillError

Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelBalance:
    """How often each clip is given in which epoch.

    groups : of each clip, the number of its label
    places : of each clip, its place in the circle of its label
    quotas : of each label, the number of clips that an epoch gives
    sizes : of each label, the number of its clips
    """

    groups: Whole
    places: Whole
    quotas: Whole
    sizes: Whole

    @classmethod
    def of(cls, groups: Whole, temperature: float, seed: int) -> LabelBalance:
        """Return the balance of clips. groups : of each clip, the number of its label, at least 0"""
        _, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        order = np.lexsort((np.random.default_rng([seed, 4]).random(len(groups)), groups))
        places = np.empty(len(groups), np.int64)
        places[order] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return cls(groups, places, quotas(sizes, temperature), sizes)

    @property
    def most_copies(self) -> float:
        """The mean number of copies of a clip, of the label where it is greatest."""
        return float((self.quotas / self.sizes).max(initial=0.0))

    def counts(self, epoch: int) -> Whole:
        """Return how often an epoch gives each clip, int64 [clips]. The sum is the number of clips."""
        quota, size = self.quotas[self.groups], self.sizes[self.groups]
        # The epoch takes places epoch * quota up to (epoch + 1) * quota, exclusive, of a circle of `size` places.
        start = epoch * quota - 1 - self.places
        counts: Whole = (start + quota) // size - start // size
        return counts


def quotas(sizes: Whole, temperature: float) -> Whole:
    """Divide as many clips as there are among labels, in proportion to size ** (1 / temperature): int64 [labels].

    Shares are rounded by largest remainders, so that their sum is that of the sizes.
    """
    total = int(sizes.sum())
    weights = np.exp(np.log(sizes) / temperature)
    exact = total * weights / weights.sum()
    whole: Whole = np.floor(exact + 1e-9).astype(np.int64)
    remainder = np.argsort(whole - exact, kind="stable")
    whole[remainder[: total - int(whole.sum())]] += 1
    return whole


def temperature_of(balance: Any) -> float | None:
    """Return the temperature that `balance` of a ClipDataset asks for; None if it asks for nothing.

    Raises
    ------
    ClipmillError : it has another form, or is less than 1
    """
    if balance is None:
        return None
    value: Any = balance
    if isinstance(balance, str) and balance == "label":
        return math.inf
    if isinstance(balance, Mapping) and list(balance) == ["label"]:
        value = balance["label"]
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 1:
            return float(value)
    raise ClipmillError(
        f'balance is {balance!r}; it can be "label", for the same share of each label, or {{"label": T}} with a temperature T of at least 1;'
        " with 1, labels have the shares that they have in the dataset"
    )


def label_groups(labels: pa.ChunkedArray) -> Whole:
    """Return the number of each clip's label; clips without a label have a number of their own.

    Of several labels, the rarest counts, and of equally rare ones the first in the clip's list.

    labels : a label, or a list of labels, for each clip
    """
    values = labels.combine_chunks()
    if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
        indices = pc.dictionary_encode(values).indices
        return np.asarray(pc.fill_null(indices, len(indices)), np.int64)
    clips = np.asarray(pc.list_parent_indices(values), np.int64)
    codes = np.asarray(pc.dictionary_encode(pc.list_flatten(values)).indices, np.int64)
    groups = np.full(len(values), len(codes), np.int64)
    if len(codes):
        frequency = np.bincount(codes)[codes]
        order = np.lexsort((frequency, clips))  # which keeps the order of a clip's labels where they are equally rare
        first = order[np.flatnonzero(np.diff(clips[order], prepend=-1))]
        groups[clips[first]] = codes[first]
    return groups
