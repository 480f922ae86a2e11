"""The training example, as the README runs it, on the real recordings."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.build import build
from schemas.config_file import load

TOP = Path(__file__).parents[1]


def test_a_network_learns_digits_and_learns_nothing_from_shuffled_labels(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORPUS", str(corpora / "fsdd/recordings"))
    monkeypatch.setenv("OUT", str(tmp_path / "dataset"))
    report = build(load(TOP / "examples/fsdd.yaml"), quiet=True)
    assert report.snapshot is not None and report.snapshot.by_split["test"]["clips"] == 150
    command = [
        sys.executable,
        "examples/train_digits.py",
        tmp_path / "dataset",
        "--out",
        tmp_path / "out",
        "--epochs",
        "12",
    ]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert list(found) == ["own split", "without theo", "labels shuffled"]
    assert found["own split"]["accuracy"] >= 0.95
    assert found["own split"]["clips"] == found["labels shuffled"]["clips"] == 150
    assert found["without theo"]["clips"] == 500
    assert found["labels shuffled"]["accuracy"] < 0.3  # of ten digits
    for name, run in found.items():
        confusion = np.array(run["confusion"])
        assert run["accuracy"] == np.trace(confusion) / confusion.sum()
        place = tmp_path / "out" / name.replace(" ", "-")
        assert Image.open(place / "confusion.png").size == (500, 450)
        assert (place / "best.pt").stat().st_size > 10_000
