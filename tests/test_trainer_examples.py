"""The examples with Lightning and with the Trainer of transformers, a few steps of each, and the training example on labels by name."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import tone, write_audio

from clipmill import open_dataset
from clipmill.pipelines.config_file import load
from clipmill.pipelines.run.build import build

TOP = Path(__file__).parents[1]
N_CLIPS, EPOCHS = 60, 3

needs_lightning = pytest.mark.skipif(
    importlib.util.find_spec("lightning") is None, reason="Lightning is not installed: pip install lightning"
)
needs_transformers = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("transformers", "accelerate"))),
    reason="transformers is not installed: pip install transformers accelerate",
)


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones of two pitches and three lengths, a third of them high, with pictures of one size."""
    place = tmp_path_factory.mktemp("tones")
    for i in range(N_CLIPS):
        folder = place / "in" / ("low" if i % 3 else "high")
        write_audio(folder / f"{i}.wav", tone(0.4 + i % 3 / 10, 16000, hz=300 if i % 3 else 2000, seed=i), 16000)
    (place / "c.yaml").write_text(
        f"""
name: tones
sources: [{{name: s, root: {place}/in, segment: {{mode: whole}}, label: {{from: folder}}}}]
features: {{log_mel: {{n_fft: 400, hop_length: 160, n_mels: 40}}}}
split: {{train: 0.7, val: 0.3, by: recording}}
output: {{root: {place}/out, images: {{width: 32, height: 40}}}}
"""
    )
    assert build(load(place / "c.yaml"), quiet=True).status == "published"
    return place / "out"


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips with several labels."""
    place = tmp_path_factory.mktemp("several")
    rows = ["file,labels,split"]
    for i in range(N_CLIPS):
        write_audio(place / f"in/{i}.wav", tone(0.5, 16000, hz=300 if i % 3 else 2000, seed=i), 16000)
        rows.append(
            f"{i}.wav,{'low' if i % 3 else 'high'};{'even' if i % 2 else 'odd'},{'val' if i % 4 == 0 else 'train'}"
        )
    (place / "in/rows.csv").write_text("\n".join(rows).replace(";", " "))
    (place / "c.yaml").write_text(
        f"""
name: several
sources:
  - name: s
    root: {place}/in
    annotations: {{table: rows.csv, recording: file, columns: {{label: labels}}, fields: {{split: split}}}}
    segment: {{mode: whole}}
    label: {{several: true, separator: " "}}
features: {{log_mel: {{n_fft: 400, hop_length: 160, n_mels: 40}}}}
split: {{train: 0.7, val: 0.3, by: recording}}
output: {{root: {place}/out}}
"""
    )
    assert build(load(place / "c.yaml"), quiet=True).status == "published"
    assert open_dataset(place / "out").snapshot.label_lists
    return place / "out"


def run(*arguments: object) -> tuple[int, float]:
    """Run an example for a few epochs; return its steps and the accuracy."""
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment = {
        **kept,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(TOP),
    }
    command = [sys.executable, *map(str, arguments), "--epochs", str(EPOCHS)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = re.findall(
        rf"^epochs {EPOCHS}, steps (\d+), validation loss [\d.]+, accuracy ([\d.]+)$", done.stdout, re.M
    )
    return int(found[0]), float(found[1])


@needs_lightning
@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_lightning(tones: Path, tmp_path: Path, devices: int) -> None:
    n_clips = open_dataset(tones).snapshot.by_split["train"]["clips"]
    steps, accuracy = run(
        "examples/lightning_train.py", tones, "--workers", 2 - devices, "--devices", devices, "--accelerator", "cpu", "--crop", 0.4, "--out", tmp_path
    )  # fmt: skip
    assert steps == EPOCHS * -(-(n_clips // devices) // 32)
    assert 0.3 < accuracy <= 1


@needs_lightning
def test_lightning_with_several_labels(several: Path, tmp_path: Path) -> None:
    _, accuracy = run(
        "examples/lightning_train.py", several, "--workers", 0, "--accelerator", "cpu", "--crop", 0.4, "--out", tmp_path
    )
    assert 0 <= accuracy <= 1


@needs_transformers
@pytest.mark.parametrize("pictures", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_trainer(tones: Path, tmp_path: Path, pictures: bool) -> None:
    n_clips = open_dataset(tones).snapshot.by_split["train"]["clips"]
    more = ["--pictures"] if pictures else ["--crop", 0.4]
    steps, accuracy = run("examples/hf_trainer.py", tones, "--workers", 0, "--out", tmp_path, *more)
    assert steps == EPOCHS * -(-n_clips // 32)
    assert 0.3 < accuracy <= 1


@needs_transformers
@pytest.mark.slow
def test_the_trainer_on_two_ranks(several: Path, tmp_path: Path) -> None:
    launch = [
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        2,
        "--num_machines",
        1,
        "--mixed_precision",
        "no",
    ]
    _, accuracy = run(
        *launch,
        "--dynamo_backend",
        "no",
        "examples/hf_trainer.py",
        several,
        "--workers",
        0,
        "--crop",
        0.4,
        "--out",
        tmp_path,
    )
    assert 0 <= accuracy <= 1


def test_the_training_example_on_labels_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe for RAVDESS on a miniature, in which an emotion is a pitch."""
    for actor in range(1, 17):
        for emotion in range(1, 9):
            name = f"Actor_{actor:02d}/03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            write_audio(tmp_path / "in" / name, tone(0.3, 16000, hz=150 * 1.5**emotion, seed=actor), 16000)
    monkeypatch.setenv("CORPUS", str(tmp_path / "in"))
    monkeypatch.setenv("OUT", str(tmp_path / "dataset"))
    assert build(load(TOP / "recipes/ravdess.yaml"), quiet=True).status == "published"
    dataset = open_dataset(tmp_path / "dataset")
    assert dataset.classes == ["angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised"]
    command = [
        sys.executable,
        "examples/train.py",
        tmp_path / "dataset",
        "--hold-out",
        "actor=16",
        "--epochs",
        "3",
        "--out",
        tmp_path / "out",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"^own split +[\d.]+ +[\d.]+ +16 ", done.stdout, re.M), done.stdout
    assert re.search(r"^without 16 +[\d.]+ +[\d.]+ +8 ", done.stdout, re.M), done.stdout


@needs_lightning
def test_lightning_gives_each_epoch_its_own_order_also_after_a_checkpoint(tones: Path, tmp_path: Path) -> None:
    import lightning

    example = runpy.run_path(str(TOP / "examples/lightning_train.py"), run_name="example")

    class Told(example["Network"]):  # type: ignore[misc,name-defined]
        def training_step(self, batch: dict[str, Any], i: int) -> Any:
            orders.setdefault(self.current_epoch, []).extend(batch["clip_id"])
            return super().training_step(batch, i)

    def fit(epochs: int, checkpoint: Path | None = None) -> dict[int, list[str]]:
        orders.clear()
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=epochs, logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, num_sanity_val_steps=0, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(
            Told(2, False),
            datamodule=example["Clips"](open_dataset(tones), 0.4, 0),
            ckpt_path=checkpoint,
            weights_only=False,
        )
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return dict(orders)

    orders: dict[int, list[str]] = {}
    fit(1)
    whole = fit(3)
    assert [len(order) for order in whole.values()] == [len(whole[0])] * 3
    assert whole[0] != whole[1] != whole[2]
    assert fit(3, tmp_path / "1.ckpt") == {1: whole[1], 2: whole[2]}
