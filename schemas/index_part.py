"""Define the parts that a snapshot's index and manifest lie in, and how shards are divided among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from clipmill.schemas.layout import index_path
from clipmill.schemas.record_parsing import as_object, parse

MAX_SHARDS = 256
"""Number of shards in a part, at most. A night with one changed recording writes one part again."""


@dataclass(frozen=True)
class TableFile:
    """One table of a part. Its file is named by its digest, so equal tables of successive snapshots are one file."""

    sha256: str
    size_bytes: int
    rows: int


@dataclass(frozen=True)
class Part:
    """Describe the shards of a split whose partitions begin with the same bits.

    prefix : ``b`` and these bits
    id : digest of what the part holds, by which the next build knows that nothing in it has changed
    shards, clips : how many it holds
    tables : its files by name, see `clipmill.schemas.index`; tables without rows have none
    """

    split: str
    prefix: str
    id: str
    shards: int
    clips: int
    tables: dict[str, TableFile] = field(default_factory=dict)

    def path(self, table: str) -> str:
        """Return the path of a table that the part has."""
        return index_path(self.split, self.prefix, self.tables[table].sha256, table)

    @property
    def paths(self) -> dict[str, int]:
        """Return the sizes of its files in bytes, by path."""
        return {self.path(name): file.size_bytes for name, file in self.tables.items()}

    @staticmethod
    def nested(plain: Any) -> dict[str, Any]:
        """Return the plain data of a part with its files as records. Raises BadRecordError."""
        about = as_object(plain, "parts")
        tables = as_object(about.get("tables", {}), "parts.tables")
        return {**about, "tables": {n: parse(TableFile, t, f"parts.tables.{n}") for n, t in tables.items()}}


def divide(partitions: Iterable[str], max_shards: int | None = None) -> list[tuple[str, int]]:
    """Divide the shards of a split into parts: by their leading bits, until each part has at most `max_shards`.

    partitions : of the shards, sorted; none begins with another
    max_shards : None: `MAX_SHARDS`

    Returns
    -------
    (prefix, shards) : of each part, sorted; what a part holds depends on the partitions alone
    """
    return _divide(list(partitions), "b", max_shards or MAX_SHARDS)


def _divide(partitions: Sequence[str], prefix: str, max_shards: int) -> list[tuple[str, int]]:
    if not partitions:
        return []
    if len(partitions) <= max_shards or len(prefix) > 64:
        return [(prefix, len(partitions))]
    cut = sum(name < f"{prefix}1" for name in partitions)
    return [
        *_divide(partitions[:cut], f"{prefix}0", max_shards),
        *_divide(partitions[cut:], f"{prefix}1", max_shards),
    ]
