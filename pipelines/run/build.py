"""Build a dataset: plan the shards, subtract the committed ones, do the rest, publish."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any, Self

import pyarrow as pa

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.config_file import ConfigFile, load_config
from clipmill.pipelines.dataset.classes import class_order, classes_of, describe_class_changes
from clipmill.pipelines.dataset.inspection import describe_remarks
from clipmill.pipelines.dataset.kept_parts import KeptParts
from clipmill.pipelines.dataset.measured import count_notes, distributions, measured_names, note_names
from clipmill.pipelines.dataset.notes import BuildNote, running_since
from clipmill.pipelines.dataset.publish import publish as publish_draft
from clipmill.pipelines.dataset.publish import repair, with_duplicates, write_rejections
from clipmill.pipelines.dataset.records_io import (
    claim_root,
    read_forgotten,
    read_retries,
    read_snapshot,
    shard_sizes,
    snapshot_numbers,
    sound_commits,
)
from clipmill.pipelines.dataset.sides import built_changes
from clipmill.pipelines.plan.donors import find_donors
from clipmill.pipelines.plan.planning import Plan, make_plan, with_donor
from clipmill.pipelines.run.cluster import connect_to_ray, warm_up, worker_environment
from clipmill.pipelines.run.drafting import draft_snapshot
from clipmill.pipelines.run.graph import device_here, output_root, run_graph, stages_of, whole_shard
from clipmill.pipelines.run.limits import find_exceeded_limits, find_shared_clips, find_shortfalls
from clipmill.pipelines.run.output_check import check_apart
from clipmill.pipelines.run.progress import Display, LocalTally, RayTally, Tallies, Watch, phase
from clipmill.pipelines.run.report import Report
from clipmill.pipelines.run.task_failures import ReportingTask, check_row
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.forgotten import Forgotten
from clipmill.schemas.layout import OWN_FILES, REJECTED_FILE, Retries, commit_path
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Commit
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

_PUBLISH_ATTEMPTS = 100
_LASTING_IN_ROW, _FAILURES_IN_ROW = 3, 10
"""A build ends after this many failed shards in a row: for reasons that waiting does not cure, and for any reason."""
_SMALL_S = 3600.0
"""Less audio than this is built in this process, in the time that Ray would take to start."""


def build(
    config: ConfigFile | str | os.PathLike[str] | Mapping[str, Any],
    *,
    workers: int | None = None,
    address: str | None = None,
    quiet: bool = False,
    accept: bool = False,
) -> Report:
    """Bring the dataset of a configuration up to date and publish a snapshot of it.

    Only what is missing is done: a second call on unchanged inputs reuses all shards and publishes nothing.

    Parameters
    ----------
    config : the path of a YAML file, a mapping with what one would hold, or what `load_config` returned
    workers : CPUs to use on this machine; None: all, and no Ray when there is little to do
    address : of a running Ray cluster
    quiet : print no progress
    accept : publish even if limits are exceeded

    Returns
    -------
    Report : its `status` is published, unchanged, failed or not_published; `raise_for_status` raises for the last two

    Raises
    ------
    ConfigError : the configuration is wrong, or does not fit the sources
    ClipmillError : a source or the output cannot be used
    """
    file = load_config(config)
    with guarded(file):
        return Builder(file, workers, address, quiet).run(accept)


class Builder:
    """One run of a build. `run` is the list of its steps.

    root : root of the dataset
    plan, retries, report : the planned shards, the items that were tried again, and what was done; set by `begin`
    """

    plan: Plan
    retries: Retries
    report: Report
    _kept: KeptParts
    _forgotten: Forgotten

    def __init__(self, file: ConfigFile, workers: int | None, address: str | None, quiet: bool) -> None:
        self._file, self._workers, self._address, self._quiet = file, workers, address, quiet
        self._feature_actors = 0
        self.root = output_root(file.config)

    def run(self, accept: bool) -> Report:
        """Bring the dataset up to date. accept : publish even if limits are exceeded"""
        self.begin()  # open the output; inventory, annotations, plan
        with BuildNote(self.root, self.plan.keys, self.plan.recordings_listed) as note:
            self.keep()
            committed, missing = self.subtract()
            commits = [*committed, *self.work(missing, note)]  # decode, cut, compute, write, commit
            if not self.report.failures:
                self.publish(commits, accept)  # checks, manifest, snapshot
            self.end(note)
        return self.report

    def begin(self) -> Self:
        """Open the output and plan the shards."""
        self._started = time.monotonic()
        check_device(self._file.config, self._address)
        check_apart(self._file, self.root)
        try:
            claim_root(self.root, self._file.config.name)
            self._sweep()
        except OSError as error:
            raise describe_os_error(error, self.root, "write to") from None
        self.retries = read_retries(self.root)
        self.plan = self.make_plan(self.retries)
        self.report = Report("failed", self.root.uri(""), len(self.plan.keys), 0, 0, 0.0)
        self.report.passed_over = self.plan.passed_over
        self.report.warnings = list(self.plan.warnings)
        self.report.plan_s = time.monotonic() - self._started
        return self

    def make_plan(self, retries: Retries) -> Plan:
        """List the recordings, read the annotations, and divide the work into shards."""
        with phase("listing recordings and annotations", self._quiet):
            self._kept, self._forgotten = KeptParts(self.root), read_forgotten(self.root)
            return make_plan(self._file.config, retries, self._forgotten, self._kept)

    def keep(self) -> None:
        """Keep what annotation files gave, for the next build. A build's note must be there, so that nothing is forgotten meanwhile."""
        if read_forgotten(self.root) == self._forgotten:
            self._kept.save()
        self.report.warnings += self._kept.findings

    def _sweep(self, own_note: str | None = None) -> None:
        """Remove half-written files of builds that were killed, or of workers of this build that were."""
        try:
            for name in self.root.leftovers(running_since(self.root, but=own_note), OWN_FILES):
                self.root.remove_leftover(name)
        except PermissionError:  # not being allowed to look for them is no reason not to build
            return

    def end(self, note: BuildNote) -> None:
        """Clean up, and record the outcome."""
        self._sweep(note.id)
        failed = self.report.failures or ([] if self.report.accepted else [e.message for e in self.report.limits])
        note.finish(self.report.status, "; ".join(dict.fromkeys(failed)) or None)
        self.report.storage_weaknesses = self.root.local_files.weaknesses
        self.report.wall_s = time.monotonic() - self._started

    def subtract(self) -> tuple[list[Commit], list[int]]:
        """Return the commits of the planned shards that exist, and the indices of those that do not."""
        committed = sound_commits(self.root, self.plan.keys)
        missing = [i for i, key in enumerate(self.plan.keys) if key not in committed]
        self.report.shards_reused = len(committed)
        return list(committed.values()), missing

    def commits(self, note: BuildNote) -> list[Commit]:
        """Return the commits of all planned shards, after building the missing ones."""
        committed, missing = self.subtract()
        return [*committed, *self.work(missing, note)]

    def work(self, todo: list[int], note: BuildNote) -> Iterator[Commit]:
        """Build shards and yield their commits.

        A commit has the key of what was actually read. If a recording changed during the build, that is not the planned key.

        todo : indices of the shards in the plan
        """
        if not todo:
            return
        donors = find_donors(self.root, self.plan, chain_of(self._file.config))
        shards = [self.plan.shard(i) for i in todo]
        shards = [with_donor(s, d) if (d := donors.get(s["clips_key"][0].as_py())) else s for s in shards]
        shards = [shards[i] for i in _order([self.plan.shard_s[i] for i in todo])]
        small = sum(self.plan.shard_s[i] for i in todo) < _SMALL_S
        in_process = small and self._workers is None and not self._address and not _ray_is_at_hand()
        with ExitStack() as stack:
            begun = time.monotonic()
            results, tallies = (self._here if in_process else self._on_ray)(shards, stack)
            working = time.monotonic()
            self.report.startup_s = 0.0 if in_process else working - begun
            n_items, features_s, in_row = sum(s.num_rows for s in shards), 0.0, 0
            with Display(tallies, n_items, len(shards), self._quiet) as display:
                note.describe = lambda: display.text
                # Closed before Ray is shut down, also on an interrupt: otherwise its threads would end the process.
                for result in stack.enter_context(closing(results)):
                    display.shard_done()
                    if result["error"] is not None:
                        self.report.failures.append(result["error"])
                        in_row += 1
                        if in_row >= (_LASTING_IN_ROW if result["lasting"] else _FAILURES_IN_ROW):
                            break
                        continue
                    in_row = 0
                    commit = Commit.from_json(result["commit"], result["key"])
                    self._count(commit, result["built"])
                    features_s += result["features_s"] or 0.0
                    yield commit
            ended = time.monotonic()
            self.report.work_s = ended - working
            if self._feature_actors:
                self.report.features_busy = features_s / self.report.work_s / self._feature_actors
        if not in_process:
            self.report.startup_s += time.monotonic() - ended

    def _count(self, commit: Commit, built: bool) -> None:
        if not built:
            self.report.shards_reused += 1
            return
        self.report.shards_built += 1
        if commit.donor is not None:
            self.report.shards_from_clips += 1
        else:
            self.report.decoded_s += commit.seconds.decoded_s

    def _here(self, shards: list[pa.Table], stack: ExitStack) -> tuple[Generator[dict[str, Any], None, None], Tallies]:
        """Build shards in this process, one after the other."""
        stack.enter_context(worker_environment())
        tally = LocalTally()
        stages = stages_of(self._file.config, self.plan, device_here(self._file.config))
        run = ReportingTask(whole_shard(stages, Watch(tally)), logged=False)
        return (check_row(row) for shard in shards for row in run(shard).to_pylist()), tally

    def _on_ray(
        self, shards: list[pa.Table], stack: ExitStack
    ) -> tuple[Generator[dict[str, Any], None, None], Tallies]:
        with phase("starting Ray", self._quiet):
            cluster = stack.enter_context(connect_to_ray(self._file.config, self._workers, self._address))
            tally = RayTally.start()
            stack.callback(tally.stop)
            warm_up(cluster, self._file.config)
        self._feature_actors = cluster.feature_actors
        stages = stages_of(self._file.config, self.plan, cluster.device)
        gpus = 1.0 if cluster.device == "cuda" else 0.0
        watch = Watch(tally)
        return run_graph(shards, stages, watch, cluster.feature_actors, gpus), tally

    def publish(self, commits: list[Commit], accept: bool) -> None:
        """Publish what was built, unless it is already published or a limit forbids it."""
        root, report = self.root, self.report
        draft = draft_snapshot(self._file, self.plan, commits)
        report.remarks = describe_remarks(draft.snapshot.counts.remarked, draft.commits)
        problems = draft.snapshot.problems()
        if problems:
            raise ClipmillError(
                "the accounting of the build does not add up, nothing is published: " + "; ".join(problems)
            )
        short, warned = find_shortfalls(self._file.config, draft.snapshot)
        report.warnings += warned
        for _ in range(_PUBLISH_ATTEMPTS):
            numbers = snapshot_numbers(root)
            last = read_snapshot(root, numbers[-1]) if numbers else None
            classes = class_order(self._file.config, draft.snapshot, last)
            draft = replace(draft, snapshot=replace(draft.snapshot, classes=classes))
            report.snapshot = draft.snapshot
            report.classes = describe_class_changes(self._file.config, draft.snapshot, last)
            same = last is not None and last.has_same_content(draft.snapshot) and classes_of(last) == classes
            if last is not None and same and (not short or last.has_same_request(draft.snapshot)):
                repair(root, last, draft)
                report.status, report.snapshot = "unchanged", replace(last, noted=draft.snapshot.noted)
                report.warnings += short
                return
            if last is not None and not same:
                report.side_changes = built_changes(root, last, draft.commits)
                draft = replace(draft, snapshot=replace(draft.snapshot, side_changes=report.side_changes.moves))
                report.snapshot = draft.snapshot
            draft = with_duplicates(root, draft)
            report.snapshot = draft.snapshot
            report.measured = distributions(root, draft.commits, measured_names(draft.snapshot.columns))
            report.clip_notes = count_notes(root, draft.commits, note_names(draft.snapshot.columns))
            report.warnings = [f for f in report.warnings if f.limit != "shared_clips"]
            report.warnings += find_shared_clips(draft.snapshot)
            report.limits = (
                short if same else short + find_exceeded_limits(self._file.config.limits, draft.snapshot, last)
            )
            if report.limits and not accept:
                report.status = "not_published"
                write_rejections(root, REJECTED_FILE, draft)
                return
            report.accepted = bool(report.limits)
            _check_all_there(root, draft.commits)
            accepted = replace(draft.snapshot, accepted=[e.message for e in report.limits])
            published = publish_draft(root, replace(draft, snapshot=accepted), last.number if last else None)
            if published is not None:
                report.status, report.snapshot = "published", published
                return
        raise ClipmillError(f"{root.url}: other builds publish faster than this one; build again")


