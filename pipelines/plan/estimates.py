"""Estimate the clips, bytes and time of a plan, from file sizes, annotations, and what the headers of some recordings say."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.clip_lists import computed_steps
from clipmill.pipelines.plan.header_sample import Expected
from clipmill.pipelines.plan.planning import Plan
from clipmill.schemas.columns import Column, describe_columns
from clipmill.schemas.config import Config
from clipmill.schemas.records import Snapshot

_FLAC = 0.5
"""Usual size relative to 16-bit PCM, for speech and environmental sound."""
_PACKED = 0.75
"""Usual size of features after zstd, relative to plain floats."""
_TIMES_REALTIME = 400
"""Seconds of audio built per second on one core, including log-mel and MFCC; see docs/performance.md."""
_RAY_S = 15.0
_WITHOUT_RAY_S = 3600.0
_IMAGE_BYTES = 25_000
_REPEATED = 0.7
"""Share of repeated features that compression removes."""
_CLIP_BYTES = 400
"""What a clip takes besides its samples and features: its row, the header of its FLAC, the padding of a tar's members."""
_BY_CUTTING = ("tail", "keep_every")
"""Rules whose clips are not counted in what is expected."""
_EXAMPLE = ("file", "line", "source_uri", "detail")


@dataclass(frozen=True)
class Estimate:
    """The estimated size of a dataset.

    clips, clip_s, stored_bytes : number of clips, their seconds, and the bytes of the shards
    work_s : working time for the missing shards, on `cores` cores
    least_work_s, most_work_s : between which it probably lies
    of_last_build : whether the time follows from how fast the last build was
    headers_read : number of recordings whose header was read; 0 if lengths follow from the sizes of files alone
    rough : why the numbers may be far off
    """

    clips: int
    clip_s: float
    stored_bytes: int
    work_s: float
    cores: int
    least_work_s: float = 0.0
    most_work_s: float = 0.0
    of_last_build: bool = False
    headers_read: int = 0
    rough: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rough": list(self.rough)}


def estimate(
    config: Config,
    public: dict[str, Any],
    plan: Plan,
    missing_s: float,
    last: Snapshot | None,
    expected: Expected | None = None,
    last_rate: float | None = None,
) -> Estimate:
    """Estimate the clips, bytes and time of a plan.

    Parameters
    ----------
    public : the configuration as snapshots keep it
    missing_s : seconds of audio in shards that have to be built, by the sizes of files
    last : the newest snapshot; if it was stored in the same way, its bytes per second are used
    expected : what headers say; None: they were not read
    last_rate : seconds of audio that the last build decoded in a second of work; None: there is none to go by
    """
    cores = len(os.sched_getaffinity(0))
    clips, clip_s, padded_s, repeated_s = float(plan.clips_estimated), plan.clips_estimated_s, 0.0, 0.0
    rough: tuple[str, ...] = ()
    if expected is not None:
        clips, clip_s, rough = expected.clips, expected.clip_s, expected.rough
        padded_s, repeated_s = expected.padded_s, expected.repeated_s
        missing_s *= _correction(plan, expected)
    same = (
        last is not None
        and last.seconds.kept_s > 0
        and all(last.config.get(section) == public.get(section) for section in ("audio", "features", "output"))
    )
    if last is not None and (heard := _as_last(config, public, last, expected)) is not None:
        (clips, clip_s), rough = heard, ()
    if last is not None and same:
        stored_bytes = clip_s * last.bytes_stored / last.seconds.kept_s
    else:
        audio, features = _bytes_per_second(config)
        heard_s = clip_s - padded_s
        stored_bytes = heard_s * audio + (heard_s - _REPEATED * repeated_s) * features + clips * _CLIP_BYTES
        stored_bytes += clips * _IMAGE_BYTES if config.output.images is not None else 0
    starting_s = _RAY_S if missing_s > _WITHOUT_RAY_S else 0.0
    rate = last_rate or _TIMES_REALTIME * cores
    slower, faster = (1.5, 0.7) if last_rate else (3.0, 0.5)
    work_s = missing_s / rate
    return Estimate(
        round(clips),
        clip_s,
        round(stored_bytes),
        work_s + starting_s,
        cores,
        work_s * faster + starting_s * bool(missing_s),
        work_s * slower + starting_s * bool(missing_s),
        last_rate is not None,
        expected.n_headers if expected is not None else 0,
        rough,
    )


def _correction(plan: Plan, expected: Expected) -> float:
    """Return by what factor the audio of a plan is longer than the sizes of files suggest."""
    return expected.clip_s / plan.clips_estimated_s if plan.clips_estimated_s > 0 else 1.0


