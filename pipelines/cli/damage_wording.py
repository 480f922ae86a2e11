"""Put into words what was damaged and repaired, and what versions made a dataset."""

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
    """Return lines about what a build found damaged and repaired. report : `Report.to_dict`"""
    lines = []
    if n := report["shards_healed"]:
        lines.append(f"repaired     {counted(n, 'damaged shard')}, byte for byte")
    if n := report["shards_renewed"]:
        lines.append(
            f"repaired     {counted(n, 'damaged shard')} came out with different bytes (other versions of libraries, for example), so"
            f" {'it was replaced by a new shard' if n == 1 else 'they were replaced by new shards'}; older snapshots still name the damaged"
            f" {'one' if n == 1 else 'ones'}"
        )
    if n := report["donors_unusable"]:
        lines.append(
            f"decoded      {counted(n, 'shard')} could not be made from committed clips, which are damaged or lack something; `clipmill verify`"
            " tells which are damaged"
        )
    if paths := report["index_damaged"]:
        more = f" and {len(paths) - _SHOWN:,} more" if len(paths) > _SHOWN else ""
        lines.append(f"repaired     damaged files of the index: {', '.join(paths[:_SHOWN])}{more}")
    if report["upgraded"]:
        lines.append(
            "upgraded     the records now have digests and an index; older versions of clipmill cannot read them any more"
        )
    if (verified := report["verified"]) is not None:
        n = len(verified["problems"])
        damage = f"{counted(n, 'problem')}, {len(verified.get('unrepaired', ())):,} left" if n else "all as committed"
        lines.append(f"verified     {verified['shards']:,} of {counted(verified['of_shards'], 'shard')}: {damage}")
    return lines
