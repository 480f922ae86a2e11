"""One recording while it is decoded: the decoder that is chosen, the pieces that are needed, and whether the file stays the same."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from clipmill.schemas.config import Segment
from clipmill.stages.decode.containers import Container, inspect
from clipmill.stages.decode.containers.flac import LATE_BYTES, behind, find_second_stream
from clipmill.stages.decode.containers.trailing import is_padding
from clipmill.stages.decode.cursor import Cursor, too_long
from clipmill.stages.decode.families import is_walked
from clipmill.stages.decode.lookahead import length_before, lookahead_end_s, minimum_length_s
from clipmill.stages.decode.openers import openers
from clipmill.stages.decode.pcm import raw_container
from clipmill.stages.decode.readers import DecodeError, Reader, SoundFileReader
from clipmill.stages.decode.source import DecodeSource
from clipmill.stages.spans import CELL_S, Piece, Range, cuts, margin_frames, pieces
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.objects import ObjectChangedError, ObjectStream
from clipmill.stages.storage.root import split_name
from clipmill.stages.storage.versions import etag_version, version_of

PIECE_S = 30.0
MAX_PIECE_VALUES = 8_000_000
"""Longest piece, in samples over all channels (32 MB): many channels or a high rate make pieces shorter."""
_KEPT_BYTES = 64 << 20
MAX_CLIP_VALUES = 128_000_000
"""A single clip's source samples over all channels (512 MB)."""


@dataclass(frozen=True)
class Rules:
    """What holds for all recordings of a build. See `clipmill.stages.decode.Decode`."""

    target_rate_hz: int
    keep_truncated: bool
    gaps: str
    max_recording_s: float | None


class NothingDecodedError(DecodeError):
    """A library opened the file and gave neither a frame nor an error."""


