"""An exception in a task on Ray comes out as its message, in one line, with exit code 1."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from conftest import tone, write_audio

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.run.graph import run_graph, stages_of
from clipmill.pipelines.run.progress import Watch
from clipmill.pipelines.run.task_failures import describe_ray_error
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.stage import Stage

DEFECT = "error: a stage failed, which is a bug in clipmill: "
CASES = [
    (ClipmillError("the disk says no; free some space"), "error: the disk says no; free some space"),
    (ValueError("not\na value"), f"{DEFECT}ValueError: not a value (in shard train-KEY of s0/r.wav)"),
    (RecursionError(), f"{DEFECT}RecursionError: (in shard train-KEY of s0/r.wav)"),
    (pa.ArrowInvalid("bad offsets"), f"{DEFECT}ArrowInvalid: bad offsets (in shard train-KEY of s0/r.wav)"),
    (
        MemoryError(),
        "error: the machine ran out of memory (in shard train-KEY of s0/r.wav): use fewer --workers, or lower"
        " output.shard_seconds, then build again; what is committed is kept",
    ),
]


def raising(error: Exception, is_on_gpu: bool = False) -> Any:
    """Return a stage that raises. Its class is local, so that it travels to the workers by value."""

    class Raising(Stage):
        section = "raising"
        scope = "derived"
        on_gpu = is_on_gpu

        def __call__(self, table: pa.Table) -> pa.Table:
            raise error

    return Raising()


class Passing(Stage):
    section = "passing"
    scope = "derived"
    on_gpu = True

    def __call__(self, table: pa.Table) -> pa.Table:
        return table


def of_stage(message: str) -> str:
    """Return what is said of an exception of a stage: its name and the clip, where a task's defect has the shard."""
    if not message.startswith(DEFECT):
        return message
    text = message.removeprefix(DEFECT).split(" (in shard")[0]
    return f"error: stage 'raising' failed on clip r-ID: {text}".rstrip()


def told(output: str) -> list[str]:
    text = re.sub(r"\br-[0-9a-f]{12,32}-\d+", "r-ID", re.sub("train-[0-9a-f]{12}", "train-KEY", output))
    return [line.rstrip() for line in text.splitlines() if line.startswith("error:")]


@pytest.fixture
def config(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    write_audio(tmp_path / "in/r.wav", tone(1.0, 8000), 8000)
    return make_config({"root": tmp_path / "in"})


@pytest.mark.parametrize(
    ("error", "message"), [CASES[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[1:])]
)
def test_a_stage_that_raises_on_ray(
    error: Exception, message: str, config: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stages(*given: Any) -> Any:
        return dataclasses.replace(stages_of(*given), derived=(raising(error),))

    monkeypatch.setattr("clipmill.pipelines.run.build.stages_of", stages)
    done = CliRunner().invoke(main, ["build", str(config)])
    assert done.exit_code == 1, done.output
    assert told(done.output) == [of_stage(message)]
    assert "Traceback" not in done.output
    assert "ray" not in done.output.lower().replace("starting ray", "")


@pytest.mark.parametrize("place", ["clips", "derived", "write"])
@pytest.mark.parametrize(("error", "message"), CASES)
def test_a_stage_that_raises_in_this_process(
    error: Exception, message: str, place: str, config: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stages(*given: Any) -> Any:
        made = stages_of(*given)
        if place == "clips":
            return dataclasses.replace(made, clips=raising(error))
        if place == "derived":
            return dataclasses.replace(made, derived=(raising(error),))
        monkeypatch.setattr(type(made.write), "__call__", lambda *_: raising(error)(pa.table({})))
        return made

    monkeypatch.setattr("clipmill.pipelines.run.build.stages_of", stages)
    done = CliRunner().invoke(main, ["build", str(config)])
    assert done.exit_code == 1, done.output
    assert told(done.stderr) == [of_stage(message) if place == "derived" else message]


@pytest.mark.parametrize("place", ["before", "in", "behind"])
def test_a_task_before_in_or_behind_the_actors(place: str, config: Path, ray_session: None) -> None:
    file = load(config)
    plan = make_plan(file.config)
    bad, passing = (raising(ClipmillError("told by it"), is_on_gpu=place == "in"), Passing())
    derived = (passing, bad) if place == "behind" else (bad, passing) if place == "before" else (bad,)
    stages = dataclasses.replace(stages_of(file.config, plan, "cpu"), derived=derived)
    shards = [plan.shard(i) for i in range(len(plan.keys))]
    with pytest.raises(ClipmillError, match=r"^told by it$"):
        list(run_graph(shards, stages, Watch(), feature_actors=1, gpus_per_actor=0.0))


def test_an_error_of_ray_itself_is_one_line(ray_session: None) -> None:
    import ray

    def work() -> None:
        raise ValueError("not\na value")

    with pytest.raises(ray.exceptions.RayTaskError) as raised:
        ray.get(ray.remote(work).remote())
    assert (
        describe_ray_error(raised.value)
        == "Ray failed: ValueError: not a value; what is committed is kept; build again"
    )
    several = ray.exceptions.RayError("The actor died.\n  Traceback\n\nNameError: x")
    assert describe_ray_error(several).startswith("Ray failed: The actor died. ... NameError: x;")
