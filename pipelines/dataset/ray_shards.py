"""Shards and the files beside them as a Ray dataset, whose rows are put together where they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from clipmill.pipelines.dataset.shard_table import shard_tables
from clipmill.schemas.records import OutputFile
from clipmill.stages.storage.root import Root

if TYPE_CHECKING:
    import ray.data

_NUMBER = "shard"


@dataclass(frozen=True)
class ShardsInRay:
    """Reads shards, and what lies beside them, in Ray's tasks.

    files : of each shard, its Parquet file and the one beside it
    columns : to read, in this order
    names_beside : columns that lie in the second file
    """

    root: Root
    files: Sequence[tuple[OutputFile, OutputFile | None]]
    columns: Sequence[str]
    names_beside: frozenset[str]

    def dataset(self) -> ray.data.Dataset:
        """Return a Ray dataset of their rows."""
        import ray.data

        numbers = [{_NUMBER: i} for i in range(len(self.files))]
        shards = ray.data.from_items(numbers, override_num_blocks=len(numbers))
        return shards.map_batches(self, batch_size=1, batch_format="pyarrow")

    def __call__(self, numbers: pa.Table) -> Iterator[pa.Table]:
        for number in numbers[_NUMBER].to_pylist():
            file, beside = self.files[number]
            yield from shard_tables(self.root, file, beside, self.columns, self.names_beside)
