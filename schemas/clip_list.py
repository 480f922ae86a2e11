"""Read lists of clip ids: one on each line, `#` starts a comment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_LIST_BYTES = 64 << 20
CLIP_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
"""What ids of clips are made of, see `clipmill.schemas.keys.clip_id`."""


@dataclass(frozen=True)
class ClipList:
    """What a list says.

    ids : the line of each id, from 1, in the order of the lines
    wrong : lines that hold something else, with their numbers
    n_repeated : lines with an id that an earlier line has
    """

    ids: dict[str, int] = field(default_factory=dict)
    wrong: list[tuple[int, str]] = field(default_factory=list)
    n_repeated: int = 0


def parse_clip_list(text: str) -> ClipList:
    """Return what a list says. Nothing in a list is an error here."""
    ids: dict[str, int] = {}
    wrong, n_repeated = [], 0
    for number, name in names_in(text):
        if not CLIP_ID.fullmatch(name):
            wrong.append((number, name))
        elif name in ids:
            n_repeated += 1
        else:
            ids[name] = number
    return ClipList(ids, wrong, n_repeated)


def names_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield what stands on each line before a comment, with the line's number; not lines without anything."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if name := line.partition("#")[0].strip():
            yield number, name


def with_changes(text: str, add: list[str], remove: set[str]) -> str:
    """Return a list to which ids are added at the end, and from which lines with other ids are removed. Comments stay as they are."""
    kept = [line for line in text.split("\n") if line.partition("#")[0].strip().removeprefix("\ufeff") not in remove]
    while kept and not kept[-1].strip():
        kept.pop()
    there = {name for _, name in names_in("\n".join(kept))}
    kept += [name for name in dict.fromkeys(add) if name not in there]
    return "".join(f"{line}\n" for line in kept)
