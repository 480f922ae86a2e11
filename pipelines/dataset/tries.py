"""Read and change what was tried again: rejected items (`retries.json`), and shards that came out with other bytes (`generations.json`).

Both enter the keys of shards. Several commands may change them at the same time, so each writes only on what it has read.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from clipmill.schemas.errors import ClipmillError, StorageError, describe_bad_record
from clipmill.schemas.layout import FORMAT_VERSION, GENERATIONS_FILE, RETRIES_FILE, Retries
from clipmill.schemas.seal import sealed, unsealed
from clipmill.stages.storage.root import Root

T = TypeVar("T")
Generations = dict[str, int]
"""How often damaged shards were rebuilt with different bytes, by their first clips key."""
_SWAPS = 100
_THEN = {
    RETRIES_FILE: "a record of retries",
    GENERATIONS_FILE: "a record of generations",
}
_WITHOUT = {
    RETRIES_FILE: "restore the file, or remove it and run retry again: clipmill then no longer knows what was retried before",
    GENERATIONS_FILE: "restore the file, or remove it: the next build then makes the shards again that it was for",
}


def read_retries(root: Root) -> Retries:
    """Return which rejected items were tried again; empty if the file is missing.

    Raises
    ------
    ClipmillError : the file is damaged
    """
    return _parsed(root, RETRIES_FILE, _read_if_there(root, RETRIES_FILE), _retries_of)


def read_generations(root: Root) -> Generations:
    """Return how often damaged shards were rebuilt with different bytes; empty if the file is missing.

    Raises
    ------
    ClipmillError : the file is damaged
    """
    return _parsed(root, GENERATIONS_FILE, _read_if_there(root, GENERATIONS_FILE), _generations_of)


def update_retries(root: Root, change: Callable[[Retries], Retries], always: bool = False) -> Retries:
    """Change which rejected items were tried again, and return the result. Entries that others write at the same time are kept.

    change : returns the new entries for the present ones; called again when somebody else was faster
    always : write the file even if nothing has changed, in the present format

    Raises
    ------
    ClipmillError : the file is damaged
    StorageError : others change the file all the time
    """
    return _update(root, RETRIES_FILE, "retries", change, _retries_of, always)


def raise_generations(root: Root, seen: Generations, clips_keys: Collection[str]) -> Generations:
    """Count one more rebuild of these shards, unless another build has counted it, and return the result.

    Parameters
    ----------
    seen : what the build has planned with
    clips_keys : of the shards, as they were at first

    Raises
    ------
    ClipmillError, StorageError : as for `update_retries`
    """

    def raised(now: Generations) -> Generations:
        more = {key: seen.get(key, 0) + 1 for key in clips_keys}
        return {**now, **{key: max(n, now.get(key, 0)) for key, n in more.items()}}

    return _update(root, GENERATIONS_FILE, "generations", raised, _generations_of)


def _update(
    root: Root,
    path: str,
    name: str,
    change: Callable[[dict[str, T]], dict[str, T]],
    parse: Callable[[dict[str, Any]], dict[str, T]],
    always: bool = False,
) -> dict[str, T]:
    for attempt in range(_SWAPS):
        before = _read_if_there(root, path)
        known = _parsed(root, path, before, parse)
        changed = change(known)
        content = sealed({"format_version": FORMAT_VERSION, name: changed})
        if (changed == known and not always) or root.swap_bytes(path, before, content):
            return changed
        time.sleep(random.uniform(0, min(0.01 * 2**attempt, 1.0)))
    raise StorageError(
        f"{root.uri(path)}: other commands have changed it {_SWAPS} times in a row before this one could; run this one again",
        transient=True,
    )


def _read_if_there(root: Root, path: str) -> bytes | None:
    try:
        return root.read_bytes(path)
    except FileNotFoundError:
        return None


def _parsed(
    root: Root, path: str, content: bytes | None, parse: Callable[[dict[str, Any]], dict[str, T]]
) -> dict[str, T]:
    if content is None:
        return {}
    try:
        return parse(unsealed(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ClipmillError(
            f"{root.uri(path)}: not {_THEN[path]} ({describe_bad_record(error)}); {_WITHOUT[path]}", code="root.damaged"
        ) from None


def _retries_of(record: dict[str, Any]) -> Retries:
    # Before records had a digest, the items were all that was in it.
    plain = record["retries"] if "format_version" in record else record
    return {str(item): (str(version), int(n)) for item, (version, n) in plain.items()}


def _generations_of(record: dict[str, Any]) -> Generations:
    return {str(key): int(n) for key, n in record["generations"].items()}
