"""The stage Decode: recordings to float32 PCM, only the pieces that clips are cut from, a few seconds in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, ClassVar, Self

import pyarrow as pa

from clipmill.schemas.config import Config
from clipmill.schemas.config.label_config import From
from clipmill.schemas.tables import CHUNKS, ITEM_COLUMNS
from clipmill.stages.arrow_rows import RowBuffer
from clipmill.stages.decode.decode_reasons import DECODE_REASONS
from clipmill.stages.decode.readers import DecodeError
from clipmill.stages.decode.recording import RecordingDecoder, Rules
from clipmill.stages.decode.source import DecodeSource
from clipmill.stages.stage import Stage
from clipmill.stages.storage.root import Root

TABLE_VALUES = 3_000_000
_N_AHEAD = 2


@dataclass(frozen=True)
class Decode(Stage):
    """Decode the recordings of a plan.

    Takes a table of `clipmill.schemas.tables.PLAN` and returns an iterator of tables of `clipmill.schemas.tables.CHUNKS`, each of a few
    megabytes. The chunks of an item are in order of time, and `last` marks the final one. A recording that cannot be decoded to its
    end yields one row with a reason that applies to all of it: rows that came before are void.

    sources : by name
    target_rate_hz : rate that Resample will produce; if it equals the recording's, no margins are decoded
    truncated : "reject" recordings whose file ends too early, or "keep" the part that exists
    gaps : fill | reject | ignore, what to do where the container's timeline has a hole
    max_recording_s : longer recordings are rejected; None: no limit
    pulse : called with an item's id before its decoding begins and after each decoded block, as a sign of life
    """

    sources: Mapping[str, DecodeSource]
    target_rate_hz: int
    truncated: str = "reject"
    gaps: str = "fill"
    pulse: Callable[[str], None] | None = None
    max_recording_s: float | None = None

    section = "decode"
    identity = "Decode"
    scope = "chunk"
    libraries = ("numpy", "soundfile", "av")
    rejects = DECODE_REASONS

    version: ClassVar[int] = 1
    """Version of what all recordings share. Versions of single kinds of files are in `clipmill.stages.decode.families`."""

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        sources = {
            s.name: DecodeSource(
                Root(s.root, s.storage_options),
                s.segment,
                s.annotations.row_unit if s.annotations else "s",
                s.version,
                track=config.track_of(s),
                raw=s.raw,
                tolerance_s=s.tolerance_s,
                only_labels=s.labels_by_overlap,
                needs_lengths=isinstance(s.label, From)
                and s.label.by_overlap is not None
                and s.label.by_overlap.min_share is not None,
            )
            for s in config.sources
        }
        audio = config.audio
        return cls(
            sources,
            audio.sample_rate_hz,
            audio.truncated,
            gaps=audio.gaps,
            max_recording_s=config.limits.max_recording_s,
        )

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        buffer = RowBuffer(CHUNKS, values_column="samples")
        items = table.to_pylist()
        with _Prefetcher(self.sources, items) as streams:
            for i, item in enumerate(items):
                self._pulse_of(item)()
                for row in self._item(item, partial(streams.open, i)):
                    buffer.add(row)
                    if buffer.n_values >= TABLE_VALUES or buffer.n_rows >= 512:
                        yield buffer.table()
        if buffer.n_rows:
            yield buffer.table()

    def connect(self) -> None:
        """Connect to the sources' stores, so that the first recording need not wait for it."""
        for source in self.sources.values():
            source.root.connect()

    def _pulse_of(self, item: dict[str, Any]) -> Callable[[], None]:
        pulse = self.pulse
        return (lambda: None) if pulse is None else lambda: pulse(item["item_id"])

    def _item(self, item: dict[str, Any], open_stream: Callable[[], IO[bytes]]) -> Iterator[dict[str, Any]]:
        identity = {name: item[name] for name in ITEM_COLUMNS}
        source = self.sources[item["source"]]
        if item["reason"] is not None:
            yield _rejection(item, identity, item["reason"], item["detail"])
            return
        usable = [a for a in item["annotations"] or [] if a["reason"] is None]
        if item["annotations"] and not usable and not source.only_labels:
            # There is nothing to decode. The rejections of the rows themselves are counted downstream.
            yield {
                **identity,
                "annotations": item["annotations"],
                "cuts": [],
                "last": True,
                "decoded_frames": 0,
                "decoded_s": 0.0,
            }
            return
        rules = Rules(self.target_rate_hz, self.truncated == "keep", self.gaps, self.max_recording_s)
        work = RecordingDecoder(item, identity, source, rules, self._pulse_of(item), open_stream)
        try:
            yield from work.rows()
        except DecodeError as error:
            yield _rejection(item, identity, error.reason, error.detail)


class _Prefetcher:
    """Opens recordings in object stores ahead of time, so that their first bytes arrive while others are decoded."""

    def __init__(self, sources: Mapping[str, DecodeSource], items: list[dict[str, Any]]) -> None:
        self._sources, self._items = sources, items
        self._waiting: dict[int, IO[bytes]] = {}

    def __enter__(self) -> _Prefetcher:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._waiting.values():
            stream.close()

    def open(self, place: int) -> IO[bytes]:
        """Return the open stream of an item, and begin to open the next ones. place : index of the item"""
        stream = self._waiting.pop(place, None) or self._open(place)
        for k in range(place + 1, min(place + 1 + _N_AHEAD, len(self._items))):
            item = self._items[k]
            if k not in self._waiting and item["reason"] is None and self._sources[item["source"]].root.is_s3:
                self._waiting[k] = self._open(k)
        return stream

    def _open(self, place: int) -> IO[bytes]:
        item = self._items[place]
        is_whole = item["annotations"] is None and not item["span_start_s"] and item["span_end_s"] is None
        return self._sources[item["source"]].root.open_read(item["path"], is_whole, item["size_bytes"])


def _rejection(item: dict[str, Any], identity: dict[str, Any], reason: str, detail: str) -> dict[str, Any]:
    return {**identity, "annotations": item["annotations"], "last": True, "reason": reason, "detail": detail}
