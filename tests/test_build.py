"""The whole job on Ray: same bytes, nothing lost, resuming, inputs that move."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import build_here, clips_of, resolved, shard_hashes, tone, write_audio
from old_format import plain_of, rewrite

from clipmill.pipelines.cli.build_summary import describe_build
from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.records_io import committed_keys, read_snapshot, snapshot_numbers
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.run.build import build
from clipmill.pipelines.run.graph import run_graph, stages_of
from clipmill.pipelines.run.progress import Watch
from clipmill.pipelines.run.report import Report
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.records import Commit
from clipmill.stages.storage.root import Root

FEATURES = {"log_mel": {"n_fft": 512, "hop_length": 160, "n_mels": 40}, "mfcc": {"n_mfcc": 13}}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Mixed containers, rates and channels; one silent, one corrupt, one with a bad annotation row."""
    place = tmp_path / "in"
    kinds = [("wav", 44100, 2, None), ("flac", 48000, 1, "PCM_24"), ("ogg", 22050, 1, None), ("wav", 8000, 1, None)]
    for i in range(10):
        extension, rate, channels, subtype = kinds[i % 4]
        quiet = 0.00001 if i == 9 else 0.3
        y = tone(3.3, rate, channels, hz=300 + 50 * i, peak=quiet, seed=i) * (1 if i != 9 else 0.01)
        write_audio(place / f"r{i}.{extension}", y, rate, subtype)
        (place / f"r{i}.csv").write_text(
            "start,end,label,note\n0.25,1.75,a,x\n1.5,3.0,b,y\n" + ("2.0,1.0,c,z\n" if i == 2 else "")
        )
    (place / "bad.wav").write_bytes(b"this is no audio at all" * 50)
    (place / "bad.csv").write_text("start,end,label,note\n0,1,a,x\n")
    (place / "lonely.wav").write_bytes((place / "r3.wav").read_bytes())
    return place


def source(corpus: Path, **more: Any) -> dict[str, Any]:
    columns = {"start": "start", "end": "end", "label": "label"}
    segment = {"mode": "window", "length_s": 0.5, "tail": "pad_noise"}
    return {"root": corpus, "annotations": {"sidecar": "{stem}.csv", "columns": columns}, "segment": segment, **more}


def settings(root: Path, **more: Any) -> dict[str, Any]:
    output = {"root": str(root), "formats": ["parquet", "webdataset"], "shard_seconds": 5}
    return {
        "output": output, "features": FEATURES, "silence": {"min_dbfs": -40}, "split": {"train": 0.7, "test": 0.3},
        "limits": {"max_rejected_share": 0.5}, **more,
    }  # fmt: skip


def assert_sound(root: Path) -> None:
    *_, verdict = verify(Root(str(root)))
    assert not verdict.problems
    assert not list(root.rglob(".clipmill-tmp-*"))


def test_one_worker_two_workers_no_ray_and_feature_actors_give_the_same_bytes(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path], ray_session: None
) -> None:
    config = make_config(source(corpus), **settings(tmp_path / "two"))
    report = build(load(config), quiet=True)
    assert report.status == "published"
    two = shard_hashes(tmp_path / "two")
    assert len(two) > 4
    build_here(make_config(source(corpus), **settings(tmp_path / "here")))
    assert shard_hashes(tmp_path / "here") == two
    # The graph with an actor pool for features, as on a cluster with GPUs.
    file = resolved(load(make_config(source(corpus), **settings(tmp_path / "actors"))))
    plan = make_plan(file.config)
    shards = [plan.shard(i) for i in reversed(range(len(plan.keys)))]
    results = list(run_graph(shards, stages_of(file.config, plan, "cpu"), Watch(), feature_actors=1, gpus_per_actor=0))
    assert all(r["error"] is None for r in results)
    assert all(r["features_s"] > 0 for r in results)
    assert shard_hashes(tmp_path / "actors") == two


def test_everything_is_accounted_for(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path], ray_session: None
) -> None:
    report = build(load(make_config(source(corpus), **settings(tmp_path / "out"))), quiet=True)
    s = read_snapshot(Root(str(tmp_path / "out")))
    assert report.snapshot == s
    assert s.problems() == []
    assert (
        s.recordings_listed,
        s.counts.recordings_used,
        s.counts.recordings_rejected,
        s.recordings_without_annotations,
    ) == (12, 10, 1, 1)
    assert (s.annotations_read, s.counts.annotations_used, s.counts.annotations_rejected) == (22, 20, 2)
    assert s.counts.clips_candidates == 20 * 3 == s.counts.clips_kept + s.counts.dropped["silence"]
    assert s.counts.dropped == {"silence": 6}
    assert s.counts.rejected == {"annotation_end_before_start": 1, "not_audio": 1, "recording_rejected": 1}
    rejections = pq.read_table(tmp_path / "out/snapshots/000001/rejections.parquet").to_pylist()
    assert {(r["kind"], r["reason"], r["line"]) for r in rejections} == {
        ("recording", "not_audio", None), ("annotation", "recording_rejected", 2), ("annotation", "annotation_end_before_start", 4),
    }  # fmt: skip
    assert_sound(tmp_path / "out")


