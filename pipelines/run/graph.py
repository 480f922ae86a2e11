"""The Ray Data graph: plans of shards in, commits out. `clipmill.pipelines.run.shard_work` says what is done to a shard.

One task builds one shard. Given to Ray as an operator each, fused or not, its stages would exchange whole shards: Ray Data 2.60
collects a map operator's output into a block before the next one sees it. With GPUs the task is cut before the first stage that wants
one and behind the last, and a block on each side of the cut is one shard of 16-bit clips.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.plan.planning import Plan
from clipmill.pipelines.run.environment import Environment
from clipmill.pipelines.run.ray_private import update_limits_often
from clipmill.pipelines.run.sandbox import Sandbox
from clipmill.pipelines.run.shard_work import ClipsOfShard, MakeBlock, OnGpu, Stages, Work, WriteBlock, WriteShard
from clipmill.pipelines.run.task_failures import ReportingActor, ReportingTask, check_row, describe_ray_error
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.tables import shard_schema
from clipmill.stages.reread import Reread
from clipmill.stages.storage.root import Root
from clipmill.stages.write import Write

_BLOCK_BYTES = 128 << 20


def stages_of(config: Config, plan: Plan, device: str) -> Stages:
    """Return the stages of a build. Those up to clips run in a sandbox.

    device : cpu | cuda | auto, of the derived stages that can work on a GPU
    """
    audio = config.audio
    chain = chain_of(config, device, field_names=plan.field_names)
    return Stages(
        clips=Sandbox(config, chain.origins, chain.sources, plan.noises, plan.field_names),
        reread=Reread(
            output_root(config),
            audio.sample_format,
            tuple(plan.field_names),
            config.has_channel_column,
            chain.cut_fields,
            chain.on_stored,
            config.label_lists,
        ),
        on_stored=chain.on_stored,
        derived=chain.derived,
        write=Write(
            root=output_root(config),
            formats=tuple(sorted(config.output.formats)),
            audio_codec=config.output.audio_codec,
            sample_format=audio.sample_format,
            schema=shard_schema(config, chain.fields(plan.field_names)),
            field_names=tuple(plan.field_names),
            feature_names=chain.feature_names,
            beside=chain.names_beside,
            versions=chain.versions,
            device=device,
            max_temporary_mb=config.limits.max_temporary_mb,
            digests=plan.digests,
            measured=chain.measured,
            stage_of_reason=chain.stage_of_reason,
            unsummed_names=chain.unsummed_names,
            stored=chain.on_stored if chain.has_clip_stages or plan.excluded else None,
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


def operators(stages: Stages, watch: Work, feature_actors: int, gpus_per_actor: float) -> list[dict[str, Any]]:
    """Return what Ray maps over the plans of shards: one task a shard, cut in two around the stages that want a GPU where there are any.

    Each is what `ray.data.Dataset.map_batches` takes. The parameters are those of `run_graph`.
    """
    if feature_actors == 0:
        return [{"fn": ReportingTask(whole_shard(stages, watch)), "num_cpus": 1}]
    import ray

    stages = replace(stages, cut=stages.gpu_range)
    return [
        {"fn": ReportingTask(MakeBlock(stages, ClipsOfShard(stages, watch))), "num_cpus": 1},
        {
            "fn": ReportingActor,
            "fn_constructor_args": (OnGpu, stages),
            "compute": ray.data.ActorPoolStrategy(size=feature_actors),
            "num_cpus": 0,
            "num_gpus": gpus_per_actor,
        },
        {"fn": ReportingTask(WriteBlock(stages)), "num_cpus": 1},
    ]


def whole_shard(stages: Stages, watch: Work) -> WriteShard:
    """Return the work on a shard from its plan to its commit, in one task."""
    return WriteShard(stages, ClipsOfShard(stages, watch))


def run_graph(
    shards: list[pa.Table], stages: Stages, watch: Work, feature_actors: int, gpus_per_actor: float
) -> Generator[dict[str, Any], None, None]:
    """Build shards on the Ray cluster that this process is connected to. Yields a row of `RESULT` as each one ends.

    Parameters
    ----------
    shards : plans, each of one shard
    watch : a pass-through stage that counts progress
    feature_actors : 0 computes features in the CPU tasks; else so many actors, with `gpus_per_actor` each
    """
    import ray

    for name in stages.uninstalled_modules:  # a worker does not find them
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
    for operator in operators(stages, watch, feature_actors, gpus_per_actor):
        results = results.map_batches(**operator, batch_format="pyarrow", batch_size=None)
    try:
        with contextlib.ExitStack() as at_first:
            at_first.enter_context(update_limits_often())
            for batch in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                at_first.close()
                yield from map(check_row, batch.to_pylist())
    except ray.exceptions.RayError as error:
        raise ClipmillError(describe_ray_error(error), code="ray.failed") from None
