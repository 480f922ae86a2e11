"""Choose the side of the split by files that list recordings, such as a corpus's own ``testing_list.txt``."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field

from clipmill.pipelines.plan.annotations.join import Join
from clipmill.pipelines.plan.links import check_link
from clipmill.pipelines.plan.listing import Listing
from clipmill.pipelines.plan.refused import RefusedError
from clipmill.pipelines.plan.split_rule import SplitRule
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.config.split_config import ListFile, Split
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.findings import Finding
from clipmill.schemas.forgotten import Forgotten
from clipmill.schemas.keys import digest
from clipmill.schemas.plural import counted
from clipmill.stages.annotations.file_text import decode_text, lines
from clipmill.stages.annotations.rows import MissingColumnError, UnreadableError
from clipmill.stages.annotations.sheet import Sheet
from clipmill.stages.storage.failures import describe_os_error

MAX_LIST_BYTES = 256 << 20
_SHOWN = 100


@dataclass
class _Read:
    """A list as it was read, in one source or in several that share its folder.

    missed : lines that fit no recording so far, with the name and why; n_fitting : number of lines that fit one
    n_repeated : number of those whose recording an earlier line of the split names
    """

    file: str
    key: str
    missed: dict[int, tuple[str, str]] = field(default_factory=dict)
    n_fitting: int = 0
    n_repeated: int = 0


class ListRule(SplitRule):
    """Choose the split of a clip by the lists that name its recording. `read_lists` comes before a source's first clip."""

    def __init__(self, split: Split) -> None:
        super().__init__(split)
        self._lists = split.lists
        self._sides: dict[str, tuple[str, str]] = {}
        self._torn: dict[str, str] = {}
        self._read: dict[tuple[str, str], _Read] = {}
        self._without: list[str] = []

    @property
    def lists_digest(self) -> str:
        """Digest of the sides of the source's recordings."""
        return digest([sorted((name, side) for name, (side, _) in self._sides.items()), sorted(self._torn.items())])

    @property
    def first(self) -> str:
        """The split of a recording without usable rows."""
        return self._default if self._default is not None else next(iter(self._lists))

    def choose(self, recording_id: str, fields: dict[str, str], label: str | None) -> str:
        """Return a recording's split. Raises RefusedError if no list names it and there is no default, or those of two splits do."""
        if (why := self._torn.get(recording_id)) is not None:
            raise RefusedError("split_in_two_lists", why)
        side, _ = self._sides.get(recording_id, (self._default, ""))
        if side is None:
            raise RefusedError("split_not_listed", f"it is in none of {', '.join(self._files())}")
        return side

    def read_lists(self, listing: Listing, forgotten: Forgotten) -> None:
        """Read the lists in a source's tree; a source may lack some. Only its own recordings have a side afterwards.

        Raises
        ------
        ConfigError : a list is unreadable, too large, behind a link that is not followed, or lacks its column
        """
        inventory, source = listing.inventory, listing.source.name
        join, refused = Join(inventory.recordings.paths), Join([r.path for r in inventory.refusals])
        self._sides, self._torn, found = {}, {}, False
        for side, files in self._lists.items():
            for i, one in enumerate(files):
                key = f"split.from_files.{side}" + (f"[{i}]" if len(files) > 1 else "")
                content = _content(listing, one.file, key)
                if content is None:
                    continue
                found = True
                place = listing.root.uri(posixpath.normpath(one.file)), side
                is_new = place not in self._read
                read = self._read.setdefault(place, _Read(one.file, key))
                missed: dict[int, tuple[str, str]] = {}
                for line, name in _names(content, one, key):
                    path, why = join.find(name)
                    if path is not None:
                        read.n_fitting += 1
                        read.n_repeated += self._take(f"{source}/{path}", side, one.file)
                    elif refused.find(name)[0] is not None or (forgotten and forgotten.names_one(source, name)):
                        read.n_fitting += 1
                    elif is_new or line in read.missed:
                        missed[line] = name, why
                read.missed = missed
        if not found:
            self._without.append(source)

    def _take(self, recording: str, side: str, file: str) -> bool:
        """Give a recording its side; return whether it had this one already."""
        before, _ = self._sides.get(recording, ("", ""))
        if before and before != side:
            self._torn.setdefault(recording, f"{before} by {self._sides[recording][1]}, {side} by {file}")
        self._sides.setdefault(recording, (side, file))
        return before == side

    def findings(self) -> list[Finding]:
        """Return warnings about lines and sources that do not fit, after all sources were read.

        Raises
        ------
        ConfigError : a list is in no source, or none of its lines fits a recording
        """
        present = {(read.file, side) for (_, side), read in self._read.items()}
        for side, files in self._lists.items():
            for one in files:
                if (one.file, side) not in present:
                    raise ConfigError(
                        f"{one.file} is in the root of no source; paths of lists are relative to the root of the source whose"
                        " recordings they list",
                        key=f"split.from_files.{side}",
                    )
        found = [finding for read in self._read.values() for finding in _of_list(read)]
        for source in self._without:
            then = f"are in {self._default!r}" if self._default is not None else "are rejected"
            text = f"source {source!r} has none of the lists of split.from_files, so all its recordings {then}"
            found.append(Finding("split.from_files", 1, 0, text))
        return found

    def _files(self) -> list[str]:
        return [one.file for files in self._lists.values() for one in files]


