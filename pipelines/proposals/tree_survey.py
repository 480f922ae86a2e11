"""List a folder: the recordings, and the files beside them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from clipmill.pipelines.plan.annotations.join import Join
from clipmill.pipelines.plan.inventory import most_first, take_inventory
from clipmill.pipelines.plan.recording_list import RecordingList
from clipmill.schemas.config import Config, Source
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.plural import counted
from clipmill.stages.storage.root import Root, split_name

_SHOWN = 8
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass
class Tree:
    """What a folder holds.

    address : of the folder: absolute, or a URL
    recordings : files that are audio by name
    others : paths of all other files, sorted
    n_refused : number of files that no build would read: links that lead out, names that are not text
    """

    address: str
    root: Root
    recordings: RecordingList
    others: list[str]
    n_refused: int = 0
    by_extension: Counter[str] = field(default_factory=Counter)

    @cached_property
    def paths(self) -> list[str]:
        """Paths of all recordings, sorted."""
        return self.recordings.paths

    @cached_property
    def join(self) -> Join:
        """What finds the recording that a table names."""
        return Join(self.paths)

    @property
    def name(self) -> str:
        """Name of the folder as that of a dataset or a source."""
        last = self.address.rstrip("/").rpartition("/")[2]
        return _NOT_A_NAME.sub("-", last).strip("-_")[:40].strip("-_") or "corpus"

    def text(self) -> list[str]:
        """Return lines on the extensions of recordings and of other files."""
        lines = [f"{counted(len(self.paths), 'recording')}: {_listed(self.by_extension)}"]
        if self.n_refused:
            lines[0] += (
                f"; {counted(self.n_refused, 'file')} of other kinds (links that lead out, names that are not text) cannot be read"
            )
        if self.others:
            kinds = Counter(
                f".{split_name(path)[2]}" if split_name(path)[2] else "no extension" for path in self.others
            )
            lines.append(f"{counted(len(self.others), 'file')} of other kinds: {_listed(kinds)}")
        return lines


def _listed(kinds: Counter[str]) -> str:
    every = most_first(kinds)
    shown = [f"{n:,} {name}" for name, n in list(every.items())[:_SHOWN]]
    rest = sum(list(every.values())[_SHOWN:])
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")


def survey(address: str) -> Tree:
    """List a folder.

    Raises
    ------
    ConfigError : it has no audio
    ClipmillError : it cannot be listed
    """
    # A sidecar that no recording has, so that the inventory keeps all other files too.
    source = Source.model_validate({"name": "listed", "root": address, "annotations": {"sidecar": "{stem}.none"}})
    root = Root(address)
    inventory = take_inventory(source, root)
    by_extension = Counter(f".{split_name(path)[2]}" for path in inventory.recordings.paths)
    others = sorted(path for path in inventory.other_files if path.isprintable() or _is_text(path))
    tree = Tree(address, root, inventory.recordings, others, len(inventory.refusals), by_extension)
    if not tree.paths:
        there = f"; it has {'; '.join(tree.text()[1:])}" if others else ""
        raise ConfigError(
            f"no audio under {address}{there}; clipmill knows audio by the extension of its file. Files without a header (.raw, .pcm) need"
            " `raw`, and files with other extensions `include`: see docs/configuration.md",
            code="usage",
        )
    return tree


def bare_config(tree: Tree) -> Config:
    """Return a configuration that reads a tree and nothing else."""
    return Config.model_validate(
        {"name": "init", "sources": [{"name": tree.name, "root": tree.address}], "output": {"root": "none"}}
    )


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
