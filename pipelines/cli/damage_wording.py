"""Put into words what was damaged and mended, and what versions made a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipmill.schemas.plural import counted

_SHOWN = 3


def describe_versions(versions: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a line if shards were made by several versions of a library. versions : by library, the number of shards by version"""
    mixed = {library: found for library, found in versions.items() if len(found) > 1}
    if not mixed:
        return []
    parts = [f"{library} {', '.join(f'{v} ({n:,})' for v, n in found.items())}" for library, found in mixed.items()]
    return [f"versions     shards were made by several versions: {'; '.join(parts)}"]


def describe_mending(report: Mapping[str, Any]) -> list[str]:
    """Return lines about what a build found damaged and made anew. report : `Report.to_dict`"""
    lines = []
    if n := report["shards_healed"]:
        lines.append(f"mended       {counted(n, 'damaged shard')} made anew, byte for byte")
    if n := report["shards_renewed"]:
        lines.append(
            f"mended       {counted(n, 'damaged shard')} could not be made as before (by other versions of libraries, for example), so"
            f" {'it is a new shard' if n == 1 else 'they are new shards'}; older snapshots that name {'it' if n == 1 else 'them'} stay damaged"
        )
    if paths := report["index_damaged"]:
        more = f" and {len(paths) - _SHOWN:,} more" if len(paths) > _SHOWN else ""
        lines.append(f"mended       damaged files of the index: {', '.join(paths[:_SHOWN])}{more}")
    if report["upgraded"]:
        lines.append(
            "upgraded     the records now have digests and an index; older versions of clipmill cannot read them any more"
        )
    if (verified := report["verified"]) is not None:
        damage = counted(verified["problems"], "problem") if verified["problems"] else "all as committed"
        lines.append(f"verified     {verified['shards']:,} of {counted(verified['of_shards'], 'shard')}: {damage}")
    return lines
