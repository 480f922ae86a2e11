"""Choose the clips of an audit: at random, spread over splits, sources and recordings, always the same ones for a seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.index_parts import IndexPart, in_turn
from clipmill.pipelines.dataset.published import Published

_COLUMNS = ("clip_id", "recording_id", "source", "split", "shard")
_Candidate = tuple[int, dict[str, Any]]


def choose_clips(published: Published, n: int, seed: int) -> list[dict[str, Any]]:
    """Return clips of a snapshot: rows of its manifest with clip_id, recording_id, source, split and shard, sorted by shard and id.

    Splits and sources take turns, and within them recordings. Memory does not depend on the number of clips.

    Parameters
    ----------
    n : number of clips; all if there are no more
    seed : another one gives other clips

    Raises
    ------
    ClipmillError : a part of the index is missing or damaged
    """
    salt = hashlib.sha256(f"clipmill audit {seed}".encode())
    groups: dict[tuple[str, str], list[_Candidate]] = {}

    def candidates(part: IndexPart) -> dict[tuple[str, str], list[_Candidate]]:
        return _least(part.table("manifest", list(_COLUMNS)), n, salt)

    for found in in_turn(published.root, candidates, published.parts):
        for place, more in found.items():
            groups[place] = sorted([*groups.get(place, []), *more], key=_rank)[:n]
    lines = [_by_turns_of_recordings(groups[place]) for place in sorted(groups)]
    chosen: list[dict[str, Any]] = []
    for turn in range(max(map(len, lines), default=0)):
        chosen += [line[turn] for line in lines if turn < len(line)]
        if len(chosen) >= n:
            break
    return sorted(chosen[:n], key=lambda row: (row["shard"], row["clip_id"]))


def _rank(candidate: _Candidate) -> tuple[int, str]:
    return candidate[0], candidate[1]["clip_id"]


def _least(table: pa.Table, n: int, salt: Any) -> dict[tuple[str, str], list[_Candidate]]:
    """Return by split and source the n clips whose salted hashes are the least."""
    chances = _chances(table["clip_id"].to_pylist(), salt)
    found: dict[tuple[str, str], list[_Candidate]] = {}
    for pair in (
        table.select(["split", "source"]).group_by(["split", "source"], use_threads=False).aggregate([]).to_pylist()
    ):
        split, source = pair["split"], pair["source"]
        is_here = pc.and_(pc.equal(table["split"], split), pc.equal(table["source"], source))
        rows = np.flatnonzero(is_here.to_numpy())
        least = rows[np.argsort(chances[rows], kind="stable")[:n]]
        found[split, source] = list(zip(chances[least].tolist(), table.take(least).to_pylist(), strict=True))
    return found


def _chances(ids: list[str], salt: Any) -> npt.NDArray[np.uint64]:
    def chance(clip_id: str) -> bytes:
        own = salt.copy()
        own.update(clip_id.encode())
        digest: bytes = own.digest()[:8]
        return digest

    return np.frombuffer(b"".join(map(chance, ids)), np.uint64)


def _by_turns_of_recordings(candidates: list[_Candidate]) -> list[dict[str, Any]]:
    """Return clips such that one of each recording comes first, then a second one, and so on."""
    seen: Counter[str] = Counter()
    turns: list[tuple[int, dict[str, Any]]] = []
    for _, row in candidates:
        turns.append((seen[row["recording_id"]], row))
        seen[row["recording_id"]] += 1
    return [row for _, row in sorted(turns, key=lambda turn: turn[0])]
