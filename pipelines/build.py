"""Build: plan, subtract what is committed, do the rest, publish."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipelines.cluster import connected
from pipelines.graph import output_root, run_graph, stages_of
from pipelines.plan import Plan, make_plan
from pipelines.progress import Display, TallyActor, Watch, phase
from pipelines.publish import Draft, draft_snapshot, publish
from schemas.config_file import ConfigFile
from schemas.errors import ClipmillError, ConfigError
from schemas.layout import (
    BUILD_FILE,
    Commit,
    Snapshot,
    open_dataset,
    read_snapshot,
    snapshot_numbers,
    sound_commits,
)
from schemas.storage import Root, describe_os_error


@dataclass
class Report:
    """What a build did.

    status : published | unchanged | failed | not_published
    shards_built, shards_reused : of shards_planned
    failures : messages of the shards that are not there
    limit : which limit forbade publishing, and by how much
    wall_s, startup_s : of all, and of connecting to Ray
    decoded_s : seconds of audio decoded by this run
    """

    status: str
    root: str
    shards_planned: int
    shards_built: int
    shards_reused: int
    wall_s: float
    plan_s: float = 0.0
    startup_s: float = 0.0
    work_s: float = 0.0
    decoded_s: float = 0.0
    snapshot: Snapshot | None = None
    failures: list[str] = field(default_factory=list)
    limit: str | None = None

    @property
    def exit_code(self) -> int:
        return {"published": 0, "unchanged": 0, "failed": 1, "not_published": 3}[self.status]

    def to_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        if self.snapshot is not None:
            plain["snapshot"].pop("commits")
            plain["snapshot"].pop("config")
        return plain


def build(file: ConfigFile, *, workers: int | None = None, address: str | None = None, quiet: bool = False) -> Report:
    """Bring the dataset of a configuration up to date and publish a snapshot of it.

    Parameters
    ----------
    workers : CPUs to use on this machine; None: all
    address : of a running Ray cluster

    Raises
    ------
    ConfigError : the configuration does not fit what is there
    ClipmillError : the work cannot be done
    """
    started = time.monotonic()
    config = file.config
    root = output_root(config)
    try:
        open_dataset(root, config.name)
    except OSError as error:
        raise describe_os_error(error, root, "write to") from None
    _check_apart(file, root)
    with phase("listing recordings and annotations", quiet):
        plan = make_plan(config)
    planned_s = time.monotonic() - started
    there = sound_commits(root, plan.keys)
    todo = [i for i, key in enumerate(plan.keys) if key not in there]
    report = Report("failed", root.uri(""), len(plan.keys), 0, len(plan.keys) - len(todo), 0.0, plan_s=planned_s)
    _note_build(root, plan, todo, finished=False)
    # With the keys of what was really read: a recording that moved under the build gives its shard another than planned.
    commits = list(there.values())
    if todo:
        commits += _work(file, plan, todo, report, workers, address, quiet)
    if report.failures:
        report.wall_s = time.monotonic() - started
        return report
    draft = draft_snapshot(file, plan, commits)
    _conclude(root, draft, report, config.limits.max_rejected_share)
    _note_build(root, plan, [], finished=True)
    report.wall_s = time.monotonic() - started
    return report


def _check_apart(file: ConfigFile, root: Root) -> None:
    """An output inside a source would be read as recordings by the next build."""
    for source in file.config.sources:
        source_base = Root(source.root, source.storage_options)
        if source_base.is_local and root.is_local:
            inside = os.path.realpath(root.full()) + os.sep
            if inside.startswith(os.path.realpath(source_base.full()) + os.sep) and not _hidden(inside, source_base):
                raise ConfigError(
                    f"{root.url} lies inside the source {source.root}: its clips would be read as recordings; move one of them",
                    key="output.root", file=file.path,
                )  # fmt: skip


def _hidden(path: str, source: Root) -> bool:
    relative = os.path.relpath(path, os.path.realpath(source.full()))
    return any(part.startswith(".") and part not in (".", "..") for part in relative.split(os.sep))


def _work(
    file: ConfigFile, plan: Plan, todo: list[int], report: Report, workers: int | None, address: str | None, quiet: bool
) -> list[Commit]:
    """Build the shards that are missing; return their commits."""
    import ray

    started = time.monotonic()
    commits = []
    with ExitStack() as stack:
        with phase("starting Ray", quiet):
            cluster = stack.enter_context(connected(file.config, workers, address))
            tally = ray.remote(num_cpus=0)(TallyActor).remote()
            ray.get(tally.read.remote())
        report.startup_s = time.monotonic() - started
        stages = stages_of(file.config, plan, cluster.device)
        n_items = sum(plan.shard(i).num_rows for i in todo)
        working = time.monotonic()
        with Display(tally, n_items, len(todo), quiet) as display:
            gpus = 1.0 if cluster.device == "cuda" else 0.0
            shards = [plan.shard(i) for i in todo]
            graph = run_graph(shards, stages, plan.config_digest, Watch(tally), cluster.feature_actors, gpus)
            # Closed before Ray is left, also when a build is interrupted: its threads would end the process otherwise.
            for result in stack.enter_context(closing(graph)):
                display.shard_done()
                if result["error"] is not None:
                    report.failures.append(result["error"])
                    continue
                commits.append(Commit.from_json(result["commit"], result["key"]))
                report.shards_built += 1
                report.decoded_s += commits[-1].seconds.decoded_s
        report.work_s = time.monotonic() - working
    return commits


def _conclude(root: Root, draft: Draft, report: Report, max_rejected_share: float) -> None:
    problems = draft.snapshot.problems()
    if problems:
        raise ClipmillError("the accounting of the build does not add up, nothing is published: " + "; ".join(problems))
    numbers = snapshot_numbers(root)
    if numbers:
        last = read_snapshot(root, numbers[-1])
        if (last.commits, last.plan_digest) == (draft.snapshot.commits, draft.snapshot.plan_digest):
            report.status, report.snapshot = "unchanged", last
            return
    report.snapshot = draft.snapshot
    report.limit = draft.over_limit(max_rejected_share)
    if report.limit is not None:
        report.status = "not_published"
        return
    report.snapshot = publish(root, draft)
    report.status = "published"


def _note_build(root: Root, plan: Plan, todo: list[int], finished: bool) -> None:
    """Leave a note for `clipmill status`. Nothing depends on it."""
    note = {
        "keys": plan.keys,
        "todo": [plan.keys[i] for i in todo],
        "recordings": plan.recordings_listed,
        "finished": finished,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        root.write_bytes(BUILD_FILE, json.dumps(note).encode())
    except OSError as error:
        raise describe_os_error(error, root, "write to") from None
