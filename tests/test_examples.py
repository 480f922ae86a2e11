"""The training example, as the README runs it, on the real recordings."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import tone, write_audio
from PIL import Image

from clipmill.pipelines.config_file import load
from clipmill.pipelines.run.build import build

TOP = Path(__file__).parents[1]


def training(dataset: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "examples/train.py", str(dataset), "--out", str(out), *more]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # more wait for each other where others are at work
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=400, check=False, env=one_thread)


def trained(dataset: Path, out: Path, *more: str) -> dict[str, Any]:
    done = training(dataset, out, *more)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


def test_a_network_learns_digits_and_learns_nothing_from_shuffled_labels(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORPUS", str(corpora / "fsdd/recordings"))
    monkeypatch.setenv("OUT", str(tmp_path / "dataset"))
    report = build(load(TOP / "examples/fsdd.yaml"), quiet=True)
    assert report.snapshot is not None and report.snapshot.by_split["test"]["clips"] == 150
    found = trained(tmp_path / "dataset", tmp_path / "out", "--hold-out", "speaker", "--epochs", "5")
    assert list(found) == ["own split", "without theo", "labels shuffled"]
    assert found["own split"]["accuracy"] >= 0.95
    assert found["own split"]["clips"] == found["labels shuffled"]["clips"] == 150
    assert found["without theo"]["clips"] == 500
    assert found["labels shuffled"]["accuracy"] < 0.3  # of ten digits
    for (name, run), folder in zip(found.items(), ("own-split", "held-out", "labels-shuffled"), strict=True):
        confusion = np.array(run["confusion"])
        assert run["accuracy"] == np.trace(confusion) / confusion.sum(), name
        place = tmp_path / "out" / folder
        assert Image.open(place / "confusion.png").size == (500, 450)
        assert (place / "best.pt").stat().st_size > 10_000
    main = runpy.run_path(str(TOP / "examples/train.py"), run_name="train")["main"]

    def refusal(*more: str) -> tuple[object, str]:
        """Return what the program, in this process, exits with and what it prints to stderr."""
        monkeypatch.setattr(sys, "argv", ["train.py", str(tmp_path / "dataset"), "--out", str(tmp_path / "out"), *more])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().err

    for wrong, said in [
        (("--hold-out", "nobody"), "no field 'nobody' to hold out by; there are label, recording_id, source, speaker"),
        (("--hold-out", "speaker=eve"), "no clip has 'eve' in the field 'speaker'; there are jackson"),
    ]:
        code, _ = refusal(*wrong)
        assert str(code).startswith("error: ") and said in str(code)
    for wrong in (("--epochs", "0"), ("--seed", "-1")):
        code, told = refusal(*wrong)
        assert code == 2 and "is no whole number of" in told


@pytest.mark.slow
def test_mfcc_of_another_corpus_with_a_clip_without_label(tmp_path: Path) -> None:
    """Tones of two pitches, in a split by recording."""
    for i in range(60):
        folder = tmp_path / "in" / ("low" if i % 2 else "high")
        write_audio(folder / f"{i}.wav", tone(0.5 + i % 3 / 10, 16000, hz=300 if i % 2 else 2000, seed=i), 16000)
    write_audio(tmp_path / "more/no_label.wav", tone(0.5, 16000), 16000)
    (tmp_path / "c.yaml").write_text(
        f"""
name: tones
sources:
  - {{name: s, root: {tmp_path}/in, segment: {{mode: whole}}, label: {{from: folder}}}}
  - {{name: t, root: {tmp_path}/more, segment: {{mode: whole}}}}
features: {{mfcc: {{n_mfcc: 13}}}}
split: {{train: 0.5, val: 0.25, test: 0.25, by: recording}}
output: {{root: {tmp_path}/dataset}}
"""
    )
    assert build(load(tmp_path / "c.yaml"), quiet=True).status == "published"
    found = trained(tmp_path / "dataset", tmp_path / "out", "--feature", "mfcc", "--epochs", "6")
    assert list(found) == ["own split", "labels shuffled"]
    assert found["own split"]["accuracy"] == 1
    done = training(tmp_path / "dataset", tmp_path / "out")
    assert (done.returncode, done.stderr.count("there is no feature 'log_mel'")) == (1, 1)
