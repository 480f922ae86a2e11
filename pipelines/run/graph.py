"""The Ray Data graph: shards in, commits out. Read `stages_of` from top to bottom for what happens to a shard.

One task builds one shard, and its stages pass tables of a few megabytes to each other, so a worker's memory depends
neither on the shard nor on a recording. Given to Ray as an operator each, fused or not, the stages would exchange whole
shards: Ray Data 2.60 collects a map operator's output into a block before the next one sees it. With GPUs, features
are an operator of their own, an actor pool, and a block on each side of it is one shard of 16-bit clips.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.dataset.records_io import sound_commit
from clipmill.pipelines.plan.planning import Plan, without
from clipmill.pipelines.run.environment import Environment
from clipmill.pipelines.run.ray_private import resources_looked_for_at_once
from clipmill.pipelines.run.rejecting import exchanged, rejecting
from clipmill.pipelines.run.sandbox import Sandbox
from clipmill.pipelines.run.task_failures import ReportingActor, ReportingTask, checked, ray_gave_up
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ClipmillError, DonorError, InputMovedError, ItemRejectedError, StorageError
from clipmill.schemas.layout import commit_path
from clipmill.schemas.reasons import INPUT_MOVED
from clipmill.schemas.records import Commit
from clipmill.schemas.tables import CLIPS, shard_schema
from clipmill.stages.arrow_rows import replace_column, stream_bytes, stream_table
from clipmill.stages.clip_chain import applied
from clipmill.stages.lookup import carried_source
from clipmill.stages.reread import Reread
from clipmill.stages.stage import Stage
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.patience import patiently
from clipmill.stages.storage.root import Root
from clipmill.stages.write import Write

Work = Callable[[pa.Table], pa.Table | Iterator[pa.Table]]
_BLOCK_BYTES = 128 << 20
_SHARD_ATTEMPTS = 5
_NOTHING = "nothing"
T = TypeVar("T")
_PLAN_COLUMN, _ERROR_COLUMN = "shard_plan", "shard_error"
_LASTING_COLUMN = "__clipmill_lasting"
_FEATURES_S_COLUMN = "shard_features_s"


@dataclass(frozen=True)
class Stages:
    """What is done to a shard.

    clips : from the plan to the PCM of clips
    reread : or to the clips of a committed shard, when they are the same
    derived : computes columns of each clip; those from the first one that works on a GPU to the last are cut off for it
    write : to the shard's files and its commit
    environment : in which they find their storage
    """

    clips: Work
    reread: Reread
    derived: tuple[Stage, ...]
    write: Write
    environment: Environment

    @property
    def carried_modules(self) -> list[str]:
        """Modules of derived stages that are no part of an installed package."""
        return sorted({name for stage in self.derived for name in carried_source(type(stage))})

    @property
    def before_gpu(self) -> tuple[Work, ...]:
        return _checked(self.derived[: self._cut[0]])

    @property
    def on_gpu(self) -> tuple[Work, ...]:
        return _checked(self.derived[slice(*self._cut)])

    @property
    def behind_gpu(self) -> tuple[Work, ...]:
        return _checked(self.derived[self._cut[1] :])

    @property
    def to_columns(self) -> tuple[Work, ...]:
        """All derived stages."""
        return _checked(self.derived)

    @property
    def _cut(self) -> tuple[int, int]:
        places = [i for i, stage in enumerate(self.derived) if stage.on_gpu]
        return (places[0], places[-1] + 1) if places else (len(self.derived), len(self.derived))


def _checked(stages: tuple[Stage, ...]) -> tuple[Work, ...]:
    """Return stages that are held to what they declare, and whose exceptions name them."""
    return tuple(partial(applied, stage) for stage in stages)


def stages_of(config: Config, plan: Plan, device: str) -> Stages:
    """Return the stages of a build. Those up to clips run in a sandbox.

    device : cpu | cuda | auto, of the derived stages that can work on a GPU
    """
    audio = config.audio
    chain = chain_of(config, device)
    return Stages(
        clips=Sandbox(config, chain.origins, chain.sources),
        reread=Reread(
            output_root(config),
            audio.sample_format,
            tuple(plan.field_names),
            config.features.min_samples,
            config.has_channel_column,
            chain.clip_fields,
        ),
        derived=chain.derived,
        write=Write(
            root=output_root(config),
            formats=tuple(sorted(config.output.formats)),
            audio_codec=config.output.audio_codec,
            sample_format=audio.sample_format,
            schema=shard_schema(config, chain.fields(plan.field_names)),
            field_names=tuple(plan.field_names),
            feature_names=chain.feature_names,
            versions=chain.versions,
            device=device,
            max_temporary_mb=config.limits.max_temporary_mb,
            digests=(plan.config_digest, plan.clips_digest),
            measured=chain.measured,
            stage_of_reason=chain.stage_of_reason,
        ),
        environment=Environment.of_this_process(),
    )


def device_here(config: Config) -> str:
    """Return on which device this process computes features."""
    if config.features.device != "auto" or not chain_of(config).can_use_gpu:
        return "cpu" if config.features.device == "auto" else config.features.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def output_root(config: Config) -> Root:
    return Root(config.output.root, config.output.storage_options)


def through(stages: Iterable[Work], tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Pass tables through stages one after the other, a table at a time."""
    for stage in stages:
        tables = _apply(stage, tables)
    return iter(tables)


