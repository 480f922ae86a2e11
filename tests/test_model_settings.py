"""Settings of models: what does not fit is told before the work, and what stands in keys."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import toy_models as toys
import yaml

import clipmill
from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.plan.fingerprints import clips_fingerprint, files_fingerprint
from clipmill.schemas.errors import ConfigError
from clipmill.stages.features.network import Models

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: install clipmill[onnx]")
NAMES = toys.CLASSES
MEL = {"n_fft": 256, "hop_length": 128, "n_mels": 8}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.write_all(tmp_path_factory.mktemp("models"))


def write_config(folder: Path, models: Path, features: dict[str, Any]) -> Path:
    """Write a configuration beside the models, so that their paths are relative to it."""
    plain: dict[str, Any] = {
        "name": "d", "sources": [{"name": "s", "root": str(folder)}], "audio": {"sample_rate_hz": 8000}, "features": features,
        "output": {"root": str(folder / "out")},
    }  # fmt: skip
    path = models / f"{folder.name}.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"file": "none.pt", "output": "embedding"}, "none.pt does not exist; the path is relative to the configuration's folder"),
        ({"file": "names.txt", "output": "embedding"}, "names.txt is neither ONNX nor TorchScript"),
        ({"file": "", "output": "embedding"}, "file"),
        ({"file": "three.onnx", "output": "embedding"}, r"takes 3 inputs \(x, y, z\)"),
        ({"file": "pair.onnx", "output": "embedding"}, "set lengths: true if lengths takes their lengths"),
        ({"file": "levels.onnx", "output": "embedding", "lengths": True}, "takes 1 input .*leave lengths out"),
        ({"file": "lost.onnx", "output": "embedding"}, r"shape \[1, 8000\] for 2 clips, and its first axis must be that of clips"),
        ({"file": "levels.onnx", "output": "tokens"}, "gives embedding as floats, and tokens are whole numbers"),
        ({"file": "whole.onnx", "output": "scores"}, "whole numbers, and scores needs floats"),
        ({"file": "half.onnx", "output": "embedding"}, r"takes tensor\(float16\) as x; expected float32"),
        ({"file": "picky.onnx", "output": "embedding"}, "raises an error for a batch of 8,000 samples"),
        ({"file": "levels.onnx", "output": "embedding", "axes": ["batch", 1, "samples"]}, "say in axes what its axes are"),
        ({"file": "panns.onnx", "input": "log_mel", "output": "scores"}, "has 2 outputs: probabilities, bands; say with from"),
        ({"file": "levels.onnx", "output": {"kind": "scores", "from": "logits"}}, "there is no 'logits'"),
        ({"file": "levels.onnx", "output": {"kind": "labels", "labels": NAMES}}, "gives 2 scores in embedding, and labels names 3 classes"),
        ({"file": "levels.onnx", "output": {"kind": "labels", "labels": "no.txt"}}, "no.txt does not exist"),
        ({"file": "pool.pt", "output": "embeddings"}, "'embeddings' is not what can be stored; did you mean 'embedding'"),
        ({"file": "pool.pt"}, "needs either `output` or `outputs`"),
        ({"file": "pool.pt", "output": {"kind": "embedding", "labels": NAMES}}, "`labels` belongs to scores and labels"),
        ({"file": "pool.pt", "output": {"kind": "labels"}}, "kind labels needs `labels`"),
        ({"file": "pool.pt", "outputs": ["scores", "scores"]}, "two outputs make the column 'scores'"),
        ({"file": "pool.pt", "output": "embedding", "axes": ["samples", "batch"]}, "must begin with batch"),
        ([{"file": "pool.pt", "output": "embedding"}] * 2, "two models make the column 'embedding'; give each model a name"),
        ({"file": "s3://key:secret@bucket/a.pt", "output": "embedding"}, "contains credentials"),
        ({"file": "pool.pt", "output": "embedding", "bacth": 4}, "unknown key"),
        ("pool.pt", "expected a model, as in"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_before_the_work(settings: Any, says: str, models: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, models, {"device": "cpu", "log_mel": MEL, "model": settings})
    with pytest.raises(ConfigError, match=says) as caught:
        _ = next(s for s in chain_of(clipmill.load_config(config).config).derived if isinstance(s, Models)).known
    assert "Traceback" not in str(caught.value)
    assert "features.model" in str(caught.value)


def test_log_mel_must_be_there_and_a_field_must_not(models: Path, tmp_path: Path) -> None:
    config = write_config(
        tmp_path, models, {"model": {"file": "panns.onnx", "input": "log_mel", "outputs": ["scores"]}}
    )
    with pytest.raises(ConfigError, match=r"input: log_mel needs features\.log_mel"):
        chain_of(clipmill.load_config(config).config)
    features = {"device": "cpu", "model": {"file": "levels.onnx", "output": "embedding"}}
    config = write_config(tmp_path, models, features)
    with pytest.raises(ConfigError, match="the corpus has a field 'embedding'"):
        chain_of(clipmill.load_config(config).config).check_names(["embedding"])


def keys(models: Path, folder: Path, model: dict[str, Any], **features: Any) -> tuple[str, str]:
    chain = chain_of(
        clipmill.load_config(write_config(folder, models, {"device": "cpu", "model": model, **features})).config
    )
    return str(clips_fingerprint(chain, [])), str(files_fingerprint(chain))


def test_keys_hold_content_batch_and_device_but_no_names_of_files(models: Path, tmp_path: Path) -> None:
    plain = {"file": "levels.onnx", "output": "embedding"}
    clips, files = keys(models, tmp_path, plain)
    shutil.copy(models / "levels.onnx", models / "other.onnx")
    assert keys(models, tmp_path, {**plain, "file": "other.onnx"}) == (clips, files)
    assert keys(models, tmp_path, {**plain, "timeout_s": 5, "memory_mb": 5000}) == (clips, files)
    assert "cpu" in files and "levels" not in files
    changed: list[dict[str, Any]] = [
        {"batch": 2},
        {"output": {"kind": "embedding", "column": "e"}},
        {"output": "scores"},
    ]
    for change in changed:
        own_clips, own_files = keys(models, tmp_path, {**plain, **change})
        assert own_clips == clips and own_files != files, "clips stay, files are others"
    (models / "other.onnx").write_bytes(toys.levels(batch="n"))
    assert keys(models, tmp_path, {**plain, "file": "other.onnx"})[1] != files
