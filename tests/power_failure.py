"""A model of a file system that loses, when the power fails, what was not synced.

What is recorded under a root: names that are given (link, rename), removed (unlink, rmdir) or made (mkdir), syncs of contents and of folders.

What a power failure leaves, by the rules of this model, which are weaker than those of any file system in use:

1. A change of a name is kept if its folder was synced after it.
2. Of other changes any are kept and any are lost, whatever their order, except that changes of one name in one folder are kept in order.
3. A folder whose name is lost is lost with all that is in it. Syncing a folder does not keep its own name.
4. A content is kept if it was synced; otherwise it is empty, torn, or whole.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clipmill.stages.storage.local_files import TEMPORARY_PREFIX


@dataclass(eq=False)
class Content:
    """A file's content. synced_at : number of the event that synced it; None if nothing did"""

    content: bytes
    synced_at: int | None = None


FOLDER = Content(b"", 0)
Pick = Callable[[str, int, int], int]
"""Chooses how many changes of a name are kept, given its path, and the least and the greatest number."""
State = dict[str, Content]


@dataclass
class Trace:
    """Events in their order: (folder, name, what the name stands for from then on) or, for a sync, (folder, "", None)."""

    top: str
    events: list[tuple[str, str, Content | None]] = field(default_factory=list)
    _contents: dict[int, Content] = field(default_factory=dict)

    def _inside(self, path: Any) -> str | None:
        full = os.path.abspath(os.fspath(path))
        return os.path.relpath(full, self.top) if full == self.top or full.startswith(f"{self.top}/") else None

    def name(self, path: Any, what: Content | None) -> None:
        """Record that a name stands for something else from now on."""
        inside = self._inside(path)
        if inside not in (None, "."):
            folder, name = os.path.split(inside)
            self.events.append((folder, name, what))

    def file(self, path: Any) -> Content | None:
        """Return the content of a file that has a name."""
        if self._inside(path) is None:
            return None
        found = self._contents.get(os.stat(path).st_ino)
        now = Path(path).read_bytes()
        return found if found is not None and found.content == now else Content(now)

    def sync(self, handle: int) -> None:
        """Record that a file or a folder was synced."""
        inside = self._inside(os.readlink(f"/proc/self/fd/{handle}"))
        if inside is None:
            return
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            self.events.append(("" if inside == "." else inside, "", None))
        else:
            content = Path(f"/proc/self/fd/{handle}").read_bytes()
            self._contents[os.fstat(handle).st_ino] = Content(content, len(self.events))

    def open_choices(self, at: int) -> dict[str, tuple[int, int]]:
        """Return the names whose fate is open if the power fails before an event, with the least and greatest number of kept changes."""
        return {path: (low, len(ops)) for path, (low, ops) in self._ops(at).items() if low < len(ops)}

    def _ops(self, at: int) -> dict[str, tuple[int, list[Content | None]]]:
        last_sync = {folder: i for i, (folder, name, _) in enumerate(self.events[:at]) if not name}
        ops: dict[str, list[tuple[int, Content | None]]] = defaultdict(list)
        for i, (folder, name, what) in enumerate(self.events[:at]):
            if name and not name.startswith(TEMPORARY_PREFIX):
                ops[f"{folder}/{name}".lstrip("/")].append((i, what))
        return {
            path: (sum(i < last_sync.get(os.path.dirname(path), -1) for i, _ in found), [what for _, what in found])
            for path, found in ops.items()
        }

    def after(self, at: int, pick: Pick, torn: Callable[[bytes], bytes] = lambda content: b"") -> State:
        """Return the files that are there if the power fails before an event. torn : what is left of contents that were not synced"""
        kept: State = {}
        for path, (low, ops) in self._ops(at).items():
            k = pick(path, low, len(ops)) if low < len(ops) else low
            if k and (what := ops[k - 1]) is not None:
                safe = what is FOLDER or (what.synced_at is not None and what.synced_at <= at)
                kept[path] = what if safe else Content(torn(what.content))
        return {p: c for p, c in kept.items() if c is not FOLDER and all(parent in kept for parent in _parents(p))}

    def states(self, at: int, rng: random.Random, n_random: int = 3) -> Iterator[State]:
        """Yield what can be there if the power fails before an event: all, nothing, each open name alone kept and alone lost, and others."""
        yield self.after(at, lambda _, low, high: high, lambda content: content)
        yield self.after(at, lambda _, low, high: low)
        choices = self.open_choices(at)
        for one in choices if len(choices) > 1 else ():
            yield self.after(at, lambda path, low, high, one=one: low if path == one else high)
            yield self.after(at, lambda path, low, high, one=one: high if path == one else low)
        for _ in range(n_random if len(choices) > 2 else 0):
            yield self.after(
                at, lambda _, low, high: rng.randint(low, high), lambda content: content[: len(content) // 2]
            )


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: k + 1]) for k in range(len(parts))]


@contextmanager
def recorded(top: Path) -> Iterator[Trace]:
    """Record what this process does under a folder."""
    trace = Trace(str(top))
    honest = {name: getattr(os, name) for name in ("fsync", "link", "replace", "rename", "unlink", "mkdir", "rmdir")}

    def moving(name: str) -> Callable[..., None]:
        def move(source: Any, target: Any, **more: Any) -> None:
            what = trace.file(source)
            honest[name](source, target, **more)
            trace.name(target, what)
            if name != "link":
                trace.name(source, None)

        return move

    def ending(name: str) -> Callable[..., None]:
        def end(path: Any, **more: Any) -> None:
            honest[name](path, **more)
            trace.name(path, None)

        return end

    def mkdir(path: Any, *more: Any, **named: Any) -> None:
        honest["mkdir"](path, *more, **named)
        trace.name(path, FOLDER)

    def fsync(handle: int) -> None:
        honest["fsync"](handle)
        trace.sync(handle)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("link", "replace", "rename"):
            patch.setattr(os, name, moving(name))
        for name in ("unlink", "rmdir"):
            patch.setattr(os, name, ending(name))
        patch.setattr(os, "mkdir", mkdir)
        patch.setattr(os, "fsync", fsync)
        yield trace