def _of_list(read: _Read) -> Iterator[Finding]:
    """Yield warnings about a list. Raises ConfigError if it fits no recording at all."""
    if read.missed:
        line, (name, reason) = next(iter(read.missed.items()))
        why = "fits several recordings" if reason == "recording_ambiguous" else "fits no recording"
        hint = ""
        if any(sign in name for sign in "\t,;| ") and not read.n_fitting:
            hint = f"; if the lines have several columns, write {{file: {read.file}, column: 0}}"
        example = f"such as {name[:_SHOWN]!r} on line {line}, which {why}{hint}"
        if not read.n_fitting:
            raise ConfigError(
                f"{read.file}: no line fits a recording, {example}; give paths, names or stems", key=read.key
            )
        n = len(read.missed)
        text = f"{read.file} ({read.key}): {counted(n, 'line')} {'fits' if n == 1 else 'fit'} no single recording, {example}"
        yield Finding("split.from_files", n, 0, text)
    if read.n_repeated:
        n = read.n_repeated
        text = f"{read.file} ({read.key}): {counted(n, 'line')} {'names' if n == 1 else 'name'} a recording that the split has already"
        yield Finding("split.from_files", n, 0, text)


def _content(listing: Listing, file: str, key: str) -> bytes | None:
    """Return the content of a list, None if the source does not have it."""
    root = listing.root
    check_link(root, file, listing.source, key, "list")
    try:
        content = root.read_bytes(file, limit=MAX_LIST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (PermissionError, IsADirectoryError) as error:
        raise ConfigError(f"cannot read {root.uri(file)}: {error.strerror}", key=key) from None
    except OSError as error:
        raise describe_os_error(error, root, f"read {file} at") from None
    if len(content) > MAX_LIST_BYTES:
        raise ConfigError(f"{root.uri(file)} has more than {MAX_LIST_BYTES} bytes", key=key)
    return content


def _names(content: bytes, one: ListFile, key: str) -> Iterator[tuple[int, str]]:
    """Yield the names in a list, each with its line, from 1. Empty lines are no names."""
    try:
        if one.column is None:
            for number, line in enumerate(lines(decode_text(content, "auto").lstrip("\ufeff")), 1):
                if name := line.strip():
                    yield number, name
            return
        by_name = isinstance(one.column, str)
        spec = Annotations(table=one.file, recording=one.column, header=by_name, extra_columns="drop")
        sheet = Sheet(content, spec)
        place = sheet.column(one.column)
        if place is None:
            there = f"it has: {', '.join(sheet.header)}" if sheet.header else "it is empty"
            raise ConfigError(f"{one.file} has no column {one.column!r}; {there}", key=key)
        for cells, row in sheet:
            yield row.line, cells[place] if place < len(cells) else ""
    except (UnreadableError, MissingColumnError) as error:
        # The advice is for annotations, which have more keys than a list.
        raise ConfigError(f"cannot read {one.file}: {str(error).partition('; set annotations.')[0]}", key=key) from None