class RecordingDecoder:
    """One item while it is decoded: chooses the decoder and the pieces, and watches that the file stays the same."""

    def __init__(
        self,
        item: dict[str, Any],
        identity: dict[str, Any],
        source: DecodeSource,
        rules: Rules,
        alive: Callable[[], None],
        open_stream: Callable[[], IO[bytes]],
    ) -> None:
        self.item, self.identity, self.source = item, identity, source
        self.rules, self.alive, self.open_stream = rules, alive, open_stream

    def rows(self) -> Iterator[dict[str, Any]]:
        root, path = self.source.root, self.item["path"]
        by_etag = root.is_s3 and self.source.version == "auto"
        if not by_etag:
            self._check_version("before reading")
        try:
            with self.open_stream() as opened:
                if by_etag:  # the store answers only as long as this is so
                    self._compare(etag_version(cast(ObjectStream, opened).etag), "before reading")
                size = opened.seek(0, os.SEEK_END)
                if size == 0:
                    raise DecodeError("empty", "the file has no bytes")
                stream = opened
                if not root.is_local and size <= _KEPT_BYTES and is_walked(split_name(path)[2]):
                    opened.seek(0)
                    stream = io.BytesIO(opened.read())  # what is walked is read twice, and should come once
                last: dict[str, Any] = {}
                try:
                    for row in self._decode(stream, size, self._container(stream, size)):
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

    def _container(self, stream: IO[bytes], size: int) -> Container:
        """Return what the file's structure says. Raises DecodeError when that rules it out."""
        raw = self.source.raw
        found = raw_container(size, raw) if raw is not None else inspect(stream, size)
        if found.fault is not None:
            raise DecodeError(*found.fault)
        if found.empty:
            raise DecodeError("empty", "the file has a header and no samples")
        if found.truncated and not self.rules.keep_truncated:
            raise DecodeError("truncated", found.truncated)
        length_s = sum(p.n_frames / p.sample_rate_hz for p in found.parts if p.n_frames is not None)
        if self.rules.max_recording_s is not None and length_s > self.rules.max_recording_s:
            raise too_long(length_s, self.rules.max_recording_s)
        return found

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

    def _decode(self, stream: IO[bytes], size: int, container: Container) -> Iterator[dict[str, Any]]:
        """Decode with the first library that can open the file.

        Once one has begun, the other is not asked: where libsndfile finds a damaged FLAC, FFmpeg reads on over it. Only where
        libsndfile opens a file and gives neither a frame nor an error is FFmpeg asked for it.
        """
        failures: list[DecodeError] = []
        for opener in openers(self.source, self.item["path"], stream, size, container, self.rules.gaps):
            try:
                reader, length = self._opened(opener, container)
            except DecodeError as error:
                failures.append(error)
                continue
            try:
                for row in self._runs(reader, container, length):
                    if row["last"] and container.kind == "flac":
                        row["remarks"] += _behind_flac(
                            reader, row["decoded_frames"], stream, size, container.start_byte
                        )
                    yield row
                return
            except NothingDecodedError as error:
                failures.append(error)
            finally:
                reader.close()
        raise _why(failures, container)

    def _opened(self, opener: Callable[[], Reader], container: Container) -> tuple[Reader, int | None]:
        """Open the recording; return its length in frames too where that had to be seen first. See `clipmill.stages.decode.lookahead`."""
        reader = opener()
        rate, values_per_s = reader.sample_rate_hz, reader.sample_rate_hz * reader.n_channels
        keep = self.rules.keep_truncated
        if reader.n_frames is not None and not keep:
            return reader, None
        until_s = lookahead_end_s(
            _ranges(self._annotations(rate), annotated=True),
            _bounded(self.source.segment, values_per_s),
            _piece_s(values_per_s),
            minimum_length_s(container, rate, self.rules.gaps),
            self.source.tolerance_s,
        )
        if until_s is None:
            return reader, None
        try:
            length = length_before(reader, container, keep, until_s, self.alive, self.rules.max_recording_s)
        finally:
            reader.close()
        return opener(), length

    def _annotations(self, rate_hz: int) -> list[dict[str, Any]]:
        return [_in_seconds(a, self.source.time_unit, rate_hz) for a in self.item["annotations"] or []]

    def _runs(self, reader: Reader, container: Container, length: int | None) -> Iterator[dict[str, Any]]:
        """Yield the runs of the recording. length : in frames, where it was seen before"""
        rate, channels = reader.sample_rate_hz, reader.n_channels
        spec = self.source.segment
        if spec.mode != "window" and min(spec.max_clip_s, CELL_S) * rate * channels > MAX_CLIP_VALUES:
            raise DecodeError("bad_format", f"{channels} channels at {rate} Hz are too much to hold")
        spec = _bounded(spec, rate * channels)
        piece_s = _piece_s(rate * channels)
        margin = margin_frames(rate, self.rules.target_rate_hz)
        annotations = self._annotations(rate)
        ranges = _ranges(annotations, annotated=self.item["annotations"] is not None)
        span = (self.item["span_start_s"], self.item["span_end_s"])
        cursor = Cursor(reader, self.rules.keep_truncated, container, self.alive, self.rules.max_recording_s)

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
            if length is not None:
                waiting["total_frames"] = length
        if cursor.total == 0:
            if reader.problem:
                raise DecodeError("corrupt", reader.problem)
            raise NothingDecodedError("empty", "the file has a header and no samples")
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
            "remarks": [
                {"code": code, "detail": detail}
                for code, detail in (*container.remarks, *reader.remarks, *cursor.remarks)
            ],
        }
        yield waiting

    def _run(
        self, reader: Reader, piece: Piece, annotations: list[dict[str, Any]], sent: set[int],
        samples: npt.NDArray[np.float32], lead: int, core_frames: int, cursor: Cursor,
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


def _behind_flac(reader: Reader, decoded_frames: int, stream: IO[bytes], size: int, begin: int) -> list[dict[str, str]]:
    """Return what is worth knowing of what stands behind a stream that was read to its end. Raises when it is another one."""
    if not isinstance(reader, SoundFileReader) or decoded_frames != reader.n_frames:
        return []
    at = begin + reader.position_bytes
    start = max(begin + len(b"fLaC"), at - LATE_BYTES)
    if size - at <= LATE_BYTES or is_padding(stream, size, at):
        return []
    if (second := find_second_stream(stream, start, size)) is not None:
        raise DecodeError("corrupt", behind(second))
    return [{"code": "trailing_bytes", "detail": f"{size - at} bytes from about byte {at} on are no frames"}]


def _why(failures: list[DecodeError], container: Container) -> DecodeError:
    """Return why nothing could decode a file."""
    if not failures:
        return DecodeError("track_missing", "a file of this format has one track, and another one was asked for")
    named = container.unsupported
    if named and (not container.kind or failures[-1].reason == "unsupported_format"):
        return DecodeError("unsupported_format", f"{named}, which neither library decodes")
    if not container.kind and all(f.reason == "undecodable" for f in failures):
        return DecodeError(
            "not_audio", "the content is that of no audio container (samples without a header need sources[].raw)"
        )
    telling = [f for f in failures if f.reason != "undecodable"]
    if telling:
        return DecodeError(telling[0].reason, telling[0].detail)
    return DecodeError("undecodable", "; ".join(dict.fromkeys(f.detail for f in failures)))


def _bounded(spec: Segment, values_per_s: int) -> Segment:
    """Lower max_clip_s so that one clip's source samples fit into memory."""
    longest = MAX_CLIP_VALUES / values_per_s
    return spec if spec.max_clip_s <= longest else spec.model_copy(update={"max_clip_s": longest})


def _piece_s(values_per_s: int) -> float:
    return max(float(CELL_S), min(PIECE_S, MAX_PIECE_VALUES / values_per_s))


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
