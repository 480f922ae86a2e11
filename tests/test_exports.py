"""Every export, read by the library that it is for and compared clip by clip."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from click.testing import CliRunner, Result
from conftest import tone, write_audio

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load, loads
from clipmill.pipelines.exports import FORMATS, ClipCount, format_of, kaldi
from clipmill.pipelines.exports.snapshot_export import export_snapshot
from clipmill.pipelines.exports.wav_files import write_wav
from clipmill.pipelines.run import display
from clipmill.pipelines.run.build import build
from clipmill.stages.storage.root import Root
from clipmill.stages.write.encode import decode_clip

Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=["both", "parquet"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("exports")
    table = ["file|start|end|words|speaker"]
    for i in range(8):
        channels = 1 if request.param == "both" else 1 + i % 2
        write_audio(
            place / "in" / f"class {i % 3}" / f"r {i}é.wav", tone(2.0, 22050, channels, hz=100 * (i + 1), seed=i), 22050
        )
        for k in range(2):
            table.append(f"class {i % 3}/r {i}é.wav|{k}|{k + 0.7}|say “{i}” and {k}, then|Söl {i % 4}")
    (place / "in/metadata.csv").write_text("\n".join(table) + "\n")
    formats = "[parquet, webdataset]" if request.param == "both" else "[parquet]"
    config = place / "c.yaml"
    config.write_text(
        f"""
name: exported
sources:
  - name: s
    root: {place}/in
    label: {{from: folder}}
    annotations: {{table: metadata.csv, recording: file, delimiter: "|", quote: none,
                  columns: {{start: start, end: end, text: words, speaker: speaker}}}}
    segment: {{mode: annotation}}
