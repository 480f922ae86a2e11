"""The numbers of a build for those who watch it: in the note of the build, in `clipmill status`, and in `--metrics`."""

from __future__ import annotations

from typing import Any

from clipmill.pipelines.run.report import Report


def build_numbers(report: Report) -> dict[str, Any]:
    """Return a build's numbers as plain data. What is not known, as after a failure, is left out or 0.

    seconds : wall, inventory, annotations, plan (the rest of planning), starting (loading libraries, or starting and stopping Ray), work, publish
    stage_seconds : by stage, added up over all workers
    rates : decoded_x_realtime, seconds of decoded audio per second of work; shards_per_s
    counts : of shards, recordings and clips by what became of them
    rejected : number of rejections by reason
    decoded_s, bytes_stored : seconds of decoded audio; bytes of the snapshot's shards
    requests : to object stores, by operation
    snapshot : number of the published or unchanged snapshot
    """
    work_s = report.work_s
    numbers: dict[str, Any] = {
        "seconds": {"wall": round(report.wall_s, 3), **{k: round(s, 3) for k, s in report.phase_s.items()}},
        "stage_seconds": {k: round(s, 3) for k, s in sorted(report.stage_s.items())},
        "rates": {
            "decoded_x_realtime": round(report.decoded_s / work_s, 3) if work_s else 0.0,
            "shards_per_s": round(report.shards_built / work_s, 3) if work_s else 0.0,
        },
        "counts": {
            "shards_planned": report.shards_planned,
            "shards_built": report.shards_built,
            "shards_reused": report.shards_reused,
            "shards_failed": len(report.failures),
        },
        "rejected": {},
        "decoded_s": round(report.decoded_s, 3),
        "bytes_stored": 0,
        "requests": dict(sorted(report.requests.items())),
        "snapshot": None,
    }
    if (snapshot := report.snapshot) is not None:
        counts = snapshot.counts
        numbers["counts"] |= {
            "recordings_listed": snapshot.recordings_listed,
            "recordings_used": counts.recordings_used,
            "recordings_rejected": counts.recordings_rejected,
            "recordings_without_annotations": snapshot.recordings_without_annotations,
            "recordings_forgotten": snapshot.recordings_forgotten,
            "clips_kept": counts.clips_kept,
            "clips_dropped": sum(counts.dropped.values()),
            "clips_rejected": counts.clips_rejected,
        }
        numbers["rejected"] = dict(sorted(counts.rejected.items()))
        numbers["bytes_stored"] = snapshot.bytes_stored
        numbers["snapshot"] = snapshot.number if report.status in ("published", "unchanged") else None
    return numbers