def test_a_second_build_does_nothing_and_an_interrupted_one_goes_on(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path], ray_session: None
) -> None:
    root = Root(str(tmp_path / "out"))
    config = make_config(source(corpus), **settings(tmp_path / "out"))
    build(load(config), quiet=True)
    whole = shard_hashes(tmp_path / "out")
    again = build(load(config), quiet=True)
    assert (again.status, again.shards_built) == ("unchanged", 0)
    assert snapshot_numbers(root) == [1]
    # As a build that was killed leaves it: no snapshot, some shards uncommitted, one with files and no commit.
    for path in (tmp_path / "out/snapshots").rglob("*"):
        if path.is_file():
            path.unlink()
    keys = sorted(committed_keys(root))
    lost = keys[: len(keys) // 2]
    for key in lost:
        (tmp_path / f"out/commits/{key}.json").unlink()
    kept = {k: (tmp_path / f"out/commits/{k}.json").stat().st_mtime_ns for k in keys if k not in lost}
    resumed = build(load(config), quiet=True)
    assert (resumed.status, resumed.shards_built, resumed.shards_reused) == (
        "published",
        len(lost),
        len(keys) - len(lost),
    )
    assert shard_hashes(tmp_path / "out") == whole
    assert kept == {k: (tmp_path / f"out/commits/{k}.json").stat().st_mtime_ns for k in kept}
    assert_sound(tmp_path / "out")


def test_recordings_that_move_under_a_build_are_rejected_and_never_mixed(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    file = load(make_config(source(corpus), **settings(tmp_path / "out")))
    plan = make_plan(file.config)
    (corpus / "r0.wav").unlink()
    write_audio(corpus / "r3.wav", tone(3.3, 8000, hz=2000), 8000)
    os.utime(corpus / "r4.wav", ns=(1, 1))
    from clipmill.pipelines.run.graph import whole_shard

    run = whole_shard(stages_of(file.config, plan, "cpu"), Watch())
    commits = [Commit.from_json(run(plan.shard(i)).to_pylist()[0]["commit"], "x") for i in range(len(plan.keys))]
    reasons = {r["recording_id"]: r["reason"] for c in commits for r in c.rejections if r["kind"] == "recording"}
    assert reasons == {
        "s0/r0.wav": "recording_missing", "s0/r3.wav": "recording_changed", "s0/r4.wav": "recording_changed", "s0/bad.wav": "not_audio",
    }  # fmt: skip
    assert not {"s0/r0.wav", "s0/r3.wav", "s0/r4.wav"} & {
        row["recording_id"] for row in clips_of(tmp_path / "out", commits)
    }
    # A shard without a recording is not the shard that was planned: its key says so, and the next build builds it again.
    changed = {
        c.key
        for c in commits
        if c.rejections and any(r["reason"].startswith("recording_") and r["kind"] == "recording" for r in c.rejections)
    }
    assert changed
    assert not changed & set(plan.keys)


def test_a_limit_exceeded_builds_everything_and_publishes_nothing(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path], ray_session: None
) -> None:
    config = make_config(source(corpus), **settings(tmp_path / "out", limits={"max_rejected_share": 0.01}))
    report = build(load(config), quiet=True)
    assert (report.status, report.exit_code) == ("not_published", 3)
    assert "1 of 12 recordings is rejected (8.33%)" in report.limits[0].message
    assert snapshot_numbers(Root(str(tmp_path / "out"))) == []
    loose = build(load(make_config(source(corpus), **settings(tmp_path / "out"))), quiet=True)
    assert (loose.status, loose.shards_built) == ("published", 0)


def test_a_clip_does_not_depend_on_how_its_recording_was_cut(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    rng = np.random.default_rng(0)
    write_audio(tmp_path / "in/long.flac", 0.1 * rng.standard_normal((44100 * 50, 2)), 44100)
    segment = {"mode": "window", "length_s": 0.7, "hop_s": 0.3, "tail": "keep"}

    def clips(name: str, shard_seconds: float) -> dict[str, tuple[Any, ...]]:
        src = {"root": tmp_path / "in", "segment": dict(segment), "bytes_per_second": 100_000}
        commits = build_here(make_config(src, output={"root": str(tmp_path / name), "shard_seconds": shard_seconds}))
        assert sum(c.counts.recordings_used for c in commits) == 1
        return {r["clip_id"]: (r["start_s"], r["audio"]["bytes"]) for r in clips_of(tmp_path / name, commits)}

    whole, spans = clips("whole", 10_000), clips("spans", 7)
    assert len(whole) == 166
    assert whole == spans


def test_an_output_inside_a_source_and_a_foreign_root_are_refused(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError, match="is inside the source"):
        build(load(make_config(source(corpus), **settings(corpus / "out"))), quiet=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/dataset.json").write_text(json.dumps({"format_version": 1, "name": "another"}))
    with pytest.raises(ClipmillError, match="holds the dataset 'another'"):
        build(load(make_config(source(corpus), **settings(tmp_path / "other"))), quiet=True)


def test_storage_that_fails_leaves_the_shard_uncommitted(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    from clipmill.pipelines.run.graph import whole_shard

    file = load(make_config(source(corpus), **settings(tmp_path / "out")))
    plan = make_plan(file.config)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/shards").write_text("a file where a folder should be")
    run = whole_shard(stages_of(file.config, plan, "cpu"), Watch())
    row = run(plan.shard(0)).to_pylist()[0]
    assert row["commit"] is None
    assert "cannot build a shard under" in row["error"]
    assert committed_keys(Root(str(tmp_path / "out"))) == set()


def test_verify_finds_every_kind_of_damage(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path], ray_session: None
) -> None:
    out = tmp_path / "out"
    build(load(make_config(source(corpus), **settings(out))), quiet=True)
    assert_sound(out)

    def problems() -> str:
        *_, verdict = verify(Root(str(out)))
        return "\n".join(verdict.problems)

    shard = next((out / "shards").rglob("*.parquet"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "its sha256 is" in problems()
    shard.unlink()
    assert "missing" in problems()
    shard.write_bytes(content)
    commit = next((out / "commits").glob("*.json"))
    record = commit.read_bytes()
    counts = plain_of(commit)["counts"]
    counts["clips_kept"] += 1
    rewrite(commit, counts=counts)
    assert "not the commit record that the snapshot names" in problems()
    commit.write_bytes(record.replace(b'"n_items": ', b'"n_items": 1', 1))
    assert "its content is not what was written" in problems()
    commit.write_text("{}")
    assert "not a commit record" in problems()
    commit.write_bytes(record)
    assert problems() == ""


def test_damaged_shards_are_built_again(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path], ray_session: None
) -> None:
    out = tmp_path / "out"
    config = make_config(source(corpus), **settings(out))
    build(load(config), quiet=True)
    whole = shard_hashes(out)
    shards, commits = sorted((out / "shards").rglob("*.parquet")), sorted((out / "commits").glob("*.json"))
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-10])
    last = next(c for c in commits if shards[2].stem.rsplit("-", 1)[-1] == c.stem[:12])
    last.write_bytes(last.read_bytes()[:50])
    again = build(load(config), quiet=True)
    assert (again.status, again.shards_built) == ("unchanged", 3)
    assert shard_hashes(out) == whole
    assert_sound(out)


def test_another_root_for_the_recordings_is_another_dataset(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    import shutil

    shutil.copytree(corpus, tmp_path / "moved")
    first = make_plan(load(make_config(source(corpus))).config)
    second = make_plan(load(make_config(source(tmp_path / "moved"))).config)
    assert not set(first.keys) & set(second.keys), "source_uri stands in every row"


def test_no_annotation_at_all_is_an_error_not_an_empty_dataset(corpus: Path, make_config: Callable[..., Path]) -> None:
    annotations = {"sidecar": "{stem}.txt", "columns": {"start": "start", "end": "end"}}
    with pytest.raises(ClipmillError, match=r"none of 12 recordings under .* has an annotation"):
        make_plan(load(make_config(source(corpus, annotations=annotations))).config)


def test_a_stage_that_loses_a_clip_is_found_out(corpus: Path, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    import pyarrow.compute as pc

    from clipmill.pipelines.run.graph import whole_shard

    file = load(make_config(source(corpus), **settings(tmp_path / "out")))
    plan = make_plan(file.config)
    stages = stages_of(file.config, plan, "cpu")

    def lossy(table: Any) -> Any:
        first = table["clip_id"].drop_null()[0] if table["clip_id"].null_count < table.num_rows else None
        return table.filter(pc.fill_null(pc.not_equal(table["clip_id"], first), True)) if first else table

    clips = stages.clips
    leaky = dataclasses.replace(stages, clips=lambda plan: map(lossy, clips(plan)))
    run = whole_shard(leaky, Watch())
    with pytest.raises(ClipmillError, match="does not add up"):
        for i in range(len(plan.keys)):
            run(plan.shard(i))
    assert not list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize(("busy", "words"), [(0.25, "decoding is 4.0 x too slow"), (0.97, "decoding keeps up with")])
def test_a_report_says_whether_decoding_keeps_ahead_of_the_gpus(busy: float, words: str) -> None:
    text = "\n".join(describe_build(Report("unchanged", "out", 1, 1, 0, 1.0, features_busy=busy)))
    assert f"busy for {busy:.0%}" in text
    assert words in text
