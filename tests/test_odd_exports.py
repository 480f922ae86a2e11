"""Exports of what corpora really hold: odd names, labels and fields, empty splits, float samples; and where exports go."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from click.testing import CliRunner, Result
from conftest import tone, write_audio
from old_format import as_version_1

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.read.training import ClipDataset
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import ClipmillError

SPEAKERS = ["s 1", "s-1", "s_1", "a/b", "a-b", "", "unknown", "ß"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float clips; fields called as NeMo's keys; speakers that look alike; a split that gets no clips; a clip without words."""
    place = tmp_path_factory.mktemp("odd exports")
    names = "file,label,text,normalized_text,offset,audio_filepath,speaker,norm text,side,audio_filename,corpus_offset"
    rows = [names.split(",")]
    for i, speaker in enumerate(SPEAKERS):
        y = 1.2 * tone(0.5, 16000, seed=i) / np.abs(tone(0.5, 16000, seed=i)).max()
        write_audio(place / "in" / f"r {i}.wav", y, 16000, "FLOAT")
        label = ["a,b", "cr\rlabel", "no", 'say "x"'][i % 4]
        text = "" if i == 3 else f"Raw {i} — “ü”"
        rows.append(
            [
                f"r {i}.wav",
                label,
                text,
                f"raw {i}",
                f"o{i}",
                "x",
                speaker,
                "n",
                "test" if i % 2 else "train",
                "y",
                "own",
            ]
        )
    write_audio(place / "in/silent.wav", np.zeros((8000, 1)), 16000)
    rows.append(["silent.wav", "no", "nothing", "nothing", "o", "x", "s", "n", "val", "y", "own"])
    with (place / "in/table.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    fields = ", ".join(f"{n!r}: {n!r}" for n in rows[0][2:])
    config = place / "c.yaml"
    config.write_text(
        f"""
name: odd
sources:
  - name: s
    root: {place}/in
    annotations: {{table: table.csv, recording: file, columns: {{label: label}}, fields: {{{fields}}}}}
    segment: {{mode: annotation}}
    label: {{from: annotation}}
audio: {{sample_format: float32}}
silence: {{min_dbfs: -60}}
features: {{log_mel: {{n_mels: 20}}}}
split: {{from: side, map: {{train: train, test: test, val: val}}}}
limits: {{allow_empty_splits: true}}
output: {{root: {place}/out, formats: [parquet, webdataset], audio_codec: wav}}
"""
    )
    report = build(load(config), quiet=True)
    assert report.snapshot is not None, report.failures
    assert report.snapshot.by_split["val"]["clips"] == 0
    return place / "out"


@pytest.fixture(scope="module")
def rows(dataset: Path) -> dict[str, dict[str, Any]]:
    found = [row for f in (dataset / "shards").rglob("*.parquet") for row in pq.read_table(f).to_pylist()]
    assert len(found) == len(SPEAKERS)
    return {row["clip_id"]: row for row in found}


def export(dataset: Path, format: str, *more: str) -> Result:
    return CliRunner().invoke(main, ["export", str(dataset), format, *more])


def samples(content: bytes) -> np.ndarray:
    return sf.read(io.BytesIO(content), dtype="float32")[0]


def test_lhotse_keeps_float_samples(dataset: Path, rows: dict[str, Any], tmp_path: Path) -> None:
    from lhotse import CutSet

    told = export(dataset, "lhotse", "--to", str(tmp_path / "l"))
    assert "nothing for split val, which has no clips" in told.output
    seen = set()
    for split in ("train", "test"):
        for cut in CutSet.from_shar(in_dir=tmp_path / "l" / split):
            y = cut.load_audio()[0]
            assert np.abs(y).max() == pytest.approx(1.2, abs=1e-3)
            np.testing.assert_array_equal(y, samples(rows[cut.id]["audio"]["bytes"]))
            said = cut.supervisions[0]
            assert said.custom["start_s"] == 0 and said.custom["recording_id"] == rows[cut.id]["recording_id"]
            seen.add(cut.id)
    assert seen == rows.keys()


def test_nemo_keeps_its_own_keys(dataset: Path, rows: dict[str, Any], tmp_path: Path) -> None:
    for chosen, more in (("text", []), ("normalized_text", ["--text", "normalized_text"])):
        assert export(dataset, "nemo", "--to", str(tmp_path / chosen), *more).exit_code == 0
        lines = [
            json.loads(x) for s in ("train", "test") for x in (tmp_path / chosen / f"{s}.json").read_text().splitlines()
        ]
        assert len(lines) == len(rows)
        for line in lines:
            row = rows[line["audio_filepath"].removesuffix(".wav")]
            assert line["text"] == (row[chosen] or "")
            assert "offset" not in line and "audio_filename" not in line and line["corpus_audio_filename"] == "y"
            assert line["corpus_offset"] == "own" and line["corpus_corpus_offset"] == row["offset"]
            assert line["corpus_audio_filepath"] == "x" and line["duration"] == row["duration_s"]


def test_csv_is_read_back_whatever_the_text(dataset: Path, rows: dict[str, Any], tmp_path: Path) -> None:
    assert export(dataset, "csv", "--to", str(tmp_path / "c")).exit_code == 0
    for split in ("train", "test"):
        table = pd.read_csv(tmp_path / f"c/{split}.csv", dtype=str, keep_default_na=False)
        with (tmp_path / f"c/{split}.csv").open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == len(table) == 4
        for i, line in enumerate(lines):
            assert line["label"] == table["label"][i] == rows[line["clip_id"]]["label"]
            assert line["speaker"] == (rows[line["clip_id"]]["speaker"] or "")
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["clipmill-export.json", "test.csv", "train.csv"]


def test_kaldi_keeps_speakers_apart_and_has_words_for_all_or_none(
    dataset: Path, rows: dict[str, Any], tmp_path: Path
) -> None:
    assert export(dataset, "kaldi", "--to", str(tmp_path / "k")).exit_code == 0
    names: dict[str, str] = {}
    n_clips = 0
    for split in ("train", "test"):
        of = {
            n: dict(x.split(" ", 1) for x in (tmp_path / f"k/{split}/{n}").read_text().splitlines())
            for n in ("utt2spk", "text", "wav.scp")
        }
        assert of["utt2spk"].keys() == of["text"].keys() == of["wav.scp"].keys()
        for utterance, speaker in of["utt2spk"].items():
            assert re.fullmatch(r"[A-Za-z0-9_.]+", speaker)
            clip = utterance.removeprefix(f"{speaker}-")
            assert names.setdefault(speaker, rows[clip]["speaker"] or "") == (rows[clip]["speaker"] or "")
            n_clips += 1
    assert n_clips == len(rows) - 1  # one has no words
    assert len(names) == n_clips, "all speakers differ"
    told = export(dataset, "kaldi", "--to", str(tmp_path / "k2"), "--text", "offset")
    assert told.exit_code == 0


def test_hugging_face_and_croissant_of_a_dataset_with_an_empty_split(
    dataset: Path, rows: dict[str, Any], tmp_path: Path
) -> None:
    import datasets
    import mlcroissant

    assert export(dataset, "huggingface").exit_code == 0
    assert export(dataset, "croissant").exit_code == 0
    found = datasets.load_dataset(str(dataset), cache_dir=str(tmp_path))
    assert {s: len(d) for s, d in found.items()} == {"train": 4, "test": 4}
    names = found["train"].features["label"].names
    for split in found.values():
        for row in split.cast_column("audio", datasets.Audio(decode=False)):
            assert names[row["label"]] == rows[row["clip_id"]]["label"]
    card = mlcroissant.Dataset(str(dataset / "croissant.json"))
    assert not card.metadata.issues.errors
    assert {r["clips/clip_id"].decode() for r in card.records("clips")} == set(rows)
    files = {f["@id"] for f in json.loads((dataset / "croissant.json").read_text())["distribution"]}
    assert files - {"manifest"} == {
        str(p.relative_to(dataset)) for p in (dataset / "shards").rglob("*.*") if "val" not in p.name
    }
    (dataset / "croissant.json").write_text("{}")
    told = export(dataset, "croissant")
    assert told.exit_code == 1 and "is not one that clipmill wrote" in told.output
    (dataset / "croissant.json").unlink()


def test_a_root_with_a_space_in_lists_of_shards(dataset: Path, rows: dict[str, Any], tmp_path: Path) -> None:
    import webdataset

    assert export(dataset, "webdataset", "--to", str(tmp_path / "w")).exit_code == 0
    urls = (tmp_path / "w/train.txt").read_text().splitlines()
    assert " " in urls[0] and len(list(webdataset.WebDataset(urls, shardshuffle=False))) == 4
    assert not (tmp_path / "w/val.txt").exists()


def test_one_folder_one_export(dataset: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    assert export(dataset, "csv", "--to", str(there)).exit_code == 0
    assert export(dataset, "csv", "--to", str(there)).exit_code == 0  # the same again
    told = export(dataset, "nemo", "--to", str(there))
    assert told.exit_code == 2 and "holds the export of another snapshot or format (1 of odd" in told.output
    done = export(dataset, "nemo", "--to", str(there), "--replace")
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in there.iterdir()) == [
        "clipmill-export.json", "test.json", "test_tars.txt", "train.json", "train_tars.txt",
    ]  # fmt: skip
    somebodys = tmp_path / "somebodys"
    somebodys.mkdir()
    (somebodys / "train.csv").write_text("mine")
    for more in ([], ["--replace"]):
        told = export(dataset, "csv", "--to", str(somebodys), *more)
        assert told.exit_code == 2 and "is not empty" in told.output
    assert (somebodys / "train.csv").read_text() == "mine"


def test_an_interrupted_lhotse_export_leaves_no_split_that_looks_whole(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import clipmill.pipelines.exports.lhotse as module

    there, of = tmp_path / "l", module._cut
    seen: list[str] = []

    def interrupt(asked: Any, row: dict[str, Any], names: list[str]) -> Any:
        seen.append(row["split"])
        if len(seen) == 7:
            raise KeyboardInterrupt
        return of(asked, row, names)

    monkeypatch.setattr(module, "_cut", interrupt)
    told = export(dataset, "lhotse", "--to", str(there))
    assert told.exit_code == 1 and "interrupted; the same command starts over" in told.output
    assert sorted(p.name for p in there.iterdir()) == ["clipmill-export.json", seen[0]]
    assert json.loads((there / "clipmill-export.json").read_text())["finished"] is False
    monkeypatch.setattr(module, "_cut", of)
    assert export(dataset, "lhotse", "--to", str(there)).exit_code == 0
    assert json.loads((there / "clipmill-export.json").read_text())["finished"] is True


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("", "--to is empty"),
        ("s3:/bucket/x", "two slashes"),
        ("s3://", "names no bucket"),
        ("http://localhost:1/x", "nothing can be written there"),
        ("ftp://localhost/x", "nothing can be written there"),
        ("{root}/shards/train/x", "shards is a folder of the dataset itself"),
        ("{root}/commits", "commits is a folder of the dataset itself"),
        ("{root}", "is not empty"),
        ("{file}", "c.yaml"),
        ("{file}/below", "c.yaml/below"),
        ("/proc/clipmill", "/proc/clipmill"),
    ],
)
def test_where_nothing_can_be_written_is_told(dataset: Path, target: str, said: str) -> None:
    told = export(dataset, "csv", "--to", target.format(root=dataset, file=dataset.parent / "c.yaml"))
    assert told.exit_code in (1, 2), told.output
    assert said in told.output and "Traceback" not in told.output and len(told.output.splitlines()) == 1
    assert "build again" not in told.output


