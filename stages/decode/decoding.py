"""Decode: recordings to float32 PCM, only the pieces that clips are cut from, a few seconds of memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, ClassVar, Self

import pyarrow as pa

from clipmill.schemas.config import Config
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

    Takes a table of `clipmill.schemas.tables.PLAN`; gives an iterator of tables of `clipmill.schemas.tables.CHUNKS`, each of a few megabytes:
    the chunks of an item follow each other in time, and the last one says so. A recording that cannot be decoded to its
    end gives one row with a reason, which stands for all of it: what came before is then void.

    sources : by name
    target_rate_hz : rate that Resample will make; equal to the recording's means that no margins are decoded
    truncated : "reject" recordings whose file ends too early, or "keep" what is there
    gaps : fill | reject | ignore, what to do where the container's timeline has a hole
    max_recording_s : a longer recording is rejected, None: none is too long
    pulse : called with an item's id before it is begun and after each block of it that was decoded, as a sign of life
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
    """Of what all recordings share. What changed for some kinds of files is in `clipmill.stages.decode.families`."""

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
        with _Ahead(self.sources, items) as streams:
            for i, item in enumerate(items):
                self._alive(item)()
                for row in self._item(item, partial(streams.open, i)):
                    buffer.add(row)
                    if buffer.n_values >= TABLE_VALUES or buffer.n_rows >= 512:
                        yield buffer.table()
        if buffer.n_rows:
            yield buffer.table()

    def connect(self) -> None:
        """Ready what the first recording would otherwise wait for."""
        for source in self.sources.values():
            source.root.connect()

    def _alive(self, item: dict[str, Any]) -> Callable[[], None]:
        pulse = self.pulse
        return (lambda: None) if pulse is None else lambda: pulse(item["item_id"])

    def _item(self, item: dict[str, Any], open_stream: Callable[[], IO[bytes]]) -> Iterator[dict[str, Any]]:
        identity = {name: item[name] for name in ITEM_COLUMNS}
        source = self.sources[item["source"]]
        if item["reason"] is not None:
            yield _rejection(item, identity, item["reason"], item["detail"])
            return
        usable = [a for a in item["annotations"] or [] if a["reason"] is None]
        if item["annotations"] and not usable:
            # Nothing to decode; the rows' own rejections are counted downstream.
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
        work = RecordingDecoder(item, identity, source, rules, self._alive(item), open_stream)
        try:
            yield from work.rows()
        except DecodeError as error:
            yield _rejection(item, identity, error.reason, error.detail)


class _Ahead:
    """Opens recordings in object stores before it is their turn: their first bytes come while others are decoded."""

    def __init__(self, sources: Mapping[str, DecodeSource], items: list[dict[str, Any]]) -> None:
        self._sources, self._items = sources, items
        self._waiting: dict[int, IO[bytes]] = {}

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._waiting.values():
            stream.close()

    def open(self, place: int) -> IO[bytes]:
        """Open one of the items, and begin with the next ones."""
        stream = self._waiting.pop(place, None) or self._open(place)
        for k in range(place + 1, min(place + 1 + _N_AHEAD, len(self._items))):
            item = self._items[k]
            if k not in self._waiting and item["reason"] is None and self._sources[item["source"]].root.is_s3:
                self._waiting[k] = self._open(k)
        return stream

    def _open(self, place: int) -> IO[bytes]:
        item = self._items[place]
        whole = item["annotations"] is None and not item["span_start_s"] and item["span_end_s"] is None
        return self._sources[item["source"]].root.open_read(item["path"], whole, item["size_bytes"])


def _rejection(item: dict[str, Any], identity: dict[str, Any], reason: str, detail: str) -> dict[str, Any]:
    return {**identity, "annotations": item["annotations"], "last": True, "reason": reason, "detail": detail}
