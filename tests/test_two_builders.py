"""Two builds of one root at the same time."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import build_here, shard_hashes, tone, write_audio

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.notes import BuildNote
from clipmill.pipelines.dataset.publish import publish
from clipmill.pipelines.dataset.records_io import read_snapshot, snapshot_numbers
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.run.build import Builder
from clipmill.pipelines.run.drafting import draft_snapshot
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


def corpus(folder: Path, n: int = 16) -> dict[str, object]:
    for i in range(n):
        write_audio(folder / f"r{i}.wav", tone(2.0, 22050, seed=i), 22050)
    return {"root": folder, "segment": {"mode": "window", "length_s": 0.5}, "bytes_per_second": 44100}


def start(config: Path, *more: str) -> subprocess.Popen[str]:
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "clipmill", "build", str(config), *more]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_both(tmp_path: Path, make_config: Callable[..., Path], n: int, *more: str) -> None:
    source = corpus(tmp_path / "in", n)
    out = {"shard_seconds": 4, "formats": ["parquet", "webdataset"]}
    features = {"log_mel": {"n_fft": 512}} if more else {}
    config = make_config(source, features=features, output={"root": str(tmp_path / "out"), **out})
    both = [start(config, *more), start(config, *more)]
    said = [process.communicate(timeout=240) for process in both]
    assert [p.returncode for p in both] == [0, 0], said
    assert sum("published    snapshot 1" in text for text, _ in said) == 1, said
    assert sum("unchanged    nothing to do" in text for text, _ in said) == 1, said
    root = Root(str(tmp_path / "out"))
    assert snapshot_numbers(root) == [1]
    *_, verdict = verify(root)
    assert not verdict.problems
    assert not list((tmp_path / "out").rglob(".clipmill-tmp-*"))
    build_here(make_config(source, features=features, output={"root": str(tmp_path / "calm"), **out}))
    assert shard_hashes(tmp_path / "out") == shard_hashes(tmp_path / "calm")


@pytest.mark.parametrize("round_", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2))])
def test_both_end_well_and_one_publishes(round_: int, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    run_both(tmp_path, make_config, 16 + 8 * round_)


@pytest.mark.slow
def test_on_ray_too(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    run_both(tmp_path, make_config, 40, "--workers", "1")


def test_the_second_takes_over_what_the_first_has_built(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    """Both have planned everything; what one has committed by then the other does not do again."""
    config = load(make_config(corpus(tmp_path / "in"), output={"root": str(tmp_path / "out"), "shard_seconds": 4}))
    first, second = (Builder(config, None, None, True).begin() for _ in range(2))
    with BuildNote(second.root, second.plan.keys, 0) as note:
        assert first.run(accept=False).status == "published"
        second.work(list(range(len(second.plan.keys))), note)
        assert second.shards.keys == sorted(second.plan.keys)
    assert second.report.shards_built == 0
    assert second.report.shards_reused == len(second.plan.keys)


def test_a_number_is_published_once(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    """Two builds of different inputs, both about to publish snapshot 1: one has to take the next number."""
    config = load(make_config(corpus(tmp_path / "in", 4), output={"root": str(tmp_path / "out"), "shard_seconds": 4}))
    early = Builder(config, None, None, True).begin()
    write_audio(tmp_path / "in/late.wav", tone(1.0, 22050), 22050)
    late = Builder(config, None, None, True).begin()
    drafts = []
    for builder in (early, late):
        with BuildNote(builder.root, builder.plan.keys, 0) as note:
            builder.build_missing(note)
            drafts.append(draft_snapshot(config, builder.root, builder.plan, builder.shards))
    root = early.root
    first = publish(root, drafts[0], None)
    assert first is not None
    assert first.number == 1
    assert publish(root, drafts[1], None) is None, (
        "what it was about to publish after nothing comes after something now"
    )
    assert publish(root, drafts[0], None) is None
    with BuildNote(late.root, late.plan.keys, 0) as note:
        late.build_missing(note)
        assert not late.publish(accept=False), "another snapshot is the newest now"
        late.plan_again(note)
        late.build_and_publish(note, accept=False)
    assert late.report.status == "published"
    assert snapshot_numbers(root) == [1, 2]
    assert read_snapshot(root, 2).parent == 1
    for number in (1, 2):
        *_, verdict = verify(root, number)
        assert not verdict.problems


def test_a_build_that_died_before_its_snapshot_leaves_its_number_to_the_next(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    config = load(make_config(corpus(tmp_path / "in", 4), output={"root": str(tmp_path / "out")}))
    builder = Builder(config, None, None, True)
    builder.run(accept=False)
    (tmp_path / "out/snapshots/000001.json").unlink()
    assert Builder(config, None, None, True).run(accept=False).snapshot.number == 1  # type: ignore[union-attr]
    # With other inputs, what is there under the number is another's: it is not written over.
    (tmp_path / "out/snapshots/000001.json").unlink()
    manifest = (tmp_path / "out/snapshots/000001/manifest.parquet").read_bytes()
    write_audio(tmp_path / "in/late.wav", tone(1.0, 22050), 22050)
    assert Builder(config, None, None, True).run(accept=False).snapshot.number == 2  # type: ignore[union-attr]
    assert (tmp_path / "out/snapshots/000001/manifest.parquet").read_bytes() == manifest