def _as_last(
    config: Config, public: dict[str, Any], last: Snapshot, expected: Expected | None
) -> tuple[float, float] | None:
    """Return the clips and their seconds if the last build cut and chose clips in the same way, and what it left out is not known without
    hearing the recordings; else None."""
    same = all(last.config.get(key) == public.get(key) for key in ("sources", "audio", "silence", "clips", "split"))
    counts, kept_s = last.counts, last.seconds.kept_s
    if expected is None or not expected.rough or not same or not kept_s or not last.seconds.decoded_s:
        return None
    if any(source.segment.mode in ("silence", "speech") for source in config.sources):
        growth = expected.n_recordings / max(1, counts.recordings_used)
        return counts.clips_stored * growth, kept_s * growth
    stored = counts.clips_kept + counts.clips_augmented
    n_cut = counts.clips_candidates - sum(counts.dropped.get(rule, 0) for rule in _BY_CUTTING)
    share = counts.clips_kept / n_cut if n_cut > 0 else 1.0
    return expected.clips * share, expected.clips * share * kept_s / max(1, stored)


def _bytes_per_second(config: Config) -> tuple[float, float]:
    """Return what a second of clips takes in all formats: its samples, and its features."""
    rate_hz, features = config.audio.sample_rate_hz, config.features
    sample_bytes = 4 if config.audio.sample_format == "float32" else 2
    audio = rate_hz * sample_bytes * (_FLAC if config.output.audio_codec == "flac" else 1.0)
    value_bytes = 2 if features.dtype == "float16" else 4
    values = 0.0
    at_rate = features.at(rate_hz)
    if at_rate.log_mel is not None:
        values += at_rate.log_mel.n_mels * rate_hz / at_rate.log_mel.hop_length
    if features.mfcc is not None and at_rate.of_mfcc is not None:
        values += features.mfcc.n_mfcc * rate_hz / at_rate.of_mfcc.hop_length
    if at_rate.spectrogram is not None:
        n_bins = 1 + at_rate.spectrogram.n_fft // 2
        values += n_bins * rate_hz / at_rate.spectrogram.hop_length * (1 + features.names.count("phase"))
    for step in computed_steps(config):
        values += sum(map(_values_per_second, describe_columns(step.stage.fields)))
    n_formats = len(config.output.formats)
    return audio * n_formats, values * value_bytes * _PACKED * n_formats


def _values_per_second(column: Column) -> float:
    """Return how many values of a stage's column there are in a second of clips; 0 where the column does not tell."""
    n_bins, shift_s = column.get("shape", [0])[0], column.get("settings", {}).get("frame_shift_s")
    known = column.get("kind") == "feature" and isinstance(n_bins, int) and isinstance(shift_s, float)
    return n_bins / shift_s if known else 0.0


def rejected_by_reason(plan: Plan) -> Counter[str]:
    """Count what a plan rejects by reason, in and outside of shards. A build will reject at least these."""
    counts = Counter(str(row["reason"]) for row in plan.rejections)
    for reasons in (*plan.table["reason"].chunks, *_row_reasons(plan)):
        for counted in pc.value_counts(reasons.drop_null()).to_pylist():
            counts[counted["values"]] += counted["counts"]
    return counts


def rejected_examples(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the first rejection for each reason: `file` and `line` of a row, `source_uri` of its recording, `detail`."""
    examples: dict[str, dict[str, Any]] = {}
    for rejection in plan.rejections:
        examples.setdefault(str(rejection["reason"]), {name: rejection[name] for name in _EXAMPLE})
    for batch in plan.table.select(["source_uri", "reason", "detail", "annotations"]).to_batches():
        rows = pc.list_flatten(batch.column("annotations"))
        reasons = pc.struct_field(rows, "reason")
        new = [reason for reason in pc.unique(reasons.drop_null()).to_pylist() if reason not in examples]
        if not new:
            continue
        parents = pc.list_parent_indices(batch.column("annotations"))
        for reason in new:
            at = pc.index(reasons, reason).as_py()
            row = {name: pc.struct_field(rows, name)[at].as_py() for name in ("file", "line", "detail")}
            examples[reason] = {**row, "source_uri": batch.column("source_uri")[parents[at].as_py()].as_py()}
    return examples


def annotations_rejected(plan: Plan) -> int:
    """Count the annotations that a plan rejects, in and outside of shards."""
    in_shards: int = sum(len(reasons) - reasons.null_count for reasons in _row_reasons(plan))
    return plan.annotations_rejected + in_shards


def _row_reasons(plan: Plan) -> Iterator[pa.Array]:
    for rows in plan.table["annotations"].chunks:
        yield pc.struct_field(pc.list_flatten(rows), "reason")
