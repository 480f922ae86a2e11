"""Run a model on the clips of a shard, batch by batch, and make columns of what it gives."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.errors import StageError
from clipmill.schemas.reasons import Reason
from clipmill.stages.arrow_rows import float_lists, list_values, pcm_samples
from clipmill.stages.models.equal_batches import EqualBatches
from clipmill.stages.models.known_model import KnownModel, KnownOutput
from clipmill.stages.models.model_process import Arrays, ModelSource, running
from clipmill.stages.models.settled_clips import settled
from clipmill.stages.models.unusable import ModelDiedError, ModelRaisedError, UnusableModelError
from clipmill.stages.stage import rejected

Signal = npt.NDArray[np.float32]
_FULL_SCALE = np.float32(32768)
_MAX_VALUES = 1 << 25
_MOST_DEATHS = 5
_INT32 = np.iinfo(np.int32)
_DTYPES = {"embedding": "float32", "scores": "float32", "tokens": "int32"}

NOT_TAKEN, FAILED, NOT_FINITE, NOT_STORABLE = (
    Reason(
        "clip_not_for_model",
        "the model takes clips of another length, or with another number of channels",
        "set segment.length_s or audio.channels, or export the model so that these may vary",
    ),
    Reason(
        "model_failed",
        "the model raised an error for the clip, crashed, or took too long or too much memory",
        "drop such clips, or correct the model; raise timeout_s or memory_mb of the model if the detail names them",
    ),
    Reason(
        "model_not_finite",
        "the model gave infinities or NaN for the clip",
        "drop such clips, as silence does with digital silence, or correct the model",
    ),
    Reason(
        "model_not_storable",
        "what the model gave for the clip has not the form that it has for other clips, or exceeds 32 bits",
        "correct the model, or what is stored of it",
    ),
)
REASONS = (NOT_TAKEN, FAILED, NOT_FINITE, NOT_STORABLE)


@dataclass
class _Held:
    """A table that waits for the results of its clips.

    n_open : clips whose results are still to come
    values, shapes : by column, then by row
    bad : what is wrong with clips, by reason, then by row
    """

    table: pa.Table
    inputs: Any
    n_open: int = 0
    values: dict[str, dict[int, Any]] = field(default_factory=dict)
    shapes: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    bad: dict[str, dict[int, str]] = field(default_factory=dict)

    def reject(self, row: int, reason: Reason, detail: str) -> None:
        self.bad.setdefault(reason.code, {})[row] = detail


_Place = tuple[int, int]
"""The number of a table among those that were held, and a row in it."""


class ModelColumns:
    """Adds the columns of one model to the tables of a shard.

    known : what is known of the model
    source : its file, with the sha256 that is expected
    input : audio | log_mel
    has_lengths : whether it takes the lengths of clips
    sample_format : of clips' PCM
    """

    def __init__(
        self, known: KnownModel, source: ModelSource, input: str, has_lengths: bool, sample_format: str
    ) -> None:
        self._known, self._source, self._input, self._has_lengths = known, source, input, has_lengths
        self._sample_format = sample_format
        self._wanted = list(dict.fromkeys(output.source for output in known.outputs))
        self._held: deque[_Held] = deque()
        self._first = self._deaths = 0

    def __call__(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Yield the tables, possibly divided, with the columns added.

        Raises
        ------
        StageError : the model cannot be run any more
        """
        batches = EqualBatches[_Place](self._known.batch)
        for table, mask in settled(tables):
            held = _Held(table, _Inputs(table, self._input, self._known, self._sample_format))
            self._held.append(held)
            number = self._first + len(self._held) - 1
            for row in np.flatnonzero(mask).tolist():
                shape, problem = held.inputs.shape(row)
                if problem:
                    held.reject(row, NOT_TAKEN, problem)
                    continue
                held.n_open += 1
                for batch in batches.add((number, row), shape, 4 * int(np.prod(shape))):
                    self._work_on(batch)
            yield from self._finished()
        for batch in batches.finish():
            self._work_on(batch)
        yield from self._finished()

    def _finished(self) -> Iterator[pa.Table]:
        while self._held and not self._held[0].n_open:
            held = self._held.popleft()
            self._first += 1
            yield _with_columns(held, self._known.outputs)

    def _at(self, place: _Place) -> tuple[_Held, int]:
        return self._held[place[0] - self._first], place[1]

    def _work_on(self, batch: list[_Place]) -> None:
        """Run the model on a batch; where that fails, on each of its clips alone, so that only those are rejected at which it fails."""
        try:
            outputs = self._run(batch)
        except ModelRaisedError as error:
            if len(batch) > 1:
                for place in batch:
                    self._work_on([place])
            else:
                self._reject(batch[0], str(error))
        except ModelDiedError as error:
            self._deaths += 1
            if self._deaths > _MOST_DEATHS:
                raise self._failed(f"{error}, {_MOST_DEATHS + 1} times in a row") from None
            if len(batch) == 1:
                self._reject(batch[0], str(error))
                return
            n_before = self._n_failed(batch)
            for place in batch:
                self._work_on([place])
            if self._n_failed(batch) == n_before:
                raise self._failed(
                    f"{error} for {len(batch)} clips at once, and for each of them it works: set a smaller batch"
                ) from None
        else:
            self._deaths = 0
            self._keep(batch, outputs)

    def _n_failed(self, batch: list[_Place]) -> int:
        return sum(row in held.bad.get(FAILED.code, {}) for held, row in map(self._at, batch))

    def _reject(self, place: _Place, text: str) -> None:
        held, row = self._at(place)
        held.reject(row, FAILED, text)
        held.n_open -= 1

    def _failed(self, text: str) -> StageError:
        return StageError(f"the model {self._source.url}: {text}", code="stage.failed")

    def _run(self, batch: list[_Place]) -> Arrays:
        rows = [held.inputs.array(row) for held, row in map(self._at, batch)]
        lengths = [row.shape[-1] for row in rows]
        x = np.stack(rows)
        if self._known.is_filled and len(rows) < self._known.batch:
            x = np.concatenate([x, np.zeros((self._known.batch - len(rows), *x.shape[1:]), np.float32)])
            lengths += lengths[-1:] * (self._known.batch - len(rows))
        x = x if self._known.axes[0] == "batch" else x[0]
        try:
            return running(self._source).run(
                _arranged(x, self._known, self._input), lengths if self._has_lengths else None, self._wanted
            )
        except UnusableModelError as error:
            raise self._failed(str(error)) from None

    def _keep(self, batch: list[_Place], outputs: Arrays) -> None:
        of_clips = self._known.axes[0] == "batch"
        for i, place in enumerate(batch):
            held, row = self._at(place)
            held.n_open -= 1
            for output in self._known.outputs:
                array = outputs.get(output.source)
                if array is None or (
                    of_clips and (array.ndim == 0 or array.shape[0] not in (len(batch), self._known.batch))
                ):
                    shape = None if array is None else list(array.shape)
                    held.reject(row, NOT_STORABLE, f"{output.source} has the shape {shape} for {len(batch)} clips")
                    break
                if problem := _store(held, row, output, array[i] if of_clips else array):
                    held.reject(row, *problem)
                    break


