"""Decode one recording: choose the decoder, decode the pieces that clips need, and check that the file does not change meanwhile."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from clipmill.schemas.config import Segment
from clipmill.schemas.secret_values import hide_secrets
from clipmill.stages.clip_labels import EventsOfItem
from clipmill.stages.decode.containers import Container, inspect
from clipmill.stages.decode.containers.flac import LATE_BYTES, describe_second_stream, find_second_stream
from clipmill.stages.decode.containers.trailing import is_padding
from clipmill.stages.decode.cursor import Cursor, rejection_of_length
from clipmill.stages.decode.families import is_walked
from clipmill.stages.decode.first_pass import FirstPass, Heard, hear
from clipmill.stages.decode.lookahead import length_before, lookahead_end_s, minimum_length_s
from clipmill.stages.decode.openers import list_openers
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
"""Size limit of a piece, in samples over all channels (32 MB): many channels or a high rate make pieces shorter."""
_BUFFER_BYTES = 64 << 20
MAX_CLIP_VALUES = 128_000_000
"""Size limit of one clip, in source samples over all channels (512 MB)."""


@dataclass(frozen=True)
class Rules:
    """The settings that apply to all recordings of a build. See `clipmill.stages.decode.Decode`."""

    target_rate_hz: int
    keep_truncated: bool
    gaps: str
    max_recording_s: float | None


class NothingDecodedError(DecodeError):
    """A library opened the file but returned neither a frame nor an error."""


class RecordingDecoder:
    """Decodes one item: chooses the decoder and the pieces, and checks that the file does not change meanwhile."""

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
        """Yield the rows of the item, with columns of `clipmill.schemas.tables.CHUNKS`. The last one is yielded after the file was checked again.

        Raises
        ------
        DecodeError : the recording is to be rejected
        StorageError : storage failed
        """
        root, path = self.source.root, self.item["path"]
        by_etag = root.is_s3 and self.source.version == "auto"
        if not by_etag:
            self._check_version("before reading")
        try:
            with self.open_stream() as source_stream:
                if by_etag:  # from here on the store itself refuses to read another version
                    self._compare(etag_version(cast(ObjectStream, source_stream).etag), "before reading")
                size = source_stream.seek(0, os.SEEK_END)
                if size == 0:
                    raise DecodeError("empty", "the file has no bytes")
                stream = source_stream
                if not root.is_local and size <= _BUFFER_BYTES and is_walked(split_name(path)[2]):
                    source_stream.seek(0)
                    stream = io.BytesIO(source_stream.read())  # it is scanned, then decoded: fetch it only once
                last: dict[str, Any] = {}
                try:
                    for row in self._decode(stream, size, self._container(stream, size)):
                        if row["last"]:
                            last = row
                        else:
                            yield row
                except DecodeError:
                    self._check_version("while reading")  # a file that is still being written looks damaged
                    raise
        except ObjectChangedError:
            raise DecodeError(
                "recording_changed",
                f"planned as version {self.item['version']}, but the file was replaced while it was read",
            ) from None
        except FileNotFoundError:
            raise DecodeError("recording_missing", "the file no longer exists") from None
        except PermissionError as error:
            raise self._refusal(error) from None
        except OSError as error:
            raise describe_os_error(error, root, "read", path) from None
        if not by_etag:
            self._check_version("while reading")
        yield last

    def _container(self, stream: IO[bytes], size: int) -> Container:
        """Return the file's structure. Raise DecodeError when it shows that the recording cannot be used."""
        raw = self.source.raw
        container = raw_container(size, raw) if raw is not None else inspect(stream, size)
        if container.fault is not None:
            raise DecodeError(*container.fault)
        if container.empty:
            raise DecodeError("empty", "the file has a header and no samples")
        if container.truncated and not self.rules.keep_truncated:
            raise DecodeError("truncated", container.truncated)
        if container.truncated and raw is not None:  # without a header nothing says that more should follow
            container = replace(container, truncated=None, remarks=(("spare_bytes", container.truncated),))
        length_s = sum(p.n_frames / p.sample_rate_hz for p in container.parts if p.n_frames is not None)
        if self.rules.max_recording_s is not None and length_s > self.rules.max_recording_s:
            raise rejection_of_length(length_s, self.rules.max_recording_s)
        return container

    def _check_version(self, when: str) -> None:
        try:
            now = version_of(self.source.root, self.item["path"], self.source.version)
        except FileNotFoundError:
            raise DecodeError("recording_missing", f"the file no longer existed {when}") from None
        except PermissionError as error:
            raise self._refusal(error) from None
        except OSError as error:
            raise describe_os_error(error, self.source.root, "read", self.item["path"]) from None
        self._compare(now, when)

    def _refusal(self, error: PermissionError) -> Exception:
        """Return the error to raise: a rejection of this recording, or a StorageError if other recordings cannot be read either."""
        if self.source.root.admits(but=self.item["path"]):
            return DecodeError("unreadable", hide_secrets(f"{error.strerror or error}"))
        return describe_os_error(error, self.source.root, "read", self.item["path"])

    def _compare(self, version: str, when: str) -> None:
        if version != self.item["version"]:
            raise DecodeError(
                "recording_changed", f"planned as version {self.item['version']}, but it was {version} {when}"
            )

    def _decode(self, stream: IO[bytes], size: int, container: Container) -> Iterator[dict[str, Any]]:
        """Decode with the first library that can open the file.

        Once one has returned frames, the other is not tried: FFmpeg would read past damage in a FLAC at which libsndfile stops.
        FFmpeg is tried only when libsndfile opens a file but returns neither a frame nor an error.
        """
        failures: list[DecodeError] = []
        for opener in list_openers(self.source, self.item["path"], stream, size, container, self.rules.gaps):
            try:
                reader, length = self._open(opener, container)
            except DecodeError as error:
                failures.append(error)
                continue
            try:
                heard: Heard | None = None
                if self.source.first_pass is not None:
                    heard = self._hear(self.source.first_pass, reader, container)
                    reader.close()
                    reader, length = opener(), heard.n_frames
                for row in self._chunks(reader, container, length, heard):
                    if row["last"] and container.kind == "flac":
                        row["remarks"] += _trailing_remarks(
                            reader, row["decoded_frames"], stream, size, container.start_byte
                        )
                    yield row
                return
            except NothingDecodedError as error:
                failures.append(error)
            finally:
                reader.close()
        raise _summary(failures, container)

    def _open(self, opener: Callable[[], Reader], container: Container) -> tuple[Reader, int | None]:
        """Return the open recording, and its length in frames if that had to be determined first: see `clipmill.stages.decode.lookahead`."""
        reader = opener()
        rate, values_per_s = reader.sample_rate_hz, reader.sample_rate_hz * reader.n_channels
        keep = self.rules.keep_truncated
        if reader.n_frames is not None and not keep:
            return reader, None
        until_s = lookahead_end_s(
            _ranges(self._annotations(rate), annotated=self._are_cut),
            _bound_clip(self.source.segment, values_per_s),
            _piece_s(values_per_s),
            minimum_length_s(container, rate, self.rules.gaps),
            self.source.tolerance_s,
            self._events(rate).ends_s,
            self.source.needs_lengths,
        )
        if until_s is None:
            return reader, None
        try:
            length = length_before(reader, container, keep, until_s, self.alive, self.rules.max_recording_s)
        finally:
            reader.close()
        return opener(), length

    def _hear(self, first: FirstPass, reader: Reader, container: Container) -> Heard:
        """Decode the whole recording for what its source's first pass asks."""
        heard = hear(first, reader, container, self.rules.keep_truncated, self.alive, self.rules.max_recording_s)
        if heard is None:
            raise NothingDecodedError("empty", "the file has a header and no samples")
        return heard

    def _annotations(self, rate_hz: int) -> list[dict[str, Any]]:
        return [_to_seconds(a, self.source.time_unit, rate_hz) for a in self.item["annotations"] or []]

    def _events(self, rate_hz: int) -> EventsOfItem:
        return EventsOfItem(self.item.get("events"), _unit_s(self.source.time_unit, rate_hz))

    @property
    def _are_cut(self) -> bool:
        """Whether clips are cut from the ranges of annotations."""
        return self.item["annotations"] is not None and not self.source.only_labels

    def _chunks(
        self, reader: Reader, container: Container, length: int | None, heard: Heard | None
    ) -> Iterator[dict[str, Any]]:
        """Yield the chunks of the recording. length : in frames, where it was determined before; heard : in the first pass, if any"""
        rate, channels = reader.sample_rate_hz, reader.n_channels
        spec = self.source.segment
        if spec.mode != "window" and min(spec.max_clip_s, CELL_S) * rate * channels > MAX_CLIP_VALUES:
            raise DecodeError("bad_format", f"{channels} channels at {rate} Hz need too much memory")
        spec = _bound_clip(spec, rate * channels)
        piece_s = _piece_s(rate * channels)
        margin = margin_frames(rate, self.rules.target_rate_hz)
        annotations = self._annotations(rate)
        events = self._events(rate)
        ranges = _ranges(annotations, annotated=self._are_cut)
        if heard is not None and heard.activities:
            ranges = heard.parts(ranges)
        span = (self.item["span_start_s"], self.item["span_end_s"])
        cursor = Cursor(reader, self.rules.keep_truncated, container, self.alive, self.rules.max_recording_s)

        def total_s() -> float | None:
            total = cursor.total if cursor.total is not None else reader.n_frames
            total = length if total is None else total
            return None if total is None else total / rate

        waiting: dict[str, Any] | None = None
        sent: set[int] = set()
        for piece in pieces(cuts(ranges, spec, total_s, piece_s, span), piece_s):
            begin, stop = piece.first_cell * CELL_S * rate, piece.last_cell * CELL_S * rate
            lead = min(margin, begin)
            samples = cursor.take(begin - lead, stop + margin)
            if waiting is not None:
                yield waiting
            waiting = self._chunk(reader, piece, annotations, sent, samples, lead, stop - begin, cursor)
            waiting["events"] = events.between(piece.first_cell * CELL_S, piece.last_cell * CELL_S)
            waiting["recording_levels"] = heard.levels if heard is not None else None
            if length is not None:
                waiting["total_frames"] = length
        if cursor.total == 0:
            if reader.problem:
                raise DecodeError("corrupt", reader.problem)
            raise NothingDecodedError("empty", "the file has a header and no samples")
        if waiting is None:
            nothing = {"start_s": 0, "lead": 0, "core_frames": 0, "cuts": [], "annotations": []}
            total = cursor.total if cursor.total is not None else reader.n_frames
            about = {"sample_rate_hz": rate, "n_channels": channels, "total_frames": total}
            waiting = {**self.identity, **about, **nothing}
        unsent = [a for i, a in enumerate(annotations) if i not in sent]
        waiting["annotations"] = [*waiting["annotations"], *unsent]
        waiting |= {
            "last": True,
            "decoded_frames": cursor.read,
            "decoded_s": cursor.read / rate,
            "decoder": reader.name,
            "remarks": [
                {"code": code, "detail": detail}
                for code, detail in (
                    *container.remarks,
                    *reader.remarks,
                    *cursor.remarks,
                    *(heard.remarks if heard is not None else ()),
                )
            ],
        }
        yield waiting

    def _chunk(
        self, reader: Reader, piece: Piece, annotations: list[dict[str, Any]], sent: set[int],
        samples: npt.NDArray[np.float32], lead: int, core_frames: int, cursor: Cursor,
    ) -> dict[str, Any]:  # fmt: skip
        is_heard = self.source.first_pass is not None and self.source.first_pass.activity is not None
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
                {
                    "annotation": places.get(c.range.index, -1),
                    "first": c.first,
                    "last": c.last,
                    **({"start_s": c.range.start_s, "end_s": c.range.end_s, "lane": c.range.lane} if is_heard else {}),
                }
                for c in piece.cuts
            ],
            "annotations": [annotations[i] for i in places],
            "samples": samples,
            "last": False,
        }


