"""Estimate the clips of a plan from the headers of a sample of its recordings.

Only what `clipmill plan` prints depends on it. The sizes by which recordings are divided into shards never do, since keys would then
depend on a sample.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.plan.items import usual_bytes_per_s
from clipmill.schemas.config import Config, Source
from clipmill.schemas.config.split_config import is_training
from clipmill.schemas.keys import digest
from clipmill.stages.decode.header_length import HeaderLength
from clipmill.stages.storage.root import split_name

MOST_HEADERS = 200
Floats = npt.NDArray[np.float64]
Kind = tuple[str, str]
"""Source and extension: recordings of a kind have similar rates, channels and bit rates."""
_EPSILON = 1e-6
_HEARD_SHARE = 0.7
"""Usual share of a recording that modes silence and speech keep, where no build has shown another one."""
_BETWEEN_SILENCES_S = 4.0


@dataclass(frozen=True)
class Wanted:
    """A recording whose header is to be read."""

    recording_id: str
    source: str
    path: str
    size_bytes: int


@dataclass(frozen=True)
class Expected:
    """What a plan will give.

    clips, clip_s : before stages drop any
    padded_s : seconds of clips that are digital silence behind a range that is too short
    repeated_s : seconds of clips whose features repeat, frame by frame, those of the clip before, which compress well
    n_recordings, recorded_s : number of recordings, and their length
    rough : why they may be far off
    """

    clips: float
    clip_s: float
    padded_s: float
    repeated_s: float
    n_recordings: int
    recorded_s: float
    n_headers: int
    rough: tuple[str, ...] = ()


def choose(table: pa.Table, most: int = MOST_HEADERS) -> list[Wanted]:
    """Return a sample of a plan's recordings, the same for the same plan.

    Each kind has the share of the sample that it has of the bytes, but at least one recording. Which ones it is depends on the hash
    of their ids.
    """
    rows = table.filter(pc.is_null(table["reason"])).select(["recording_id", "source", "path", "size_bytes"])
    kinds: dict[Kind, dict[str, Wanted]] = defaultdict(dict)
    for batch in rows.to_batches():
        for name, source, path, size in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            kinds[source, split_name(path)[2]].setdefault(name, Wanted(name, source, path, size))
    n_bytes = {kind: sum(one.size_bytes for one in members.values()) for kind, members in kinds.items()}
    whole = sum(n_bytes.values()) or 1
    chosen: list[Wanted] = []
    for kind in sorted(kinds, key=lambda kind: -n_bytes[kind]):
        share = max(1, math.floor(most * n_bytes[kind] / whole))
        by_hash = sorted(kinds[kind].values(), key=lambda one: digest([one.recording_id]))
        chosen += by_hash[: min(share, most - len(chosen))]
    rest = {one.recording_id: one for members in kinds.values() for one in members.values()}
    for one in chosen:
        del rest[one.recording_id]
    return chosen + sorted(rest.values(), key=lambda one: digest([one.recording_id]))[: most - len(chosen)]


def expect(config: Config, table: pa.Table, lengths: Mapping[str, HeaderLength]) -> Expected:
    """Estimate what a plan will give.

    Parameters
    ----------
    table : rows of `clipmill.schemas.tables.PLAN`
    lengths : what headers said, by the recording's id
    """
    table = table.filter(pc.is_null(table["reason"]))
    clips = clip_s = padded_s = repeated_s = recorded_s = 0.0
    n_recordings = 0
    rough: list[str] = []
    for source in config.sources:
        own = table.filter(pc.equal(table["source"], source.name))
        if own.num_rows == 0:
            continue
        seconds, channels = _lengths(source, own, lengths)
        starts = _floats(own["span_start_s"], 0.0)
        ends = np.minimum(_floats(own["span_end_s"], np.inf), seconds)
        recorded_s += float(np.maximum(ends - starts, 0).sum())
        of_row, from_s, to_s = _ranges(source, own, starts, ends, seconds, lengths)
        counts, amounts, padded = _clips_of(source, np.maximum(to_s - from_s, 0.0))
        n_recordings += pc.count_distinct(own["recording_id"]).as_py()
        factor = _copies(config, source, own) * (channels if config.channels_of(source) == "each" else 1.0)
        if source.channel_by_row:
            factor = _copies(config, source, own)
        clips += float((counts * factor[of_row]).sum())
        own_s = float((amounts * factor[of_row]).sum())
        clip_s += own_s
        padded_s += float((padded * factor[of_row]).sum())
        repeated_s += own_s * _overlap(config, source)
        rough += _reasons(config, source)
    reasons = tuple(dict.fromkeys(rough))
    return Expected(clips, clip_s, padded_s, repeated_s, n_recordings, recorded_s, len(lengths), reasons)


def _floats(column: pa.ChunkedArray, missing: float) -> Floats:
    values: Floats = pc.fill_null(column, missing).to_numpy().astype(np.float64)
    return values


def _lengths(source: Source, own: pa.Table, lengths: Mapping[str, HeaderLength]) -> tuple[Floats, Floats]:
    """Return the seconds and the channels of the recording of each row: of its header, or as usual for its kind."""
    names, paths = own["recording_id"].to_pylist(), own["path"].to_pylist()
    extensions = [split_name(path)[2] for path in paths]
    sizes = own["size_bytes"].to_numpy().astype(np.float64)
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    met: set[str] = set()
    for name, extension, size in zip(names, extensions, sizes, strict=True):
        if (found := lengths.get(name)) is not None and name not in met:
            met.add(name)
            kind = sums[extension]
            kind[0] += size
            kind[1] += found.seconds
            kind[2] += found.n_channels
            kind[3] += 1
    fixed = source.raw.bytes_per_second if source.raw is not None else source.bytes_per_second
    rates = {e: s[0] / s[1] for e, s in sums.items() if s[0] > 0 and s[1] > 0}
    usual = [rates.get(e) or fixed or usual_bytes_per_s(e) for e in extensions]
    seconds = sizes / np.asarray(usual, np.float64)
    channels = np.asarray([sums[e][2] / sums[e][3] if e in rates else 1.0 for e in extensions], np.float64)
    for i, name in enumerate(names):
        if (found := lengths.get(name)) is not None:
            seconds[i], channels[i] = found.seconds, found.n_channels
    return seconds, channels


def _ranges(
    source: Source, own: pa.Table, starts: Floats, ends: Floats, seconds: Floats, lengths: Mapping[str, HeaderLength]
) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return what clips are cut from: for each range the index of its row in the plan, its start and its end in seconds."""
    lists = own["annotations"].combine_chunks()
    by_rows = not source.labels_by_overlap and lists.null_count < len(lists)
    if not by_rows:
        return np.arange(own.num_rows), starts, ends
    rows = pc.list_flatten(lists)
    of_row = pc.list_parent_indices(lists).to_numpy()
    is_good = pc.is_null(pc.struct_field(rows, "reason")).to_numpy(zero_copy_only=False).copy()
    unit_s = _unit_s(source, lengths)
    last_s = seconds[of_row]
    from_s = _floats(pa.chunked_array([pc.struct_field(rows, "start")]), 0.0) * unit_s
    to_s = _floats(pa.chunked_array([pc.struct_field(rows, "end")]), np.inf) * unit_s
    is_known = np.asarray([name in lengths for name in own["recording_id"].to_pylist()])[of_row]
    is_good &= ~(is_known & np.isfinite(to_s) & (to_s > last_s + source.tolerance_s))  # a build rejects these
    to_s = np.minimum(to_s, last_s)
    whole = np.flatnonzero(pc.is_null(lists).to_numpy(zero_copy_only=False))
    return (
        np.concatenate([of_row[is_good], whole]),
        np.concatenate([from_s[is_good], starts[whole]]),
        np.concatenate([to_s[is_good], ends[whole]]),
    )


