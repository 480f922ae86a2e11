"""Check another part of a dataset in each build, so that all of it is read once in some number of builds."""

from __future__ import annotations

from clipmill.pipelines.dataset.verify import Verdict, verify
from clipmill.schemas.layout import BUILDS, FORMAT_VERSION
from clipmill.schemas.seal import sealed, unsealed
from clipmill.stages.storage.root import Root

ROTATION_FILE = f"{BUILDS}/verified"


def verify_next(root: Root, number: int, n_parts: int) -> tuple[Verdict, int]:
    """Check the next of the parts of a snapshot, and mark what is damaged in it. The index and the tables are checked each time.

    Parameters
    ----------
    number : of the snapshot
    n_parts : into how many parts its shards are divided, by their keys

    Returns
    -------
    the verdict, and which part it is on

    Raises
    ------
    ClipmillError : the snapshot cannot be read
    """
    part = _next_part(root, n_parts)
    verdict = verify_part(root, number, part, n_parts)
    root.write_bytes(ROTATION_FILE, sealed({"format_version": FORMAT_VERSION, "parts": n_parts, "checked": part}))
    return verdict, part


def verify_part(root: Root, number: int, part: int, n_parts: int) -> Verdict:
    """Check one part of a snapshot. Parameters and errors as for `verify_next`."""
    *_, verdict = verify(root, number, lambda key: int(key[:8], 16) % n_parts == part)
    return verdict


def _next_part(root: Root, n_parts: int) -> int:
    """Return the part after the one that was checked last; the first one if that is not known, or if there were other parts."""
    try:
        record = unsealed(root.read_bytes(ROTATION_FILE), must_be_sealed=True)
        return (int(record["checked"]) + 1) % n_parts if record["parts"] == n_parts else 0
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0
