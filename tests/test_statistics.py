"""Statistics: numpy over all that is stored says the same; sums of any parts are the sums of the whole; rebuilds read no old shard."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from conftest import tone, write_audio
from hypothesis import given
from hypothesis import strategies as st
from old_format import plain_of, rewrite

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.records_io import read_commit, read_snapshot
from clipmill.pipelines.read.training import ClipDataset
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.records import Commit
from clipmill.schemas.seal import sealed, unsealed
from clipmill.schemas.statistics import FeatureSums, Statistics
from clipmill.stages.arrow_rows import float_lists
from clipmill.stages.storage.root import Root
from clipmill.stages.write.clip_sums import ShardStatistics

FEATURES = {"log_mel": {"n_fft": 512, "hop_length": 160, "n_mels": 20}, "mfcc": {"n_mfcc": 7}}


@pytest.fixture
def config(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    for i in range(12):
        write_audio(
            tmp_path / "in" / f"c{i % 3}" / f"r{i}.wav", tone(1.3, 16000, 1 + i % 2, hz=90 * (i + 1), seed=i), 16000
        )
    source = {
        "root": tmp_path / "in",
        "label": {"from": "folder"},
        "segment": {"mode": "window", "length_s": 0.5, "tail": "keep"},
    }
    return make_config(
        source,
        audio={"channels": "keep"},
        features=FEATURES,
        split={"train": 0.6, "test": 0.4, "by": "recording"},
        output={"root": str(tmp_path / "out"), "shard_seconds": 2},
    )


def rows_of(root: Path, split: str) -> list[dict[str, Any]]:
    keys = read_snapshot(Root(str(root))).commits
    files = [o.path for k in keys for o in read_commit(Root(str(root)), k).outputs if o.format == "parquet"]
    return [row for f in files if f"/{split}/" in f"/{f}" for row in pq.read_table(root / f).to_pylist()]


def agrees(root: Path) -> None:
    snapshot = read_snapshot(Root(str(root)))
    assert set(snapshot.statistics) == {"train", "test"}
    for split, found in snapshot.statistics.items():
        rows = rows_of(root, split)
        seconds = [row["duration_s"] for row in rows]
        assert found.lengths.clips == len(rows) > 3
        assert found.lengths.mean_s == pytest.approx(np.mean(seconds))
        assert found.lengths.std_s == pytest.approx(np.std(seconds), abs=1e-9)
        assert (found.lengths.min_s, found.lengths.max_s) == (min(seconds), max(seconds))
        edges = [0, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, np.inf]
        assert found.lengths.histogram == np.histogram(seconds, edges)[0].tolist()
        for name in FEATURES:
            parts = [np.array(r[name], np.float64).reshape(r[f"{name}_shape"]) for r in rows]
            by_bin = np.concatenate([np.moveaxis(p, -2, 0).reshape(p.shape[-2], -1) for p in parts], axis=1)
            sums = found.features[name]
            assert sums.n == by_bin.shape[1]
            np.testing.assert_allclose(sums.mean_by_bin, by_bin.mean(1), rtol=1e-12)
            np.testing.assert_allclose(sums.std_by_bin, by_bin.std(1), rtol=1e-9)
            assert sums.mean == pytest.approx(by_bin.mean(), rel=1e-12)
            assert sums.std == pytest.approx(by_bin.std(), rel=1e-9)
        labels: dict[str, list[float]] = {}
        for row in rows:
            labels.setdefault(row["label"], []).append(row["duration_s"])
        assert snapshot.labels[split] == {
            label: {"clips": len(s), "seconds": pytest.approx(sum(s))} for label, s in labels.items()
        }


def test_they_are_those_of_what_is_stored_and_a_rebuild_updates_them_without_reading_old_shards(
    config: Path, tmp_path: Path
) -> None:
    build(load(config), quiet=True)
    agrees(tmp_path / "out")
    before = {f: f.read_bytes() for f in (tmp_path / "out/shards").rglob("*.parquet")}
    for file, content in before.items():
        file.write_bytes(bytes(len(content)))  # as long as it was, and nothing in it
    (tmp_path / "in/c0/r0.wav").unlink()
    write_audio(tmp_path / "in/c9/new.wav", tone(2.2, 16000, seed=99), 16000)
    report = build(load(config), quiet=True)
    assert report.shards_reused > 0 < report.shards_built
    for file, content in before.items():
        file.write_bytes(content)
    agrees(tmp_path / "out")


def test_show_prints_them_and_the_loader_normalises_by_them(config: Path, tmp_path: Path) -> None:
    build(load(config), quiet=True)
    out = str(tmp_path / "out")
    told = CliRunner().invoke(main, ["show", out]).output
    found = json.loads(CliRunner().invoke(main, ["show", out, "--json"]).output)["statistics"]
    assert f"{found['train']['features']['log_mel']['mean']:.5g}" in told
    for by, axes in (("bin", (0, 2)), ("all", None)):
        clips = list(ClipDataset(out, "train", ("log_mel", "mfcc"), normalise=by))
        whole = [np.moveaxis(c["log_mel"].numpy(), -2, 0).reshape(20, -1) for c in clips]
        together = np.concatenate(whole, axis=1).astype(np.float64)
        np.testing.assert_allclose(together.mean(1 if axes else None), 0, atol=1e-5)
        np.testing.assert_allclose(together.std(1 if axes else None), 1, atol=1e-5)
    plain = next(iter(ClipDataset(out, "test", ("log_mel",))))["log_mel"]
    scaled = next(iter(ClipDataset(out, "test", ("log_mel",), normalise="all")))["log_mel"]
    train = read_snapshot(Root(out)).statistics["train"].features["log_mel"]
    np.testing.assert_allclose(scaled * train.std + train.mean, plain, atol=1e-4)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), max_size=12), st.data())
def test_it_does_not_matter_how_clips_arrive(shapes: list[tuple[int, int]], data: st.DataObject) -> None:
    random = np.random.default_rng(len(shapes))
    values = [random.normal(-40, 20, (c, 5, n)).astype(np.float32) for c, n in shapes]
    table = pa.table(
        {
            "duration_s": pa.array([0.01 * n for _, n in shapes], pa.float64()),
            "x": float_lists([v.reshape(-1) for v in values]),
            "x_shape": pa.array([list(v.shape) for v in values], pa.list_(pa.int32())),
        }
    )
    at_once, one_by_one = ShardStatistics(["x"]), ShardStatistics(["x"])
    at_once.add(table)
    start = 0
    while start < len(shapes):
        n = data.draw(st.integers(1, 4))
        one_by_one.add(table.slice(start, n))
        start += n
    found = at_once.finish()
    assert found == one_by_one.finish()
    assert Statistics.from_plain(json.loads(json.dumps(dataclasses.asdict(found)))) == found
    if shapes:
        by_bin = np.concatenate([np.moveaxis(v, 1, 0).reshape(5, -1) for v in values], axis=1).astype(np.float64)
        np.testing.assert_allclose(found.features["x"].mean_by_bin, by_bin.mean(1))
        np.testing.assert_allclose(found.features["x"].std_by_bin, by_bin.std(1), atol=1e-6)


def test_a_constant_has_no_deviation_and_nothing_adds_nothing() -> None:
    one = FeatureSums(3, [0.3], [0.03])
    assert one.std == pytest.approx(0, abs=1e-7)
    assert FeatureSums() + one == one == one + FeatureSums()
    assert Statistics() + Statistics() == Statistics()


def test_a_commit_of_before_there_were_statistics_is_read(config: Path, tmp_path: Path) -> None:
    build(load(config), quiet=True)
    root = Root(str(tmp_path / "out"))
    commit = read_commit(root, read_snapshot(root).commits[0])
    plain = unsealed(commit.to_json())
    del plain["statistics"]
    old = Commit.from_json(sealed(plain), "old")
    assert (old.statistics, old.counts) == (Statistics(), commit.counts)


@given(st.floats(-1000, 1000, width=32), st.lists(st.integers(1, 5000), min_size=1, max_size=6), st.floats(1e-4, 1))
def test_what_is_constant_has_no_deviation_and_what_is_not_has_its_own(
    value: float, lengths: list[int], share: float
) -> None:
    spread = np.float32(max(1.0, abs(value)) * share)
    sums = [FeatureSums(), FeatureSums()]
    seen: list[np.ndarray] = []
    for n in lengths:
        y = np.full(n, value, np.float32)
        other = y + spread * (np.arange(n) % 2 == 0).astype(np.float32)
        seen.append(other)
        for k, values in enumerate((y, other)):
            v = values.astype(np.float64)
            sums[k] += FeatureSums(n, [float(np.add.reduce(v))], [float(np.add.reduce(v * v))])
    assert sums[0].std == sums[0].std_by_bin[0] == 0
    assert sums[1].std == pytest.approx(np.std(np.concatenate(seen), dtype=np.float64), rel=1e-4, abs=1e-6)


def test_a_constant_bin_has_no_deviation_and_becomes_0(tmp_path: Path) -> None:
    """The difference of two sums is not quite 0: the normalised clips of another split were tens of millions in that bin."""
    for i in range(40):
        write_audio(tmp_path / f"in/train/{i}.wav", np.zeros((8000 + 37 * i, 1)), 16000)
    write_audio(tmp_path / "in/val/y.wav", tone(0.5, 16000), 16000)
    (tmp_path / "c.yaml").write_text(
        f"""
