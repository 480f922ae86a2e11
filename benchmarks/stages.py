"""clipmill's stages on one core, in one process, without Ray: where the time goes, beside the kernels'.

python -m benchmarks.stages [--hours 1] [--rounds 3] [--corpus FOLDER]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from benchmarks.contenders import kernels
from benchmarks.contenders.clipmill_build import configured
from benchmarks.corpus import make_corpus
from benchmarks.work import Outcome, source_seconds
from clipmill.stages.write.clip_sums import ShardStatistics


def run(config: str) -> Outcome:
    """Carry out a configuration; seconds by stage are each stage's own, and what is set up once is not counted."""
    from clipmill.pipelines.chain import chain_of
    from clipmill.pipelines.config_file import loads
    from clipmill.pipelines.plan.planning import make_plan
    from clipmill.pipelines.run.graph import stages_of
    from clipmill.pipelines.run.shard_work import apply_stages

    torch.set_num_threads(1)
    file = loads(config)
    plan = make_plan(file.config)
    stages = stages_of(file.config, plan, "cpu")
    chain = (*chain_of(file.config).to_clips, *stages.derived)
    list(apply_stages(chain, [plan.shard(0).slice(0, 1)]))
    names = [type(stage).__name__.lower() for stage in chain]
    until = dict.fromkeys(names, 0.0)
    clips, in_statistics = 0, 0.0

    def add(self: ShardStatistics, table: pa.Table) -> None:
        nonlocal in_statistics
        began = time.perf_counter()
        plain(self, table)
        in_statistics += time.perf_counter() - began

    plain, ShardStatistics.add = ShardStatistics.add, add  # type: ignore[method-assign]
    started = time.perf_counter()
    for i in range(len(plan.keys)):
        tables: Any = [plan.shard(i)]
        for name, stage in zip(names, chain, strict=True):
            tables = _timed(name, apply_stages([stage], tables), until)
        clips += stages.write(plan.shard(i), tables).counts.clips_kept
    total = time.perf_counter() - started
    ShardStatistics.add = plain  # type: ignore[method-assign]
    until["write"] = total
    own, before = {}, 0.0
    for name, seconds in until.items():  # each includes those before it
        own[name], before = seconds - before, seconds
    own["write"] -= in_statistics
    own["statistics"] = in_statistics
    return Outcome("clipmill, one core", clips, total, stages=own)


def _timed(name: str, tables: Iterable[Any], until: dict[str, float]) -> Iterator[Any]:
    """Pass tables on and add up the time that getting them took, everything before included."""
    waiting = iter(tables)
    while True:
        started = time.perf_counter()
        table = next(waiting, None)
        until[name] += time.perf_counter() - started
        if table is None:
            return
        yield table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--corpus", type=Path)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clipmill-bench-") as folder:
        place = Path(folder)
        corpus = o.corpus or place / "corpus"
        if o.corpus is None:
            make_corpus(corpus, o.hours)
        source_s = source_seconds(corpus)
        outcomes: dict[str, list[Outcome]] = {"kernels": [], "clipmill": []}
        for _ in range(o.rounds):
            outcomes["kernels"].append(kernels.run(corpus, place / "kernels"))
            outcomes["clipmill"].append(run(configured(corpus, place / "clipmill")))
            for name in outcomes:
                shutil.rmtree(place / name)
    for name, rounds in outcomes.items():
        print(f"\n{name + ', one core':<22}{'s':>9}{'x realtime':>14}")
        for stage in rounds[0].stages:
            seconds = statistics.median(r.stages[stage] for r in rounds)
            print(f"{stage:<22}{seconds:>9.2f}{source_s / max(seconds, 1e-9):>14,.0f}")
        seconds = statistics.median(r.work_s for r in rounds)
        print(f"{'all':<22}{seconds:>9.2f}{source_s / seconds:>14,.0f}")


if __name__ == "__main__":
    main()
