"""Preview a build: what is planned, what is already committed, and an estimate of the result. Nothing is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from clipmill.pipelines.config_file import ConfigFile, load_config
from clipmill.pipelines.dataset.committed import find_committed
from clipmill.pipelines.dataset.inspection import last_rate
from clipmill.pipelines.dataset.kept_parts import KeptParts
from clipmill.pipelines.dataset.marks import read_marks
from clipmill.pipelines.dataset.records_io import read_forgotten, read_snapshot, snapshot_numbers
from clipmill.pipelines.dataset.shard_set import parts_of
from clipmill.pipelines.dataset.tries import read_generations, read_retries
from clipmill.pipelines.plan.estimates import (
    Estimate,
    annotations_rejected,
    estimate,
    rejected_by_reason,
    rejected_examples,
)
from clipmill.pipelines.plan.header_sample import Wanted, choose, expect
from clipmill.pipelines.plan.planning import Plan, make_plan
from clipmill.pipelines.run.build import device_notes
from clipmill.pipelines.run.foresight import SplitForecast, forecast_split
from clipmill.pipelines.run.graph import output_root
from clipmill.pipelines.run.guard import guarded
from clipmill.pipelines.run.header_process import read_headers
from clipmill.pipelines.run.output_check import check_output
from clipmill.pipelines.run.scratch import Aside, check_kind, limited
from clipmill.schemas.config import Config
from clipmill.schemas.plural import counted
from clipmill.stages.decode.header_length import HeaderLength


@dataclass(frozen=True, repr=False)
class Preview:
    """What a build would do.

    plan : the shards with their recordings
    committed : keys of planned shards that are already committed
    estimate : clips, their length in seconds, bytes and working time in seconds, see `clipmill.pipelines.plan.estimates.Estimate`
    split : recordings by split, limits that would be exceeded, and recordings that would move to another split
    notes : what would prevent a build on this machine
    root : where a build would write to
    """

    plan: Plan
    committed: frozenset[str]
    estimate: Estimate
    split: SplitForecast
    notes: list[str]
    root: str = ""

    def __repr__(self) -> str:
        shards = counted(len(self.plan.keys), "shard")
        recordings = counted(self.plan.recordings_listed, "recording")
        return f"Preview({recordings}, {shards}, {self.shards_missing} to build, about {self.estimate.clips:,} clips)"

    @property
    def shards_missing(self) -> int:
        """Number of shards that a build would make."""
        return sum(key not in self.committed for key in self.plan.keys)

    @cached_property
    def shards(self) -> pa.Table:
        """The planned shards, one row each: key, split, bucket (the hash prefix), recordings (their ids), committed."""
        return pa.Table.from_pylist(self._shards(), schema=_SHARDS)

    def _shards(self) -> list[dict[str, Any]]:
        return [
            {
                "key": key,
                "split": rows["split"][0].as_py(),
                "bucket": rows["bucket"][0].as_py(),
                "recordings": rows["recording_id"].to_pylist(),
                "committed": key in self.committed,
            }
            for key, rows in ((key, self.plan.shard(i)) for i, key in enumerate(self.plan.keys))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the preview as plain data, as `clipmill plan --json` prints it."""
        plan = self.plan
        return {
            "recordings_listed": plan.recordings_listed,
            "recordings_rejected": plan.recordings_rejected,
            "recordings_without_annotations": plan.recordings_without_annotations,
            "recordings_forgotten": plan.recordings_forgotten,
            "annotations_read": plan.annotations_read,
            "annotations_rejected": annotations_rejected(plan),
            "recordings_dropped": dict(plan.recordings_dropped),
            "annotations_dropped": dict(plan.annotations_dropped),
            "annotations_ignored": plan.annotations_ignored,
            "annotations_merged": plan.annotations_merged,
            "limited": dict(plan.limited),
            "root": self.root,
            "rejected": dict(sorted(rejected_by_reason(plan).items())),
            "rejected_examples": dict(sorted(rejected_examples(plan).items())),
            "estimate": self.estimate.to_dict(),
            "noted": dict(sorted(plan.noted.items())),
            "shards_planned": len(plan.keys),
            "shards_missing": self.shards_missing,
            "estimated_s": plan.estimated_s,
            "rejections": plan.rejections,
            "passed_over": plan.passed_over,
            **self.split.to_dict(),
            "notes": self.notes,
            "shards": self._shards(),
        }


_SHARDS = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("bucket", pa.string()),
        ("recordings", pa.list_(pa.string())),
        ("committed", pa.bool_()),
    ]
)


def plan(
    config: ConfigFile | str | os.PathLike[str] | Mapping[str, Any], *, sample: bool = True, limit: int | None = None
) -> Preview:
    """List sources and annotations, and return what `build` would do. Nothing is written.

    Parameters
    ----------
    config : path of a YAML file, a mapping with its content, or the result of `load_config`
    sample : read the headers of at most 200 recordings, in a process of its own, for the estimate; otherwise no recording is opened
    limit : plan a build of so many recordings, as `build` does with the same limit

    Raises
    ------
    ConfigError : the configuration is wrong, or does not fit the sources
    ClipmillError : a source or the output cannot be read
    """
    file = load_config(config)
    with guarded(file):
        aside = limited(file, limit) if limit is not None else None
    return preview_of(file if aside is None else aside.file, read_headers if sample else None, aside)


def preview_of(
    file: ConfigFile,
    read: Callable[[Config, Sequence[Wanted]], dict[str, HeaderLength]] | None,
    aside: Aside | None = None,
) -> Preview:
    """Return what `build` would do; see `plan`.

    file : the configuration, of a limited build that which is built aside
    read : returns what headers of recordings say; None: the sizes of files decide
    aside : where a limited build goes
    """
    root = output_root(file.config)
    with guarded(file):
        file = check_output(file, root)
        notes = device_notes(file.config)
        numbers = snapshot_numbers(root)
        last = read_snapshot(root, numbers[-1]) if numbers else None
        check_kind(root, last, aside)
        kept, forgotten = KeptParts(root), read_forgotten(root if aside is None else aside.whole)
        few = aside.few if aside is not None else None
        planned = make_plan(file.config, read_retries(root), forgotten, read_generations(root), kept, few)
        planned.warnings += kept.findings
        indexed = parts_of(root, last) if last is not None and last.format_version > 1 else []
        found = find_committed(root, indexed, planned.keys, read_marks(root), last.number if last is not None else None)
        committed = frozenset(found.shards.keys)
        split = forecast_split(file.config, root, planned)
        expected = None
        if read is not None:
            lengths = read(file.config, choose(planned.table))
            expected = expect(file.config, planned.table, lengths) if lengths else None
        rate = last_rate(root)
    missing_s = sum(s for key, s in zip(planned.keys, planned.shard_s, strict=True) if key not in committed)
    estimated = estimate(file.config, file.public, planned, missing_s, last, expected, rate)
    return Preview(planned, committed, estimated, split, notes, root.uri("").rstrip("/"))
