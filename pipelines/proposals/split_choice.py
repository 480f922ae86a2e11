"""Propose a split: the corpus's own, if there is one, otherwise shares that keep together what belongs together."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from clipmill.pipelines.proposals.cell_sample import HEAD_BYTES, sample_cells
from clipmill.pipelines.proposals.column_guesses import ALL
from clipmill.pipelines.proposals.commented_yaml import Instead, Part
from clipmill.pipelines.proposals.name_patterns import SPLIT_WORDS, Piece
from clipmill.pipelines.proposals.tree_survey import Tree
from clipmill.schemas.plural import counted
from clipmill.stages.annotations.file_text import decode_text
from clipmill.stages.annotations.rows import UnreadableError
from clipmill.stages.storage.root import split_name

_FEW, _MANY = 10, 100_000
_MOST_FOLDS = 20
_ENOUGH = 0.8
_MOST_LISTS = 40
_LONGEST = 40
_WORDS = re.compile(r"[a-z]+")
_LIST_EXTENSIONS = ("txt", "lst", "list", "csv", "tsv", "scp")


@dataclass
class Groups:
    """What must not be torn apart.

    by : recording, or a field
    n : number of groups, as far as looked at
    labels : number of groups by label; empty if a group has several labels, or if there are none
    because : what speaks for it
    """

    by: str = "recording"
    n: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    because: str = ""


@dataclass
class Lists:
    """Files that list the recordings of splits.

    files : by side, as `split.from_files`; empty unless one is for validation or tests
    others : paths of further lists of a side that has one
    """

    files: dict[str, Any] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


def find_lists(tree: Tree) -> Lists:
    """Return the files that list recordings, of those with the name of a split, the nearest to the root first."""
    recordings = {split_name(path)[:2] for path in tree.paths}
    named: list[tuple[str, str]] = []
    for path in tree.others:
        folder, stem, extension = split_name(path)
        sides = {SPLIT_WORDS[word] for word in _WORDS.findall(stem.lower()) if word in SPLIT_WORDS}
        if extension in _LIST_EXTENSIONS and len(sides) == 1 and (folder, stem) not in recordings:
            named.append((sides.pop(), path))
    found = Lists()
    for side, path in sorted(named, key=lambda one: (one[1].count("/"), one[1]))[:_MOST_LISTS]:
        try:
            one = _list_of(tree, path, tree.root.read_bytes(path, HEAD_BYTES))
        except tree.root.errors:
            continue
        if one is not None and side in found.files:
            found.others.append(path)
        elif one is not None:
            found.files[side] = one
    return found if set(found.files) - {"train"} else Lists()


def _list_of(tree: Tree, path: str, content: bytes) -> Any:
    """Return a list as a value of `from_files`: a path, or a path and a column; None if it names no recordings."""
    try:
        text = decode_text(content, "auto", is_whole=False)
    except UnreadableError:
        return None
    whole = [line.strip() for line in text.splitlines()[:400] if line.strip()]
    if not whole:
        return None
    if sum(tree.join.find(line)[0] is not None for line in whole) >= _ENOUGH * len(whole):
        return path
    sample = sample_cells([(path, content, len(content) < HEAD_BYTES)], ALL)
    for column in sample.columns if sample is not None else []:
        cells = column.cells[:400]
        if cells and sum(tree.join.find(cell)[0] is not None for cell in cells) >= _ENOUGH * len(cells):
            return {"file": path, "column": column.where}
    return None


def split_by_lists(lists: Lists) -> Part:
    """Return a split by files that list recordings."""
    value: dict[str, Any] = {"from_files": lists.files}
    missing = [side for side in ("train", "test") if side not in lists.files]
    if missing:
        value["default"] = missing[0]
    names = ", ".join(repr(one["file"] if isinstance(one, dict) else one) for one in lists.files.values())
    because = [f"the corpus lists the recordings of its splits: {names}"]
    if lists.others:
        others = ", ".join(map(repr, lists.others[:3])) + ", ..." * (len(lists.others) > 3)
        because.append(f"other lists of the same splits are not used: {others}")
    return Part("split", value, because)


def split_by_values(name: str, values: Counter[str], of: str, is_all: bool) -> Part | None:
    """Return a split by a field whose values are splits, or a few folds; None if they are neither.

    name : of the field; of : where the values are from; is_all : whether these are all values
    """
    words = {value: SPLIT_WORDS[value.lower()] for value in values if value.lower() in SPLIT_WORDS}
    shown = ", ".join(f"{value!r} {n:,}" for value, n in sorted(values.items())[:10])
    if len(words) == len(values) > 1:
        value: dict[str, Any] = {"from": name, "map": dict(sorted(words.items()))}
        return Part("split", value, [f"{of} is the corpus's own split: {shown}"])
    folds = sorted(values, key=lambda fold: (len(fold), fold))
    if not (
        3 <= len(values) <= _MOST_FOLDS and all(re.search(r"\d", fold) and len(fold) <= _LONGEST for fold in folds)
    ):
        return None
    mapped = {**dict.fromkeys(folds[:-2], "train"), folds[-2]: "val", folds[-1]: "test"}
    value = {"from": name, "map": mapped, **({} if is_all else {"default": "train"})}
    return Part(
        "split",
        value,
        [
            f"{of} looks like folds for cross-validation: {shown}; the last is test and the one before val, which is a choice: change the map"
            " for another round"
        ],
    )


def split_by_folder(piece: Piece) -> Part | None:
    """Return a split by a level of folders."""
    return split_by_values("set", piece.values, "a level of folders", True)


def split_by_shares(groups: Groups) -> Part:
    """Return a split by shares of what must not be torn apart."""
    because = [groups.because] if groups.because else []
    if groups.n < 2:
        return Part("split", {"train": 1.0}, [*because, "there is only one group, so nothing can be held out"])
    if groups.n == 2:
        value: dict[str, Any] = {"train": 0.5, "test": 0.5}
    elif groups.n < _FEW:
        value = {"train": 0.6, "val": 0.2, "test": 0.2}
        because.append(f"with {counted(groups.n, 'group')}, each side gets whole ones, and at least one")
    else:
        value = {"train": 0.8, "val": 0.1, "test": 0.1}
    n_sides = len(value)
    value["by"] = groups.by
    by_hash = {**value, "method": "rendezvous"}
    instead = []
    if groups.n > _MANY:
        value["method"] = "rendezvous"
        because.append("no group changes sides as the corpus grows")
    elif groups.labels and min(groups.labels.values()) >= (n_sides if groups.by == "recording" else _FEW):
        value["stratify"] = "label"
        because.append("each label is divided by the shares separately")
        instead.append(Instead("or so that none changes sides as the corpus grows", by_hash))
    else:
        value["balance"] = True
        because.append("shares are met within one group; new recordings can move a group at a border")
        if groups.n >= 10 * _FEW:
            instead.append(Instead("or so that none changes sides as the corpus grows", by_hash))
    return Part("split", value, because, instead)
