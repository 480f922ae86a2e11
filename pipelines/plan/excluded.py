"""Join the list of `exclude_clips` to the items whose clips it names. Only shards that hold such a clip get another key."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from clipmill.schemas.clip_list import MAX_LIST_BYTES, ClipList, parse_clip_list
from clipmill.schemas.config import Config, Source
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.findings import Finding
from clipmill.schemas.keys import OLD_CLIP_ID_BITS, clip_origin, excluding_digest, slug
from clipmill.schemas.plural import counted
from clipmill.schemas.tables import PLAN
from clipmill.stages.annotations.file_text import decode_text
from clipmill.stages.annotations.rows import UnreadableError
from clipmill.stages.arrow_rows import replace_column
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

KEY = "exclude_clips"
_ID = re.compile(r"(?P<origin>(?P<slug>.+)-(?:[0-9a-f]{12}|[0-9a-f]{32}))-(?P<start_us>[0-9]{10,18})(?:-c[0-9]+)?")
"""A clip's id, see `clipmill.schemas.keys.clip_id`."""
_COPY = re.compile(r".+-a[0-9]+")
_UNIT_S = {"s": 1.0, "ms": 1e-3}
_SHOWN = 100


def read_excluded(config: Config) -> ClipList:
    """Return the list of clips that a configuration excludes.

    Raises
    ------
    ConfigError : it does not exist, cannot be read, or is no text
    """
    address = config.exclude_clips
    if address is None:
        return ClipList()
    if re.match(r"\w+://", address):
        folder, _, name = address.rpartition("/")
        root = Root(folder, config.output.storage_options)
    else:
        place = Path(os.path.abspath(os.path.expanduser(address)))
        root, name = Root(str(place.parent)), place.name
    try:
        content = root.read_bytes(name, limit=MAX_LIST_BYTES + 1)
        if len(content) > MAX_LIST_BYTES:
            raise ConfigError(f"{address} has more than {MAX_LIST_BYTES:,} bytes", key=KEY)
        return parse_clip_list(decode_text(content, "auto").replace("\r\n", "\n").replace("\r", "\n"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{address} does not exist; give a file with clip ids, or an empty one", key=KEY) from None
    except (PermissionError, IsADirectoryError) as error:
        raise ConfigError(f"cannot read {address}: {error.strerror}", key=KEY) from None
    except UnreadableError as error:
        raise ConfigError(f"cannot read {address}: {error}", key=KEY) from None
    except OSError as error:
        raise describe_os_error(error, root, f"read {name} at") from None


class ExcludedClips:
    """The clips that are to be excluded, by the items that they are cut from.

    A clip's id has a hash of its recording, or of the range of its annotation, and where it starts. Where annotations give places in
    samples, the hash depends on a rate that is not known yet; then every recording with the name in the id is taken for one that may
    hold the clip.
    """

    def __init__(self, config: Config, listed: ClipList) -> None:
        self._bits = config.output.clip_id_bits or OLD_CLIP_ID_BITS
        self._sources: dict[str, Source] = {source.name: source for source in config.sources}
        self._listed, self._address = listed, config.exclude_clips
        self._by_origin: dict[str, list[tuple[str, int]]] = defaultdict(list)
        self._slugs: dict[str, list[str]] = defaultdict(list)
        for clip_id in listed.ids:
            if (match := _ID.fullmatch(clip_id)) is not None:
                self._by_origin[match["origin"]].append((clip_id, int(match["start_us"])))
                self._slugs[match["slug"]].append(clip_id)
        self.joined: set[str] = set()

    def attach(self, items: pa.Table) -> pa.Table:
        """Return items with the column `excluded`, and other digests where it holds something. items : rows of the plan's items"""
        kind = PLAN.field("excluded").type
        paths = items["path"].to_pylist() if self._slugs else []
        found = {}
        if paths:
            names = items["recording_id"].to_pylist(), items["source"].to_pylist()
            for i, (path, recording_id, source) in enumerate(zip(paths, *names, strict=True)):
                if ids := self._of_item(items, i, PurePosixPath(path).stem, recording_id, self._sources[source]):
                    found[i] = ids
        if not found:
            return items.append_column("excluded", pa.nulls(items.num_rows, kind))
        self.joined.update(*found.values())
        digests = items["item_digest"].to_pylist()
        for i, ids in found.items():
            digests[i] = excluding_digest(digests[i], ids)
        items = replace_column(items, "item_digest", pa.array(digests, pa.string()))
        return items.append_column("excluded", pa.array([found.get(i) for i in range(items.num_rows)], kind))

    def _of_item(self, items: pa.Table, i: int, stem: str, recording_id: str, source: Source) -> list[str]:
        """Return the listed clips that an item has, or may have, sorted. i : its row; stem : of its recording's name"""
        if (name := slug(stem)) not in self._slugs:
            return []
        rows = items["annotations"][i].as_py()
        unit = source.annotations.row_unit if source.annotations is not None else "s"
        ranges: Iterable[tuple[int, int, int] | None] = [None]
        if rows is not None and not source.labels_by_overlap:
            if unit not in _UNIT_S:
                return sorted(self._slugs[name])
            ranges = _ranges_us(rows, _UNIT_S[unit])
        listed = [
            one for own in ranges for one in self._by_origin.get(clip_origin(recording_id, stem, own, self._bits), ())
        ]
        if not listed:
            return []
        start_us = round((items["span_start_s"][i].as_py() or 0.0) * 1e6)
        end_s = items["span_end_s"][i].as_py()
        stop_us = round(end_s * 1e6) if end_s is not None else None
        # Starts are rounded to microseconds, so one at the edge of a span may be on both sides of it.
        return sorted(
            {
                clip_id
                for clip_id, at_us in listed
                if at_us >= start_us - 1 and (stop_us is None or at_us <= stop_us + 1)
            }
        )

    def findings(self) -> list[Finding]:
        """Return a warning about what in the list fits no recording, after all items were seen."""
        found = []
        strays = {clip_id: line for clip_id, line in self._listed.ids.items() if clip_id not in self.joined}
        copies = {clip_id: line for clip_id, line in strays.items() if _is_copy(clip_id)}
        strays = {clip_id: line for clip_id, line in strays.items() if clip_id not in copies}
        if copies:
            clip_id, line = next(iter(copies.items()))
            name = "names a copy that `augment` made" if len(copies) == 1 else "name copies that `augment` made"
            what = f"{self._told(len(copies))} {name}, such as {_short(clip_id)} on line {line}"
            found.append(_finding(len(copies), f"{what}; list the clip itself, and its copies go with it"))
        if strays:
            clip_id, line = next(iter(strays.items()))
            fits = "fits no recording" if len(strays) == 1 else "fit no recording"
            what = f"{self._told(len(strays))} {fits}, such as {_short(clip_id)} on line {line}"
            found.append(_finding(len(strays), what))
        if wrong := self._listed.wrong:
            line, text = wrong[0]
            is_are = "is no clip's id" if len(wrong) == 1 else "are no clips' ids"
            what = f"{self._address} ({KEY}): {counted(len(wrong), 'line')} {is_are}"
            found.append(_finding(len(wrong), f"{what}, such as {text[:_SHOWN]!r} on line {line}"))
        return found

    def _told(self, n: int) -> str:
        return f"{self._address} ({KEY}): {counted(n, 'id')} of {len(self._listed.ids):,}"


def not_found(address: str | None, joined: set[str], dropped: set[str]) -> list[Finding]:
    """Return a warning about listed clips of known recordings that were not there to be excluded.

    joined : ids that fit a recording
    dropped : ids of clips that the list excluded, or that another rule dropped
    """
    if not (missing := sorted(joined - dropped)):
        return []
    names = "names no clip" if len(missing) == 1 else "name no clip"
    text = f"{address} ({KEY}): {counted(len(missing), 'id')} of a known recording {names} that would be kept, such as {_short(missing[0])}"
    return [_finding(len(missing), text)]


def excluded_in(shard: pa.Table) -> frozenset[str]:
    """Return the ids of the clips that are to be excluded from a shard. shard : rows of the plan"""
    if "excluded" not in shard.column_names or shard["excluded"].null_count == shard.num_rows:
        return frozenset()
    return frozenset(clip_id for ids in shard["excluded"].to_pylist() for clip_id in ids or ())


def _ranges_us(rows: list[Mapping[str, Any]], unit_s: float) -> Iterator[tuple[int, int, int]]:
    """Yield the ranges of good rows, as they are in the ids of their clips: start and end in microseconds, and a counter."""
    for row in rows:
        if row["reason"] is None:
            end = row["end"]
            end_us = round(end * unit_s * 1e6) if end is not None else -1
            yield round((row["start"] or 0.0) * unit_s * 1e6), end_us, row["ordinal"] or 0


def _is_copy(clip_id: str) -> bool:
    return _COPY.fullmatch(clip_id) is not None and _ID.fullmatch(clip_id.rpartition("-a")[0]) is not None


def _short(clip_id: str) -> str:
    return clip_id[:_SHOWN]


def _finding(n: int, text: str) -> Finding:
    return Finding(KEY, n, 0, text)
