"""The export to folders: names of folders, files as ImageFolder, Keras and `datasets` look for them, and what is refused or told."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from conftest import tone, write_audio
from export_corpora import ODD_LABELS, RATE, built, export, labelled, rows_of, several_labels
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipmill.pipelines.exports.folder_names import folder_names, label_of
from clipmill.stages.write.encode import decode_clip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("odd")
    return labelled(place, ODD_LABELS, features={"log_mel": {"n_mels": 16}}, split={"train": 0.5, "test": 0.5}, output={"images": {}})  # fmt: skip


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of one, two and no labels."""
    return several_labels(tmp_path_factory.mktemp("several"))


def listed(folder: Path) -> list[dict[str, str]]:
    with (folder / "clips.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def as_image_folder(folder: Path) -> dict[str, set[str]]:
    """Return the files of each class as torchvision's ImageFolder and Keras' image_dataset_from_directory find them."""
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    return {name: {p.name for p in (folder / name).iterdir()} for name in classes}


@given(st.lists(st.text(min_size=1), unique=True, max_size=20))
def test_names_of_folders_are_different_safe_and_readable_back(labels: list[str]) -> None:
    labels = [label for label in labels if not any(0xD800 <= ord(c) < 0xE000 for c in label)]
    named = folder_names(labels)
    assert named == folder_names(reversed(labels))
    assert len({name.casefold() for name in named.values()}) == len(labels)
    for label, name in named.items():
        assert label_of(name) in (label, None)
        assert 0 < len(name.encode()) <= 120 and not {*name} & {*'/\\:*?"<>|[]#\0'}
        assert name[0] not in ". " and name[-1] not in ". " and not name.startswith("__")


def test_odd_labels(odd: Path, tmp_path: Path) -> None:
    told = export(odd, "folders", "--to", tmp_path / "f").output
    assert "15 labels are escaped" in told and "2 names are cut, being too long; labels.csv has all" in told
    assert "the folder 'test' looks like a split to datasets" in told
    assert "split train has no file of 'Dog', 'dog'" in told
    with (tmp_path / "f/labels.csv").open(newline="", encoding="utf-8") as file:
        labels = {row["folder"]: row for row in csv.DictReader(file)}
    rows = rows_of(odd)
    assert {row["label"] for row in labels.values()} == {row["label"] for row in rows.values()}
    seen = set()
    for split in ("train", "test"):
        for name, files in as_image_folder(tmp_path / "f" / split).items():
            assert int(labels[name][split]) == len(files)
            for file in files:
                row = rows[file.removesuffix(".wav")]
                assert (row["label"], row["split"]) == (labels[name]["label"], split)
                y, rate = sf.read(tmp_path / "f" / split / name / file, dtype="int16", always_2d=True)
                assert rate == RATE and np.array_equal(y, decode_clip(row["audio"]["bytes"])[0])
                seen.add(row["clip_id"])
    assert seen == rows.keys()
    assert {row["clip_id"]: row["label"] for row in listed(tmp_path / "f")} == {k: r["label"] for k, r in rows.items()}
    assert all((tmp_path / "f" / row["file"]).is_file() for row in listed(tmp_path / "f"))


def test_pictures_are_read_by_datasets(odd: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    export(odd, "folders", "--to", tmp_path / "f", "--option", "files=png")
    rows, folders = rows_of(odd), {r["folder"]: r["label"] for r in csv.DictReader((tmp_path / "f/labels.csv").open())}
    splits = load_dataset(str(tmp_path / "f"), cache_dir=str(tmp_path / "cache"))
    assert {s: len(of) for s, of in splits.items()} == {
        s: sum(r["split"] == s for r in rows.values()) for s in ("train", "test")
    }
    for split, clips in splits.items():
        assert {*clips.features["label"].names} == {*folders}
        for clip, file in zip(clips, sorted((tmp_path / "f" / split).rglob("*.png")), strict=True):
            assert clips.features["label"].int2str(clip["label"]) == file.parent.name
            row = rows[file.stem]
            assert folders[file.parent.name] == row["label"] and file.read_bytes() == row["image"]["bytes"]
            assert clip["image"].size == Image.open(file).size


def test_audio_is_found_by_datasets(odd: Path, tmp_path: Path) -> None:
    """Its audiofolder encodes examples by torchcodec, so what runs here without is all up to that."""
    from datasets import DownloadManager, load_dataset_builder

    export(odd, "folders", "--to", tmp_path / "f", "--option", "files=flac")
    builder = load_dataset_builder(str(tmp_path / "f"), cache_dir=str(tmp_path / "cache"))
    assert type(builder).__name__.startswith("Audiofolder")
    rows, seen = rows_of(odd), set()
    folders = {r["folder"]: r["label"] for r in csv.DictReader((tmp_path / "f/labels.csv").open())}
    for split in builder._split_generators(DownloadManager()):
        for _, example in builder._generate_examples(**split.gen_kwargs):
            row = rows[Path(example["audio"]).stem]
            assert (row["split"], row["label"]) == (str(split.name), folders[example["label"]])
            assert Path(example["audio"]).read_bytes() == row["audio"]["bytes"]
            seen.add(row["clip_id"])
    assert seen == rows.keys()


def test_the_same_files_again_and_none_of_another_choice(odd: Path, tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    export(odd, "folders", "--to", tmp_path / "f")
    before = content()
    export(odd, "folders", "--to", tmp_path / "f")
    assert content() == before
    louder = ["--where", "{start_s: {min: 0}}", "--option", "files=flac"]
    told = export(odd, "folders", "--to", tmp_path / "f", *louder, code=2).output
    assert "holds this export as it was asked for differently (without options)" in told
    export(odd, "folders", "--to", tmp_path / "f", *louder, "--replace")
    assert not [*tmp_path.rglob("*.wav")] and [*tmp_path.rglob("*.flac")]


def test_several_labels_and_none(several: Path, tmp_path: Path) -> None:
    told = export(several, "folders", "--to", tmp_path / "f", code=1).output
    assert "1 clip has several labels, but a file is in one folder; give --option several=each" in told
    told = export(several, "folders", "--to", tmp_path / "f", "--option", "several=each").output
    assert "1 clip is left out, having no label; --option unlabelled=NAME puts them into a folder" in told
    assert {name: len(of) for name, of in as_image_folder(tmp_path / "f/train").items()} == {"cat": 1, "dog": 2}
    more = ["--option", "several=each", "--option"]
    told = export(several, "folders", "--to", tmp_path / "g", *more, "unlabelled=cat", code=1).output
    assert "clips have this label, and would be in one folder" in told
    export(several, "folders", "--to", tmp_path / "g", *more, "unlabelled=CON")
    assert {name: len(of) for name, of in as_image_folder(tmp_path / "g/train").items()} == {"%43ON": 1, "cat": 1, "dog": 2}  # fmt: skip


def test_without_any_label(tmp_path: Path) -> None:
    from datasets import load_dataset_builder

    write_audio(tmp_path / "in/a.wav", tone(1, RATE), RATE)
    write_audio(tmp_path / "in/b.wav", tone(1, RATE, seed=1), RATE)
    source = {"name": "s", "root": str(tmp_path / "in"), "segment": {"mode": "window", "length_s": 0.5}}
    dataset = built(tmp_path, [source], split={"train": 0.5, "test": 0.5})
    told = export(dataset, "folders", "--to", tmp_path / "f").output
    assert "no clip has a label, so files are in their split's folder itself" in told
    assert len([*(tmp_path / "f/train").glob("*.wav")]) == len([*(tmp_path / "f/test").glob("*.wav")]) == 2
    builder = load_dataset_builder(str(tmp_path / "f"), cache_dir=str(tmp_path / "cache"))
    assert builder.config.drop_labels is True
    told = export(dataset, "folders", "--to", tmp_path / "g", "--option", "files=png", code=1).output
    assert "clips have no pictures; add `images: {}`" in told


def test_wrong_options(odd: Path, tmp_path: Path) -> None:
    for option, said in [
        ("files=ogg", "--option files: expected 'wav', 'flac' or 'png'"),
        ("file=wav", "--option file: folders has no such option; its options are files, several, unlabelled; did you mean 'files'?"),
        ("wav", "'wav' is not KEY=VALUE"),
    ]:  # fmt: skip
        assert said in export(odd, "folders", "--to", tmp_path / "f", "--option", option, code=2).output
    assert "csv has no such option; it has no options" in export(odd, "csv", "--option", "a=b", code=2).output
    assert "csv has no such option" in export(odd, "csv", "--push", code=2).output
    assert not (tmp_path / "f").exists()


def test_into_a_store(odd: Path, bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from clipmill.stages.storage.root import Root

    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    export(odd, "folders", "--to", f"s3://{bucket}/f", "--where", "{duration_s: {max: 1}}")
    there = Root(f"s3://{bucket}/f", {"endpoint_url": endpoint})
    assert sum(path.endswith(".wav") for path in there.sizes("train")) == sum(
        row["split"] == "train" for row in rows_of(odd).values()
    )
    assert json.loads(there.read_bytes("clipmill-export.json"))["finished"] is True


def test_clips_that_are_in_tar_shards_alone(tmp_path: Path) -> None:
    dataset = labelled(tmp_path, ["a", "b"], features={"log_mel": {"n_mels": 16}}, output={"images": {}, "formats": ["webdataset"]})  # fmt: skip
    for files in ("png", "wav"):
        export(dataset, "folders", "--to", tmp_path / files, "--option", f"files={files}")
        assert {n: len(of) for n, of in as_image_folder(tmp_path / files / "train").items()} == {"a": 2, "b": 2}
    shutil.rmtree(tmp_path / "wav")
