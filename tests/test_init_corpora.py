"""init on real corpora: what it proposes gives what a configuration written by hand gives."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import run
from init_trees import propose

from clipmill.pipelines.cli.recipe_heads import read_recipe
from clipmill.pipelines.dataset.published import open_dataset


def labels_and_lengths(config: Path, root: Path) -> Counter[tuple[str | None, float]]:
    """Build a configuration; return how many clips of each label and length it gives."""
    run("build", config)
    manifest = open_dataset(str(root)).manifest()
    seconds = [round(s, 3) for s in manifest["duration_s"].to_pylist()]
    return Counter(zip(manifest["label"].to_pylist(), seconds, strict=True))


def light(config: Path, rate_hz: int) -> Path:
    """Change rate and features of a configuration, so that two are compared at one rate, and build quickly; return its path."""
    plain = yaml.safe_load(config.read_text())
    plain["features"], plain["audio"]["sample_rate_hz"] = {}, rate_hz
    config.write_text(yaml.safe_dump(plain))
    return config


def recipe(name: str, corpus: Path, tmp_path: Path, **changes: Any) -> Path:
    plain = yaml.safe_load(read_recipe(name).text.replace("${CORPUS}", str(corpus)))
    plain["output"] = {"root": str(tmp_path / "by-hand")}
    plain["sources"][0] |= changes
    path = tmp_path / "by-hand.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def some(folder: Path, tmp_path: Path, name: str, n: int, pattern: str = "*") -> Path:
    """Return a folder with links to every nth file of another one, since fewer clips show as much."""
    for path in sorted(folder.rglob(pattern))[::n]:
        if path.is_file():
            place = tmp_path / name / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place) if os.stat(path).st_dev == os.stat(tmp_path).st_dev else shutil.copyfile(path, place)
    return tmp_path / name


def test_esc10_is_read_as_its_recipe_reads_it(corpora: Path, tmp_path: Path, in_process: None) -> None:
    """No column of its table names the files: they are made of three columns."""
    corpus = some(corpora / "esc10", tmp_path, "esc10", 6, "*.ogg")
    shutil.copyfile(corpora / "esc10/esc50.rows.csv", corpus / "esc50.rows.csv")
    plain, text = propose(corpus, tmp_path / "made.yaml")
    assert "`clipmill recipes esc10` is made for this" in text
    annotations = plain["sources"][0]["annotations"]
    assert annotations["recording"] == ["{fold}-{src_file}-{take}.ogg", "filename"]
    assert annotations["missing_recordings"] == "ignore"
    assert plain["split"]["from"] == "fold"
    by_hand = recipe("esc10", corpus, tmp_path)
    by_hand.write_text(
        by_hand.read_text().replace(
            "table: ${TABLE:-esc50.rows.csv}", "table: esc50.rows.csv\n    missing_recordings: ignore"
        )
    )
    made = labels_and_lengths(light(tmp_path / "made.yaml", 8000), tmp_path / "esc10-dataset")
    assert made == labels_and_lengths(light(by_hand, 8000), tmp_path / "by-hand")
    assert made.total() == 40


def test_fsdd_is_read_as_its_recipe_reads_it(corpora: Path, tmp_path: Path, in_process: None) -> None:
    corpus = some(corpora / "fsdd/recordings", tmp_path, "fsdd", 20)
    plain, _ = propose(corpus, tmp_path / "made.yaml")
    assert plain["audio"]["sample_rate_hz"] == 8000
    assert plain["split"]["by"] == "speaker"
    made = labels_and_lengths(light(tmp_path / "made.yaml", 8000), tmp_path / "fsdd-dataset")
    assert made == labels_and_lengths(light(recipe("fsdd", corpus, tmp_path), 8000), tmp_path / "by-hand")
    assert made.total() == 75


def test_ljspeech_in_three_encodings(corpora: Path, tmp_path: Path, in_process: None) -> None:
    """One of three encodings is used, and a table without a header names it by its stem."""
    plain, text = propose(corpora / "coqui-tts/tests/data/ljspeech", tmp_path / "made.yaml", "--for", "tts")
    source = plain["sources"][0]
    assert source["include"] == ["**/*.flac"]
    assert (source["annotations"]["table"], source["annotations"]["fields"]) == ("metadata.csv", {"text": 2})
    assert "the same recordings are there in several encodings" in text
    light(tmp_path / "made.yaml", 16000)
    run("build", tmp_path / "made.yaml")
    manifest = open_dataset(str(tmp_path / "ljspeech-dataset")).manifest()
    lines = (corpora / "coqui-tts/tests/data/ljspeech/metadata.csv").read_text().splitlines()
    assert sorted(manifest["text"].to_pylist()) == sorted(" ".join(line.split("|")[2].split()) for line in lines)


def test_soundscapes_with_labels_beside_them(corpora: Path, tmp_path: Path, in_process: None) -> None:
    """scaper has Audacity labels and JAMS for half of its recordings; the number of rows is that of lines."""
    plain, text = propose(corpora / "scaper", tmp_path / "made.yaml", "--for", "sound-events")
    assert plain["sources"][0]["annotations"] == {"sidecar": "{stem}.txt", "format": "audacity"}
    assert "6 of 12 recordings have such a file; the other 6 give no clips" in text
    n_rows = sum(len(path.read_text().split("\n")) - 1 for path in (corpora / "scaper").rglob("*.txt"))
    assert labels_and_lengths(light(tmp_path / "made.yaml", 8000), tmp_path / "scaper-dataset").total() == n_rows


@pytest.mark.parametrize(
    "folder", ["auditok", "pydub", "wavefile", "flac-test-files", "soundfile", "cpython-audiodata", "lhotse", "scikit-maad", "soundata"]
)  # fmt: skip
def test_what_is_proposed_for_fixtures_of_other_projects_can_be_planned(
    corpora: Path, tmp_path: Path, folder: str
) -> None:
    propose(corpora / folder, tmp_path / "made.yaml")
    assert "recordings   " in run("plan", tmp_path / "made.yaml", "--no-sample")


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder", ["auditok", "pydub", "wavefile", "flac-test-files", "soundfile", "cpython-audiodata", "lhotse"]
)
def test_what_is_proposed_for_fixtures_of_other_projects_builds(
    corpora: Path, tmp_path: Path, in_process: None, folder: str
) -> None:
    propose(corpora / folder, tmp_path / "made.yaml")
    run("build", tmp_path / "made.yaml")
