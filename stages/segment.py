"""Segment: cut chunks of PCM into clips of 16-bit or float32 PCM, with tails dropped, kept or padded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.config import Config
from clipmill.schemas.config import Segment as SegmentSpec
from clipmill.schemas.keys import OLD_CLIP_ID_BITS, clip_id, clip_origin
from clipmill.schemas.reasons import Reason
from clipmill.schemas.tables import CLIPS, ITEM_COLUMNS
from clipmill.schemas.units import FULL_SCALE, SATURATED, to_pcm16, to_samples
from clipmill.stages.arrow_rows import list_values
from clipmill.stages.clip_labels import ClipLabels, Labelling, TooManyEventsError, is_beyond
from clipmill.stages.clip_samples import nullable_floats
from clipmill.stages.clipping import COLUMNS, FullScale
from clipmill.stages.spans import Clip, fixed_clip, windows
from clipmill.stages.stage import Stage
from clipmill.stages.tail_noise import white_noise

_OPEN_END = 1 << 62
_TABLE_BYTES = 4 << 20
_EVENT_BYTES = 200  # that an event takes as Python objects
CLIPPING = COLUMNS.names[0]
"""Column of chunks that is there if the measure `clipping` is asked for."""


@dataclass(frozen=True)
class SegmentSource:
    """Configure how a source's recordings are cut.

    tolerance_s : seconds by which an annotation may extend beyond the recording's end
    each_channel : whether each channel has clips of its own
    labelling : how clips get their lists of labels, None where no clip of the dataset can have several
    """

    segment: SegmentSpec
    tolerance_s: float = 0.05
    each_channel: bool = False
    labelling: Labelling | None = None


@dataclass(frozen=True)
class Segment(Stage):
    """Cut clips. Takes a table of `clipmill.schemas.tables.CHUNKS` at the target rate and yields tables of `clipmill.schemas.tables.CLIPS`.

    Each table has a few megabytes of PCM, since overlapping windows can be many times as large as the audio that they are cut from.

    sources : by name
    sample_format : int16 | float32
    as_float : keep clips as float32, not rounded, for stages that change samples
    clip_id_bits : width of the hash in the ids of clips
    """

    sources: Mapping[str, SegmentSource]
    sample_format: str = "int16"
    as_float: bool = False
    clip_id_bits: int = OLD_CLIP_ID_BITS

    section = "segment"
    identity = "Segment"
    scope = "chunk"
    drops: ClassVar[Mapping[str, str]] = {
        "tail": "a last window that is not full, with segment.tail: drop",
        "keep_every": "not the first of every segment.keep_every windows",
        "no_activity": "a recording or range in which nothing is heard, by the thresholds of its segment.mode",
        "without_label": "a clip that no annotation row labels, with label.none in label.drop",
    }
    rejects = (
        Reason(
            "annotation_channel_missing",
            "the recording does not have the channel that the row names",
            "correct the row; its channel counts from 1",
        ),
        Reason(
            "annotation_out_of_range",
            "the range extends beyond the end of the recording",
            "correct the row, check annotations.time_unit, or raise annotations.end_tolerance_s",
        ),
        Reason(
            "clip_too_long",
            "the clip is longer than segment.max_clip_s",
            "cut it into windows, or raise segment.max_clip_s",
        ),
        Reason(
            "clip_too_many_events",
            "more annotation rows overlap the clip than it may list, so that many clips that overlap each other would list them all",
            "correct the rows, whose times or time_unit may be wrong",
        ),
        Reason("clip_empty", "the range contains no sample at the target rate", "correct the row"),
        Reason("clip_not_finite", "samples are not finite numbers", "repair the recording"),
        Reason("recording_rejected", "the annotation's recording was rejected", "see the recording's own rejection"),
    )

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        sources = {
            s.name: SegmentSource(s.segment, s.tolerance_s, config.channels_of(s) == "each", Labelling.of(config, s))
            for s in config.sources
        }
        bits = config.output.clip_id_bits or OLD_CLIP_ID_BITS
        return cls(sources, config.audio.sample_format, clip_id_bits=bits)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        samples = list_values(table["samples"])
        counts_clipping = CLIPPING in table.column_names
        places = list_values(table[CLIPPING]) if counts_clipping else []
        rows: list[dict[str, Any]] = []
        n_bytes = 0
        for i, chunk in enumerate(
            table.drop_columns(["samples", *([CLIPPING] if counts_clipping else [])]).to_pylist()
        ):
            identity = {name: chunk[name] for name in ITEM_COLUMNS}
            cutter = _Cutter(chunk, samples[i], self.sources[chunk["source"]], self.sample_format, self.as_float)
            cutter.clip_id_bits = self.clip_id_bits
            if counts_clipping and chunk["decoder_rate_hz"] is not None:
                cutter.full_scale = FullScale(
                    places[i], chunk["full_scale_channels"], chunk["decoder_rate_hz"], chunk["start_s"] or 0
                )
            for row in cutter.rows():
                rows.append({**identity, **row})
                n_bytes += len(row.get("pcm") or b"") + 4 * len(row.get("samples", ()))
                n_bytes += _EVENT_BYTES * len(row.get("events") or ())
                if n_bytes >= _TABLE_BYTES:
                    yield _table(rows, counts_clipping)
                    rows, n_bytes = [], 0
        if rows:
            yield _table(rows, counts_clipping)


def _table(rows: list[dict[str, Any]], counts_clipping: bool) -> pa.Table:
    schema = CLIPS.append(pa.field("clipped_share", pa.float64())) if counts_clipping else CLIPS
    samples = [row.pop("samples", None) for row in rows]
    columns = [pa.array([r.get(f.name) for r in rows], type=f.type) for f in schema]
    if any(y is not None for y in samples):
        values = [y if y is not None else np.empty(0, np.float32) for y in samples]
        at = CLIPS.get_field_index("samples")
        columns[at] = nullable_floats(values, [y is not None for y in samples])
    return pa.table(columns, schema=schema)


class _Cutter:
    """Cut one chunk."""

    def __init__(
        self,
        chunk: dict[str, Any],
        samples: npt.NDArray[np.float32],
        source: SegmentSource,
        sample_format: str,
        as_float: bool,
    ) -> None:
        self.chunk, self.source, self.spec, self.sample_format = chunk, source, source.segment, sample_format
        self.as_float = as_float
        self.rate: int = chunk["sample_rate_hz"] or 0
        self.channels: int = chunk["n_channels"] or 1
        self.samples = samples.reshape(-1, self.channels)[chunk["lead"] or 0 :]
        self.offset = (chunk["start_s"] or 0) * self.rate
        # The channels of one clip: one channel, or None for all.
        self.lanes: list[int | None] = [*range(self.channels)] if source.each_channel else [None]
        self.n_candidates = self.n_annotations = 0
        self.full_scale: FullScale | None = None
        self.clip_id_bits = OLD_CLIP_ID_BITS
        labelling = source.labelling
        self.labels: ClipLabels | None = None
        if labelling is not None and labelling.has_lists and self.rate:
            total, tolerance_s = chunk["total_frames"], source.tolerance_s
            self.labels = ClipLabels(labelling, chunk.get("events") or [], self.rate, total, tolerance_s)
        # Nearly every chunk is finite and can be rounded as a whole, because no sample is beyond full scale.
        self.is_finite = bool(np.isfinite(self.samples).all())
        self.pcm: npt.NDArray[np.int16] | None = None
        if self.is_finite and sample_format == "int16" and not as_float:
            pcm, clipped_samples = to_pcm16(self.samples)
            self.pcm = pcm if clipped_samples == 0 else None
        self.is_loud = not self.is_finite or _reaches_full_scale(self.samples if self.pcm is None else self.pcm)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the chunk's clips, dropped clips and rejections, and then its account."""
        chunk = self.chunk
        if chunk["reason"] is not None:
            kind = "recording" if chunk["primary"] else "span"
            yield {"status": "rejected", "kind": kind, "reason": chunk["reason"], "detail": chunk["detail"]}
            for a in chunk["annotations"] or []:
                yield _reject_annotation(a, a["reason"] or "recording_rejected", a["detail"] or chunk["reason"])
        else:
            for a in chunk["annotations"] or []:
                if a["reason"] is not None:
                    yield _reject_annotation(a, a["reason"], a["detail"])
                elif self.only_labels:
                    yield from self._count(a)
            for cut in chunk["cuts"] or []:
                yield from self._cut(cut)
        yield {
            "status": "account",
            "n_candidates": self.n_candidates,
            "n_annotations": self.n_annotations,
            "last": chunk["last"],
            "decoded_s": chunk["decoded_s"],
            "remarks": chunk["remarks"],
        }

    @property
    def only_labels(self) -> bool:
        """Whether annotations label clips and cut none."""
        return self.source.labelling is not None and self.source.labelling.by_overlap is not None

    def _count(self, annotation: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Count an annotation that labels clips, or yield its rejection."""
        total = self.chunk["total_frames"]
        if annotation["channel"] is not None and annotation["channel"] > self.channels and self.rate:
            yield self._lacks_channel(annotation)
        elif is_beyond((annotation["start"], annotation["end"]), total, self.rate, self.source.tolerance_s):
            yield _reject_annotation(annotation, "annotation_out_of_range", self._range_text(annotation, total))
        else:
            self.n_annotations += 1

    def _lacks_channel(self, annotation: dict[str, Any]) -> dict[str, Any]:
        detail = f"channel {annotation['channel']}, counted from 1, of a recording that has {self.channels}"
        return _reject_annotation(annotation, "annotation_channel_missing", detail)

    def _cut(self, cut: dict[str, Any]) -> Iterator[dict[str, Any]]:
        annotation = self.chunk["annotations"][cut["annotation"]] if cut["annotation"] >= 0 else None
        start_s = (annotation["start"] or 0.0) if annotation else 0.0
        if annotation is not None and annotation["channel"] is not None:
            if annotation["channel"] > self.channels:
                if cut["first"] == 0:
                    yield self._lacks_channel(annotation)
                return
            self.lanes = [annotation["channel"] - 1]  # every row of such a source names one
        total = self.chunk["total_frames"]
        end = total if total is not None else _OPEN_END
        if annotation is not None:
            if is_beyond((annotation["start"], annotation["end"]), total, self.rate, self.source.tolerance_s):
                if cut["first"] == 0:  # reported once; no later cut of this annotation is used
                    yield _reject_annotation(annotation, "annotation_out_of_range", self._range_text(annotation, total))
                return
            if annotation["end"] is not None:
                end = min(end, to_samples(annotation["end"], self.rate))
            self.n_annotations += cut["first"] == 0
        if cut["start_s"] is not None:
            yield from self._heard(cut, annotation)
            return
        if self.spec.mode == "window":
            if cut["first"] == 0 and end <= to_samples(start_s, self.rate):
                yield from self._reject_clips(start_s, annotation, "clip_empty", f"no sample at {self.rate} Hz")
                return
            result = windows(start_s, end, cut["first"], cut["last"], self.spec, self.rate)
            self.n_candidates += result.n_candidates * len(self.lanes)
            for rule, count in result.dropped.items():
                yield {"status": "dropped", "rule": rule, "count": count * len(self.lanes)}
            for clip in result.clips:
                for lane in self.lanes:
                    yield self._clip(clip, start_s + clip.window * self.spec.hop, annotation, lane)
            return
        start = to_samples(start_s, self.rate)
        if self.spec.mode == "fixed" and end > start:
            self.n_candidates += len(self.lanes)
            for lane in self.lanes:
                yield self._clip(fixed_clip(start, end, self.spec, self.rate), start_s, annotation, lane)
        elif end <= start:
            yield from self._reject_clips(
                start_s, annotation, "clip_empty", f"no sample between {start} and {end} at {self.rate} Hz"
            )
        else:
            yield from self._range(start, end, start_s, annotation)

    def _heard(self, cut: dict[str, Any], annotation: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
        """Yield the clip of a stretch in which something is heard."""
        start, end = (to_samples(t, self.rate) for t in (cut["start_s"], cut["end_s"]))
        if cut["lane"] is not None:
            if annotation is not None and annotation["channel"] is not None and cut["lane"] not in self.lanes:
                return  # the row is about another channel
            self.lanes = [cut["lane"]]
        if self.chunk["total_frames"] is not None:
            end = min(end, self.chunk["total_frames"])
        if end <= start:
            self.n_candidates += len(self.lanes)
            yield {"status": "dropped", "rule": "no_activity", "count": len(self.lanes)}
        else:
            yield from self._range(start, end, cut["start_s"], annotation)

    def _range(
        self, start: int, end: int, start_s: float, annotation: dict[str, Any] | None
    ) -> Iterator[dict[str, Any]]:
        """Yield the clip of a range, or its rejection if it is too long. start, end : frames, half-open, not empty"""
        if end - start > to_samples(self.spec.max_clip_s, self.rate) or end - self.offset > len(self.samples):
            length = f"{(end - start) / self.rate:.1f} s" if end != _OPEN_END else "longer"
            yield from self._reject_clips(
                start_s, annotation, "clip_too_long", f"{length}; max_clip_s is {self.spec.max_clip_s:g}"
            )
        else:
            self.n_candidates += len(self.lanes)
            for lane in self.lanes:
                yield self._clip(Clip(0, start, end, 0), start_s, annotation, lane)

    def _clip(
        self, clip: Clip, nominal_start_s: float, annotation: dict[str, Any] | None, lane: int | None
    ) -> dict[str, Any]:
        """Return the row of a clip. lane : its channel, None for all."""
        stretch = slice(clip.start - self.offset, clip.stop - self.offset)
        place = stretch if lane is None else (stretch, slice(lane, lane + 1))
        y = self.samples[place]
        try:
            labels = self._labels(clip, annotation, lane)
        except TooManyEventsError as error:
            return self._reject_clip(nominal_start_s, annotation, "clip_too_many_events", str(error), lane)
        if (
            self.source.labelling is not None
            and self.source.labelling.drops_none
            and labels["labels"] == [self.source.labelling.none]
        ):
            return {"status": "dropped", "rule": "without_label", "count": 1}
        if len(y) != clip.stop - clip.start:
            raise AssertionError(
                f"{self.chunk['item_id']}: a chunk of {len(self.samples)} frames at {self.offset} lacks clip {clip.start}-{clip.stop}"
            )
        identity = clip_id(self._origin(annotation), nominal_start_s, lane)
        if not self.is_finite and not np.isfinite(y).all():
            what = "not-a-number or infinite samples"
            return self._reject_clip(nominal_start_s, annotation, "clip_not_finite", what, lane)
        saturated_samples = int(np.count_nonzero(np.abs(y) >= np.float32(SATURATED))) if self.is_loud else 0
        if clip.n_padded:
            y = np.concatenate([y, self._padding(identity, clip.n_padded, y)])
        clipped_samples, payload = 0, None
        if self.as_float:
            pass
        elif self.pcm is not None and not clip.n_padded:
            payload = self.pcm[place].tobytes()
        elif self.sample_format == "int16":
            pcm, clipped_samples = to_pcm16(y)
            payload = pcm.tobytes()
        else:
            payload = np.ascontiguousarray(y, dtype="<f4").tobytes()
        return {
            "status": "clip",
            "clip_id": identity,
            "start_s": clip.start / self.rate,
            "duration_s": len(y) / self.rate,
            "sample_rate_hz": self.rate,
            "n_channels": y.shape[1],
            "channel": lane,
            "n_samples": len(y),
            "n_clipped": clipped_samples,
            "saturated_samples": saturated_samples,
            "recording_level": self._level(lane),
            **self._clipped_share(clip, lane),
            "pcm": payload,
            **({"samples": np.ascontiguousarray(y, np.float32).reshape(-1)} if self.as_float else {}),
            **_annotation_columns(annotation),
            **labels,
        }

    def _labels(self, clip: Clip, annotation: dict[str, Any] | None, lane: int | None) -> dict[str, Any]:
        """Return the columns of a clip's labels, nothing where no clip of the dataset can have several."""
        if self.source.labelling is None:
            return {}
        if self.labels is not None:
            labels, events = self.labels.of(clip.start, clip.stop, lane)
            return {"labels": labels, "events": events}
        label = annotation["label"] if annotation is not None else self.chunk["label"]
        return {"labels": [label] if label is not None else [], "events": None}

    def _level(self, lane: int | None) -> float | None:
        levels = self.chunk["recording_levels"]
        return levels[lane or 0] if levels else None

    def _clipped_share(self, clip: Clip, lane: int | None) -> dict[str, float]:
        if self.full_scale is None:
            return {}
        return {"clipped_share": self.full_scale.share(clip.start / self.rate, clip.stop / self.rate, lane)}

    def _padding(self, identity: str, n: int, y: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return what follows a clip that is too short: float32 [n, channels]. y : the clip, float32 [frames, channels]"""
        kind = self.spec.pad if self.spec.mode == "fixed" else self.spec.tail.removeprefix("pad_")
        if kind == "zero":
            return np.zeros((n, y.shape[1]), np.float32)
        if kind == "repeat":
            return np.resize(y, (n, y.shape[1]))
        if kind == "edge":
            return np.repeat(y[-1:], n, axis=0)
        return white_noise(identity, n, y.shape[1], self.spec.tail_noise_dbfs)

    def _origin(self, annotation: dict[str, Any] | None) -> str:
        range_us = None
        if annotation is not None:
            start, end = annotation["start"], annotation["end"]
            range_us = (
                round((start or 0.0) * 1e6),
                round(end * 1e6) if end is not None else -1,
                annotation["ordinal"] or 0,
            )
        stem = PurePosixPath(self.chunk["path"]).stem
        return clip_origin(self.chunk["recording_id"], stem, range_us, self.clip_id_bits)

    def _reject_clips(
        self, start_s: float, annotation: dict[str, Any] | None, reason: str, detail: str
    ) -> Iterator[dict[str, Any]]:
        """Count a candidate in each lane, and yield its rejection."""
        self.n_candidates += len(self.lanes)
        for lane in self.lanes:
            yield self._reject_clip(start_s, annotation, reason, detail, lane)

    def _reject_clip(
        self, start_s: float, annotation: dict[str, Any] | None, reason: str, detail: str, lane: int | None
    ) -> dict[str, Any]:
        detail = detail if lane is None else f"channel {lane}: {detail}"
        place = {"file": annotation["file"], "line": annotation["line"]} if annotation else {}
        return {"status": "rejected", "kind": "clip", "reason": reason, "detail": detail, "start_s": start_s, **place}

    def _range_text(self, annotation: dict[str, Any], total: int) -> str:
        end = annotation["end"]
        return f"{annotation['start'] or 0.0:g} to {f'{end:g}' if end is not None else 'the end'} s, the recording has {total / self.rate:.6f} s"


def _reaches_full_scale(samples: npt.NDArray[np.float32] | npt.NDArray[np.int16]) -> bool:
    """Return whether samples may be saturated. Rounding can make a sample saturated, but never the reverse."""
    if samples.size == 0:
        return False
    limit = FULL_SCALE - 1 if samples.dtype == np.int16 else SATURATED
    return bool(samples.max() >= limit or samples.min() <= -limit)


def _annotation_columns(annotation: dict[str, Any] | None) -> dict[str, Any]:
    if annotation is None:
        return {}
    return {
        "label": annotation["label"],
        "fields": annotation["fields"],
        "file": annotation["file"],
        "line": annotation["line"],
    }


def _reject_annotation(annotation: dict[str, Any], reason: str, detail: str | None) -> dict[str, Any]:
    return {
        "status": "rejected",
        "kind": "annotation",
        "reason": reason,
        "detail": detail,
        "file": annotation["file"],
        "line": annotation["line"],
        "start_s": annotation["start"],
    }
