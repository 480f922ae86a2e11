"""The shapes that a snapshot's features have, for formats that hold tensors of one shape better than lists."""

from __future__ import annotations

from collections.abc import Iterator

from clipmill.pipelines.dataset.shard_table import shard_tables
from clipmill.pipelines.exports import Export
from clipmill.pipelines.read.clip_source import clips_of_shard
from clipmill.schemas.index import Shard

Shape = tuple[int, ...]


def common_shapes(asked: Export) -> dict[str, Shape | None]:
    """Return the shape of each feature, None where clips have several or no values. All clips of the snapshot count, whatever `where` is."""
    found: dict[str, set[Shape]] = {name: set() for name in asked.published.feature_names}
    for split in asked.splits:
        for shard in asked.published.all_shards(split):
            for name, shape in _shapes(asked, shard, [name for name, shapes in found.items() if len(shapes) < 2]):
                found[name].add(shape)
    return {name: next(iter(of)) if len(of) == 1 and all(next(iter(of))) else None for name, of in found.items()}


def _shapes(asked: Export, shard: Shard, names: list[str]) -> Iterator[tuple[str, Shape]]:
    """Yield the shapes of features in a shard: from the columns of shapes, or from the arrays where there is no Parquet file."""
    published = asked.published
    if not names or not shard.clips_kept:
        return
    if (output := shard.output("parquet")) is None:
        for row in clips_of_shard(published, shard, features=True):
            yield from ((name, row[name].shape) for name in names)
        return
    columns = [f"{name}_shape" for name in names]
    tables = shard_tables(
        published.root, output, published.beside(output), columns, published.names_beside, whole=False
    )
    for table in tables:
        for name in names:
            yield from ((name, shape) for shape in {tuple(shape) for shape in table[f"{name}_shape"].to_pylist()})
