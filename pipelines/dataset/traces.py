"""Search all files under a root for the names of recordings."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.schemas.keys import CLIP_ID_BITS, OLD_CLIP_ID_BITS
from clipmill.schemas.secret_values import hide_secrets
from clipmill.stages.storage.root import Root

_BLOCK_BYTES = 8 << 20
_WORD = re.compile(rb"[\w\x80-\xff]")
_BEFORE = re.compile(rb"[\w\x80-\xff./-]")


@dataclass
class Names:
    """The names of recordings.

    ids : `source/path`
    uris : addresses of their files
    origins : the hex digits in the ids of their clips
    others : ids and addresses of other recordings that contain one of these names
    """

    ids: set[str] = field(default_factory=set)
    uris: set[str] = field(default_factory=set)
    origins: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)


@dataclass
class Traces:
    """The result of a search.

    files, size_bytes : number and size of the files that were read
    parquet_rows : number of rows of Parquet files whose text, audio and pictures were decompressed and searched
    found : {path, name}, at most one per file
    not_read : {path, reason} of files and folders that could not be read
    """

    files: int = 0
    size_bytes: int = 0
    parquet_rows: int = 0
    found: list[dict[str, str]] = field(default_factory=list)
    not_read: list[dict[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def origins_of(recording_id: str) -> set[str]:
    """Return the hex digits in the ids of a recording's clips, in old and new datasets; clips of annotated ranges have others."""
    digits = hashlib.sha256(recording_id.encode()).hexdigest()
    return {digits[: bits // 4] for bits in (OLD_CLIP_ID_BITS, CLIP_ID_BITS)}


class Needles:
    """A search for names in bytes: in UTF-8, composed and decomposed, and as JSON writes them."""

    def __init__(self, names: Names) -> None:
        groups: dict[tuple[str, int], set[bytes]] = defaultdict(set)
        for text in names.ids | names.uris:
            for k, form in enumerate(_forms(text)):
                groups[text.partition("/")[0], k].add(form)
        self._patterns = [_pattern(group) for _, group in sorted(groups.items())]
        if names.origins:
            digits = b"|".join(sorted(re.escape(o.encode()) for o in names.origins))
            self._patterns.append(re.compile(b"-(?:" + digits + b")"))
        self._others = [form for text in names.others for form in dict.fromkeys(_forms(text))]
        self._ids = names.ids | names.uris
        forms = [form for group in groups.values() for form in group]
        self.overlap = max(map(len, [*forms, *self._others, b"-" * 36])) + 1

    def find(self, content: bytes | memoryview, begin: int = 0, is_end: bool = True) -> bytes | None:
        """Return the first name in the bytes, None if there is none.

        begin : first position at which a name may start; earlier ones have been searched
        is_end : whether no more bytes follow; otherwise names that start in the last `overlap` bytes are left for the next call
        """
        end = len(content) if is_end else len(content) - self.overlap
        for pattern in self._patterns:
            for match in pattern.finditer(content):
                start, stop = match.span()
                if not begin <= start < end:
                    continue
                if match[0][:1] == b"-":
                    return bytes(match[0])
                if (start and _BEFORE.match(content[start - 1 : start])) or _WORD.match(content[stop : stop + 1]):
                    continue
                if not self._is_of_another(content, start, match[0]):
                    return bytes(match[0])
        return None

    def is_in_text(self, text: str) -> bool:
        """Return whether a text contains one of the names."""
        return self.find(text.encode("utf-8", "surrogateescape")) is not None

    def _is_of_another(self, content: bytes | memoryview, start: int, name: bytes) -> bool:
        """Return whether a match is only part of another recording's name."""
        for other in self._others:
            at = other.find(name)
            if at >= 0 and start >= at and bytes(content[start - at : start - at + len(other)]) == other:
                return True
        return False


def _forms(text: str) -> list[bytes]:
    """Return the bytes that files may contain for a text."""
    forms = []
    for same in (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)):
        forms.append(same.encode("utf-8", "surrogateescape"))
        forms += [json.dumps(same, ensure_ascii=a)[1:-1].encode("utf-8", "surrogateescape") for a in (True, False)]
    return forms


def _pattern(group: Iterable[bytes]) -> re.Pattern[bytes]:
    """Return a pattern that begins with the common prefix of a group, which Python searches for fast."""
    listed = sorted(group, key=lambda g: (-len(g), g))
    first, last = min(listed), max(listed)
    common = first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    rest = b"|".join(re.escape(g[len(common) :]) for g in listed)
    return re.compile(re.escape(common) + b"(?:" + rest + b")")


def search(root: Root, names: Names) -> Traces:
    """Search everything under a root for names: paths, bytes of files, and the contents of Parquet and gzip files."""
    traces, needles = Traces(), Needles(names)
    for path in _all_files(root, traces):
        try:
            match = needles.find(path.encode("utf-8", "surrogateescape")) or _in_file(root, path, needles, traces)
        except FileNotFoundError:
            continue  # a note that was replaced meanwhile
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            traces.not_read.append({"path": path, "reason": hide_secrets(" ".join(str(error).split()))})
            continue
        traces.files += 1
        if match is not None:
            traces.found.append({"path": path, "name": match.decode("utf-8", "replace")})
    return traces


def _all_files(root: Root, traces: Traces) -> Iterator[str]:
    if not root.is_local:
        with contextlib.suppress(FileNotFoundError):
            yield from (path for path, _ in root.remote_files())
        return

    def note_error(error: OSError) -> None:
        traces.not_read.append({"path": str(error.filename), "reason": hide_secrets(str(error.strerror or error))})

    top = root.full()
    for place, folders, names in os.walk(top, onerror=note_error):
        folders.sort()
        yield from (os.path.relpath(f"{place}/{name}", top) for name in sorted(names))


def _in_file(root: Root, path: str, needles: Needles, traces: Traces) -> bytes | None:
    with contextlib.closing(root.open_read(path)) as stream:
        match = _in_stream(stream, needles, traces)
        if match is None and path.endswith(".parquet"):
            stream.seek(0)
            match = _in_parquet(stream, needles, traces)
        elif match is None and path.endswith(".gz"):
            stream.seek(0)
            with gzip.GzipFile(fileobj=stream) as unpacked:
                match = _in_stream(unpacked, needles, None)
        return match


def _in_stream(stream: IO[bytes] | io.BufferedIOBase, needles: Needles, traces: Traces | None) -> bytes | None:
    tail, begin, match = b"", 0, None
    while block := stream.read(_BLOCK_BYTES):
        if traces is not None:
            traces.size_bytes += len(block)
        content = tail + block
        match = match or needles.find(content, begin, is_end=False)
        tail = content[-2 * needles.overlap :]
        begin = max(0, len(content) - needles.overlap) - (len(content) - len(tail))
    return match or needles.find(tail, begin)


def _in_parquet(stream: Any, needles: Needles, traces: Traces) -> bytes | None:
    file = pq.ParquetFile(stream, pre_buffer=False)
    columns = [f.name for f in file.schema_arrow if _holds_bytes(f.type)]
    if not columns:
        return None
    for batch in file.iter_batches(batch_size=1000, columns=columns, use_threads=False):
        traces.parquet_rows += batch.num_rows
        for column in batch.columns:
            if (match := _in_array(column, needles)) is not None:
                return match
    return None


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_holds_bytes(kind.field(k).type) for k in range(kind.num_fields))
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    return bool(_is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _in_array(array: pa.Array, needles: Needles) -> bytes | None:
    kind = array.type
    if pa.types.is_struct(kind):
        return next((f for child in array.flatten() if (f := _in_array(child, needles)) is not None), None)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _in_array(array.flatten(), needles)
    if pa.types.is_dictionary(kind):
        return _in_array(array.dictionary, needles)
    if _is_text(kind):
        values = [v for v in array.unique().to_pylist() if v is not None]
        return needles.find("\n".join(values).encode("utf-8", "surrogateescape"))
    if _holds_bytes(kind):
        return next(
            (f for v in array if v.is_valid and (f := needles.find(memoryview(v.as_buffer()))) is not None), None
        )
    return None
