"""Downmix: mix or select the configured channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.config import Config
from clipmill.schemas.config.audio_config import Channels
from clipmill.schemas.reasons import Reason
from clipmill.schemas.tables import CHUNKS
from clipmill.stages.arrow_rows import float_lists, list_values, replace_column
from clipmill.stages.stage import Stage

ANTIPHASE_DB = 20.0
_BLOCK_FRAMES = 1 << 16
_ALONE = {"left": [0], "right": [1]}


@dataclass(frozen=True)
class Downmix(Stage):
    """Mix or select the channels of each chunk. Takes and returns a table of `clipmill.schemas.tables.CHUNKS`.

    A recording that lacks a configured channel becomes one rejection, in place of its last chunk. A recording whose mix is more than
    20 dB below the loudest of the mixed channels, over all decoded samples, gets a remark on its last chunk.

    The chunks of an item must be consecutive, in any number of tables: the stage keeps the state of the item until it ends.

    channels : of sources that are not in `sources`
    sources : channels by the source's name
    """

    channels: Channels = "mono"
    sources: Mapping[str, Channels] = field(default_factory=dict)
    _item: _Item = field(default_factory=lambda: _Item(), init=False, repr=False, compare=False)

    section = "downmix"
    identity = "Downmix"
    scope = "chunk"
    rejects = (
        Reason(
            "channel_missing",
            "the recording lacks a channel that channels names",
            "correct channels, or exclude the recording",
        ),
    )
    libraries = ("numpy",)

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        return cls(config.audio.channels, {s.name: config.channels_of(s) for s in config.sources})

    def __call__(self, table: pa.Table) -> pa.Table:
        wanted = [self.sources.get(source, self.channels) for source in table["source"].to_pylist()]
        counts = table["n_channels"].to_pylist()
        if all(c in ("keep", "each") or (n in (1, None) and c == "mono") for n, c in zip(counts, wanted, strict=True)):
            self._item.clear()
            return table
        rows = table.select(["item_id", "last", "reason", "lead", "core_frames", "remarks"]).to_pylist()
        samples = list_values(table["samples"])
        rejections: dict[int, dict[str, Any]] = {}
        keep = [True] * len(rows)
        for i, (row, n, channels) in enumerate(zip(rows, counts, wanted, strict=True)):
            self._item.at(row["item_id"])
            if n is None or row["reason"] is not None or channels in ("keep", "each"):
                pass
            elif (detail := _missing_channel(channels, n)) is not None:
                samples[i], counts[i], keep[i] = samples[i][:0], None, row["last"]
                self._item.annotations += _counted_annotations(
                    table["cuts"][i].as_py(), table["annotations"][i].as_py()
                )
                rejections[i] = {"annotations": self._item.annotations, "reason": "channel_missing", "detail": detail}
            else:
                samples[i] = self._item.mix(samples[i].reshape(-1, n), channels, row["lead"], row["core_frames"])
                counts[i] = 1
                if row["last"]:
                    row["remarks"] = [*(row["remarks"] or []), *self._item.remarks()] or None
            if row["last"]:
                self._item.clear()
        table = replace_column(table, "samples", float_lists(samples))
        for name, values in (("n_channels", counts), ("remarks", [row["remarks"] for row in rows])):
            table = replace_column(table, name, pa.array(values, type=CHUNKS.field(name).type))
        return _reject(table, rejections).filter(pa.array(keep)) if rejections else table


def _reject(table: pa.Table, rejections: Mapping[int, dict[str, Any]]) -> pa.Table:
    """Return chunks in which rejections replace some rows. rejections : annotations, reason and detail by row."""
    empty: dict[str, Any] = {"cuts": [], "decoded_s": None, "remarks": None}
    for name in ("annotations", "reason", "detail", *empty):
        values = table[name].to_pylist()
        for i, row in rejections.items():
            values[i] = {**empty, **row}[name]
        table = replace_column(table, name, pa.array(values, type=table.schema.field(name).type))
    return table


def _missing_channel(channels: Channels, n: int) -> str | None:
    """Return the detail of the rejection when a recording of n channels lacks a configured channel, otherwise None."""
    numbers = channel_numbers(channels)
    if numbers is None or numbers[-1] < n:
        return None
    has = "it has 1 channel" if n == 1 else f"it has {n} channels"
    return f"{has}, and channels: {channels} asks for channel {numbers[-1]}, counted from 0"


def channel_numbers(channels: Channels) -> list[int] | None:
    """Return the numbers of the channels that clips are made of, None for all."""
    return _ALONE.get(channels) if isinstance(channels, str) else channels


def _counted_annotations(
    cuts: list[dict[str, Any]] | None, annotations: list[dict[str, Any]] | None
) -> list[dict[str, Any]]:
    """Return the annotations that are counted in a chunk: an annotation over several chunks is counted where its first window is."""
    starts_here = {cut["annotation"]: False for cut in cuts or []}
    starts_here |= {cut["annotation"]: True for cut in cuts or [] if cut["first"] == 0}
    return [a for i, a in enumerate(annotations or []) if starts_here.get(i, True)]


class _Item:
    """Keep the state of the current item: the energies of its channels and of its mix.

    annotations : the annotations to count, if the item is rejected
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the item."""
        self._id: str | None = None
        self.annotations: list[dict[str, Any]] = []
        self._numbers: list[int] = []
        self._energies: npt.NDArray[np.float64] = np.zeros(0)
        self._mix_energy = 0.0

    def at(self, item_id: str) -> None:
        """Continue with an item, or start another one."""
        if item_id != self._id:
            self.clear()
            self._id = item_id

    def mix(
        self, y: npt.NDArray[np.float32], channels: Channels, lead: int | None, core: int | None
    ) -> npt.NDArray[np.float32]:
        """Return a chunk's mix, float32 [frames], and add its energy and those of its channels.

        y : float32 [frames, channels]
        lead, core : frames to skip, and the number of frames after them to measure; the next chunk has the rest
        """
        numbers = channel_numbers(channels)
        if numbers is not None and len(numbers) < y.shape[1]:
            y = np.ascontiguousarray(y[:, numbers])
        if y.shape[1] == 1:
            return y.reshape(-1)
        if self._energies.size != y.shape[1]:
            self._numbers, self._energies = numbers or list(range(y.shape[1])), np.zeros(y.shape[1])
        first = min(lead or 0, len(y))
        last = min(first + (core or 0), len(y))
        out = np.empty(len(y), np.float32)
        # In blocks that fit a processor's cache, so that samples that are used twice are read from memory once.
        edges = sorted({0, first, *range(first, last, _BLOCK_FRAMES), last, len(y)})
        with np.errstate(over="ignore", invalid="ignore"):
            for start, stop in pairwise(edges):
                part = y[start:stop]
                out[start:stop] = mix = mono(part)
                if first <= start and stop <= last:
                    self._measure(part, mix)
        return out

    def _measure(self, y: npt.NDArray[np.float32], mix: npt.NDArray[np.float32]) -> None:
        """Add a block's energies.

        Where the mix is within 10 dB of all channels together, as in nearly every recording, the energy is divided equally among the
        channels. A recording whose mix loses 20 dB has at most a tenth of its energy in such blocks, so the error is below 0.5 dB.
        """
        flat = y.reshape(-1)
        energy, total = float(np.dot(mix, mix)), float(np.dot(flat, flat))
        if not math.isfinite(energy + total):
            return
        self._mix_energy += energy
        self._energies += total / y.shape[1] if 10 * energy >= total else np.einsum("ij,ij->j", y, y)

    def remarks(self) -> list[dict[str, str]]:
        """Return the remarks on the item after its last chunk."""
        loudest = int(np.argmax(self._energies)) if self._energies.size else 0
        if not self._energies.size or self._mix_energy * 10 ** (ANTIPHASE_DB / 10) >= self._energies[loudest]:
            return []
        channel = f"channel {self._numbers[loudest]}, the loudest of {len(self._numbers)}"
        if self._mix_energy == 0:
            return [{"code": "antiphase", "detail": f"nothing is left of {channel}"}]
        loss_db = 10 * math.log10(self._energies[loudest] / self._mix_energy)
        return [{"code": "antiphase", "detail": f"the mix is {loss_db:.0f} dB under {channel}"}]


def mono(y: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean of the channels.

    Parameters
    ----------
    y : float32 [frames, channels]

    Returns
    -------
    y : float32 [frames]; each frame depends only on its own samples, to the last bit, at every place in the array
    """
    n = y.shape[1]
    if n == 2:
        # A product with a power of two is exact, so every order of summation in a matrix product gives the same bits.
        # It is about twenty times as fast as mean(axis).
        return y @ np.full(2, 0.5, np.float32)
    total = y[:, 0].astype(np.float64)
    for channel in range(1, n):
        total += y[:, channel]
    mean: npt.NDArray[np.float32] = (total / n).astype(np.float32)
    return mean