def _unit_s(source: Source, lengths: Mapping[str, HeaderLength]) -> float:
    """Return the seconds of one unit of a source's rows. Samples are at the rate of most recordings."""
    unit = source.annotations.row_unit if source.annotations is not None else "s"
    if unit != "samples":
        return {"s": 1.0, "ms": 1e-3}[unit]
    rates = [found.sample_rate_hz for found in lengths.values() if found.sample_rate_hz]
    return 1.0 / (float(np.median(rates)) if rates else 44_100.0)


def _clips_of(source: Source, lengths_s: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the number of clips that are cut from ranges of these lengths, their seconds, and how many of these are padding with zeros."""
    spec = source.segment
    has_audio = lengths_s > 0
    none = np.zeros(len(lengths_s))
    if spec.mode in ("whole", "annotation"):
        fits = has_audio & (lengths_s <= spec.max_clip_s)
        return fits.astype(np.float64), np.where(fits, lengths_s, 0.0), none
    if spec.mode == "fixed":
        length_s = spec.length_s or 0.0
        padding_s = (
            np.where(has_audio, np.maximum(length_s - lengths_s, 0), 0.0) if spec.pad in ("zero", "edge") else none
        )
        return has_audio.astype(np.float64), np.where(has_audio, length_s, 0.0), padding_s
    if spec.mode == "window":
        return _windows(lengths_s, spec.length_s or 1.0, spec.hop, spec.tail, spec.keep_every)
    heard_s = lengths_s * _HEARD_SHARE
    usual_s = (spec.min_s + spec.max_s) / 2 if spec.mode == "speech" else _BETWEEN_SILENCES_S
    return np.ceil(heard_s / usual_s), heard_s, none


def _windows(
    lengths_s: Floats, length_s: float, hop_s: float, tail: str, keep_every: int
) -> tuple[Floats, Floats, Floats]:
    full = np.where(lengths_s + _EPSILON >= length_s, np.floor((lengths_s - length_s + _EPSILON) / hop_s) + 1, 0.0)
    begun = np.ceil((lengths_s - _EPSILON) / hop_s).clip(0)
    n_tails = np.where(tail == "drop", 0.0, np.clip(begun - full, 0, 1))  # only the first that is incomplete
    rest_s = np.clip(lengths_s - full * hop_s, 0, length_s)
    tail_s = rest_s if tail == "keep" else np.full(len(lengths_s), length_s)
    padding_s = length_s - rest_s if tail == "pad_zero" else np.zeros(len(lengths_s))
    n_all = np.maximum(full + n_tails, 1)
    clips = np.ceil((full + n_tails) / keep_every)
    return clips, clips * (full * length_s + n_tails * tail_s) / n_all, clips * n_tails * padding_s / n_all


def _overlap(config: Config, source: Source) -> float:
    """Return the share of each window that the one before has too, if the frames of their features are in the same places; else 0."""
    spec, at_rate = source.segment, config.features.at(config.audio.sample_rate_hz)
    mel = at_rate.log_mel or at_rate.of_mfcc or at_rate.spectrogram
    if spec.mode != "window" or mel is None or spec.keep_every > 1 or not spec.length_s or spec.hop >= spec.length_s:
        return 0.0
    hop_frames = spec.hop * config.audio.sample_rate_hz / mel.hop_length
    return 1 - spec.hop / spec.length_s if abs(hop_frames - round(hop_frames)) < _EPSILON else 0.0


def _copies(config: Config, source: Source, own: pa.Table) -> Floats:
    """Return how many clips each row has of a clip that is cut: one, and its changed copies."""
    factor = np.ones(own.num_rows)
    for name, settings, _ in config.steps_of(source):
        if name == "augment" and isinstance(settings, dict):
            wanted = settings.get("splits")
            splits = own["split"].to_pylist()
            chosen = [split in wanted if wanted else is_training(split) for split in splits]
            factor += np.where(chosen, float(settings.get("copies", 1)), 0.0)
    return factor


def _reasons(config: Config, source: Source) -> list[str]:
    """Return what the estimate cannot know without hearing the recordings."""
    heard = {
        "silence": "segment mode silence cuts where it is quiet",
        "speech": "segment mode speech cuts around speech",
    }
    reasons = [heard[source.segment.mode]] if source.segment.mode in heard else []
    dropping: dict[str, Any] = {name: f"`{name}` drops clips" for name in ("silence", "keep")}
    dropping["trim"] = "`trim` shortens clips"
    return reasons + [dropping[name] for name, _, _ in config.steps_of(source) if name in dropping]
