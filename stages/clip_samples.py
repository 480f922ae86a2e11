"""Read and replace the samples of clips as numpy arrays, between clip stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.units import FULL_SCALE
from clipmill.stages.arrow_rows import list_values, replace_column
from clipmill.stages.stage import is_clip


def waveforms(table: pa.Table) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield the row and the samples of each clip of a table.

    Yields
    ------
    row : index in the table
    y : float32 [channels, samples], full scale 1.0. Where a stage of the chain changes samples, a view of samples not yet rounded to PCM
    """
    chosen = np.flatnonzero(is_clip(table)).tolist()
    if not chosen:
        return
    channels, lengths = table["n_channels"].to_pylist(), table["n_samples"].to_pylist()
    is_float = table["samples"].is_valid().to_pylist()
    floats = list_values(table["samples"])
    pcm = table["pcm"].combine_chunks()
    for i in chosen:
        y = floats[i] if is_float[i] else _as_float(pcm[i].as_buffer(), lengths[i] * channels[i])
        yield i, y.reshape(-1, channels[i]).T


def with_waveforms(table: pa.Table, changed: Mapping[int, npt.NDArray[Any]]) -> pa.Table:
    """Return a table with new samples for some clips, and with the lengths that follow.

    Parameters
    ----------
    changed : new samples by row, float [channels, samples] with the clip's number of channels and at least one sample

    Raises
    ------
    ValueError : an array has a wrong shape or values that are not finite
    """
    if not changed:
        return table
    values = list_values(table["samples"])
    valid = table["samples"].is_valid().to_pylist()
    channels, rates = table["n_channels"].to_pylist(), table["sample_rate_hz"].to_pylist()
    lengths, durations = table["n_samples"].to_pylist(), table["duration_s"].to_pylist()
    for i, y in changed.items():
        if y.ndim != 2 or y.shape[0] != channels[i] or y.shape[1] == 0:
            raise ValueError(f"samples have the shape {y.shape}; expected [{channels[i]}, at least 1]")
        if not np.isfinite(y).all():
            raise ValueError("samples are not finite; reject the clip instead")
        values[i], valid[i] = np.ascontiguousarray(y.T, np.float32).reshape(-1), True
        lengths[i], durations[i] = y.shape[1], y.shape[1] / rates[i]
    table = replace_column(table, "samples", nullable_floats(values, valid))
    for name, column in (("n_samples", lengths), ("duration_s", durations)):
        table = replace_column(table, name, pa.array(column, table.schema.field(name).type))
    return table


def _as_float(payload: Any, n_values: int) -> npt.NDArray[np.float32]:
    """Return PCM as float32 with full scale 1.0. Its size tells int16 from float32."""
    if len(payload) == 4 * n_values:
        return np.frombuffer(payload, np.dtype("<f4"))
    return np.frombuffer(payload, np.dtype("<i2")).astype(np.float32) / np.float32(FULL_SCALE)


def nullable_floats(values: list[npt.NDArray[np.float32]], valid: list[bool]) -> pa.LargeListArray:
    """Return float32 arrays as an Arrow list column. valid : False where the row is null"""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(v) if ok else 0 for v, ok in zip(values, valid, strict=True)], out=offsets[1:])
    present = [v for v, ok in zip(values, valid, strict=True) if ok]
    flat = present[0] if len(present) == 1 else np.concatenate([np.empty(0, np.float32), *present])
    null = pa.array([not ok for ok in valid])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat, pa.float32()), mask=null)
