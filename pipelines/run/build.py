"""Build a dataset: plan the shards, subtract the committed ones, do the rest, publish."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.config_file import ConfigFile, load_config
from clipmill.pipelines.dataset.committed import find_committed
from clipmill.pipelines.dataset.identity import claim_root
from clipmill.pipelines.dataset.kept_parts import KeptParts
from clipmill.pipelines.dataset.leases import running_since
from clipmill.pipelines.dataset.marks import Mark, read_marks
from clipmill.pipelines.dataset.notes import BuildNote
from clipmill.pipelines.dataset.records_io import read_forgotten, read_snapshot, snapshot_numbers
from clipmill.pipelines.dataset.rotation import verify_next, verify_part
from clipmill.pipelines.dataset.shard_set import ShardSet, parts_of
from clipmill.pipelines.dataset.tries import raise_generations, read_generations, read_retries
from clipmill.pipelines.dataset.upgrade import upgrade
from clipmill.pipelines.plan.donors import find_donors
from clipmill.pipelines.plan.planning import Plan, make_plan, with_donor, with_expected
from clipmill.pipelines.run.build_numbers import build_numbers
from clipmill.pipelines.run.cluster import connect_to_ray, warm_up, worker_environment
from clipmill.pipelines.run.device_check import check_device
from clipmill.pipelines.run.display import Progress, told
from clipmill.pipelines.run.graph import device_here, output_root, run_graph, stages_of, whole_shard
from clipmill.pipelines.run.guard import guarded
from clipmill.pipelines.run.interrupts import check_interrupt
from clipmill.pipelines.run.output_check import check_apart, with_clip_id_bits
from clipmill.pipelines.run.progress import LocalTally, RayTally, Tallies, Watch
from clipmill.pipelines.run.publishing import Built, publish_built
from clipmill.pipelines.run.report import Report
from clipmill.pipelines.run.sandbox import launch_decoder
from clipmill.pipelines.run.scratch import Aside, check_kind, limited
from clipmill.pipelines.run.task_failures import ReportingTask, check_row
from clipmill.pipelines.run.work_order import work_order
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.forgotten import Forgotten
from clipmill.schemas.keys import CLIP_ID_BITS
from clipmill.schemas.layout import FORMAT_VERSION, OWN_FILES, Retries
from clipmill.schemas.records import Commit, Snapshot
from clipmill.stages.meter import Spent, spent
from clipmill.stages.storage.failures import describe_os_error

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
    verify_parts: int | None = None,
    numbers: dict[str, Any] | None = None,
    limit: int | None = None,
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
    verify_parts : check one part of so many of the published shards first, another in each build; None: do not check contents
    numbers : filled with what was measured (see `clipmill.pipelines.run.build_numbers`), also if the build raises
    limit : read only so many recordings, and write to a dataset of its own beside the root, see `clipmill.pipelines.run.scratch`

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
        aside = limited(file, limit) if limit is not None else None
        file = aside.file if aside is not None else file
    with guarded(file):
        builder = Builder(file, workers, address, quiet, aside)
        with builder.telling(numbers):
            return builder.run(accept, verify_parts)


class Builder:
    """One run of a build. `run` is the list of its steps.

    root : root of the dataset
    plan, retries, report : the planned shards, the items that were tried again, and what was done; set by `begin`
    last : the newest snapshot when the sources were listed
    shards : what the next snapshot will hold; set by `subtract`
    marks : what was found damaged, by path; set by `subtract`
    """

    plan: Plan
    retries: Retries
    report: Report
    last: Snapshot | None
    shards: ShardSet
    marks: dict[str, Mark]
    _kept: KeptParts
    _forgotten: Forgotten
    _seen_at_s: float

    def __init__(
        self, file: ConfigFile, workers: int | None, address: str | None, quiet: bool, aside: Aside | None = None
    ) -> None:
        self._aside = aside
        self._file, self._workers, self._address, self.quiet = file, workers, address, quiet
        self._progress, self._n_workers, self._feature_actors = Progress(quiet), 1, 0
        self._damaged: dict[str, bytes] = {}
        self._old_format = False
        self._started, self._working, self._plan_s, self._starting_s = time.monotonic(), 0.0, 0.0, 0.0
        self._spent_before, self._spent_on_shards, self._spent_by_workers = spent(), Spent(), Spent()
        self.root = output_root(file.config)
        self.shards, self.marks = ShardSet(self.root), {}

    def run(self, accept: bool, verify_parts: int | None = None) -> Report:
        """Bring the dataset up to date. The parameters are those of `build`."""
        self.begin()  # open the output; inventory, annotations, plan
        with BuildNote(self.root, self.plan.keys, self.plan.recordings_listed, told(self.quiet)) as note:
            note.measure = self.measure
            self.keep()
            part = self.verify_part(verify_parts)
            self.build_and_publish(note, accept)
            self.verify_repair(part, verify_parts)
            self.end(note)
        return self.report

    def verify_part(self, n_parts: int | None) -> int | None:
        """Check a part of the published shards; what is damaged is marked, and then rebuilt. n_parts : None: check nothing"""
        if n_parts is None or self.last is None:
            return None
        with self._progress.phase("verify", "checking committed shards"):
            verdict, part = verify_next(self.root, self.last.number, n_parts)
        self.report.verified = verdict.to_dict()
        return part

    def verify_repair(self, part: int | None, n_parts: int | None) -> None:
        """Check a part again in which damage was found: what this build could not repair makes it fail."""
        verified, numbers = self.report.verified, snapshot_numbers(self.root)
        if part is None or n_parts is None or not verified or not verified["problems"] or not numbers:
            return
        verdict = verify_part(self.root, numbers[-1], part, n_parts)
        verified["unrepaired"] = verdict.problems

    def build_and_publish(self, note: BuildNote, accept: bool) -> None:
        """Build what is missing and publish it, again from the listing on if another build publishes in the meantime."""
        for _ in range(_PUBLISH_ATTEMPTS):
            self.build_missing(note)  # decode, cut, compute, write, commit
            if self.report.failures or self.publish(accept):  # checks, index, manifest, snapshot
                return
            self.plan_again(note)
        raise ClipmillError(f"{self.root.url}: other builds publish faster than this one; build again")

    def begin(self) -> Self:
        """Open the output and plan the shards."""
        check_device(self._file.config, bool(self._address) or _ray_is_at_hand())
        check_apart(self._file, self.root)
        try:
            identity = claim_root(
                self.root, self._file.config.name, self._file.config.output.clip_id_bits or CLIP_ID_BITS
            )
            self._sweep()
        except OSError as error:
            raise describe_os_error(error, self.root, "write to") from None
        self._file = with_clip_id_bits(self._file, identity)
        self.look_at_newest()
        self._old_format = identity.format_version < FORMAT_VERSION
        if self._old_format and self.last is not None and self.last.format_version == FORMAT_VERSION:
            upgrade(self.root, self.last.commits)  # what was interrupted before it was done
            self._old_format = False
        self.retries = read_retries(self.root)
        self.plan = self.make_plan(self.retries)
        self.report = Report("failed", self.root.uri(""), len(self.plan.keys), 0, 0, 0.0)
        self._take_over_plan()
        self.report.plan_s = time.monotonic() - self._started
        return self

    def look_at_newest(self) -> None:
        """Note the newest snapshot before anything is listed: if another one is published until the end, this build plans again."""
        numbers = snapshot_numbers(self.root)
        self.last = read_snapshot(self.root, numbers[-1]) if numbers else None
        check_kind(self.root, self.last, self._aside)

    def plan_again(self, note: BuildNote) -> None:
        """Plan once more, since another build has published what this one has not seen, or since shards need another key."""
        self.look_at_newest()
        self.retries = read_retries(self.root)
        self.plan = self.make_plan(self.retries)
        self._take_over_plan()
        self.keep()
        note.replan(self.plan.keys, self.plan.recordings_listed)

    def _take_over_plan(self) -> None:
        self.report.shards_planned = len(self.plan.keys)
        self.report.passed_over = self.plan.passed_over
        self.report.warnings = list(self.plan.warnings)

    def make_plan(self, retries: Retries) -> Plan:
        """List the recordings, read the annotations, and divide the work into shards."""
        begun = time.monotonic()
        with self._progress.phase("plan", "matching annotations, dividing into shards"):
            self._generations = read_generations(self.root)
            self._kept, aside = KeptParts(self.root), self._aside
            self._forgotten = read_forgotten(self.root if aside is None else aside.whole)
            few = aside.few if aside is not None else None
            plan = make_plan(self._file.config, retries, self._forgotten, self._generations, self._kept, few)
        self._plan_s += time.monotonic() - begun
        return plan

    def keep(self) -> None:
        """Keep what annotation files gave, for the next build. A build's note must be there, so that nothing is forgotten meanwhile."""
        if read_forgotten(self.root) == self._forgotten:
            self._kept.save()
        self.report.warnings += self._kept.findings

    def measure(self) -> dict[str, Any]:
        """Complete the report's numbers as far as the build has got, and return them as `build_numbers` does; {} before the plan."""
        if not hasattr(self, "report"):
            return {}
        report, here = self.report, spent() - self._spent_before
        if self._working and not report.work_s:
            report.work_s = time.monotonic() - self._working
        listed = {name: here.seconds[name] for name in ("inventory", "annotations")}
        report.phase_s = {
            **listed, "plan": max(0.0, self._plan_s - sum(listed.values())),
            "starting": report.startup_s or self._starting_s, "work": report.work_s, "publish": report.phase_s.get("publish", 0.0),
        }  # fmt: skip
        report.stage_s = dict(self._spent_on_shards.seconds)
        report.requests = dict((here + self._spent_by_workers).requests)
        report.wall_s = time.monotonic() - self._started
        return build_numbers(report)

    @contextmanager
    def telling(self, numbers: dict[str, Any] | None) -> Iterator[None]:
        """Fill in the numbers when the block ends, however it ends."""
        try:
            yield
        finally:
            if numbers is not None:
                numbers.update(self.measure())

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
        message = "; ".join(dict.fromkeys(failed)) or None
        note.finish(self.report.status, message, self.report.rejections_sha256)
        self.report.storage_weaknesses = self.root.local_files.weaknesses
        self.measure()

    def subtract(self) -> list[int]:
        """Find out which planned shards are committed, and return the indices of those that are not, or are damaged."""
        self.marks, self._seen_at_s = read_marks(self.root), time.monotonic()
        found = find_committed(
            self.root,
            parts_of(self.root, self.last) if self.last is not None and self.last.format_version > 1 else [],
            self.plan.keys,
            self.marks,
            self.last.number if self.last is not None else None,
        )
        self.shards, self._damaged = found.shards, found.damaged
        if found.lost:
            self._raise_generations(found.lost)
        self.report.shards_reused = len(self.shards)
        return [i for i, key in enumerate(self.plan.keys) if key not in self.shards]

    def build_missing(self, note: BuildNote) -> None:
        """Build the shards that are missing or damaged. Those that come out with other bytes than before get a key of their own."""
        other = self.work(self.subtract(), note)
        if other:
            self._raise_generations(other)
            self.plan_again(note)
            self.work(self.subtract(), note)

    def _raise_generations(self, keys: Collection[str]) -> None:
        """Give shards another key, since what a published snapshot names must not be replaced by other bytes."""
        of_key = dict(zip(self.plan.keys, self.plan.clips_keys, strict=True))
        raise_generations(self.root, self._generations, [of_key[key] for key in keys])
        self.report.shards_renewed += len(keys)

    def work(self, todo: list[int], note: BuildNote) -> list[str]:
        """Build shards, and add them to `shards`.

        A commit has the key of what was actually read. If a recording changed during the build, that is not the planned key.

        todo : indices of the shards in the plan

        Returns
        -------
        keys of damaged shards that came out with other bytes than they had, and so were not replaced
        """
        other: list[str] = []
        if not todo:
            return other
        donors = find_donors(self.root, self.plan, self.last, chain_of(self._file.config))
        shards = [self.plan.shard(i) for i in todo]
        shards = [with_donor(s, d) if (d := donors.get(s["clips_key"][0].as_py())) else s for s in shards]
        shards = [self._with_expected(s) for s in shards]
        shards = [shards[i] for i in work_order([self.plan.shard_s[i] for i in todo])]
        small = sum(self.plan.shard_s[i] for i in todo) < _SMALL_S
        in_process = small and self._workers is None and not self._address and not _ray_is_at_hand()
        in_process = in_process or (self._aside is not None and self._aside.in_process)
        with ExitStack() as stack:
            begun = time.monotonic()
            results, tallies = (self._here if in_process else self._on_ray)(shards, stack)
            self._working = working = time.monotonic()
            self._starting_s = working - begun
            self.report.startup_s = 0.0 if in_process else working - begun
            n_items, features_s, in_row = sum(s.num_rows for s in shards), 0.0, 0
            divided = not all(pc.all(s["primary"]).as_py() for s in shards)
            counting = self._progress.counting(tallies, n_items, len(shards), divided, self._n_workers, in_process)
            with counting as display:
                note.describe = lambda: display.text
                # Closed before Ray is shut down, also on an interrupt: otherwise its threads would end the process.
                for result in stack.enter_context(closing(results)):
                    check_interrupt()
                    on_it = Spent.from_json(result["spent"])
                    made, key = result["commit"], result["key"]
                    commit = Commit.from_json(made.encode(), key) if made is not None else None
                    display.shard_done(commit, result["built"], result["error"] is not None, on_it)
                    self._spent_on_shards += on_it
                    self._spent_by_workers += Spent() if in_process else on_it
                    if result["error"] is not None:
                        self.report.failures.append(result["error"])
                        in_row += 1
                        if in_row >= (_LASTING_IN_ROW if result["lasting"] else _FAILURES_IN_ROW):
                            break
                        continue
                    in_row = 0
                    features_s += result["features_s"] or 0.0
                    if commit is None:  # it came out with other bytes
                        other.append(key)
                        continue
                    self._count(commit, result["built"], result["from_clips"])
                    self.report.donors_unusable += (
                        result["built"] and commit.donor is None and commit.clips_key in donors
                    )
                    self.shards.add(commit)
            ended = time.monotonic()
            self.report.work_s = ended - working
            if self._feature_actors:
                self.report.features_busy = features_s / self.report.work_s / self._feature_actors
        if not in_process:
            self.report.startup_s += time.monotonic() - ended
        return other

    def _with_expected(self, shard: pa.Table) -> pa.Table:
        content = self._damaged.get(shard["key"][0].as_py())
        return shard if content is None else with_expected(shard, content.decode())

    def _count(self, commit: Commit, built: bool, from_clips: bool) -> None:
        if not built:
            self.report.shards_reused += 1
            return
        self.report.shards_built += 1
        self.report.shards_healed += commit.key in self._damaged
        if from_clips:
            self.report.shards_from_clips += 1
        else:
            self.report.decoded_s += commit.seconds.decoded_s

    def _here(self, shards: list[pa.Table], stack: ExitStack) -> tuple[Generator[dict[str, Any], None, None], Tallies]:
        """Build shards in this process, one after the other."""
        stack.enter_context(worker_environment())
        tally = LocalTally()
        with self._progress.phase("build", "loading libraries"):
            if any(shard["donor"].null_count for shard in shards):  # the others are made from committed clips
                launch_decoder()
            stages = stages_of(self._file.config, self.plan, device_here(self._file.config))
        run = ReportingTask(whole_shard(stages, Watch(tally)), logged=False)
        return (check_row(row) for shard in shards for row in run(shard).to_pylist()), tally

    def _on_ray(
        self, shards: list[pa.Table], stack: ExitStack
    ) -> tuple[Generator[dict[str, Any], None, None], Tallies]:
        with self._progress.phase("build", "starting Ray"):
            cluster = stack.enter_context(connect_to_ray(self._file.config, self._workers, self._address))
            tally = RayTally.start()
            stack.callback(tally.stop)
            warm_up(cluster, self._file.config)
        self._n_workers, self._feature_actors = cluster.n_cpus, cluster.feature_actors
        stages = stages_of(self._file.config, self.plan, cluster.device)
        gpus = 1.0 if cluster.device == "cuda" else 0.0
        watch = Watch(tally)
        return run_graph(shards, stages, watch, cluster.feature_actors, gpus), tally

    def publish(self, accept: bool) -> bool:
        """Publish what was built, unless it is already published or a limit forbids it.

        Returns
        -------
        False if another snapshot was published since `look_at_newest`, so that the plan may be out of date; then nothing was done
        """
        made = (self.plan, self.last, self.shards, self.marks, self._damaged, self._old_format, self._seen_at_s)
        begun, built = time.monotonic(), Built(self._file, self.root, *made)
        try:
            with self._progress.phase("publish", "checks, index and manifest"):
                done = publish_built(built, self.report, accept)
        finally:
            self.report.phase_s["publish"] = time.monotonic() - begun
        if self._old_format and self.report.status == "published":
            upgrade(self.root, self.shards.keys)
            self._old_format, self.report.upgraded = False, True
        return done


def device_notes(config: Config) -> list[str]:
    """Return what would keep this machine from building, but not a cluster: plans are often made on a laptop."""
    try:
        check_device(config, _ray_is_at_hand())
    except ConfigError as error:
        return [str(error)]
    return []


def _ray_is_at_hand() -> bool:
    """Return whether the environment names a cluster, or this process is connected to one."""
    ray = sys.modules.get("ray")
    return bool(os.environ.get("RAY_ADDRESS")) or (ray is not None and ray.is_initialized())
