"""Decode: recordings to float32 PCM, only the pieces that clips are cut from, a few seconds of memory at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.config import Segment
from schemas.failures import describe_os_error
from schemas.objects import ObjectChangedError, ObjectStream
from schemas.storage import Root
from schemas.tables import ITEM_COLUMNS, RUNS
from stages.containers import Container, inspect
from stages.readers import DEMUXERS, ONLY_FFMPEG, DecodeError, FfmpegReader, Reader, SoundFileReader
from stages.rows import RowBuffer
from stages.spans import CELL_S, Piece, Range, cuts, margin_frames, pieces
from stages.versions import etag_version, version_of

PIECE_S = 30.0
MAX_PIECE_VALUES = 8_000_000
"""Longest piece, in samples over all channels (32 MB): many channels or a high rate make pieces shorter."""
MAX_CLIP_VALUES = 128_000_000
"""A single clip's source samples over all channels (512 MB)."""
TABLE_VALUES = 3_000_000
_BLOCK_FRAMES = 1 << 17
_N_AHEAD = 2


@dataclass(frozen=True)
class DecodeSource:
    """What Decode must know of a source. time_unit : s | ms | samples, of the annotations; version : auto | sha256."""

    root: Root
    segment: Segment
    time_unit: str = "s"
    version: str = "auto"


@dataclass(frozen=True)
class Decode:
    """Decode the recordings of a plan.

    Takes a table of `schemas.tables.PLAN`; gives an iterator of tables of `schemas.tables.RUNS`, each of a few megabytes:
    the runs of an item follow each other in time, and the last one says so. A recording that cannot be decoded to its
    end gives one row with a reason, which stands for all of it: what came before is then void.

    sources : by name
    target_rate_hz : rate that Resample will make; equal to the recording's means that no margins are decoded
    truncated : "reject" recordings whose file ends too early, or "keep" what is there
    pulse : called with an item's id before it is begun and after each block of it that was decoded, as a sign of life
    """

    sources: Mapping[str, DecodeSource]
    target_rate_hz: int
    truncated: str = "reject"
    pulse: Callable[[str], None] | None = None

    version: ClassVar[int] = 1

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        buffer = RowBuffer(RUNS, values_column="samples")
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
        keep_truncated = self.truncated == "keep"
        work = _Recording(item, identity, source, self.target_rate_hz, keep_truncated, self._alive(item), open_stream)
        try:
            yield from work.rows()
        except DecodeError as error:
            yield _rejection(item, identity, error.reason, error.detail)


