"""Features: spectrogram, log-mel and MFCC columns for every clip, on the CPU or a CUDA device with the same code.

Importable with numpy, pyarrow and torch alone. torch, which takes seconds and half a gigabyte to load, is loaded with the
first clips: planning, decoding and a build that has nothing to do are done without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from stages.rows import float_lists, pcm_samples

if TYPE_CHECKING:
    from stages.spectral import Spectral


@dataclass(frozen=True)
class Features:
    """Compute features of the canonical clips. Takes a table of `schemas.tables.CLIPS` and adds, for each feature, a
    column of float32 (or float16) values in row-major order and a column `<name>_shape`.

    spec : an object with the attributes of `schemas.feature_config.Features`
    sample_rate_hz : of the clips
    sample_format : of their PCM, int16 | float32
    device : cpu | cuda | auto (CUDA when there is a device)

    A mono clip's shape is [bins, frames]. With several channels it is [channels, bins, frames], each channel computed by
    itself (its own top_db floor too). A clip with fewer samples than one frame, with `center` off, is rejected.
    """

    spec: Any
    sample_rate_hz: int
    sample_format: str = "int16"
    device: str = "cpu"

    version: ClassVar[int] = 2

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_spectral"}

    @cached_property
    def _spectral(self) -> Spectral:
        from stages.spectral import Spectral

        return Spectral(self.spec, self.sample_rate_hz, self.device)

    def __call__(self, table: pa.Table) -> pa.Table:
        names = self.spec.names
        if not names:
            return table
        status, channels = table["status"].to_pylist(), table["n_channels"].to_pylist()
        pcm = table["pcm"].combine_chunks()
        short = self.spec.min_samples
        rows: list[int] = []
        too_short: dict[int, int] = {}
        signals: list[Any] = []
        for i, state in enumerate(status):
            if state != "clip":
                continue
            y = pcm_samples(pcm[i].as_buffer(), self.sample_format).reshape(-1, channels[i])
            if len(y) < short:
                too_short[i] = len(y)
                continue
            rows.append(i)
            signals.extend(np.ascontiguousarray(y[:, c]) for c in range(channels[i]))
        computed = self._spectral(signals) if signals else {}
        if too_short:
            table = self._reject(table, too_short, short)
        for name in names:
            values: list[Any] = [np.empty(0, self.spec.dtype)] * table.num_rows
            shapes: list[list[int] | None] = [None] * table.num_rows
            at = 0
            for i in rows:
                n = channels[i]
                parts = computed[name][at : at + n]
                at += n
                shape = list(parts[0].shape)
                values[i] = parts[0].reshape(-1) if n == 1 else np.concatenate([p.reshape(-1) for p in parts])
                shapes[i] = shape if n == 1 else [n, *shape]
            table = table.append_column(name, float_lists(values, self.spec.dtype))
            table = table.append_column(f"{name}_shape", pa.array(shapes, type=pa.list_(pa.int32())))
        return table

    @staticmethod
    def _reject(table: pa.Table, too_short: dict[int, int], short: int) -> pa.Table:
        changes = {
            "status": "rejected",
            "kind": "clip",
            "reason": "clip_too_short_for_features",
        }
        for name, value in changes.items():
            column = table[name].to_pylist()
            for i in too_short:
                column[i] = value
            table = table.set_column(
                table.schema.get_field_index(name), table.schema.field(name), pa.array(column, pa.string())
            )
        detail = table["detail"].to_pylist()
        for i, n in too_short.items():
            detail[i] = f"{n} samples, a frame has {short}"
        return table.set_column(
            table.schema.get_field_index("detail"), table.schema.field("detail"), pa.array(detail, pa.string())
        )
