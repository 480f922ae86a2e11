"""Find recordings that moved to another split since the last snapshot.

A split whose name begins with `train` is for training, every other one for evaluation. A model must not be evaluated on what it was
trained on, so moves between the two stop a build from being published (`limits.max_side_changes`). Shards that both states name are equal,
so only the others are read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from clipmill.pipelines.dataset.index_parts import StoredPart, in_turn, shards_of
from clipmill.pipelines.dataset.outcomes import recordings_of
from clipmill.pipelines.dataset.records_io import sound_commits
from clipmill.pipelines.dataset.shard_set import ShardSet, parts_of
from clipmill.schemas.config.split_config import is_training as is_training
from clipmill.schemas.errors import ClipmillError, StorageError
from clipmill.schemas.index import Shard
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Commit, Snapshot
from clipmill.stages.storage.root import Root

_SHOWN = 3
_TO, _AND = " to ", " and "

Placement = tuple[str, str, str]
"""A recording's id, its version and its split."""


@dataclass
class SideChanges:
    """Recordings that are in both states, but in different splits.

    moves : number of recordings by move, as "train to test"; "test and val to test" if annotated rows were in several splits
    examples : ids of some recordings that moved between training and evaluation
    shards_unknown : number of shards whose recordings are unknown
    """

    moves: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    shards_unknown: int = 0

    @property
    def crossing(self) -> int:
        """Number of recordings that moved between training and evaluation."""
        return crossing(self.moves)


def crossing(moves: dict[str, int]) -> int:
    """Return the number of recordings that moved between training and evaluation."""
    return sum(n for move, n in moves.items() if _crosses(*(set(side.split(_AND)) for side in move.split(_TO))))


def describe_moves(moves: dict[str, int], verb: str) -> str:
    """Return ``12 recordings move from train to test, 1 from val to train``. verb : "move" or "moved" """
    parts = []
    for i, (move, n) in enumerate(sorted(moves.items(), key=lambda item: (-item[1], item[0]))):
        inflected = verb + "s" if verb == "move" and n == 1 else verb
        parts.append(f"{counted(n, 'recording')} {inflected} from {move}" if i == 0 else f"{n:,} from {move}")
    return ", ".join(parts)


def compare(before: Iterable[Placement], after: Iterable[Placement]) -> SideChanges:
    """Return what moved between two states. Recordings are matched by id, and by content if the version is a hash of it."""
    old, old_content = _sides(before)
    new, new_content = _sides(after)
    pairs = [(name, old[name], new[name]) for name in old.keys() & new.keys()]
    for content in old_content.keys() & new_content.keys():
        old_names, new_names = old_content[content] - new.keys(), new_content[content] - old.keys()
        if old_names and new_names:
            sides = frozenset().union(*(old[name] for name in old_names))
            pairs += [(name, sides, new[name]) for name in new_names]
    changes = SideChanges()
    for name, before_sides, after_sides in sorted(pairs):
        if before_sides == after_sides:
            continue
        move = _AND.join(sorted(before_sides)) + _TO + _AND.join(sorted(after_sides))
        changes.moves[move] = changes.moves.get(move, 0) + 1
        if _crosses(before_sides, after_sides) and len(changes.examples) < _SHOWN:
            changes.examples.append(name)
    changes.moves = dict(sorted(changes.moves.items()))
    return changes


def built_changes(root: Root, last: Snapshot, shards: ShardSet, shared: Collection[str] = ()) -> SideChanges:
    """Return which recordings of the last snapshot are in another split in the shards of a build.

    shared : ids of the parts of the last index that the build's index has as well, in which there are no other shards
    """
    keys, known = shards.keys, set(last.commits)
    added = [Shard.of(Commit.from_content(shards.content_of(key))) for key in keys if key not in known]
    removed, n_unreadable = find_removed_shards(root, last, set(keys), shared)
    changes = changes_between(root, removed, added)
    changes.shards_unknown += n_unreadable
    return changes


def changes_between(root: Root, removed: Sequence[Shard], added: Sequence[Shard]) -> SideChanges:
    """Return which recordings of the removed shards are in another split in the added ones."""
    # Shards with equal clips keys hold the same recordings in the same split.
    same = {c.clips_key for c in removed} & {c.clips_key for c in added} - {""}
    before, n_unknown_before = read_placements(root, [c for c in removed if c.clips_key not in same])
    after, n_unknown_after = read_placements(root, [c for c in added if c.clips_key not in same])
    changes = compare(before, after)
    changes.shards_unknown = n_unknown_before + n_unknown_after
    return changes


def find_removed_shards(
    root: Root, last: Snapshot, keys: set[str], shared: Collection[str] = ()
) -> tuple[list[Shard], int]:
    """Return the shards of a snapshot that are not among the keys, and the number of those that cannot be read.

    shared : ids of parts of its index that are known to hold none
    """
    removed = set(last.commits) - keys
    if not removed:
        return [], 0
    if last.format_version == 1:
        shards = [Shard.of(commit) for commit in sound_commits(root, removed).values()]
    else:
        shards = []
        for part in parts_of(root, last):
            if isinstance(part, StoredPart) and part.part.id in shared:
                continue
            with contextlib.suppress(ClipmillError):  # those of a damaged part are counted below
                keys_in = part.table("shards", ["key"])["key"].to_pylist()
                if removed.intersection(keys_in):
                    shards += [shard for shard in shards_of(root, [part]) if shard.key in removed]
    return shards, len(removed) - len(shards)


def read_placements(root: Root, shards: Sequence[Shard]) -> tuple[list[Placement], int]:
    """Return the placements of recordings that have clips, and the number of shards whose recordings are unknown."""

    def read(shard: Shard) -> list[Placement] | None:
        if shard.output("recordings") is None:
            return None
        try:
            rows = recordings_of(root, shard)
        except StorageError:
            raise
        except ClipmillError:
            return None
        return [(row["recording_id"], row["version"], shard.split) for row in rows if row["clips"]]

    placements = list(in_turn(root, read, shards))
    known = [rows for rows in placements if rows is not None]
    return [row for rows in known for row in rows], len(placements) - len(known)


def _sides(placements: Iterable[Placement]) -> tuple[dict[str, frozenset[str]], dict[str, set[str]]]:
    """Return the splits by recording, and the recordings by content hash where it is known."""
    single: dict[str, frozenset[str]] = {}
    sides: dict[str, frozenset[str]] = {}
    by_content: dict[str, set[str]] = {}
    for name, version, split in placements:
        side = single.setdefault(split, frozenset([split]))
        known = sides.get(name)
        sides[name] = side if known is None or known == side else known | side
        if version.startswith("sha256-"):
            by_content.setdefault(version, set()).add(name)
    return sides, by_content


def _crosses(before: Iterable[str], after: Iterable[str]) -> bool:
    return {is_training(side) for side in before} != {is_training(side) for side in after}