def _order(shard_s: list[float]) -> list[int]:
    """Return the order in which to build shards of these lengths in seconds.

    The order is random, so that two builders on one root start with different shards and find each other's done. But the shortest
    third comes last, longest first, so that the workers end at about the same time.
    """
    order = sorted(range(len(shard_s)), key=lambda i: -shard_s[i])
    last = max(1, len(order) // 3)
    first = order[:-last]
    random.shuffle(first)
    return first + order[-last:]


def _check_all_there(root: Root, commits: list[Commit]) -> None:
    """Raise ClipmillError if files were removed during the build: a snapshot must not name them."""
    sizes = shard_sizes(root)
    missing = [c for c in commits if commit_path(c.key) not in sizes or not c.is_whole(sizes)]
    if missing:
        lost = counted(len(missing), "shard")
        raise ClipmillError(f"{root.url}: the files of {lost} were removed or damaged during the build; build again")


def check_device(config: Config, address: str | None = None) -> None:
    """Raise ConfigError if features need a GPU and this machine has none. A cluster is asked later, once it is connected."""
    if config.features.device != "cuda" or not chain_of(config).can_use_gpu or address or _ray_is_at_hand():
        return
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            "is cuda, and this machine has no GPU that torch can use: set auto or cpu, or build on a cluster with --address",
            key="features.device",
            code="config.no_gpu",
        )


def device_notes(config: Config) -> list[str]:
    """Return what would keep this machine from building, but not a cluster: plans are often made on a laptop."""
    try:
        check_device(config)
    except ConfigError as error:
        return [str(error)]
    return []


def _ray_is_at_hand() -> bool:
    """Return whether the environment names a cluster, or this process is connected to one."""
    ray = sys.modules.get("ray")
    return bool(os.environ.get("RAY_ADDRESS")) or (ray is not None and ray.is_initialized())


@contextmanager
def guarded(file: ConfigFile) -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C while a dataset is worked on, and turn failures of its storage into messages."""
    on_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if on_main_thread else None
    try:
        yield
    except ConfigError as error:
        raise file.located(error) from None
    except OSError as error:
        raise describe_os_error(error, output_root(file.config), "use") from None
    finally:
        if on_main_thread:
            signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