def _store(held: _Held, row: int, output: KnownOutput, array: npt.NDArray[Any]) -> tuple[Reason, str] | None:
    """Keep what a model gave for a clip, or return why it cannot be stored."""
    if any(i >= array.ndim or array.shape[i] != 1 for i in output.left_out):
        return NOT_STORABLE, f"{output.source} has the shape {list(array.shape)}"
    array = np.squeeze(array, output.left_out)
    array = array.reshape(1) if array.ndim == 0 else array
    fits = len(array.shape) == len(output.dims) and all(
        isinstance(size, str) or size == n for size, n in zip(output.dims, array.shape, strict=True)
    )
    if not fits or array.size > _MAX_VALUES:
        return NOT_STORABLE, f"{output.source} has the shape {list(array.shape)}, expected {list(output.dims)}"
    if output.kind == "tokens":
        if array.size and (array.min() < _INT32.min or array.max() > _INT32.max):
            return NOT_STORABLE, f"{output.source} has {max(array.max(), -array.min()):,}, which is beyond 32 bits"
    elif not np.isfinite(array).all():
        return NOT_FINITE, f"in {output.source}"
    if output.kind == "labels":
        assert output.labels is not None  # noqa: S101 - the configuration has them
        chosen = (
            [int(np.argmax(array))] if output.threshold is None else np.flatnonzero(array >= output.threshold).tolist()
        )
        names = [output.labels[k] for k in chosen]
        held.values.setdefault(output.column, {})[row] = names[0] if output.threshold is None else names
        return None
    held.values.setdefault(output.column, {})[row] = array.reshape(-1).astype(
        _DTYPES[output.kind]
    )  # a copy, not the whole batch
    held.shapes.setdefault(output.column, {})[row] = list(array.shape)
    return None


