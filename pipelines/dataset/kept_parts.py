"""Keep what annotation files gave, and the rows of the plan that followed, in the folder `annotations` of a dataset.

A dataset is the same without this folder: it saves time, never trust. Each file is named by its sha256 and listed in `kept.json`, which has a
digest of its own. What is missing or damaged is counted, made again from the source, and replaced. Nothing is written before `save`.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.schemas.findings import Finding
from clipmill.schemas.keys import canonical_json, digest
from clipmill.schemas.layout import KEPT, KEPT_LIST, OWN_FILES, kept_path
from clipmill.schemas.plural import counted
from clipmill.stages.storage.parquet_tables import read_parquet
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.versions import sha256_hex

FORMAT = 1
_IN_MEMORY_BYTES = 16 << 20


@dataclass(frozen=True)
class Part:
    """A file of the folder.

    sha256 : of the file
    last : path of the last recording that it is about
    holds : what it holds, in order: digests of blocks of recordings, or nothing
    """

    sha256: str
    last: str = ""
    holds: list[str] = field(default_factory=list)


class KeptParts:
    """The parts under the root of a dataset, as they were and as they will be.

    damaged : number of files that are missing or damaged
    not_saved : why nothing could be saved; empty if it was, or has not been tried
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self.damaged = 0
        self.not_saved = ""
        self._had = self._read_list()
        self._has: dict[str, dict[str, Any]] = {}
        self._spool: IO[bytes] | None = None
        self._places: dict[tuple[str, str], tuple[int, int]] = {}

    def parts(self, source: str, kind: str, settings: str) -> list[Part]:
        """Return the parts of a source in the order of their recordings; none if they were made under other settings.

        kind : rows | items | table; settings : digest of what decides the content of parts, besides the files of the source
        """
        section = self._had.get(_section(source, kind), {})
        return section["parts"] if section.get("settings") == settings else []

    def read(self, kind: str, part: Part) -> pa.Table | None:
        """Return the table in a part; None if it is missing or damaged."""
        try:
            content = self._root.read_bytes(kept_path(kind, part.sha256))
            if sha256_hex(content) != part.sha256:
                raise ValueError("damaged")
            return read_parquet(pa.BufferReader(content))
        except (*self._root.errors, ValueError, pa.ArrowException):
            self.damaged += 1
            return None

    def put(self, source: str, kind: str, settings: str, part: Part, table: pa.Table | None = None) -> None:
        """Have a part follow those that were put before. table : its content if it is new; its sha256 is that of the file then"""
        if table is not None:
            sink = io.BytesIO()
            pq.write_table(table, sink, compression="zstd", use_dictionary=_repetitive(table))
            content = sink.getvalue()
            part = Part(sha256_hex(content), part.last, part.holds)
            if self._spool is None:
                self._spool = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by `save`, or with this object
            self._places[kind, part.sha256] = self._spool.seek(0, io.SEEK_END), len(content)
            self._spool.write(content)
        section = self._has.setdefault(_section(source, kind), {"settings": settings, "parts": []})
        section["parts"].append(part)

    def save(self) -> None:
        """Write new parts, the list, and remove parts that it does not name. What fails is told by `not_saved`."""
        if self._has == self._had and not self.damaged:
            return
        try:
            for (kind, sha256), (start, length) in self._places.items():
                if self._spool is not None:
                    self._spool.seek(start)
                    self._root.write_bytes(kept_path(kind, sha256), self._spool.read(length))
            body = {
                name: {**section, "parts": [asdict(part) for part in section["parts"]]}
                for name, section in sorted(self._has.items())
            }
            content = {"format": FORMAT, "sha256": digest(body), "sections": body}
            self._root.write_bytes(KEPT_LIST, (canonical_json(content) + "\n").encode())
            needed = {kept_path(kind, sha256) for kind, sha256 in _named(self._has)}
            for kind, sha256 in _named(self._had):
                if kept_path(kind, sha256) not in needed:
                    self._root.remove(kept_path(kind, sha256))
        except self._root.errors as error:
            self.not_saved = str(error)
        finally:
            if self._spool is not None:
                self._spool.close()
            self._spool, self._places, self._had = None, {}, self._has

    @property
    def findings(self) -> list[Finding]:
        """What did not work, for people to read."""
        where, found = self._root.uri(KEPT), []
        if self.damaged:
            message = (
                f"{where}: {counted(self.damaged, 'file')} missing or damaged, so annotation files were read that did not change; a build"
                " writes it again"
            )
            found.append(Finding("annotations", self.damaged, 0, message))
        if self.not_saved:
            message = (
                f"{where}: cannot be written ({self.not_saved}), so the next build reads all annotation files again"
            )
            found.append(Finding("annotations", 1, 0, message))
        return found

    def _read_list(self) -> dict[str, dict[str, Any]]:
        try:
            content = self._root.read_bytes(KEPT_LIST)
        except FileNotFoundError:
            return {}
        except self._root.errors:
            self.damaged += 1
            return {}
        sections = read_list(content)
        if sections is None:
            self.damaged += 1
        return sections or {}


def read_list(content: bytes) -> dict[str, dict[str, Any]] | None:
    """Return the sections of a list of parts, with `Part` objects; None if it is damaged or of another format."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        plain = json.loads(content)
        sections = plain["sections"]
        if plain["format"] == FORMAT and plain["sha256"] == digest(sections):
            return {name: {**s, "parts": [Part(**part) for part in s["parts"]]} for name, s in sections.items()}
    return None


def kept_files(root: Root) -> dict[str, int]:
    """Return all files of the folder, with their sizes in bytes. They name recordings, and a dataset is the same without them."""
    return {path: n for path, n in sorted(root.sizes(KEPT).items()) if OWN_FILES.fullmatch(path)}


def unnamed_parts(root: Root) -> dict[str, int]:
    """Return the files of the folder that its list does not name, with their sizes in bytes; all of them if the list is damaged."""
    sizes = kept_files(root)
    if not sizes:
        return {}
    needed = {kept_path(kind, sha256) for kind, sha256 in _named(KeptParts(root)._had)} | {KEPT_LIST}
    return {path: n for path, n in sizes.items() if path not in needed}


def _section(source: str, kind: str) -> str:
    return f"{kind}/{source}"


def _named(sections: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, section in sections.items():
        for part in section["parts"]:
            yield name.partition("/")[0], part.sha256


def _repetitive(table: pa.Table) -> list[str]:
    """Return the columns whose values repeat: for others a dictionary would take time and save nothing."""
    return [name for name in table.column_names if name in ("split", "label", "primary")]
