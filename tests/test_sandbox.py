"""Recordings whose decoding kills its process, eats memory or never ends cost themselves alone."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from conftest import build_here, clips_of, shard_hashes, tone, write_audio
from poison import lay_out

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.run import sandbox
from clipmill.pipelines.run.sandbox import Sandbox
from clipmill.pipelines.run.shard_work import apply_stages
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.arrow_rows import replace_column

WINDOWS = {"mode": "window", "length_s": 0.5}


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(lay_out(tmp_path / "site")))
    monkeypatch.setattr(sandbox, "_children", [])


def corpus(folder: Path, *bad: str) -> dict[str, Any]:
    for i in range(6):
        write_audio(folder / f"good{i}.wav", tone(1.6, 22050, seed=i), 22050)
    for k, name in enumerate(bad):
        write_audio(folder / f"{name}.wav", tone(120 if "late" in name else 1.6, 44100, seed=9 + k), 44100)
    return {"root": folder, "segment": WINDOWS}


@pytest.mark.parametrize(
    ("bad", "reason", "detail"),
    [
        ("abort", "decoder_crashed", "killed by SIGABRT"),
        ("abort-late", "decoder_crashed", "killed by SIGABRT"),
        ("segv", "decoder_crashed", "killed by SIGSEGV"),
        ("memory", "decoder_crashed", "needs more than 500 MB"),
        ("sleep", "decoder_timeout", "nothing was decoded for 2 s"),
        ("sleep-late", "decoder_timeout", "nothing was decoded for 2 s"),
        ("exit", "decoder_crashed", "exited with code 1"),
        ("defect", "decoder_failed", "AssertionError: a stage's own mistake, in two lines (sitecustomize.py, line "),
        ("defect-late", "decoder_failed", "AssertionError: a stage's own mistake"),
        (
            "raises-in-downmix",
            "decoder_failed",
            "OverflowError: Python int too large to convert to C long (sitecustomize.py",
        ),
        ("raises-in-resample", "decoder_failed", "OverflowError"),
        ("raises-in-segment", "decoder_failed", "OverflowError"),
    ],
)
def test_poison_costs_the_recording_that_holds_it(
    bad: str, reason: str, detail: str, poisoned: None, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    limits = {"decoder_timeout_s": 2, "decoder_memory_mb": 500}
    source = corpus(tmp_path / "in", bad)
    commits = build_here(make_config(source, limits=limits))
    rejected = [r for c in commits for r in c.rejections]
    assert [(r["recording_id"], r["reason"], r["stage"]) for r in rejected] == [(f"s0/{bad}.wav", reason, "decode")]
    assert detail in rejected[0]["detail"]
    clips = clips_of(tmp_path / "out", commits)
    assert len(clips) == 18
    (tmp_path / "in" / f"{bad}.wav").unlink()
    alone = build_here(make_config(source, limits=limits, output={"root": str(tmp_path / "alone")}))
    # The neighbours are what they are without it, in the same order.
    assert clips_of(tmp_path / "alone", alone) == clips


def test_several_kinds_in_one_shard(poisoned: None, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    bad = ("abort1", "abort2-late", "sleep", "segv", "memory", "defect1", "defect2-late", "raises-in-segment")
    commits = build_here(make_config(corpus(tmp_path / "in", *bad), limits={"decoder_timeout_s": 2, "decoder_memory_mb": 500}))  # fmt: skip
    assert len(commits) == 1
    found = {r["recording_id"].removeprefix("s0/").removesuffix(".wav"): r["reason"] for r in commits[0].rejections}
    expected = {"sleep": "decoder_timeout", "defect1": "decoder_failed", "defect2-late": "decoder_failed"}
    assert found == {b: expected.get(b, "decoder_failed" if "raises" in b else "decoder_crashed") for b in bad}
    assert commits[0].counts.clips_kept == 18


def test_a_crash_that_does_not_come_again_costs_nothing(
    poisoned: None, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    source = corpus(tmp_path / "in", "once-late", "once")
    commits = build_here(make_config(source))
    assert (tmp_path / "in/.crashed-once").exists()
    assert [c.rejections for c in commits] == [[]]
    build_here(make_config(source, output={"root": str(tmp_path / "again")}))
    assert shard_hashes(tmp_path / "again") == shard_hashes(tmp_path / "out")


def test_what_another_recording_had_given_by_then_is_given_again(
    poisoned: None, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    """A long recording's last clips are still on their way when the next one crashes."""
    source = {"root": tmp_path / "in", "segment": WINDOWS}
    for name, seconds in (("long1", 110), ("long2", 110), ("abort1", 1), ("abort2", 1), ("abort3", 1)):
        write_audio(tmp_path / "in" / f"{name}.wav", tone(seconds, 44100, seed=len(name) + seconds), 44100)
    commits = build_here(make_config(source))
    assert sorted(r["recording_id"] for c in commits for r in c.rejections) == [f"s0/abort{i}.wav" for i in (1, 2, 3)]
    assert sum(c.counts.clips_kept for c in commits) == 440


