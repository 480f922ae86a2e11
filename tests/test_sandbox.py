"""Recordings whose decoding kills its process, eats memory or never ends cost themselves alone."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from conftest import build_here, clips_of, shard_hashes, tone, write_audio
from poison import lay_out

from pipelines import sandbox
from pipelines.graph import clip_stages, through
from pipelines.plan import make_plan
from pipelines.sandbox import Sandbox
from schemas.config_file import load
from schemas.errors import ClipmillError

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
        ("abort", "decoder_crashed", "ended by SIGABRT"),
        ("abort-late", "decoder_crashed", "ended by SIGABRT"),
        ("segv", "decoder_crashed", "ended by SIGSEGV"),
        ("memory", "decoder_crashed", "takes more than 500 MB"),
        ("sleep", "decoder_timeout", "nothing was decoded of it for 2 s"),
        ("sleep-late", "decoder_timeout", "nothing was decoded of it for 2 s"),
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
    bad = ("abort1", "abort2-late", "sleep", "segv", "memory")
    commits = build_here(make_config(corpus(tmp_path / "in", *bad), limits={"decoder_timeout_s": 2, "decoder_memory_mb": 500}))  # fmt: skip
    assert len(commits) == 1
    found = {r["recording_id"].removeprefix("s0/").removesuffix(".wav"): r["reason"] for r in commits[0].rejections}
    assert found == {b: "decoder_timeout" if b == "sleep" else "decoder_crashed" for b in bad}
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


def test_a_defect_of_a_stage_is_no_rejection(poisoned: None, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    with pytest.raises(ClipmillError, match=r"(?s)a defect of clipmill.*AssertionError: a stage's own mistake"):
        build_here(make_config(corpus(tmp_path / "in", "defect")))


def test_the_sandbox_gives_what_the_stages_give(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    file = load(make_config(corpus(tmp_path / "in")))
    plan = make_plan(file.config)
    here = list(through(clip_stages(file.config), [plan.table]))
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
    deadline = time.monotonic() + 60
    spent = [-1.0, 0.0]
    while time.monotonic() < deadline and not (children and spent[-1] > 0.3 and spent[-1] == spent[-2]):
        children = psutil.Process(worker.pid).children()
        spent.append(sum(c.cpu_times().user for c in children))
        time.sleep(1)
    assert len(children) == 1
    worker.kill()
    worker.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.slow
def test_a_whole_build_on_ray_with_every_poison(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    source = corpus(tmp_path / "in", "abort", "segv-late", "sleep", "memory")
    limits = {"decoder_timeout_s": 3, "decoder_memory_mb": 500, "max_rejected_share": 0.5}
    config = make_config(source, limits=limits, features={"log_mel": {}})
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(lay_out(tmp_path / "site"))}
    command = [sys.executable, "-m", "pipelines.cli", "build", str(config)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    rejections = pq.read_table(tmp_path / "out/snapshots/000001/rejections.parquet").to_pylist()
    assert sorted(r["reason"] for r in rejections) == ["decoder_crashed"] * 3 + ["decoder_timeout"]
    assert "10 listed = 6 used + 4 rejected" in done.stdout
