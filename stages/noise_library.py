"""Read noises and impulse responses: one channel at the rate of the clips, from a list of files that was made with the plan."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.config import Config, Segment
from clipmill.schemas.errors import StageError
from clipmill.schemas.tables import PLAN
from clipmill.stages.arrow_rows import list_values
from clipmill.stages.decode import Decode
from clipmill.stages.decode.source import DecodeSource
from clipmill.stages.downmix import Downmix
from clipmill.stages.resample import Resample
from clipmill.stages.storage.root import Root

Listed = tuple[str, int, str]
"""Path, size in bytes and version of a file."""
Noises = Mapping[str, Sequence[Listed]]
"""Files of trees of noises, sorted by path, by the trees' names."""

_CACHE_BYTES = 256 << 20
_WINDOWS = Segment(mode="window", length_s=2.0, tail="keep")


@dataclass(frozen=True)
class NoiseLibrary:
    """The files of a configuration's `noises`.

    roots : where they are, by name
    sample_rate_hz : of what is returned
    files : by name, sorted by path; those of names that no stage uses are left out
    """

    roots: Mapping[str, Root]
    sample_rate_hz: int
    resampler: str = "soxr_hq"
    files: Noises = field(default_factory=dict)
    _cache: OrderedDict[tuple[str, str], npt.NDArray[np.float32]] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )

    @classmethod
    def of(cls, config: Config) -> NoiseLibrary:
        """Return the library of a configuration, without the list of its files."""
        roots = {noise.name: Root(noise.root, noise.storage_options) for noise in config.noises}
        return cls(roots, config.audio.sample_rate_hz, config.audio.resampler)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict()}

    def n_files(self, collection: str) -> int:
        """Return the number of files of a tree. collection : its name"""
        return len(self.files[collection])

    def name(self, collection: str, i: int) -> str:
        """Return the path of a file, relative to its tree."""
        return self.files[collection][i][0]

    def samples(self, collection: str, i: int) -> npt.NDArray[np.float32]:
        """Return a file's samples: float32 [1, samples]. i : number of the file in its tree

        Raises
        ------
        StageError : the file cannot be decoded, has no samples, or has changed since it was listed
        """
        return self._whole(collection, self.files[collection][i])[None, :]

    def _whole(self, collection: str, listed: Listed) -> npt.NDArray[np.float32]:
        place = collection, listed[0]
        if place in self._cache:
            self._cache.move_to_end(place)
            return self._cache[place]
        y = self._decoded(collection, listed)
        self._cache[place] = y
        while len(self._cache) > 1 and sum(kept.nbytes for kept in self._cache.values()) > _CACHE_BYTES:
            self._cache.popitem(last=False)
        return y

    def _decoded(self, collection: str, listed: Listed) -> npt.NDArray[np.float32]:
        path, size_bytes, version = listed
        root = self.roots[collection]
        plan = pa.Table.from_pylist(
            [
                {
                    "item_id": path, "recording_id": path, "source": collection, "path": path, "source_uri": root.uri(path),
                    "primary": True, "size_bytes": size_bytes, "version": version, "span_start_s": 0.0,
                }
            ],
            schema=PLAN,
        )  # fmt: skip
        source = DecodeSource(root, _WINDOWS, "s", "auto", track="default", raw=None, tolerance_s=0.0)
        decode = Decode({collection: source}, self.sample_rate_hz)
        downmix, resample = Downmix("mono"), Resample(self.sample_rate_hz, self.resampler)
        parts: list[npt.NDArray[np.float32]] = []
        for chunks in decode(plan):
            table = resample(downmix(chunks))
            rows = table.select(["reason", "detail", "lead", "core_frames"]).to_pylist()
            for row, samples in zip(rows, list_values(table["samples"]), strict=True):
                if row["reason"] is not None:
                    raise self._unusable(collection, path, f"{row['reason']}: {row['detail']}")
                lead = row["lead"] or 0
                parts.append(samples[lead : lead + (row["core_frames"] or 0)])
        y = np.concatenate([np.empty(0, np.float32), *parts])
        if not len(y):
            raise self._unusable(collection, path, "it has no samples")
        if not np.isfinite(y).all():
            raise self._unusable(collection, path, "it has samples that are not finite numbers")
        return y

    def _unusable(self, collection: str, path: str, why: str) -> StageError:
        return StageError(
            f"{self.roots[collection].uri(path)} of noises {collection!r} cannot be used ({why}); repair or remove the file, or name it in"
            " `exclude`, then build again"
        )