def test_a_message_to_the_user_stays_one(poisoned: None, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    with pytest.raises(ClipmillError, match=r"^a message to the user$"):
        build_here(make_config(corpus(tmp_path / "in", "refused")))


def test_a_defect_that_hits_every_recording_publishes_nothing(
    poisoned: None, in_process: None, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    for i in range(4):
        write_audio(tmp_path / "in" / f"defect{i}.wav", tone(1.0, 22050, seed=i), 22050)
    config = make_config({"root": tmp_path / "in", "segment": WINDOWS})
    done = CliRunner().invoke(main, ["build", str(config)])
    assert done.exit_code == 3, done.output
    assert "4  decoder_failed: clipmill's own code failed" in done.output
    assert "not published: 4 of 4 recordings are rejected" in done.output
    assert not (tmp_path / "out/snapshots").exists()
    told = CliRunner().invoke(main, ["failures", str(tmp_path / "out")]).output
    assert "AssertionError: a stage's own mistake, in two lines (sitecustomize.py, line " in told
    assert "Traceback" not in done.output + told


def test_a_failure_beside_what_was_rejected_unread(
    poisoned: None, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    """The recording that was begun last is one that nothing is read of: an earlier one is to blame."""
    config = load(make_config(corpus(tmp_path / "in", "raises-in-segment"))).config
    table = make_plan(config).table
    order = sorted(range(table.num_rows), key=lambda i: "raises" not in table["path"][i].as_py())
    table = table.take(order)
    reasons = [None if i != 1 else "unreadable" for i in range(table.num_rows)]
    table = replace_column(table, "reason", pa.array(reasons, pa.string()))
    rows = [row for t in Sandbox(config)(table) for row in t.to_pylist()]
    rejected = {row["path"]: row["reason"] for row in rows if row["status"] == "rejected"}
    assert rejected == {"raises-in-segment.wav": "decoder_failed", table["path"][1].as_py(): "unreadable"}
    ended = [row["item_id"] for row in rows if row["last"]]
    assert sorted(ended) == sorted(table["item_id"].to_pylist())


def plans_of_two(tmp_path: Path, make_config: Callable[..., Path]) -> tuple[Sandbox, pa.Table, pa.Table]:
    """A recording that gives many tables, and a short one."""
    write_audio(tmp_path / "in/long.wav", tone(200, 44100, seed=1), 44100)
    write_audio(tmp_path / "in/short.wav", tone(2, 44100, seed=2), 44100)
    config = load(make_config({"root": tmp_path / "in", "segment": WINDOWS})).config
    table = make_plan(config).table
    paths = table["path"].to_pylist()
    return Sandbox(config), *(table.slice(paths.index(f"{name}.wav"), 1) for name in ("long", "short"))


def recordings(tables: Iterable[pa.Table]) -> set[str]:
    return {path for table in tables for path in table["path"].to_pylist()}


@pytest.mark.parametrize("how", ["closed", "raised", "left open"])
def test_a_process_whose_request_has_not_ended_is_not_asked_again(
    how: str, tmp_path: Path, make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_children", [])
    run, long, short = plans_of_two(tmp_path, make_config)
    unended = run(long)
    first = [next(unended)]
    if how == "closed":
        unended.close()
    elif how == "raised":
        with pytest.raises(ZeroDivisionError):
            unended.throw(ZeroDivisionError())
    assert sandbox._children == []
    assert recordings(run(short)) == {"short.wav"}
    assert [child.is_fit for child in sandbox._children] == [True]
    if how == "left open":  # its own process goes on with it
        assert recordings([*first, *unended]) == {"long.wav"}
        assert len(sandbox._children) == 1, "one process is kept, however many there were at a time"
    assert recordings(run(short)) == {"short.wav"}


def test_answers_to_another_request_are_passed_over(
    tmp_path: Path, make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_children", [])
    run, long, short = plans_of_two(tmp_path, make_config)
    run.start()
    (child,) = sandbox._children
    child.request(run.config, [{}, {}, {}, []], long)  # nobody reads the answers
    assert recordings(run(short)) == {"short.wav"}
    assert sandbox._children == [child], "it is the same process"


def test_the_sandbox_gives_what_the_stages_give(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    file = load(make_config(corpus(tmp_path / "in")))
    plan = make_plan(file.config)
    here = list(apply_stages(chain_of(file.config).to_clips, [plan.table]))
    assert [t.to_pylist() for t in Sandbox(file.config)(plan.table)] == [t.to_pylist() for t in here]


def test_it_goes_when_its_worker_goes(tmp_path: Path, make_config: Callable[..., Path], poisoned: None) -> None:
    """Also when it is stuck in a decoder at the time."""
    write_audio(tmp_path / "in/sleep.wav", tone(1.0, 8000), 8000)
    config = make_config({"root": tmp_path / "in"})
    code = (
        "import sys; from conftest import build_here; from pathlib import Path; build_here(Path(sys.argv[1]))"
    )  # fmt: skip
    path = os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parent)])
    worker = subprocess.Popen([sys.executable, "-c", code, str(config)], env={**os.environ, "PYTHONPATH": path})
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 240
    spent = [-1.0, 0.0]
    while time.monotonic() < deadline and not (children and spent[-1] > 0.3 and spent[-1] == spent[-2]):
        children = psutil.Process(worker.pid).children()
        spent.append(sum(c.cpu_times().user for c in children))
        time.sleep(1)
    assert len(children) == 1
    worker.kill()
    worker.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


@pytest.mark.slow
def test_a_whole_build_on_ray_with_every_poison(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    source = corpus(tmp_path / "in", "abort", "segv-late", "sleep", "memory")
    limits = {"decoder_timeout_s": 3, "decoder_memory_mb": 500, "max_rejected_share": 0.5}
    config = make_config(source, limits=limits, features={"log_mel": {}})
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(lay_out(tmp_path / "site"))}
    command = [sys.executable, "-m", "clipmill", "build", str(config)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    rejections = pq.read_table(tmp_path / "out/snapshots/000001/rejections.parquet").to_pylist()
    assert sorted(r["reason"] for r in rejections) == ["decoder_crashed"] * 3 + ["decoder_timeout"]
    assert "10 listed = 6 used + 4 rejected" in done.stdout