class _Recording:
    """One item while it is decoded: chooses the decoder and the pieces, and watches that the file stays the same."""

    def __init__(
        self,
        item: dict[str, Any],
        identity: dict[str, Any],
        source: DecodeSource,
        target_rate_hz: int,
        keep_truncated: bool,
        alive: Callable[[], None],
        open_stream: Callable[[], IO[bytes]],
    ) -> None:
        self.item, self.identity, self.source = item, identity, source
        self.target_rate_hz, self.keep_truncated, self.alive = target_rate_hz, keep_truncated, alive
        self.open_stream = open_stream

    def rows(self) -> Iterator[dict[str, Any]]:
        root, path = self.source.root, self.item["path"]
        by_etag = root.is_s3 and self.source.version == "auto"
        if not by_etag:
            self._check_version("before reading")
        try:
            with self.open_stream() as stream:
                if by_etag:  # the store answers only as long as this is so
                    self._compare(etag_version(cast(ObjectStream, stream).etag), "before reading")
                stream.seek(0, os.SEEK_END)
                size = stream.tell()
                if size == 0:
                    raise DecodeError("empty", "the file has no bytes")
                container = inspect(stream, size)
                if container.truncated and not self.keep_truncated:
                    raise DecodeError("truncated", container.truncated)
                last: dict[str, Any] = {}
                try:
                    for row in self._decode(stream, container):
                        if row["last"]:
                            last = row
                        else:
                            yield row
                except DecodeError:
                    self._check_version("while reading")  # a file that is being written looks damaged
                    raise
        except ObjectChangedError:
            raise DecodeError(
                "recording_changed", f"planned as {self.item['version']}, another one while reading"
            ) from None
        except FileNotFoundError:
            raise DecodeError("recording_missing", "the file was gone when it was to be read") from None
        except PermissionError as error:
            raise self._refused(error) from None
        except OSError as error:
            raise describe_os_error(error, root, "read", path) from None
        if not by_etag:
            self._check_version("while reading")
        yield last

    def _check_version(self, when: str) -> None:
        try:
            now = version_of(self.source.root, self.item["path"], self.source.version)
        except FileNotFoundError:
            raise DecodeError("recording_missing", f"the file was gone {when}") from None
        except PermissionError as error:
            raise self._refused(error) from None
        except OSError as error:
            raise describe_os_error(error, self.source.root, "read", self.item["path"]) from None
        self._compare(now, when)

    def _refused(self, error: PermissionError) -> Exception:
        """Return what to make of it: one recording's matter, unless all of the store is closed to us by now."""
        if self.source.root.admits(but=self.item["path"]):
            return DecodeError("unreadable", f"{error.strerror or error}")
        return describe_os_error(error, self.source.root, "read", self.item["path"])

    def _compare(self, version: str, when: str) -> None:
        if version != self.item["version"]:
            raise DecodeError("recording_changed", f"planned as {self.item['version']}, found {version} {when}")

    def _decode(self, stream: IO[bytes], container: Container) -> Iterator[dict[str, Any]]:
        """Decode with the first library that can open the file.

        Once one has begun, the other is not asked: where libsndfile finds a damaged FLAC, FFmpeg reads on over it.
        """
        failures: list[DecodeError] = []
        for opener in _openers(self.source.root, self.item["path"], stream, container):
            try:
                reader = opener()
            except DecodeError as error:
                failures.append(error)
                continue
            try:
                yield from self._runs(reader)
                return
            finally:
                reader.close()
        details = "; ".join(dict.fromkeys(f.detail for f in failures))
        if not container.kind and all(f.reason == "undecodable" for f in failures):
            raise DecodeError("not_audio", "the content is that of no audio container")
        raise DecodeError(next((f.reason for f in failures if f.reason != "undecodable"), "undecodable"), details)

    def _runs(self, reader: Reader) -> Iterator[dict[str, Any]]:
        """Yield the runs of the recording."""
        rate, channels = reader.sample_rate_hz, reader.n_channels
        if self.keep_truncated:
            reader.n_frames = None  # the header's word is not to be believed
        spec = self.source.segment
        if spec.mode != "window" and min(spec.max_clip_s, CELL_S) * rate * channels > MAX_CLIP_VALUES:
            raise DecodeError("bad_format", f"{channels} channels at {rate} Hz are too much to hold")
        spec = _bounded(spec, rate * channels)
        piece_s = max(float(CELL_S), min(PIECE_S, MAX_PIECE_VALUES / (rate * channels)))
        margin = margin_frames(rate, self.target_rate_hz)
        annotations = [_in_seconds(a, self.source.time_unit, rate) for a in self.item["annotations"] or []]
        ranges = _ranges(annotations, annotated=self.item["annotations"] is not None)
        span = (self.item["span_start_s"], self.item["span_end_s"])
        cursor = _Cursor(reader, self.keep_truncated, self.alive)

        def total_s() -> float | None:
            total = cursor.total if cursor.total is not None else reader.n_frames
            return None if total is None else total / rate

        waiting: dict[str, Any] | None = None
        sent: set[int] = set()
        for piece in pieces(cuts(ranges, spec, total_s, piece_s, span), piece_s):
            begin, stop = piece.first_cell * CELL_S * rate, piece.last_cell * CELL_S * rate
            lead = min(margin, begin)
            samples = cursor.take(begin - lead, stop + margin)
            if waiting is not None:
                yield waiting
            waiting = self._run(reader, piece, annotations, sent, samples, lead, stop - begin, cursor)
        if cursor.total == 0:
            raise DecodeError(
                "corrupt" if reader.problem else "empty", reader.problem or "the file has a header and no samples"
            )
        if waiting is None:
            nothing = {"start_s": 0, "lead": 0, "core_frames": 0, "cuts": [], "annotations": []}
            waiting = {**self.identity, "sample_rate_hz": rate, "n_channels": channels, **nothing}
        unsent = [a for i, a in enumerate(annotations) if i not in sent]
        waiting["annotations"] = [*waiting["annotations"], *unsent]
        waiting |= {
            "last": True,
            "decoded_frames": cursor.read,
            "decoded_s": cursor.read / rate,
            "decoder": reader.name,
        }
        yield waiting

    def _run(
        self, reader: Reader, piece: Piece, annotations: list[dict[str, Any]], sent: set[int],
        samples: npt.NDArray[np.float32], lead: int, core_frames: int, cursor: _Cursor,
    ) -> dict[str, Any]:  # fmt: skip
        places: dict[int, int] = {}
        for cut in piece.cuts:
            if cut.range.index >= 0:
                places.setdefault(cut.range.index, len(places))
                sent.add(cut.range.index)
        return {
            **self.identity,
            "sample_rate_hz": reader.sample_rate_hz,
            "n_channels": reader.n_channels,
            "start_s": piece.first_cell * CELL_S,
            "lead": min(lead, len(samples)),
            "core_frames": max(0, min(core_frames, len(samples) - lead)),
            "total_frames": cursor.total if cursor.total is not None else reader.n_frames,
            "cuts": [
                {"annotation": places.get(c.range.index, -1), "first": c.first, "last": c.last} for c in piece.cuts
            ],
            "annotations": [annotations[i] for i in places],
            "samples": samples,
            "last": False,
        }


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


