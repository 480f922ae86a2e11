"""What commands say of a build of a few recordings."""

from __future__ import annotations

from collections.abc import Mapping

from clipmill.pipelines.run.limits import NOT_JUDGED
from clipmill.schemas.plural import counted


def describe_limited(limited: Mapping[str, int], root: str) -> list[str]:
    """Return the lines about how much is read and where it goes; none for a whole dataset.

    limited : as in a snapshot
    root : where the build writes to
    """
    if not limited:
        return []
    asked, n, n_all = limited["asked"], limited["recordings"], limited["recordings"] + limited["recordings_left_out"]
    which = f"{n:,} of {counted(n_all, 'recording')}, as many of each source, chosen by the hashes of their names"
    if n == n_all:
        which = f"{'all ' if n != 1 else ''}{counted(n, 'recording')}" + (
            f", as there are no {asked:,}" if asked > n else ""
        )
    lists = f"{', '.join(NOT_JUDGED[:-1])} and {NOT_JUDGED[-1]}"
    return [
        f"limit        {which}",
        f"             into {root}, a dataset of its own; output.root stays as it is",
        f"             not judged: limits.{lists}; other limits are warnings",
    ]
