"""Benchmarks that CI can run: ratios taken within one run, with room for noise, and the benchmark programs themselves."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import stages
from benchmarks.bench import compared
from benchmarks.contenders import kernels
from benchmarks.contenders.clipmill_build import configured
from benchmarks.corpus import make_corpus
from benchmarks.work import read_output

LEAST = 0.6
"""Of the kernels' speed on one core. It was 1.2 to 1.4 when this was written; the room is for noise."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speed")
    make_corpus(folder, 0.15)
    return folder


@pytest.mark.slow
def test_the_stages_keep_up_with_the_kernels(corpus: Path, tmp_path: Path) -> None:
    floor, ours = [], []
    for k in range(3):
        floor.append(kernels.run(corpus, tmp_path / f"kernels{k}"))
        ours.append(stages.run(configured(corpus, tmp_path / f"clipmill{k}")))
    ratio = min(o.work_s for o in floor) / min(o.work_s for o in ours)
    assert ratio >= LEAST, f"{ratio:.2f} of the kernels' speed: {ours[-1].stages} beside {floor[-1].stages}"
    assert {o.clips for o in floor} == {o.clips for o in ours}
    assert "lacking" not in compared(tmp_path / "kernels0", tmp_path / "clipmill0")


def test_what_is_not_annotated_is_not_decoded(tmp_path: Path) -> None:
    make_corpus(tmp_path, 0.2, kinds="flac", events_per_minute=1.2, mean_s=120.0)
    config = configured(tmp_path, tmp_path / "sparse")
    sidecar = 'annotations: {sidecar: "{stem}.csv", header: false, columns: {start: 0, end: 1, label: 3}}'
    everything = min((stages.run(config) for _ in range(2)), key=lambda o: o.stages["decode"])
    sparse = min(
        (stages.run(config.replace("label: {from: folder}", sidecar)) for _ in range(2)),
        key=lambda o: o.stages["decode"],
    )
    assert sparse.stages["decode"] < everything.stages["decode"] / 2
    assert sparse.clips < everything.clips / 4


def test_the_gpu_benchmark_runs_on_the_cpu() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--hours", "0.005", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    assert "clipmill, from host memory" in done.stdout
    assert "log_mel: differs from the CPU by at most 0\n" in done.stdout


@pytest.mark.slow
def test_the_benchmark_of_single_changes_runs() -> None:
    command = [sys.executable, "-m", "benchmarks.changes", "--minutes", "0.2", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    assert len(done.stdout.splitlines()) == 9


@pytest.mark.slow
def test_the_benchmark_of_plans_runs() -> None:
    command = [sys.executable, "-m", "benchmarks.plan", "--recordings", "100", "300"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    assert "table" in done.stdout


def test_contenders_outputs_can_be_told_apart(corpus: Path, tmp_path: Path) -> None:
    kernels.run(corpus, tmp_path / "all")
    found = read_output(tmp_path / "all")
    assert len(found) > 500
    (tmp_path / "fewer").mkdir()
    first = sorted((tmp_path / "all").glob("*.parquet"))[0]
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(first).slice(3), tmp_path / "fewer" / first.name)
    assert f"{len(found) - 3:,} clips in common, 3 lacking" in compared(tmp_path / "all", tmp_path / "fewer")
