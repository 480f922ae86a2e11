"""Sides: which recordings stand on another side of the split than in the last snapshot.

A split whose name begins with `train` is for training, every other one for evaluating. What a model was trained on must not
judge it, so moves between the two hold a build back (`limits.max_side_changes`). Shards that both states name are the same, so only
the others are looked into.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from clipmill.pipelines.dataset.outcomes import recordings_of
from clipmill.pipelines.dataset.records_io import sound_commits
from clipmill.schemas.errors import ClipmillError, StorageError
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Commit, Snapshot
from clipmill.stages.storage.root import Root

_TRAINING = "train"
_SHOWN = 3
_AT_ONCE = 32
_TO, _AND = " to ", " and "

Stood = tuple[str, str, str]
"""A recording's id, its version and the split that it stands on."""


@dataclass
class SideChanges:
    """Recordings that are in both states, on different sides.

    moves : how many, by "train to test"; "test and val to test" of one whose annotated rows stand on several sides
    examples : ids of some that move between training and evaluation
    shards_unknown : shards of which it is not known which recordings they hold
    """

    moves: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    shards_unknown: int = 0

    @property
    def crossing(self) -> int:
        """How many move between training and evaluation."""
        return crossing(self.moves)


def is_training(split: str) -> bool:
    """Return whether a split is for training by its name."""
    return split.lower().startswith(_TRAINING)


def crossing(moves: dict[str, int]) -> int:
    """Return how many of the moves are between training and evaluation."""
    return sum(n for move, n in moves.items() if _crosses(*(set(side.split(_AND)) for side in move.split(_TO))))


def describe_moves(moves: dict[str, int], verb: str) -> str:
    """Return ``12 recordings move from train to test, 1 from val to train``. verb : that of several; "move" or "moved" """
    parts = []
    for i, (move, n) in enumerate(sorted(moves.items(), key=lambda item: (-item[1], item[0]))):
        told = verb + "s" if verb == "move" and n == 1 else verb
        parts.append(f"{counted(n, 'recording')} {told} from {move}" if i == 0 else f"{n:,} from {move}")
    return ", ".join(parts)


def compare(before: Iterable[Stood], after: Iterable[Stood]) -> SideChanges:
    """Return what moved between two states. A recording is known by its id, and by its content where its version is that."""
    old, old_content = _sides(before)
    new, new_content = _sides(after)
    pairs = [(name, old[name], new[name]) for name in old.keys() & new.keys()]
    for content in old_content.keys() & new_content.keys():
        went, came = old_content[content] - new.keys(), new_content[content] - old.keys()
        if went and came:
            sides = frozenset().union(*(old[name] for name in went))
            pairs += [(name, sides, new[name]) for name in came]
    found = SideChanges()
    for name, was, is_now in sorted(pairs):
        if was == is_now:
            continue
        move = _AND.join(sorted(was)) + _TO + _AND.join(sorted(is_now))
        found.moves[move] = found.moves.get(move, 0) + 1
        if _crosses(was, is_now) and len(found.examples) < _SHOWN:
            found.examples.append(name)
    found.moves = dict(sorted(found.moves.items()))
    return found


def built_changes(root: Root, last: Snapshot, commits: list[Commit]) -> SideChanges:
    """Return which recordings of the last snapshot stand on another side in the shards of a build."""
    known = set(last.commits)
    come = [c for c in commits if c.key not in known]
    gone, lost = shards_gone(root, last, {c.key for c in commits})
    changes = changes_between(root, gone, come)
    changes.shards_unknown += lost
    return changes


def changes_between(root: Root, gone: list[Commit], come: list[Commit]) -> SideChanges:
    """Return which recordings of the shards of one state stand on another side in those of the other."""
    # Shards with equal clips keys hold the same recordings on the same side.
    same = {c.clips_key for c in gone} & {c.clips_key for c in come} - {""}
    before, unknown = stood(root, [c for c in gone if c.clips_key not in same])
    after, unknown_too = stood(root, [c for c in come if c.clips_key not in same])
    changes = compare(before, after)
    changes.shards_unknown = unknown + unknown_too
    return changes


def shards_gone(root: Root, last: Snapshot, keys: set[str]) -> tuple[list[Commit], int]:
    """Return the shards of a snapshot that are not among the keys, and how many of them cannot be read."""
    wanted = set(last.commits) - keys
    found = list(sound_commits(root, wanted).values()) if wanted else []
    return found, len(wanted) - len(found)


def stood(root: Root, commits: list[Commit]) -> tuple[list[Stood], int]:
    """Return where the recordings of shards stand that have clips, and how many of the shards do not say."""

    def read(commit: Commit) -> list[Stood] | None:
        if commit.output("recordings") is None:
            return None
        try:
            rows = recordings_of(root, commit)
        except StorageError:
            raise
        except ClipmillError:
            return None
        return [(row["recording_id"], row["version"], commit.split) for row in rows if row["clips"]]

    if root.is_local or len(commits) < 2:
        found = [read(commit) for commit in commits]
    else:
        with ThreadPoolExecutor(_AT_ONCE) as pool:  # a store takes its time for each, however small
            found = list(pool.map(read, commits))
    told = [rows for rows in found if rows is not None]
    return [row for rows in told for row in rows], len(found) - len(told)


def _sides(stood: Iterable[Stood]) -> tuple[dict[str, frozenset[str]], dict[str, set[str]]]:
    """Return the sides by recording, and the recordings by content where it is known."""
    single: dict[str, frozenset[str]] = {}
    sides: dict[str, frozenset[str]] = {}
    by_content: dict[str, set[str]] = {}
    for name, version, split in stood:
        side = single.setdefault(split, frozenset([split]))
        known = sides.get(name)
        sides[name] = side if known is None or known == side else known | side
        if version.startswith("sha256-"):
            by_content.setdefault(version, set()).add(name)
    return sides, by_content


def _crosses(was: Iterable[str], is_now: Iterable[str]) -> bool:
    return {is_training(side) for side in was} != {is_training(side) for side in is_now}
