"""Models of the user's: what is stored of them, that it is what they give, and what happens where they do not fit."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import toy_models as toys
import yaml
from conftest import run, shard_hashes, write_audio

import clipmill
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.run.graph import stages_of, whole_shard
from clipmill.pipelines.run.progress import Watch
from clipmill.pipelines.run.shard_work import ClipsOfShard, MakeBlock, OnGpu, WriteBlock
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.tables import CLIPS
from clipmill.stages.features.network import Models
from clipmill.stages.models import model_process
from clipmill.stages.models.unusable import ModelDiedError

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: install clipmill[onnx]")
RATE = 8000
NAMES = toys.CLASSES
MEL = {"n_fft": 256, "hop_length": 128, "n_mels": 8}
WINDOWS = {"mode": "window", "length_s": 0.25, "tail": "keep"}
CLASSES = [
    {"kind": "scores", "from": "probabilities", "labels": NAMES},
    {"kind": "labels", "from": "probabilities", "labels": "names.txt"},
    {"kind": "labels", "from": 0, "labels": NAMES, "threshold": 0.2},
    {"kind": "embedding", "from": "bands"},
]
FEATURES: dict[str, Any] = {
    "device": "cpu",
    "log_mel": MEL,
    "model": {
        "pool": {"file": "pool.pt", "output": "embedding", "batch": 4},
        "panns": {"file": "panns.onnx", "input": "log_mel", "outputs": CLASSES, "batch": 3},
        "codec": {"file": "codec.pt", "output": "tokens"},
        "ecapa": {"file": "lengths.pt", "lengths": True, "outputs": {"mean": "embedding", "seen": {"kind": "tokens", "column": "seen"}}},
        "hubert": {"file": "frames.pt", "output": "embedding", "axes": ["batch", 1, "samples"]},
        "yamnet": {"file": "yamnet.onnx", "output": "scores"},
        "fixed": {"file": "one.onnx", "output": "embedding"},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.write_all(tmp_path_factory.mktemp("models"))


def noise(seconds: float, seed: int, peak: float = 0.4) -> np.ndarray:
    y = np.random.default_rng(seed).uniform(-1, 1, (round(seconds * RATE), 1))
    return y * peak


def write_config(folder: Path, models: Path, features: dict[str, Any], **more: Any) -> Path:
    """Write a configuration beside the models, so that their paths are relative to it."""
    plain: dict[str, Any] = {
        "name": "d", "sources": [{"name": "s", "root": str(folder / "in"), "segment": WINDOWS}], "audio": {"sample_rate_hz": RATE},
        "features": features, "output": {"root": str(folder / "out"), "formats": ["parquet", "webdataset"]},
    }  # fmt: skip
    path = models / f"{folder.name}.yaml"
    path.write_text(yaml.safe_dump({**plain, **more}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, models: Path) -> tuple[Path, Path]:
    """Build a dataset with every kind of model; return its folder and its configuration."""
    folder = tmp_path_factory.mktemp("built")
    for i in range(6):
        write_audio(folder / f"in/r{i}.wav", noise(0.9 + 0.05 * i, i), RATE)
    config = write_config(folder, models, FEATURES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert clipmill.build(config, quiet=True).status == "published"
    return folder, config


@pytest.fixture(scope="module")
def rows(built: tuple[Path, Path]) -> list[dict[str, Any]]:
    """Return all rows of the shards, with the samples of each clip as `y`."""
    from clipmill.stages.write.encode import decode_clip

    found = []
    for path in sorted((built[0] / "out/shards").rglob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            samples, _ = decode_clip(row["audio"]["bytes"])
            found.append({**row, "y": samples[:, 0].astype(np.float32) / np.float32(32768)})
    assert len(found) > 20
    return found


def value(row: dict[str, Any], name: str) -> np.ndarray:
    return np.array(row[name]).reshape(row[f"{name}_shape"])


def test_each_column_is_what_the_model_gives_for_the_clip(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        x = torch.from_numpy(row["y"])[None]
        with torch.inference_mode():
            assert np.allclose(value(row, "pool_embedding")[:3], toys.Pool()(x)[0, :3], rtol=1e-6)
            assert np.array_equal(value(row, "codec_tokens"), toys.Tokens()(x)[0])
            assert np.allclose(value(row, "hubert_embedding"), toys.Frames()(x[:, None])[0], rtol=1e-5, atol=1e-7)
        assert np.allclose(value(row, "ecapa_embedding"), [np.abs(row["y"]).mean()], rtol=1e-5)
        assert row["seen"] == [row["n_samples"], row["n_samples"] + 1]
        assert np.allclose(value(row, "fixed_embedding"), [np.abs(row["y"]).mean(), np.abs(row["y"]).max()], rtol=1e-5)
        frames = row["y"].reshape(-1, 100)
        assert np.allclose(value(row, "yamnet_scores"), np.stack([frames.mean(1), frames.max(1)], 1), atol=1e-6)
        mel = value(row, "log_mel")
        assert np.allclose(value(row, "panns_embedding"), mel.mean(1), rtol=1e-5)
        scores = value(row, "panns_scores")
        assert scores.shape == (3,) and np.isclose(scores.sum(), 1)
        assert row["panns_label"] == NAMES[int(scores.argmax())]
        assert row["panns_labels"] == [name for name, score in zip(NAMES, scores, strict=True) if score >= 0.2]


def test_batches_hold_clips_of_one_length_over_the_whole_shard(rows: list[dict[str, Any]]) -> None:
    """The fourth value of the toy tells how many clips it saw at once."""
    whole = [row for row in rows if row["n_samples"] == RATE // 4]
    n = len(whole)
    assert sorted(value(row, "pool_embedding")[3] for row in whole) == sorted(
        [4.0] * (n // 4 * 4) + [float(n % 4)] * (n % 4)
    )
    assert n > 12, "of several recordings, each of which has fewer"
    assert {value(row, "pool_embedding")[3] for row in rows if row not in whole} <= {1.0, 2.0, 3.0}


def test_the_dataset_describes_its_columns(built: tuple[Path, Path]) -> None:
    about = {c["name"]: c for c in clipmill.open_dataset(built[0] / "out").columns}
    assert about["pool_embedding"]["shape"] == [4] and about["pool_embedding"]["kind"] == "feature"
    assert about["codec_tokens"]["shape"] == ["n_frames", 2] and "int32" in about["codec_tokens"]["type"]
    assert about["hubert_embedding"]["shape"] == ["n_frames", 4]
    assert about["panns_scores"]["settings"]["labels"] == NAMES
    assert about["panns_label"]["kind"] == "clip" and about["panns_label"]["type"] == "string"
    assert about["panns_labels"]["settings"]["threshold"] == 0.2
    assert (
        about["pool_embedding"]["settings"]["model"] == "pool.pt"
        and len(about["pool_embedding"]["settings"]["sha256"]) == 64
    )
    shown = run("show", built[0] / "out")
    assert "panns_label" in shown or "pool_embedding" in shown


def test_loaders_and_statistics_know_them(built: tuple[Path, Path]) -> None:
    names = ["clip_id", "pool_embedding", "codec_tokens", "hubert_embedding", "panns_label", "panns_labels"]
    data = list(clipmill.ClipDataset(built[0] / "out", "train", columns=names, normalise="bin"))
    first = data[0]
    assert first["pool_embedding"].shape == (4,) and first["pool_embedding"].dtype == torch.float32
    assert first["codec_tokens"].dtype == torch.int64 and isinstance(first["panns_labels"], list)
    pooled = torch.stack([row["pool_embedding"] for row in data])
    assert pooled.mean(0).abs().max() < 1e-3 and (pooled.std(0) - 1).abs().max() < 0.1
    statistics = clipmill.open_dataset(built[0] / "out").snapshot.statistics["train"].features
    assert {"pool_embedding", "panns_scores", "log_mel"} <= statistics.keys()
    assert not {"codec_tokens", "hubert_embedding", "seen"} & statistics.keys()


def test_exports_and_reports_take_them(built: tuple[Path, Path], tmp_path: Path) -> None:
    root = built[0] / "out"
    run("verify", root)
    run("report", root, "--to", tmp_path / "report.html")
    for name in ("huggingface", "csv"):
        run("export", root, name)
    pytest.importorskip("google_crc32c", reason="google-crc32c is not installed: install clipmill[tfrecord]")
    run("export", root, "tfrecord")
    about = json.loads(next(root.rglob("features.json")).read_text())["features"]
    assert (about["codec_tokens"]["kind"], about["pool_embedding"]["shape"]) == ("int64", [4])
    pytest.importorskip("lhotse", reason="lhotse is not installed: install clipmill[lhotse]")
    run("export", root, "lhotse")
    lance = pytest.importorskip("lance", reason="pylance is not installed: install clipmill[lance]")
    run("export", root, "lance")
    table = lance.dataset(str(next(root.rglob("clips.lance")))).to_table()
    assert table.schema.field("pool_embedding").type == pa.list_(pa.float32(), 4)
    assert table.schema.field("codec_tokens").type == pa.list_(pa.int32())


def test_a_rebuild_of_features_reads_no_recording_and_gives_the_same(
    built: tuple[Path, Path], models: Path, tmp_path: Path
) -> None:
    """Batches are the same whether clips come from recordings or from committed shards."""
    shutil.copytree(built[0] / "in", tmp_path / "in")
    first = {**FEATURES, "model": {"file": "codec.pt", "output": "tokens"}}
    clipmill.build(write_config(tmp_path, models, first), quiet=True)
    for path in (tmp_path / "in").iterdir():
        path.chmod(0)
        if os.access(path, os.R_OK):  # root reads everything: leave only names, sizes and times
            status = path.stat()
            path.chmod(0o600)
            path.write_bytes(bytes(status.st_size))
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    report = clipmill.build(write_config(tmp_path, models, FEATURES), quiet=True)
    assert (report.status, report.shards_built, report.shards_from_clips) == ("published", 1, 1)
    own, before = shard_hashes(tmp_path / "out"), shard_hashes(built[0] / "out")
    name = next(n for n in before if n.endswith(".parquet"))
    columns = [c for c in pq.read_schema(built[0] / "out" / name).names if c != "source_uri"]
    new = next(
        n
        for n in own
        if n.endswith(".parquet") and n.split("-")[-1] not in {m.split("-")[-1] for m in _before(tmp_path)}
    )
    assert pq.read_table(tmp_path / "out" / new, columns=columns).equals(
        pq.read_table(built[0] / "out" / name, columns=columns)
    )


def _before(folder: Path) -> set[str]:
    """Return the shards of the first snapshot."""
    return {o.path for s in clipmill.open_dataset(folder / "out", snapshot=1).all_shards("train") for o in s.outputs}


def test_with_actors_the_shard_is_the_same(built: tuple[Path, Path], tmp_path: Path) -> None:
    from clipmill.schemas.records import Commit

    found = []
    for name in ("together", "apart"):
        plain = {**yaml.safe_load(built[1].read_text()), "output": {"root": str(tmp_path / name)}}
        path = built[1].with_name(f"{name}.yaml")
        path.write_text(yaml.safe_dump(plain))
        file = clipmill.load_config(path)
        plan = make_plan(file.config)
        work = stages_of(file.config, plan, "cpu")
        if name == "apart":
            work = replace(work, cut=(0, len(work.derived)))
            block = MakeBlock(work, ClipsOfShard(work, Watch()))(plan.shard(0))
            row = WriteBlock(work)(OnGpu(work)(block))
        else:
            row = whole_shard(work, Watch())(plan.shard(0))
        assert row["error"][0].as_py() is None
        found.append(Commit.from_json(row["commit"][0].as_py(), "test"))
    assert found[0].outputs == found[1].outputs


def stage_of(models: Path, settings: dict[str, Any], n_samples: tuple[int | None, ...] = (None,)) -> Models:
    from clipmill.schemas.config.model_settings import ModelFiles

    settings = {**settings, "file": str(models / settings["file"])}
    return Models(ModelFiles.model_validate(settings), RATE, n_samples=n_samples)


def clip_rows(signals: list[np.ndarray]) -> pa.Table:
    rows = [
        {
            "item_id": f"i{i}", "recording_id": f"i{i}", "source": "s", "clip_id": f"c{i}", "status": "clip", "n_channels": 1,
            "n_samples": len(y), "sample_rate_hz": RATE, "pcm": np.round(y * 32767).astype("<i2").tobytes(), "last": True,
        }
        for i, y in enumerate(signals)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=CLIPS)


def test_results_do_not_depend_on_tables(models: Path) -> None:
    rng = np.random.default_rng(5)
    signals = [noise(0.1 + 0.05 * rng.integers(3), i)[:, 0] for i in range(40)]
    stage, table = stage_of(models, {"file": "pool.pt", "output": "embedding", "batch": 4}), clip_rows(signals)
    whole = pa.concat_tables(stage(table))
    for step in (1, 7, 13):
        parts = [table.slice(i, step) for i in range(0, 40, step)]
        assert pa.concat_tables(stage.over(parts)).combine_chunks() == whole.combine_chunks()
    counts = [row[3] for row in whole["embedding"].to_pylist()]
    assert max(counts) == 4 and whole["clip_id"].to_pylist() == table["clip_id"].to_pylist()


def test_a_clip_that_a_model_cannot_take_costs_one_clip(models: Path) -> None:
    quiet, silent, loud, endless = noise(0.1, 1)[:, 0], np.zeros(800), noise(0.1, 2, 0.95)[:, 0], np.full(802, 0.125)
    signals = [quiet, silent, loud, quiet[:799], quiet, endless, quiet]
    stage = stage_of(models, {"file": "moody.pt", "output": "embedding", "batch": 8, "timeout_s": 2})
    made = pa.concat_tables(stage(clip_rows(signals))).to_pylist()
    assert [row["reason"] for row in made] == [
        None,
        "model_not_finite",
        "model_failed",
        "model_not_storable",
        None,
        "model_failed",
        None,
    ]
    assert "much too loud" in made[2]["detail"] and "Traceback" not in made[2]["detail"]
    assert "gave no answer for 2 s" in made[5]["detail"]
    assert made[0]["embedding"] == made[6]["embedding"] != []
    assert {row["reason"] for row in made if row["status"] == "rejected"} <= {r.code for r in Models.rejects}


def test_a_model_that_dies_is_started_again(models: Path) -> None:
    stage = stage_of(models, {"file": "levels.onnx", "output": "embedding", "batch": 1})
    signals = [noise(0.1, i)[:, 0] for i in range(4)]
    before = pa.concat_tables(stage(clip_rows(signals)))
    (process,) = [p for key, p in model_process._running.items() if key[1] == str(models / "levels.onnx")]
    os.kill(process._process.pid, signal.SIGKILL)
    process._process.wait()
    assert pa.concat_tables(stage(clip_rows(signals))) == before
    (models / "levels.onnx").write_bytes(toys.levels(batch="n"))  # another content
    os.kill(process._process.pid, signal.SIGKILL)
    process._process.wait()
    with pytest.raises(ClipmillError, match="has changed since the build was planned"):
        list(stage(clip_rows(signals)))
    (models / "levels.onnx").write_bytes(toys.levels())


def test_a_model_that_ended_before_it_was_asked_has_not_died(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = model_process.ModelProcess(model_process.ModelSource(str(models / "levels.onnx"), "cpu", 60, 1000))
    x = np.stack([noise(0.1, i)[:, 0] for i in range(2)]).astype(np.float32)
    before = process.run(x, None)
    process._to.close()
    assert process._process.wait(30) == 0
    monkeypatch.setattr(model_process.ModelProcess, "is_alive", True)  # as it was a moment before
    after = process.run(x, None)
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
    process._process.kill()
    with pytest.raises(ModelDiedError, match="killed by SIGKILL"):
        process.run(x, None)


def test_the_axis_of_classes_is_not_that_of_time(models: Path) -> None:
    names = [f"class {i}" for i in range(30)]
    toys.save(toys.ByClass(), models / "by_class.pt")
    output = {"kind": "scores", "labels": names}
    (known,) = stage_of(models, {"file": "by_class.pt", "outputs": [output]}, (2000, 2000)).known
    assert known.outputs[0].dims == (30, "n_frames")


def test_fixed_lengths_and_batches(models: Path) -> None:
    stage = stage_of(models, {"file": "second.onnx", "output": "embedding"})
    made = pa.concat_tables(stage(clip_rows([noise(1, 0)[:, 0], noise(0.5, 1)[:, 0]]))).to_pylist()
    assert (
        made[0]["embedding"]
        and made[1]["reason"] == "clip_not_for_model"
        and "4,000 samples, the model takes 8,000" in made[1]["detail"]
    )
    with pytest.raises(
        ConfigError,
        match=r"takes clips of 8,000 samples \(1 s at 8000 Hz\), and segment cuts clips of 2,000 \(0.25 s\)",
    ):
        _ = stage_of(models, {"file": "second.onnx", "output": "embedding"}, (8000, 2000)).known
    filled = stage_of(models, {"file": "two.onnx", "output": "embedding"})
    made = pa.concat_tables(filled(clip_rows([noise(0.5, i)[:, 0] for i in range(3)]))).to_pylist()
    assert all(row["embedding"] for row in made) and filled.known[0].batch == 2


def test_paths_are_relative_to_the_configuration(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_config(tmp_path, models, {"model": [{"file": "pool.pt", "output": "embedding"}]})
    monkeypatch.chdir(tmp_path)
    file = clipmill.load_config(config)
    assert file.config.features.derived_stages["model"][0]["file"] == str(models / "pool.pt")
    assert file.public["features"]["model"][0]["file"] == "pool.pt", "published as it is written"
    plain = yaml.safe_load(config.read_text())
    assert clipmill.load_config(plain).config.features.derived_stages["model"][0]["file"] == str(tmp_path / "pool.pt")


def test_models_are_read_from_a_store(models: Path, bucket: str, endpoint: str) -> None:
    from clipmill.schemas.config.model_settings import ModelFiles
    from clipmill.stages.storage.root import Root

    Root(f"s3://{bucket}/models", {"endpoint_url": endpoint}).write_bytes("levels.onnx", toys.levels())
    settings = ModelFiles.model_validate({"file": f"s3://{bucket}/models/levels.onnx", "output": "embedding"})
    stage = Models(settings, RATE, storage_options={"endpoint_url": endpoint})
    made = pa.concat_tables(stage(clip_rows([noise(0.1, 0)[:, 0]]))).to_pylist()
    assert made[0]["embedding"] and stage.known[0].sha256 == Models(
        ModelFiles.model_validate({"file": str(models / "levels.onnx"), "output": "embedding"}), RATE
    ).known[0].sha256  # fmt: skip


def test_a_stage_that_was_sent_knows_its_models(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    stage = stage_of(models, {"file": "levels.onnx", "output": "embedding"})
    assert stage.fields[0].name == "embedding"
    sent = pickle.loads(pickle.dumps(stage))
    monkeypatch.setattr(Models, "_known", lambda *_: pytest.fail("a worker does not look again"))
    assert sent.fields == stage.fields


def test_a_cluster_with_other_devices_is_refused(models: Path) -> None:
    stage = replace(stage_of(models, {"file": "levels.onnx", "output": "embedding"}), device="auto")
    if stage.known[0].device == "cuda":
        pytest.skip("this machine has a GPU")
    stage.check_cluster(has_gpu=False)
    with pytest.raises(ConfigError, match="say cuda or cpu"):
        stage.check_cluster(has_gpu=True)


@pytest.mark.parametrize("form", ["list", "one"])
def test_columns_are_named_after_models_and_kinds(form: str, make_config: Callable[..., Path]) -> None:
    from clipmill.schemas.config.model_settings import ModelFiles

    both = {"kind": "labels", "labels": NAMES}, {"kind": "labels", "labels": NAMES, "threshold": 0.5}
    one: dict[str, Any] = {"file": "/m.onnx", "outputs": ["embedding", "scores", *both, "tokens"]}
    own = ModelFiles.model_validate(one).root[0].columns
    assert own == ["embedding", "scores", "predicted_label", "predicted_labels", "tokens"]
    if form == "list":
        two = ModelFiles.model_validate([one, {**one, "name": "clap"}]).root[1].columns
        assert two == ["clap_embedding", "clap_scores", "clap_label", "clap_labels", "clap_tokens"]