name: silent
sources: [{{name: s, root: {tmp_path}/in, segment: {{mode: whole}}, fields: '^(?P<side>[^/]+)/'}}]
features: {{log_mel: {{}}, mfcc: {{n_mfcc: 13}}}}
split: {{from: side, map: {{train: train, val: val}}}}
output: {{root: {tmp_path}/out, shard_seconds: 2}}
"""
    )
    report = build(load(tmp_path / "c.yaml"), quiet=True)
    assert report.snapshot is not None
    assert set(report.snapshot.statistics["train"].features["mfcc"].std_by_bin) == {0.0}
    (clip,) = ClipDataset(tmp_path / "out", "val", ("mfcc", "log_mel"), normalise="bin")
    assert clip["mfcc"].abs().max() == 0 == clip["log_mel"].abs().max()


def test_a_clip_whose_features_are_not_finite_is_rejected(tmp_path: Path) -> None:
    for i in range(3):
        write_audio(tmp_path / f"in/{i}.wav", tone(0.5, 16000, seed=i), 16000)
    write_audio(tmp_path / "in/loud.wav", tone(0.5, 16000, peak=20000), 16000, "FLOAT")
    (tmp_path / "c.yaml").write_text(
        f"""
name: loud
sources: [{{name: s, root: {tmp_path}/in, segment: {{mode: whole}}}}]
audio: {{sample_format: float32}}
features: {{dtype: float16, spectrogram: {{output: magnitude}}, log_mel: {{}}}}
output: {{root: {tmp_path}/out, audio_codec: wav}}
limits: {{max_rejected_share: 1}}
"""
    )
    report = build(load(tmp_path / "c.yaml"), quiet=True)
    assert report.snapshot is not None and report.snapshot.by_split["train"]["clips"] == 3
    told = CliRunner().invoke(main, ["failures", str(tmp_path / "out")]).output
    assert "features_not_finite" in told and "loud.wav" in told and "spectrogram, stored as float16" in told
    for sums in report.snapshot.statistics["train"].features.values():
        assert np.isfinite(sums.mean) and np.isfinite(sums.std)
    clips = list(ClipDataset(tmp_path / "out", "train", ("spectrogram", "log_mel"), normalise="bin"))
    assert all(np.isfinite(c[name].numpy()).all() for c in clips for name in c)


def test_infinite_values_of_before_are_told_and_not_normalised_by(config: Path, tmp_path: Path) -> None:
    build(load(config), quiet=True)
    record = max((tmp_path / "out/snapshots").glob("*.json"))
    statistics = plain_of(record)["statistics"]
    statistics["train"]["features"]["mfcc"]["squares"][0] = float("inf")
    rewrite(record, statistics=statistics)
    shown = CliRunner().invoke(main, ["show", str(tmp_path / "out")]).output
    assert "mfcc                     contains infinite values" in shown

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(CliRunner().invoke(main, ["show", str(tmp_path / "out"), "--json"]).output, parse_constant=refuse)
    with pytest.raises(ClipmillError, match="infinite values in mfcc"):
        ClipDataset(tmp_path / "out", "train", ("mfcc",), normalise="bin")
