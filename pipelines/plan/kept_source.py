"""Divide a source into blocks of recordings, and keep of each block what its files gave: the rows of sidecars, and items with their outcome.

A block ends where the hash of a path says so. So a new recording changes one block, and the others are found again by a digest of their
recordings and sidecars with their versions. Some 16 blocks are a part, which is one file.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.kept_parts import KeptParts, Part
from clipmill.pipelines.plan.annotations.reading import Reading
from clipmill.pipelines.plan.arrange import ITEMS
from clipmill.pipelines.plan.block_outcome import Outcome
from clipmill.pipelines.plan.inventory import Inventory, is_settled
from clipmill.pipelines.plan.recording_list import Recording, RecordingList
from clipmill.schemas.keys import digest
from clipmill.schemas.layout import Retries

_BLOCK, _PART = 512, 8192
"""Mean number of recordings in a block and in a part. Powers of two."""
_LONGEST = 32 * _BLOCK
_READINGS = pa.schema([("sidecar", pa.string()), ("version", pa.string()), ("reading", pa.string())])
_DERIVED = ("recording_id", "source", "source_uri")
_OF_PART = re.compile(r"(@\w+|#\d+)$")


@dataclass
class Block:
    """Consecutive recordings of a source.

    digest : of their paths, sizes and versions, of their sidecars and the versions of these, and of earlier tries
    sidecars : the recording and the version of each of their sidecars, by path
    is_settled : whether these tell every later change
    table, outcome : of the block, once it was made; None if it was kept, or may not be
    """

    index: int
    n: int
    digest: str
    sidecars: dict[str, tuple[str, str]]
    is_settled: bool
    part: _PartState
    table: pa.Table | None = None
    outcome: Outcome | None = None


@dataclass
class _PartState:
    """A part that is being made.

    read : what sidecars gave that were read for it, by path; n_missing : number of blocks that are still to be made
    """

    blocks: list[Block] = field(default_factory=list)
    read: dict[str, str] = field(default_factory=dict)
    last: str = ""
    n_missing: int = 0
    is_closed: bool = False


class KeptSource:
    """What is kept of one source: what it gave before, and what it gives now. Before `open` it is nothing.

    uri : returns a recording's address, given its path
    """

    def __init__(self, source: str, inventory: Inventory, uri: Callable[[str], str]) -> None:
        self._source, self._inventory, self._uri = source, inventory, uri
        self._parts: KeptParts | None = None
        self._sidecar_of: Callable[[str], str | None] = lambda path: None
        self._readings = self._items = ""
        self._retries: tuple[list[str], list[list[str | int]]] = [], []
        self._row_parts: list[Part] = []
        self._refused_parts: list[Part] = []
        self._lasts: list[str] = []
        self._part_of: dict[str, Part] = {}
        self._loaded_rows: tuple[str, dict[str, tuple[str, str]]] = "", {}
        self._loaded_items: tuple[str, pa.Table | None, dict[str, tuple[int, int, Outcome]]] = "", None, {}
        self._open: deque[_PartState] = deque([_PartState()])
        self._n = 0
        self._refused: dict[str, tuple[str, str]] | None = {}

    def open(
        self, parts: KeptParts, readings: str, items: str, sidecar_of: Callable[[str], str | None], retries: Retries
    ) -> None:
        """Use what was kept.

        Parameters
        ----------
        parts : of all sources
        readings, items : digests of what decides the rows of sidecars, and the items; the second is empty: items are not kept
        sidecar_of : returns the path of a recording's sidecar, or None
        """
        self._parts, self._readings, self._items, self._sidecar_of = parts, readings, items, sidecar_of
        self._retries = _by_path(retries, self._source)
        self._row_parts = parts.parts(self._source, "rows", readings)
        self._refused_parts = parts.parts(f"refused/{self._source}", "rows", readings)
        self._lasts = [part.last for part in self._row_parts]
        if items:
            self._part_of = {held: part for part in parts.parts(self._source, "items", items) for held in part.holds}

    def skip_refused(self) -> None:
        """Have `known` be asked about the sidecars of recordings that are not refused."""
        self._refused = None

    def blocks(self, recordings: RecordingList) -> Iterator[tuple[Block, list[Recording]]]:
        """Yield the blocks of a source, each with its recordings, which are removed from the list."""
        self._close_refused()
        members: list[Recording] = []
        for recording in recordings.drained():
            members.append(recording)
            crc = zlib.crc32(recording.path.encode())
            if crc % _BLOCK == 0 or len(members) == _LONGEST:
                yield self._block(members), members
                members = []
                if crc % _PART == 0:
                    self._close()
        if members:
            yield self._block(members), members
        self._close()

    def _block(self, members: list[Recording]) -> Block:
        state, versions = self._open[-1], self._inventory.other_files
        self._n += 1
        if self._parts is None:
            return Block(self._n - 1, len(members), "", {}, False, state)
        sidecars: dict[str, tuple[str, str]] = {}
        hashed = hashlib.sha256()
        for r in members:
            sidecar = self._sidecar_of(r.path)
            version = versions[sidecar] if sidecar is not None else ""
            if sidecar is not None:
                sidecars[sidecar] = r.path, version
            hashed.update(f"{r.path}\0{r.size_bytes}\0{r.version}\0{sidecar or ''}\0{version}\0".encode())
        if self._inventory.links:  # which may lead to other files without any change here
            hashed.update(digest(sorted(self._inventory.links.items())).encode())
        if self._retries[0]:
            paths, entries = self._retries
            tried = entries[bisect_left(paths, members[0].path) : bisect_right(paths, members[-1].path)]
            hashed.update(digest(tried).encode())
        settled = not self._inventory.links and all(
            is_settled(version, self._inventory.listed_at_ns) for _, version in sidecars.values()
        )
        block = Block(self._n - 1, len(members), hashed.hexdigest(), sidecars, settled, state)
        state.blocks.append(block)
        state.last = members[-1].path
        return block

    def find(self, block: Block) -> tuple[pa.Table, Outcome] | None:
        """Return the items of a block as they were kept, in the schema of `clipmill.pipelines.plan.arrange`, and its outcome; or None."""
        part = self._part_of.get(block.digest)
        if part is None or self._parts is None or not block.is_settled:
            return None
        sha256, table, held = self._loaded_items
        if sha256 != part.sha256:
            table, held = self._parts.read("items", part), {}
            if table is not None:
                entries = json.loads(table.schema.metadata[b"blocks"])
                held = {name: (start, n, Outcome.from_plain(plain)) for name, start, n, plain in entries}
            else:
                self._part_of = {name: p for name, p in self._part_of.items() if p is not part}
            self._loaded_items = part.sha256, table, held
        if table is None or block.digest not in held:
            return None
        start, n, outcome = held[block.digest]
        return self._whole(table.slice(start, n)), outcome

    def await_block(self, block: Block) -> None:
        """Have a block's part wait until it is made, since it was not found."""
        block.part.n_missing += 1

    def made(self, block: Block, table: pa.Table, outcome: Outcome, is_lasting: bool) -> None:
        """Keep what a block gave. is_lasting : whether it gives the same as long as none of its files changes"""
        if self._items and is_lasting and block.is_settled:
            block.table, block.outcome = table.drop_columns(list(_DERIVED)), outcome
        block.part.n_missing -= 1
        self._flush()

    def known(self, recording: str, sidecar: str) -> str | None:
        """Return what a sidecar gave when it was read, None if it must be read. recording : path of its recording"""
        version = self._inventory.other_files[sidecar]
        if not is_settled(version, self._inventory.listed_at_ns):
            return None
        known_version, reading = self._rows_near(recording).get(sidecar, ("", None))
        if known_version != version:
            return None
        if self._refused is not None and reading is not None:
            self._refused[sidecar] = version, reading
        return reading

    def on_read(self, recording: str, sidecar: str, reading: Reading) -> None:
        """Keep what a sidecar gave when it was read."""
        version = self._inventory.other_files[sidecar]
        if not reading.is_lasting or not is_settled(version, self._inventory.listed_at_ns):
            return
        if self._refused is not None:
            self._refused[sidecar] = version, reading.to_json()
            return
        state = next(s for s in self._open if not s.is_closed or recording <= s.last)
        state.read[sidecar] = reading.to_json()

    def _close_refused(self) -> None:
        """Keep what the sidecars of refused recordings gave, which come before all others."""
        refused, self._refused = self._refused or {}, None
        if refused and self._parts is not None:
            rows = [(sidecar, *known) for sidecar, known in sorted(refused.items())]
            self._parts.put(f"refused/{self._source}", "rows", self._readings, Part(""), _readings_table(rows))

    def _rows_near(self, recording: str) -> dict[str, tuple[str, str]]:
        """Return the version and the reading of the sidecars that were kept with a recording, or would have been."""
        if self._refused is not None:
            part = next(iter(self._refused_parts), None)
        else:
            at = bisect_left(self._lasts, recording)
            part = self._row_parts[at] if at < len(self._lasts) else None
        if part is None or self._parts is None:
            return {}
        if self._loaded_rows[0] != part.sha256:
            table = self._parts.read("rows", part)
            columns = [table[name].to_pylist() for name in _READINGS.names] if table is not None else [[], [], []]
            self._loaded_rows = (
                part.sha256,
                dict(zip(columns[0], zip(columns[1], columns[2], strict=True), strict=True)),
            )
        return self._loaded_rows[1]

    def _close(self) -> None:
        if self._open[-1].blocks:
            self._open[-1].is_closed = True
            self._open.append(_PartState())
        self._flush()

    def _flush(self) -> None:
        """Put the parts that are complete, in order."""
        while self._open[0].is_closed and not self._open[0].n_missing:
            state = self._open.popleft()
            if self._parts is not None and self._readings:
                self._put_rows(self._parts, state)
            if self._parts is not None and self._items:
                self._put_items(self._parts, state)
            state.blocks.clear()  # which name the part: nothing collects circles while a plan is made

    def _put_rows(self, parts: KeptParts, state: _PartState) -> None:
        """Put what the sidecars of a part gave, read now or before."""
        held = [digest([block.digest for block in state.blocks])]
        at = bisect_left(self._lasts, state.last)
        old = self._row_parts[at] if at < len(self._lasts) else Part("")
        if not state.read and old.last == state.last and old.holds == held:
            parts.put(self._source, "rows", self._readings, old)
            return
        rows = []
        for block in state.blocks:
            for sidecar, (recording, version) in block.sidecars.items():
                reading = state.read.get(sidecar) or self.known(recording, sidecar)
                if reading is not None:
                    rows.append((sidecar, version, reading))
        parts.put(self._source, "rows", self._readings, Part("", state.last, held), _readings_table(rows))

    def _put_items(self, parts: KeptParts, state: _PartState) -> None:
        """Put the items of a part's blocks: those that are settled, made now or found before."""
        held = [block.digest for block in state.blocks if block.outcome is not None or self._is_kept(block)]
        old = self._part_of.get(held[0]) if held else None
        if old is not None and old.holds == held and old.last == state.last:
            parts.put(self._source, "items", self._items, old)
            return
        tables, entries, start = [], [], 0
        for block in state.blocks:
            table, outcome = block.table, block.outcome
            if outcome is None and (found := self.find(block)) is not None:
                table, outcome = found[0].drop_columns(list(_DERIVED)), found[1]
            if table is not None and outcome is not None:
                tables.append(table)
                entries.append([block.digest, start, table.num_rows, outcome.to_plain()])
                start += table.num_rows
        if tables:
            whole = pa.concat_tables(tables).replace_schema_metadata({"blocks": json.dumps(entries)})
            parts.put(self._source, "items", self._items, Part("", state.last, [e[0] for e in entries]), whole)

    def _is_kept(self, block: Block) -> bool:
        return block.is_settled and block.digest in self._part_of

    def _whole(self, table: pa.Table) -> pa.Table:
        """Return a table with the columns that follow from the path, which are not kept."""
        paths = table["path"]
        ids = pc.binary_join_element_wise(self._source, paths, "/")
        uris = pc.binary_join_element_wise(self._uri("x")[:-1], paths, "")
        sources = pa.repeat(self._source, table.num_rows)
        columns = dict(zip(_DERIVED, (ids, sources, uris), strict=True))
        return pa.table([columns[n] if n in columns else table[n] for n in ITEMS.names], schema=ITEMS)


def _readings_table(rows: list[tuple[str, str, str]]) -> pa.Table:
    columns = [pa.array([row[k] for row in rows], pa.string()) for k in range(3)]
    return pa.Table.from_arrays(columns, schema=_READINGS)


def _by_path(retries: Retries, source: str) -> tuple[list[str], list[list[str | int]]]:
    """Return the retries of a source in the order of their recordings' paths: the paths, and the entries."""
    own: list[tuple[str, list[str | int]]] = []
    for item, (version, n) in retries.items():
        # A path can end like the id of a part, so both readings of an id count.
        for recording in {item, _OF_PART.sub("", item)}:
            if recording.startswith(f"{source}/"):
                own.append((recording[len(source) + 1 :], [item, version, n]))
    own.sort(key=lambda pair: (pair[0], str(pair[1])))
    return [path for path, _ in own], [entry for _, entry in own]
