"""Features: compute spectrogram, log-mel and MFCC columns for every clip, with the same code on the CPU and on CUDA devices.

The module needs only numpy, pyarrow and torch. torch takes seconds and half a gigabyte to import, so it is imported with the
first clips; planning, decoding and builds without work do not need it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from clipmill.schemas.reasons import Reason
from clipmill.schemas.units import to_samples
from clipmill.stages.arrow_rows import float_lists, pcm_samples
from clipmill.stages.stage import Stage, rejected

if TYPE_CHECKING:
    from clipmill.schemas.config import Config
    from clipmill.stages.features.kernels.spectral import Spectral


TOO_SHORT, TOO_LONG, NOT_FINITE = (
    Reason(
        "clip_too_short_for_features",
        "the clip is shorter than one analysis frame, and center is off",
        "set center: true, or drop such clips",
    ),
    Reason(
        "clip_too_long_for_features",
        "the clip is longer than features.log_mel.max_s, which a preset can set",
        "cut shorter clips by segment, or set features.log_mel.max_s: null",
    ),
    Reason(
        "features_not_finite",
        "a feature is beyond the range of its stored type, as from samples far over full scale",
        "scale the recording to full scale 1.0, or set features.dtype: float32",
    ),
)


@dataclass(frozen=True)
class Features(Stage):
    """Compute features of the canonical clips.

    Takes a table of `clipmill.schemas.tables.CLIPS` and adds two columns for each feature: float32 (or float16) values in row-major
    order, and `<name>_shape`. With `log_mel.pad_value: floor` there is also `log_mel_pad`, float32, the clip's value of silence.

    spec : an object with the attributes of `clipmill.schemas.config.feature_config.Features`
    sample_rate_hz : of the clips
    sample_format : of their PCM, int16 | float32
    device : cpu | cuda | auto (CUDA when there is a device)

    The shape is [bins, frames] for a mono clip and [channels, bins, frames] for several channels, which are computed separately,
    including the floor of top_db. Clips that are shorter than a frame while `center` is off are rejected, and so are clips that are longer
    than `max_s`, and clips with values that the stored dtype cannot represent.
    """

    spec: Any
    sample_rate_hz: int
    sample_format: str = "int16"
    device: str = "cpu"

    section = "features"
    identity = "Features"
    version = 3
    scope = "derived"
    rejects = (TOO_SHORT, TOO_LONG, NOT_FINITE)
    libraries = ("torch",)
    on_gpu = True

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        if not config.features.names:
            return None
        device = config.features.device
        return cls(config.features, config.audio.sample_rate_hz, config.audio.sample_format, device)

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        from clipmill.schemas.columns import feature_fields

        return tuple(feature_fields(self.spec, self.sample_rate_hz))

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_spectral"}

    @cached_property
    def _spectral(self) -> Spectral:
        from clipmill.stages.features.kernels.spectral import Spectral

        return Spectral(self.spec, self.sample_rate_hz, self.device)

    def __call__(self, table: pa.Table) -> pa.Table:
        names = self.spec.names
        if not names:
            return table
        status, channels = table["status"].to_pylist(), table["n_channels"].to_pylist()
        pcm = table["pcm"].combine_chunks()
        at_rate = self.spec.at(self.sample_rate_hz)
        short, longest = at_rate.min_samples, at_rate.max_s
        rows: list[int] = []
        too_short: dict[int, str] = {}
        too_long: dict[int, str] = {}
        signals: list[Any] = []
        for i, state in enumerate(status):
            if state != "clip":
                continue
            y = pcm_samples(pcm[i].as_buffer(), self.sample_format).reshape(-1, channels[i])
            if len(y) < short:
                too_short[i] = f"{len(y)} samples, a frame has {short}"
                continue
            if longest is not None and len(y) > to_samples(longest, self.sample_rate_hz):
                too_long[i] = f"{len(y) / self.sample_rate_hz:.3f} s, max_s is {longest:g}"
                continue
            rows.append(i)
            signals.extend(np.ascontiguousarray(y[:, c]) for c in range(channels[i]))
        computed = self._spectral(signals) if signals else {}
        values: dict[str, list[Any]] = {n: [np.empty(0, self.spec.dtype)] * table.num_rows for n in names}
        shapes: dict[str, list[list[int] | None]] = {n: [None] * table.num_rows for n in names}
        for name in names:
            for i, parts in _by_row(computed.get(name, ()), rows, channels):
                shape, n = list(parts[0].shape), channels[i]
                values[name][i] = parts[0].reshape(-1) if n == 1 else np.concatenate([p.reshape(-1) for p in parts])
                shapes[name][i] = shape if n == 1 else [n, *shape]
        columns = {name: float_lists(values[name], self.spec.dtype) for name in names}
        beyond = {i: f"in {name}, stored as {self.spec.dtype}" for name in names for i in _not_finite(columns[name])}
        for i in beyond:
            for name in names:
                values[name][i], shapes[name][i] = np.empty(0, self.spec.dtype), None
        if beyond:
            columns = {name: float_lists(values[name], self.spec.dtype) for name in names}
        for found, reason in (
            (too_short, TOO_SHORT.code),
            (too_long, TOO_LONG.code),
            (beyond, NOT_FINITE.code),
        ):
            table = rejected(table, found, reason)
        for name in names:
            table = table.append_column(name, columns[name])
            table = table.append_column(f"{name}_shape", pa.array(shapes[name], type=pa.list_(pa.int32())))
        for name in self.spec.pad_names:
            silences: list[float | None] = [None] * table.num_rows
            for i, parts in _by_row(computed.get(name, ()), rows, channels):
                silences[i] = None if i in beyond else min(float(p[0, 0]) for p in parts)
            table = table.append_column(name, pa.array(silences, pa.float32()))
        return table


def _by_row(parts: Sequence[Any], rows: Sequence[int], channels: Sequence[int]) -> Iterator[tuple[int, Sequence[Any]]]:
    """Yield each row with what was computed of its channels."""
    at = 0
    for i in rows if parts else ():
        yield i, parts[at : at + channels[i]]
        at += channels[i]


def _not_finite(column: pa.LargeListArray) -> list[int]:
    """Return the indexes of rows that contain infinities or NaN."""
    finite = np.isfinite(column.values.to_numpy())
    if finite.all():
        return []
    offsets = column.offsets.to_numpy()
    return [i for i in range(len(column)) if not finite[offsets[i] : offsets[i + 1]].all()]