def test_another_build_of_the_same_number_is_another_snapshot(dataset: Path, tmp_path: Path) -> None:
    from clipmill.pipelines.config_file import loads

    text = (dataset.parent / "c.yaml").read_text().replace(f"{dataset},", f"{tmp_path}/other,")
    assert build(loads(text.replace("test: test", "test: train")), quiet=True).status == "published"
    there = str(tmp_path / "there")
    assert export(dataset, "csv", "--to", there).exit_code == 0
    told = export(tmp_path / "other", "csv", "--to", there)
    assert told.exit_code == 2 and "another snapshot" in told.output
    assert export(tmp_path / "other", "csv", "--to", there, "--replace").exit_code == 0
    assert not (tmp_path / "there/test.csv").exists()
    state = ClipDataset(dataset, "train", ("clip_id",)).state_dict()
    with pytest.raises(ClipmillError, match="snapshot was 1 of odd"):
        ClipDataset(tmp_path / "other", "train", ("clip_id",)).load_state_dict(state)


def test_nothing_is_removed_for_an_export_that_cannot_be(dataset: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    assert export(dataset, "csv", "--to", str(there)).exit_code == 0
    content = {p.name: p.read_bytes() for p in there.iterdir()}
    damaged = tmp_path / "d"
    shutil.copytree(dataset, damaged)
    max((damaged / "shards").rglob("*.parquet")).unlink()
    assert export(damaged, "kaldi", "--to", str(there), "--replace").exit_code == 1
    assert content == {p.name: p.read_bytes() for p in there.iterdir()}


def test_another_text_goes_over_the_first_and_what_was_killed_is_cleared_away(dataset: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    assert export(dataset, "kaldi", "--to", str(there)).exit_code == 0
    (there / ".clipmill-shar-old/train").mkdir(parents=True)
    assert export(dataset, "kaldi", "--to", str(there), "--text", "normalized_text").exit_code == 0
    assert " raw " in (there / "train/text").read_text()
    assert not (there / ".clipmill-shar-old").exists()


def test_split_names_that_datasets_does_not_take(dataset: Path, tmp_path: Path) -> None:
    from clipmill.pipelines.config_file import loads

    text = (dataset.parent / "c.yaml").read_text().replace(f"{dataset},", f"{tmp_path}/other,")
    assert build(loads(text.replace("test: test", "test: dev-clean")), quiet=True).status == "published"
    told = export(tmp_path / "other", "huggingface")
    assert told.exit_code == 1 and "'dev-clean', which datasets does not take" in told.output


@pytest.mark.parametrize("format", ["lhotse", "kaldi"])
@pytest.mark.parametrize("part", ["header of a clip", "name of a feature", "audio"])
def test_a_tar_in_which_clips_are_lost_is_no_tar(dataset: Path, tmp_path: Path, format: str, part: str) -> None:
    import tarfile

    there = tmp_path / "d"
    shutil.copytree(dataset, there)
    as_version_1(there)
    for commit in (there / "commits").glob("*.json"):
        plain = json.loads(commit.read_text())
        plain["outputs"] = [
            o for o in plain["outputs"] if not o["path"].endswith("b.parquet") and "parquet" not in o["format"]
        ]
        commit.write_text(json.dumps(plain))
    shard = max(p for p in (there / "shards").rglob("*.tar") if "val" not in p.name)
    content = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        members = tar.getmembers()
    clip = members[len(members) // 2].name.split(".")[0]
    own = [m for m in members if m.name.startswith(clip)]
    if part == "header of a clip":
        content[own[0].offset] ^= 1
    elif part == "audio":
        audio = next(m for m in own if m.name.endswith(".wav"))
        content[audio.offset_data : audio.offset_data + 40] = bytes(40)
    else:
        feature = next(m for m in own if m.name.endswith(".npy"))
        content[feature.offset_data : feature.offset_data + 10] = b"?" * 10
    shard.write_bytes(content)
    if (format, part) == ("kaldi", "name of a feature"):
        return  # which it does not read
    told = export(there, format, "--to", str(tmp_path / "x"))
    assert told.exit_code == 1, told.output
    assert f"{shard.name} cannot be read as it was written" in told.output


def test_home_is_understood(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert export(dataset, "csv", "--to", "~/x").exit_code == 0
    assert (tmp_path / "x/train.csv").exists()


@pytest.mark.parametrize("format", ["lhotse", "kaldi"])
@pytest.mark.parametrize("kept", ["parquet", "tar"])
def test_a_damaged_shard_is_named(dataset: Path, tmp_path: Path, format: str, kept: str) -> None:
    there = tmp_path / "d"
    shutil.copytree(dataset, there)
    as_version_1(there)
    for commit in (there / "commits").glob("*.json"):
        plain = json.loads(commit.read_text())
        plain["outputs"] = [o for o in plain["outputs"] if o["path"].endswith(kept) or o["path"].startswith("commits/")]
        commit.write_text(json.dumps(plain))
    shard = max(p for p in (there / "shards").rglob(f"*.{kept}") if "val" not in p.name)
    shard.write_bytes(os.urandom(100) + bytes(shard.stat().st_size - 100))
    told = export(there, format, "--to", str(tmp_path / "x"))
    assert told.exit_code == 1
    assert f"{shard.name} cannot be read as it was written" in told.output


def test_what_is_missing_is_told_by_every_format(dataset: Path, tmp_path: Path) -> None:
    there = tmp_path / "d"
    shutil.copytree(dataset, there)
    max((there / "shards").rglob("*.parquet")).unlink()
    for format in ("csv", "croissant", "huggingface", "webdataset", "nemo", "kaldi", "lhotse"):
        told = export(there, format)
        assert told.exit_code == 1 and "1 of 3 shards of snapshot 1 is missing or truncated" in told.output, format
        told = export(there, format, "--text", "nope")
        assert told.exit_code == 2 and "there is no field 'nope'" in told.output, format


def test_a_note_names_all_odd_signs_of_a_path() -> None:
    from types import SimpleNamespace

    from clipmill.pipelines.exports.addresses import note_cut, note_patterns
    from clipmill.stages.storage.root import Root

    asked = SimpleNamespace(notes=[])
    note_patterns(asked, Root("/data/a::b[1]*"))  # type: ignore[arg-type]
    note_cut(asked, Root("/data/a?b#c"))  # type: ignore[arg-type]
    assert "'::' in an address for file systems" in asked.notes[0]
    assert "and '[' and '*' in an address for patterns; move the dataset to a folder without them" in asked.notes[0]
    assert "ends an address at '?' or '#'; move the dataset to a folder without them" in asked.notes[1]