def _with_columns(held: _Held, outputs: Iterable[KnownOutput]) -> pa.Table:
    table, n_rows = held.table, held.table.num_rows
    bad = {row for rows in held.bad.values() for row in rows}
    for reason, rows in held.bad.items():
        table = rejected(table, rows, reason)
    for output in outputs:
        values = {row: v for row, v in held.values.get(output.column, {}).items() if row not in bad}
        if output.kind == "labels":
            kind = pa.string() if output.threshold is None else pa.list_(pa.string())
            table = table.append_column(output.column, pa.array([values.get(i) for i in range(n_rows)], kind))
            continue
        none, dtype = np.empty(0, _DTYPES[output.kind]), _DTYPES[output.kind]
        table = table.append_column(output.column, float_lists([values.get(i, none) for i in range(n_rows)], dtype))
        shapes = held.shapes.get(output.column, {})
        column = pa.array([shapes.get(i) if i in values else None for i in range(n_rows)], pa.list_(pa.int32()))
        table = table.append_column(f"{output.column}_shape", column)
    return table


class _Inputs:
    """What a model takes of the clips of a table."""

    def __init__(self, table: pa.Table, input: str, known: KnownModel, sample_format: str) -> None:
        self._known, self._is_audio, self._sample_format = known, input == "audio", sample_format
        self._channels, self._lengths = table["n_channels"].to_pylist(), table["n_samples"].to_pylist()
        if self._is_audio:
            self._pcm = table["pcm"].combine_chunks()
        else:
            self._values, self._shapes = list_values(table["log_mel"]), table["log_mel_shape"].to_pylist()

    def shape(self, row: int) -> tuple[tuple[int, ...], str]:
        """Return the shape of a clip's input, and why the model does not take it, which is empty if it does."""
        sizes, has_channels = self._known.sizes, "channels" in self._known.axes
        n_channels = self._channels[row]
        rest = [self._lengths[row]] if self._is_audio else self._shapes[row][-2:]
        last = "samples" if self._is_audio else "frames"
        if last in sizes and rest[-1] != sizes[last]:
            return (), f"{rest[-1]:,} {last}, the model takes {sizes[last]:,}"
        if not self._is_audio and not has_channels and n_channels > 1:
            return (), f"{n_channels} channels, and the model takes the log-mel of one"
        if has_channels and n_channels != sizes.get("channels", n_channels):
            return (), f"{n_channels} channels, the model takes {sizes['channels']}"
        return tuple([n_channels, *rest] if has_channels else rest), ""

    def array(self, row: int) -> Signal:
        """Return a clip's input: [samples] or [bands, frames], with the channels in front if the model takes them."""
        has_channels = "channels" in self._known.axes
        if not self._is_audio:
            shape = self._shapes[row]
            values: Signal = self._values[row].astype(np.float32).reshape(shape)
            return values[None] if has_channels and len(shape) == 2 else values
        y = pcm_samples(self._pcm[row].as_buffer(), self._sample_format)
        x = y.astype(np.float32) / _FULL_SCALE if self._sample_format == "int16" else y.astype(np.float32)
        channels = x.reshape(-1, self._channels[row]).T
        if has_channels:
            return np.ascontiguousarray(channels)
        return np.ascontiguousarray(channels[0]) if len(channels) == 1 else channels.mean(axis=0)


def _arranged(x: Signal, known: KnownModel, input: str) -> Signal:
    """Return a batch with its axes in the order that the model takes, and with axes of one where it has them.

    x : [batch, channels, samples] or [batch, channels, bands, frames]; without batch or channels if the model has no such axis
    """
    ours = ["batch", "channels", *(["samples"] if input == "audio" else ["bands", "frames"])]
    ours = [axis for axis in ours if axis in known.axes]
    named = [axis for axis in known.axes if axis != 1]
    x = x.transpose([ours.index(str(axis)) for axis in named])
    sizes = iter(x.shape)
    return np.ascontiguousarray(x.reshape([1 if axis == 1 else next(sizes) for axis in known.axes]))