audio: {{channels: keep}}
features: {{log_mel: {{n_fft: 512, hop_length: 160, n_mels: 20}}, mfcc: {{n_mfcc: 7}}}}
split: {{train: 0.5, test: 0.5, by: speaker, disjoint: [speaker, recording]}}
output: {{root: {place}/out, formats: {formats}, shard_seconds: 2}}
"""
    )
    assert build(load(config), quiet=True).status == "published"
    return place / "out"


@pytest.fixture
def rows(dataset: Path) -> Rows:
    found = {
        row["clip_id"]: row for f in (dataset / "shards").rglob("*.parquet") for row in pq.read_table(f).to_pylist()
    }
    assert len(found) == 16
    assert {row["split"] for row in found.values()} == {"train", "test"}
    return found


def export(dataset: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["export", str(dataset), *words])


def pcm(row: dict[str, Any]) -> np.ndarray:
    return decode_clip(row["audio"]["bytes"])[0]


def has_tars(dataset: Path) -> bool:
    return any((dataset / "shards").rglob("*.tar"))


def test_hugging_face(dataset: Path, rows: Rows, tmp_path: Path) -> None:
    from datasets import Audio, ClassLabel, load_dataset

    done = export(dataset, "huggingface")
    assert done.exit_code == 0, done.output
    splits = load_dataset(str(dataset), cache_dir=str(tmp_path / "cache"))
    assert set(splits) == {"train", "test"}
    seen = 0
    for split, clips in splits.items():
        assert isinstance(clips.features["label"], ClassLabel)
        assert clips.features["label"].names == ["class 0", "class 1", "class 2"]
        assert isinstance(clips.features["audio"], Audio)
        assert clips.features["audio"].sampling_rate == 16000 or clips.features["audio"].sampling_rate == 22050
        for clip in clips.cast_column("audio", Audio(decode=False)):
            row = rows[clip["clip_id"]]
            assert row["split"] == split
            assert clips.features["label"].int2str(clip["label"]) == row["label"]
            assert clip["audio"]["bytes"] == row["audio"]["bytes"]
            assert (clip["text"], clip["speaker"]) == (row["text"], row["speaker"])
            np.testing.assert_array_equal(clip["log_mel"], row["log_mel"])
            seen += 1
    assert seen == len(rows)
    assert export(dataset, "huggingface").exit_code == 0  # its own card is written over
    card = dataset / "README.md"
    content = card.read_text()
    card.write_text("# mine\n")
    refused = export(dataset, "huggingface")
    assert refused.exit_code == 1 and "not one that clipmill wrote" in refused.output
    assert card.read_text() == "# mine\n"
    card.write_text(content)


def test_croissant(dataset: Path, rows: Rows) -> None:
    import mlcroissant

    done = export(dataset, "croissant")
    assert done.exit_code == 0, done.output
    found = mlcroissant.Dataset(jsonld=dataset / "croissant.json")
    assert not found.metadata.ctx.issues.errors, found.metadata.ctx.issues.report()
    assert all(
        "citeAs" in w or "license" in w for w in found.metadata.ctx.issues.warnings
    )  # which the owner alone knows
    seen = {}
    for record in found.records("clips"):
        seen[record["clips/clip_id"].decode()] = record
    assert seen.keys() == rows.keys()
    for name, record in seen.items():
        assert record["clips/text"].decode() == rows[name]["text"]
        assert record["clips/start_s"] == rows[name]["start_s"]


def test_webdataset(dataset: Path, rows: Rows, tmp_path: Path) -> None:
    import webdataset

    done = export(dataset, "webdataset", "--to", str(tmp_path / "w"))
    if not has_tars(dataset):
        assert done.exit_code == 1 and "not as webdataset; add webdataset to output.formats" in done.output
        return
    assert done.exit_code == 0, done.output
    seen = 0
    for split in ("train", "test"):
        urls = (tmp_path / f"w/{split}.txt").read_text().split("\n")[:-1]
        for sample in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False):
            row = rows[sample["__key__"]]
            assert row["split"] == split
            assert sample["flac"] == row["audio"]["bytes"]
            seen += 1
        index = json.loads((tmp_path / "w/index.json").read_text())[split]
        assert [e["url"] for e in index] == urls
    assert seen == len(rows)


def test_nemo(dataset: Path, rows: Rows, tmp_path: Path) -> None:
    done = export(dataset, "nemo", "--to", str(tmp_path / "n"))
    assert done.exit_code == 0, done.output
    seen = set()
    for split in ("train", "test"):
        tars = (tmp_path / f"n/{split}_tars.txt").read_text().split("\n")[:-1] if has_tars(dataset) else []
        for line in (tmp_path / f"n/{split}.json").read_text().split("\n")[:-1]:
            entry = json.loads(line)
            if tars:
                with tarfile.open(tars[entry["shard_id"]]) as tar:
                    content = tar.extractfile(entry["audio_filepath"]).read()
            else:
                content = (tmp_path / "n" / entry["audio_filepath"]).read_bytes()
            name = Path(entry["audio_filepath"]).name.split(".")[0]
            row = rows[name]
            y, rate = sf.read(io.BytesIO(content), dtype="int16", always_2d=True)
            assert np.array_equal(y, pcm(row))
            assert entry["duration"] == len(y) / rate
            assert (entry["text"], entry["label"], entry["speaker"], row["split"]) == (
                row["text"],
                row["label"],
                row["speaker"],
                split,
            )
            seen.add(name)
    assert seen == rows.keys()
    assert any((tmp_path / "n").rglob("*.wav")) != has_tars(dataset)


def test_lhotse(dataset: Path, rows: Rows, tmp_path: Path) -> None:
    from lhotse import CutSet, validate

    done = export(dataset, "lhotse", "--to", str(tmp_path / "l"))
    assert done.exit_code == 0, done.output
    seen = set()
    for split in ("train", "test"):
        cuts = CutSet.from_shar(in_dir=tmp_path / "l" / split)
        for cut in cuts:
            row = rows[cut.id]
            assert row["split"] == split
            validate(cut)
            np.testing.assert_array_equal(cut.load_audio() * 32768, pcm(row).T)
            for name in ("log_mel", "mfcc"):
                stored = np.array(row[name], np.float32).reshape(row[f"{name}_shape"])
                np.testing.assert_array_equal(cut.load_custom(name), np.moveaxis(stored, -1, 0))
            said = cut.supervisions[0]
            assert (said.text, said.speaker, said.custom["label"]) == (row["text"], row["speaker"], row["label"])
            seen.add(cut.id)
        validate(
            cuts.to_eager()
        )  # read_data=True compares an array's tuple of sizes with the list that JSON made of it
    assert seen == rows.keys()


def test_kaldi(dataset: Path, rows: Rows, tmp_path: Path) -> None:
    from lhotse.kaldi import load_kaldi_data_dir

    done = export(dataset, "kaldi", "--to", str(tmp_path / "k"))
    assert done.exit_code == 0, done.output
    seen = set()
    for split in ("train", "test"):
        place = tmp_path / "k" / split
        columns = {}
        for file in ("wav.scp", "utt2spk", "spk2utt", "text", "utt2dur"):
            content = (place / file).read_bytes()
            keys = [line.split(b" ", 1)[0] for line in content.splitlines()]
            assert keys == sorted(set(keys)), file  # sorted as by LC_ALL=C, each once
            columns[file] = dict(line.split(" ", 1) for line in content.decode().split("\n")[:-1])
        assert (
            columns["wav.scp"].keys()
            == columns["utt2spk"].keys()
            == columns["text"].keys()
            == columns["utt2dur"].keys()
        )
        by_speaker = {u: s for s, of in columns["spk2utt"].items() for u in of.split()}
        assert by_speaker == columns["utt2spk"]
        assert all(u.startswith(f"{s}-") for u, s in by_speaker.items())
        pairs = sorted((s, u) for u, s in by_speaker.items())
        assert [u for _, u in pairs] == sorted(by_speaker)  # speakers and utterances sort alike
        recordings, supervisions, _ = load_kaldi_data_dir(place, sampling_rate=16000, num_jobs=1, use_reco2dur=False)
        assert len(recordings) == len(supervisions)
        for said in supervisions:
            row = rows[said.id.removeprefix(f"{by_speaker[said.id]}-")]
            assert row["split"] == split
            np.testing.assert_array_equal(recordings[said.recording_id].load_audio() * 32768, pcm(row).T)
            assert said.text == row["text"]
            seen.add(row["clip_id"])
    assert seen == rows.keys()


def test_csv(dataset: Path, rows: Rows, tmp_path: Path) -> None:
    done = export(dataset, "csv", "--to", str(tmp_path / "c"), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["written"] == [str(tmp_path / "c/test.csv"), str(tmp_path / "c/train.csv")]
    seen = set()
    for split in ("train", "test"):
        with (tmp_path / f"c/{split}.csv").open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or []
            assert "shard" in names and len(set(names)) == len(names)
            for line in reader:
                row = rows[line["clip_id"]]
                assert (line["text"], line["split"], float(line["start_s"])) == (row["text"], split, row["start_s"])
                assert line["clip_id"] in pq.read_table(line["shard"], columns=["clip_id"])["clip_id"].to_pylist()
                seen.add(line["clip_id"])
    assert seen == rows.keys()


def test_other_roots_fields_and_snapshots(
    dataset: Path, rows: Rows, tmp_path: Path, bucket: str, endpoint: str
) -> None:
    from clipmill.stages.storage.root import Root

    assert "exports/csv-000001/train.csv" in export(dataset, "csv").output
    assert "no field 'words'; there are label, speaker, text" in export(dataset, "nemo", "--text", "words").output
    assert export(dataset, "csv", "--snapshot", "9").exit_code == 1
    assert "leave --to out" in export(dataset, "huggingface", "--to", str(tmp_path)).output
    there = Root(f"s3://{bucket}/d", {"endpoint_url": endpoint})
    for path in sorted(dataset.rglob("*")):
        if path.is_file() and "exports" not in path.parts:
            there.write_bytes(str(path.relative_to(dataset)), path.read_bytes())
    told = CliRunner().invoke(main, ["export", there.url, "kaldi"], env={"AWS_ENDPOINT_URL": endpoint}).output
    assert "give a folder by --to" in told
    for format in ("csv", "nemo", "tts", "lhotse", "huggingface", "croissant"):
        done = CliRunner().invoke(main, ["export", there.url, format], env={"AWS_ENDPOINT_URL": endpoint})
        assert done.exit_code == 0, done.output
    assert there.exists("README.md") and there.exists("exports/csv-000001/train.csv")
    assert [n for n in there.names("exports/lhotse-000001/train") if n.startswith("cuts.")]


@pytest.mark.parametrize("name", [name for name in FORMATS if format_of(name).copies_audio])
def test_formats_that_copy_the_audio_count_the_clips(name: str, dataset: Path, rows: Rows, tmp_path: Path) -> None:
    for package in format_of(name).needs:
        pytest.importorskip(package)
    count = ClipCount()
    export_snapshot(Root(str(dataset)), name, target=str(tmp_path / name), count=count)
    assert (count.done, count.total, str(count)) == (len(rows), len(rows), "16 of 16 clips")


def test_an_export_shows_how_many_clips_are_written(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    class Recorder:
        def show(self, step: str, share: float | None, lines: Sequence[str], line: str) -> None:
            shown.append(f"{step}: {line}")

        def close(self) -> None:
            pass

    def slowly(*args: Any) -> str:
        time.sleep(0.01)
        return write_wav(*args)

    monkeypatch.setattr(display, "_POLL_S", 0.001)
    monkeypatch.setattr(display, "choose_surface", lambda quiet: display.Nowhere() if quiet else Recorder())
    monkeypatch.setattr(kaldi, "write_wav", slowly)
    assert export(dataset, "kaldi", "--to", str(tmp_path / "to")).exit_code == 0
    assert any(line.startswith("export: 9 of 16 clips, ") for line in shown), shown
    shown.clear()
    assert export(dataset, "kaldi", "--to", str(tmp_path / "to2"), "--json").exit_code == 0 and not shown


def test_clips_that_are_in_tar_shards_alone(dataset: Path, rows: Rows, tmp_path: Path) -> None:
    from lhotse import CutSet

    config = (dataset.parent / "c.yaml").read_text().replace(f"{dataset}, ", f"{tmp_path}/tars, ")
    config = config.replace("[parquet, webdataset]", "[webdataset]").replace("[parquet]", "[webdataset]")
    assert build(loads(config), quiet=True).status == "published"
    for format in ("csv", "nemo", "kaldi", "lhotse"):
        done = CliRunner().invoke(main, ["export", str(tmp_path / "tars"), format, "--to", str(tmp_path / format)])
        assert done.exit_code == 0, done.output
    seen = set()
    for split in ("train", "test"):
        for cut in CutSet.from_shar(in_dir=tmp_path / "lhotse" / split):
            np.testing.assert_array_equal(cut.load_audio() * 32768, pcm(rows[cut.id]).T)
            stored = np.array(rows[cut.id]["log_mel"], np.float32).reshape(rows[cut.id]["log_mel_shape"])
            np.testing.assert_array_equal(cut.load_custom("log_mel"), np.moveaxis(stored, -1, 0))
            y, _ = sf.read(tmp_path / f"kaldi/wav/{split}/{cut.id}.wav", dtype="int16", always_2d=True)
            assert np.array_equal(y, pcm(rows[cut.id]))
            seen.add(cut.id)
    assert seen == rows.keys()