def _trailing_remarks(
    reader: Reader, decoded_frames: int, stream: IO[bytes], size: int, begin: int
) -> list[dict[str, str]]:
    """Return a remark on bytes after a FLAC stream that was read to its end. Raise DecodeError when another stream follows."""
    if not isinstance(reader, SoundFileReader) or decoded_frames != reader.n_frames:
        return []
    at = begin + reader.position_bytes
    start = max(begin + len(b"fLaC"), at - LATE_BYTES)
    if size - at <= LATE_BYTES or is_padding(stream, size, at):
        return []
    if (second := find_second_stream(stream, start, size)) is not None:
        raise DecodeError("corrupt", describe_second_stream(second))
    return [{"code": "trailing_bytes", "detail": f"{size - at} bytes from about byte {at} on are not frames"}]


def _summary(failures: list[DecodeError], container: Container) -> DecodeError:
    """Return one rejection that explains why no library could decode a file."""
    if not failures:
        return DecodeError(
            "track_missing", "files of this format have one track, but the configuration asks for another"
        )
    name = container.unsupported
    if name and (not container.kind or failures[-1].reason == "unsupported_format"):
        return DecodeError("unsupported_format", f"{name}, which neither library can decode")
    if not container.kind and all(f.reason == "undecodable" for f in failures):
        return DecodeError(
            "not_audio", "the content is not in a known audio container (samples without a header need sources[].raw)"
        )
    specific = [f for f in failures if f.reason != "undecodable"]
    if specific:
        return DecodeError(specific[0].reason, specific[0].detail)
    return DecodeError("undecodable", "; ".join(dict.fromkeys(f.detail for f in failures)))


def _bound_clip(spec: Segment, values_per_s: int) -> Segment:
    """Return the settings with max_clip_s low enough for one clip's source samples to fit into memory."""
    longest = MAX_CLIP_VALUES / values_per_s
    return spec if spec.max_clip_s <= longest else spec.model_copy(update={"max_clip_s": longest})


def _piece_s(values_per_s: int) -> float:
    return max(float(CELL_S), min(PIECE_S, MAX_PIECE_VALUES / values_per_s))


def _unit_s(unit: str, rate_hz: int) -> float:
    return {"s": 1.0, "ms": 1e-3, "samples": 1.0 / rate_hz}[unit]


def _to_seconds(annotation: dict[str, Any], unit: str, rate_hz: int) -> dict[str, Any]:
    scale = _unit_s(unit, rate_hz)
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
    ranges = [Range(i, a["start"] or 0.0, a["end"]) for i, a in enumerate(annotations) if a["reason"] is None]
    return sorted(ranges, key=lambda r: (r.start_s, r.end_s if r.end_s is not None else float("inf"), r.index))