class _Cursor:
    """Serves stretches of frames in ascending order from a reader, decoding each frame at most once.

    total : length of the recording once its end was reached, else None
    read : frames decoded
    """

    def __init__(self, reader: Reader, keep_truncated: bool, alive: Callable[[], None]) -> None:
        self._reader, self._keep_truncated, self._alive = reader, keep_truncated, alive
        self._at = 0
        self._held = np.empty((0, reader.n_channels), np.float32)
        self._held_start = 0
        self.total: int | None = 0 if reader.n_frames == 0 else None
        self.read = 0

    def take(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return float32 [frames, channels] of [start, stop), fewer at the recording's end. `start` never goes back."""
        if self._reader.n_frames is not None:
            stop = max(start, min(stop, self._reader.n_frames))
        held_stop = self._held_start + len(self._held)
        overlap = self._held[start - self._held_start :] if start < held_stop else self._held[:0]
        if len(overlap) >= stop - start:
            return overlap[: stop - start]
        fresh_start = start + len(overlap)
        if fresh_start > self._at:
            self._advance(fresh_start)
        out = np.empty((stop - start, self._reader.n_channels), np.float32)
        filled = len(overlap)
        out[:filled] = overlap
        while filled < len(out) and self.total is None and self._at >= fresh_start:
            # In blocks: libsndfile clears all of the memory that it was given and did not fill.
            filled += self._read(out[filled : filled + _BLOCK_FRAMES])
        # What ends early would hold on to memory for what did not come.
        self._held = out if filled == len(out) else out[:filled].copy()
        self._held_start = start
        return self._held

    def _advance(self, frame: int) -> None:
        if self._reader.exact_seek:
            self._at = min(frame, self._reader.n_frames or frame)
            self._reader.seek(self._at)
            if self._at < frame:
                self.total = self._at
            return
        scratch = np.empty((_BLOCK_FRAMES, self._reader.n_channels), np.float32)
        while self._at < frame and self.total is None:
            self._read(scratch[: min(_BLOCK_FRAMES, frame - self._at)])

    def _read(self, out: npt.NDArray[np.float32]) -> int:
        given = self._reader.read_into(out)
        self._alive()
        self._at += given
        self.read += given
        if given < len(out):
            self.total = self._at
            declared = self._reader.n_frames
            if self._keep_truncated:
                return given
            if self._reader.problem is not None:
                raise DecodeError("corrupt", f"{self._reader.problem}, after {self._at} frames")
            if declared is not None and self._at < declared:
                raise DecodeError("truncated", f"the header declares {declared} frames and {self._at} could be decoded")
        return given


def _rejection(item: dict[str, Any], identity: dict[str, Any], reason: str, detail: str) -> dict[str, Any]:
    return {**identity, "annotations": item["annotations"], "last": True, "reason": reason, "detail": detail}


def _openers(root: Root, path: str, stream: IO[bytes], container: Container) -> list[Callable[[], Reader]]:
    def libsndfile() -> Reader:
        if root.is_local:
            return SoundFileReader(root.full(path))
        stream.seek(0)
        return SoundFileReader(stream)

    def ffmpeg() -> Reader:
        return FfmpegReader(stream, container.kind, n_frames=container.n_frames, ignore_length=container.understated)

    found: list[Callable[[], Reader]] = []
    if container.kind not in ONLY_FFMPEG and not container.understated:
        found.append(libsndfile)
    if container.kind in DEMUXERS:
        found.append(ffmpeg)
    return found


def _bounded(spec: Segment, values_per_s: int) -> Segment:
    """Lower max_clip_s so that one clip's source samples fit into memory."""
    longest = MAX_CLIP_VALUES / values_per_s
    return spec if spec.max_clip_s <= longest else spec.model_copy(update={"max_clip_s": longest})


def _in_seconds(annotation: dict[str, Any], unit: str, rate_hz: int) -> dict[str, Any]:
    scale = {"s": 1.0, "ms": 1e-3, "samples": 1.0 / rate_hz}[unit]
    if scale == 1.0:
        return annotation
    start, end = annotation["start"], annotation["end"]
    return {
        **annotation,
        "start": start * scale if start is not None else None,
        "end": end * scale if end is not None else None,
    }


def _ranges(annotations: list[dict[str, Any]], annotated: bool) -> list[Range]:
    if not annotated:
        return [Range(-1, 0.0, None)]
    found = [Range(i, a["start"] or 0.0, a["end"]) for i, a in enumerate(annotations) if a["reason"] is None]
    return sorted(found, key=lambda r: (r.start_s, r.end_s if r.end_s is not None else float("inf"), r.index))
