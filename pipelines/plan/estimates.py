"""Estimate the clips, bytes and time of a plan from file sizes and annotations. No recording is opened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.plan.planning import Plan
from clipmill.schemas.config import Config
from clipmill.schemas.records import Snapshot

_FLAC = 0.55
"""Usual size relative to 16-bit PCM, for speech and environmental sound."""
_PACKED = 0.9
"""Usual size of features after zstd, relative to plain floats."""
_TIMES_REALTIME = 400
"""Seconds of audio built per second on one core, including log-mel and MFCC; see docs/performance.md."""
_RAY_S = 15.0
_WITHOUT_RAY_S = 3600.0
_IMAGE_BYTES = 25_000
_EXAMPLE = ("file", "line", "source_uri", "detail")


@dataclass(frozen=True)
class Estimate:
    """The estimated size of a dataset. work_s : working time for the missing shards, on `cores` cores; all else is for the whole dataset"""

    clips: int
    clip_s: float
    stored_bytes: int
    work_s: float
    cores: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate(config: Config, public: dict[str, Any], plan: Plan, missing_s: float, last: Snapshot | None) -> Estimate:
    """Estimate the clips, bytes and time of a plan.

    Parameters
    ----------
    public : the configuration as snapshots keep it
    missing_s : seconds of audio in shards that have to be built
    last : the newest snapshot; if it was stored in the same way, its bytes per second are used
    """
    cores = len(os.sched_getaffinity(0))
    clip_s = plan.clips_estimated_s
    same = (
        last is not None
        and last.seconds.kept_s > 0
        and all(last.config.get(section) == public.get(section) for section in ("audio", "features", "output"))
    )
    per_second = last.bytes_stored / last.seconds.kept_s if last is not None and same else _bytes_per_second(config)
    pictures = plan.clips_estimated * _IMAGE_BYTES if config.output.images is not None and not same else 0
    work_s = missing_s / _TIMES_REALTIME / cores + (_RAY_S if missing_s > _WITHOUT_RAY_S else 0.0)
    return Estimate(plan.clips_estimated, clip_s, round(clip_s * per_second) + pictures, work_s, cores)


def _bytes_per_second(config: Config) -> float:
    rate_hz, features = config.audio.sample_rate_hz, config.features
    sample_bytes = 4 if config.audio.sample_format == "float32" else 2
    audio = rate_hz * sample_bytes * (_FLAC if config.output.audio_codec == "flac" else 1.0)
    value_bytes = 2 if features.dtype == "float16" else 4
    values = 0.0
    if features.log_mel is not None:
        values += features.log_mel.n_mels * rate_hz / features.log_mel.hop_length
    if features.mfcc is not None:
        values += features.mfcc.n_mfcc * rate_hz / features.mfcc.log_mel(features.log_mel).hop_length
    if features.spectrogram is not None:
        n_bins = 1 + features.spectrogram.n_fft // 2
        values += n_bins * rate_hz / features.spectrogram.hop_length * features.names.count("phase")
        values += n_bins * rate_hz / features.spectrogram.hop_length
    return (audio + values * value_bytes * _PACKED) * len(config.output.formats)


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