def _apply(stage: Work, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        given = stage(table)
        if isinstance(given, pa.Table):
            yield given
        else:
            yield from given


@dataclass(frozen=True)
class BuildShard:
    """All stages in one task. Takes a shard's plan, gives one row: its commit, or why there is none."""

    stages: Stages
    config_digest: str
    watch: Work

    def __call__(self, shard: pa.Table) -> pa.Table:
        self.stages.environment.enter()
        return _guarded(self.stages.write.root, shard, self._build)

    def _build(self, shard: pa.Table) -> Commit:
        stages = self.stages
        if (donor := _donor(shard, stages)) is not None:
            with contextlib.suppress(DonorError):
                tables = through(stages.to_columns, stages.reread(donor))
                return stages.write.rewrite(shard, donor, stages.reread.recordings(donor), tables)
        while True:
            try:
                chain = (stages.clips, *stages.to_columns, self.watch)
                return stages.write(shard, through(chain, [shard]))
            except InputMovedError as moved:
                shard = without(shard, moved.items, self.config_digest)
            except ItemRejectedError as bad:
                shard = rejecting(shard, bad)


@dataclass(frozen=True)
class MakeClips:
    """The stages before the features. Takes a shard's plan, gives its clips as one block, with the plan beside them."""

    stages: Stages
    config_digest: str
    watch: Work

    def __call__(self, shard: pa.Table) -> pa.Table:
        self.stages.environment.enter()
        root = self.stages.write.root
        try:
            if sound_commit(root, shard["key"][0].as_py()) is not None:
                clips = CLIPS.empty_table()  # another builder's, or that of a task whose answer got lost
            else:
                clips, shard = _patiently(root, partial(self._clips, shard))
        except StorageError as error:
            told = {_ERROR_COLUMN: [str(error)], _LASTING_COLUMN: [not error.transient]}
            return pa.table({_PLAN_COLUMN: [stream_bytes(shard)], **told})
        if clips.num_rows == 0:  # a block without rows would take the plan with it
            clips = pa.Table.from_pylist([{"status": _NOTHING}], schema=clips.schema)
        beside = pa.array([stream_bytes(shard)] + [None] * (clips.num_rows - 1), pa.large_binary())
        return clips.combine_chunks().append_column(_PLAN_COLUMN, beside)

    def _clips(self, shard: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Return a shard's clips, and its plan as it was carried out."""
        if (donor := _donor(shard, self.stages)) is not None:
            with contextlib.suppress(DonorError):
                tables = list(self.stages.reread(donor))
                if sum(t.num_rows for t in tables) == donor.counts.clips_kept:
                    return self._one([self.stages.reread.schema.empty_table(), *tables]), shard
            shard = replace_column(shard, "donor", pa.nulls(shard.num_rows, pa.string()))
        while True:
            clips = self._one(list(through((self.stages.clips, self.watch), [shard])))
            known = set(shard.filter(pc.is_valid(shard["reason"]))["item_id"].to_pylist())
            moved = {
                row["item_id"]: (row["reason"], row["detail"])
                for row in clips.select(["item_id", "reason", "detail"]).to_pylist()
                if row["reason"] in INPUT_MOVED and row["item_id"] not in known
            }
            if not moved:
                return clips, shard
            shard = without(shard, moved, self.config_digest)

    def _one(self, tables: list[pa.Table]) -> pa.Table:
        """Return a shard's clips as one block, with the columns that are computed before the GPU's."""
        return pa.concat_tables(through(self.stages.before_gpu, [pa.concat_tables(tables)]))


class ComputeFeatures:
    """The stages that work on a GPU, of one shard's clips, in an actor that keeps their constants on the device."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages.on_gpu

    def __call__(self, clips: pa.Table) -> pa.Table:
        if _ERROR_COLUMN in clips.column_names:
            return clips
        begun = time.monotonic()
        with_features = pa.concat_tables(through(self._stages, [clips]))
        took = pa.array([time.monotonic() - begun] * clips.num_rows, pa.float64())
        return with_features.append_column(_FEATURES_S_COLUMN, took)


@dataclass(frozen=True)
class WriteShard:
    """The end of the chain. Takes a shard's clips with features, gives one row: its commit, or why there is none."""

    stages: Stages

    def __call__(self, clips: pa.Table) -> pa.Table:
        self.stages.environment.enter()
        shard = stream_table(clips[_PLAN_COLUMN][0].as_buffer())
        if _ERROR_COLUMN in clips.column_names:
            failure = StorageError(clips[_ERROR_COLUMN][0].as_py(), transient=not clips[_LASTING_COLUMN][0].as_py())
            return _result(shard, error=failure)
        took = clips[_FEATURES_S_COLUMN][0]
        clips = clips.drop_columns([_PLAN_COLUMN, _FEATURES_S_COLUMN])
        computed = clips.filter(pc.not_equal(clips["status"], _NOTHING))

        def write(shard: pa.Table) -> Commit:
            stages = self.stages
            donor, clips = _donor(shard, stages), computed
            while True:
                tables = through(stages.behind_gpu, [clips])  # here, since an actor's time is the GPU's
                try:
                    if donor is None:
                        return stages.write(shard, tables)
                    return stages.write.rewrite(shard, donor, stages.reread.recordings(donor), tables)
                except DonorError as error:
                    raise StorageError(f"{error}; build again") from None
                except ItemRejectedError as bad:
                    shard = rejecting(shard, bad)
                    row = shard.filter(pc.equal(shard["item_id"], bad.item))
                    clips = exchanged(clips, bad, through((stages.clips, *stages.before_gpu, *stages.on_gpu), [row]))

        return replace_column(_guarded(self.stages.write.root, shard, write), "features_s", pa.array([took.as_py()]))


def _donor(shard: pa.Table, stages: Stages) -> Commit | None:
    """Return the commit whose clips a shard is to be made from, None when it is to be made from recordings."""
    key = shard["donor"][0].as_py()
    return sound_commit(stages.write.root, key) if key is not None else None


def _patiently(root: Root, work: Callable[[], T]) -> T:
    """Work on a shard, from its start again while a failure of storage may pass.

    Raises
    ------
    StorageError : it did not pass, or it is not of the kind that does
    """
    try:
        return patiently(work, (StorageError, *root.errors), root.is_local, _SHARD_ATTEMPTS)
    except OSError as error:
        raise describe_os_error(error, root, "build a shard under") from None


def _guarded(root: Root, shard: pa.Table, build: Callable[[pa.Table], Commit]) -> pa.Table:
    """Build and commit a shard, unless it is there by now: another builder's, or that of a task whose answer got lost.

    A failure of storage becomes a row: the shard stays uncommitted, the others go on.
    """

    def work() -> tuple[Commit, bool]:
        there = sound_commit(root, shard["key"][0].as_py())
        if there is not None:
            return there, False
        commit = build(shard)
        root.write_bytes(commit_path(commit.key), commit.to_json())
        return commit, True

    try:
        commit, built = _patiently(root, work)
    except StorageError as error:
        return _result(shard, error=error)
    return _result(shard, commit=commit, built=built)


RESULT = pa.schema(
    [
        ("key", pa.string()),  # as it turned out: a shard whose inputs moved has another than planned
        ("built", pa.bool_()),  # false when it was there
        ("n_items", pa.int64()),
        ("commit", pa.string()),  # the record as JSON
        ("error", pa.string()),  # set: there is no commit, and why
        ("lasting", pa.bool_()),  # whether waiting does not mend that
        ("features_s", pa.float64()),  # that a feature actor worked on it; null without such actors
    ]
)
"""What a shard's task tells the driver."""


def _result(
    shard: pa.Table, commit: Commit | None = None, built: bool = False, error: StorageError | None = None
) -> pa.Table:
    row = {
        "key": commit.key if commit else shard["key"][0].as_py(),
        "built": built,
        "n_items": shard.num_rows,
        "commit": commit.to_json().decode() if commit else None,
        "error": None if error is None else str(error),
        "lasting": error is not None and not error.transient,
    }
    return pa.Table.from_pylist([row], schema=RESULT)


def run_graph(
    shards: list[pa.Table], stages: Stages, config_digest: str, watch: Work, feature_actors: int, gpus_per_actor: float
) -> Generator[dict[str, Any], None, None]:
    """Build shards on the Ray cluster that this process is connected to. Yields a row of `RESULT` as each one ends.

    Parameters
    ----------
    shards : plans, each of one shard
    watch : a pass-through stage that counts progress
    feature_actors : 0 computes features in the CPU tasks; else so many actors, with `gpus_per_actor` each
    """
    import ray

    for name in stages.carried_modules:  # a worker does not find them
        ray.cloudpickle.register_pickle_by_value(sys.modules[name])
    # A copy: the settings of the process that builds are not clipmill's to change, and other datasets may follow in it.
    context = ray.data.DataContext.get_current().copy()
    # With None a task's output stays one block, so that a shard is never split between operators. Where a task builds a
    # whole shard its output is one row, and with None Ray 2.60 would hold back all but one task for the first seconds.
    context.target_max_block_size = None if feature_actors else _BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    with ray.data.DataContext.current(context):
        results = ray.data.from_arrow(shards)
    if feature_actors == 0:
        results = results.map_batches(
            ReportingTask(BuildShard(stages, config_digest, watch)), batch_format="pyarrow", batch_size=None, num_cpus=1
        )
    else:
        results = (
            results.map_batches(
                ReportingTask(MakeClips(stages, config_digest, watch)),
                batch_format="pyarrow",
                batch_size=None,
                num_cpus=1,
            )
            .map_batches(
                ReportingActor,
                fn_constructor_args=(ComputeFeatures, stages),
                compute=ray.data.ActorPoolStrategy(size=feature_actors),
                batch_format="pyarrow",
                batch_size=None,
                num_cpus=0,
                num_gpus=gpus_per_actor,
            )
            .map_batches(ReportingTask(WriteShard(stages)), batch_format="pyarrow", batch_size=None, num_cpus=1)
        )
    try:
        with contextlib.ExitStack() as at_first:
            at_first.enter_context(resources_looked_for_at_once())
            for batch in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                at_first.close()
                yield from map(checked, batch.to_pylist())
    except ray.exceptions.RayError as error:
        raise ClipmillError(ray_gave_up(error), code="ray.failed") from None
