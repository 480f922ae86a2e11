"""The export `tts`, read as trainers read it: lines divided at |, WAV files, and mels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from click.testing import CliRunner, Result
from conftest import tone, write_audio

import clipmill
from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.run.build import build
from clipmill.stages.write.encode import decode_clip

RATE, HOP, MELS = 22050, 256, 80
ROWS = [  # file, text, text as it is read out, speaker
    ("r0", "One.", "one", "Zoë"),
    ("r1", "2", "two", "Al"),
    ("r2", "(three)", "", "Al"),
    ("r3", "4", "four", ""),
    ("r4", "5  a\u2028b", "five | five\u2028six", "Zoë"),
    ("r5", "6", "six", "A|l"),
]


def export(dataset: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["export", str(dataset), "tts", *words])


def load_filepaths_and_text(filename: Path, split: str = "|") -> list[list[str]]:
    """As in Tacotron 2's and VITS's utils.py."""
    with open(filename, encoding="utf-8") as f:
        return [line.strip().split(split) for line in f]


def hifi_gan_names(filename: Path) -> list[str]:
    """As in HiFi-GAN's meldataset.py: names of wavs and mels, before their extension."""
    with open(filename, encoding="utf-8") as fi:
        return [x.split("|")[0] for x in fi.read().split("\n") if len(x) > 0]


def lists(folder: Path) -> list[list[str]]:
    return [line for path in sorted(folder.glob("[tv]*.txt")) for line in load_filepaths_and_text(path)]


def stored(dataset: Path) -> dict[str, dict[str, Any]]:
    return {
        row["clip_id"]: row for f in (dataset / "shards").rglob("*.parquet") for row in pq.read_table(f).to_pylist()
    }


def check_files(folder: Path, rows: dict[str, dict[str, Any]], ids: set[str], hop: int = HOP) -> None:
    """Wavs and mels are there for these clips alone, and are what is stored."""
    assert {p.stem for p in folder.glob("wavs/*")} == {p.stem for p in folder.glob("mels/*")} == ids
    for name in ids:
        y, rate = sf.read(folder / f"wavs/{name}.wav", dtype="int16", always_2d=True)
        assert sf.info(folder / f"wavs/{name}.wav").subtype == "PCM_16" and rate == RATE
        assert np.array_equal(y, decode_clip(rows[name]["audio"]["bytes"])[0])
        mel = np.load(folder / f"mels/{name}.npy")
        assert mel.dtype == np.float32 and mel.shape == (MELS, 1 + len(y) // hop) and mel.flags["C_CONTIGUOUS"]
        assert np.array_equal(mel, np.float32(rows[name]["log_mel"]).reshape(rows[name]["log_mel_shape"]))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tts")
    for i, (name, *_) in enumerate(ROWS):
        write_audio(folder / f"in/{name}.wav", tone(0.4 + 0.1 * i, RATE, hz=150 + 40 * i), RATE)
    # Units of the table are divided by tabs, since texts hold |.
    (folder / "in/t.tsv").write_text(
        "".join("\t".join(row) + "\n" for row in (("file", "raw", "said", "speaker"), *ROWS))
    )
    return folder


def built(corpus: Path, out: Path, **more: Any) -> Path:
    fields = more.pop("fields", {"text_raw": "raw", "text": "said", "speaker": "speaker"})
    annotations = {"table": "t.tsv", "recording": "file", "delimiter": "tab", "fields": fields, "extra_columns": "drop"}
    config = {
        "name": "tts",
        "sources": [{"name": "s", "root": str(corpus / "in"), "annotations": annotations, "segment": {"mode": "annotation"}}],
        "audio": {"sample_rate_hz": RATE, **more.pop("audio", {})},
        "features": {"log_mel": {"n_fft": 1024, "hop_length": HOP, "n_mels": MELS}, "dtype": more.pop("dtype", "float32")},
        "split": more.pop("split", {"train": 0.5, "val": 0.5, "balance": True}),
        "output": {"root": str(out), **more.pop("output", {})},
        **more,
    }  # fmt: skip
    clipmill.build(config, quiet=True).raise_for_status()
    return out


@pytest.fixture(scope="module")
def dataset(corpus: Path) -> Path:
    return built(corpus, corpus / "out", clips=[{"measure": ["peak"]}])


def test_a_trainer_reads_the_lists(dataset: Path, tmp_path: Path) -> None:
    done = export(dataset, "--to", str(tmp_path / "t"), "--json")
    assert done.exit_code == 0, done.output
    told, rows = json.loads(done.output), stored(dataset)
    assert told["written"] == [
        str(tmp_path / "t" / n) for n in ("train.txt", "val.txt", "metadata.csv", "speakers.txt")
    ]
    speakers = dict(load_filepaths_and_text(tmp_path / "t/speakers.txt"))
    assert speakers == {"0": "", "1": "A l", "2": "Al", "3": "Zoë"}
    seen = {}
    for split in ("train", "val"):
        for path, sid, text in load_filepaths_and_text(tmp_path / f"t/{split}.txt"):
            row = rows[Path(path).stem]
            assert path == f"wavs/{row['clip_id']}.wav" and row["split"] == split
            assert speakers[sid] == row["speaker"].replace("|", " ")
            seen[row["clip_id"]] = text
    said = {name: " ".join(row["text"].replace("|", " ").split()) for name, row in rows.items()}
    assert seen == {name: text for name, text in said.items() if text} and len(seen) == 5
    check_files(tmp_path / "t", rows, set(seen))
    table = load_filepaths_and_text(tmp_path / "t/metadata.csv")
    assert {name: text for name, _, text in table} == seen
    assert {name: raw for name, raw, _ in table} == {n: " ".join(rows[n]["text_raw"].split()) for n in seen}
    assert set(hifi_gan_names(tmp_path / "t/metadata.csv")) == seen.keys()
    notes = " / ".join(told["notes"])
    (left_out,) = (row["split"] for row in rows.values() if not row["text"])
    assert f"1 clip of split {left_out} without text is left out" in notes
    assert "| became a space in 1 text," in notes and "a line break became a space in 1 text," in notes
    assert "1 clip without a speaker has the id 0" in notes and "in dB" in notes


def test_where_and_another_field_select(dataset: Path, tmp_path: Path) -> None:
    rows = stored(dataset)
    middle = sorted(row["duration_s"] for row in rows.values())[3]
    where = json.dumps({"duration_s": {"min": middle}})
    done = export(dataset, "--to", str(tmp_path / "t"), "--where", where, "--text", "text_raw")
    assert done.exit_code == 0, done.output
    lines = lists(tmp_path / "t")
    long = {name for name, row in rows.items() if row["duration_s"] >= middle}
    assert {Path(path).stem for path, _, _ in lines} == long == {Path(p).stem for p in (tmp_path / "t/wavs").iterdir()}
    assert {Path(path).stem: text for path, _, text in lines} == {
        n: " ".join(rows[n]["text_raw"].split()) for n in long
    }


def test_without_speakers_a_line_has_two_columns_and_an_export_repeats_itself(corpus: Path, tmp_path: Path) -> None:
    out = built(
        corpus,
        tmp_path / "d",
        fields={"text": "said"},
        dtype="float16",
        output={"formats": ["webdataset"], "audio_codec": "wav"},
    )
    for _ in range(2):
        done = export(out, "--to", str(tmp_path / "t"))
        assert done.exit_code == 0, done.output
    assert not (tmp_path / "t/speakers.txt").exists()
    lines = lists(tmp_path / "t")
    assert {len(line) for line in lines} == {2} and len(lines) == 5
    assert {tuple(line[1:]) for line in load_filepaths_and_text(tmp_path / "t/metadata.csv")} == {
        (t, t) for _, t in lines
    }
    assert {np.load(p).dtype for p in (tmp_path / "t/mels").iterdir()} == {np.dtype(np.float32)}


def test_what_trainers_do_not_read_is_told(corpus: Path, tmp_path: Path) -> None:
    out = built(
        corpus, tmp_path / "d", audio={"sample_format": "float32", "channels": "keep"}, output={"audio_codec": "wav"}
    )
    assert "samples are 32-bit float" in export(out, "--to", str(tmp_path / "t")).output


def test_a_dataset_without_texts_is_refused(corpus: Path, tmp_path: Path) -> None:
    out = built(corpus, tmp_path / "d", fields={"words": "said", "nothing": "speaker"}, split={"train": 1.0})
    refused = export(out, "--to", str(tmp_path / "t"))
    assert (
        refused.exit_code == 1
        and "clips have no text: none of the fields text, transcript, normalized_text" in refused.output
    )
    assert not (tmp_path / "t").exists()
    none = export(
        out, "--to", str(tmp_path / "t"), "--text", "words", "--where", "{duration_s: {min: 0.55, max: 0.65}}"
    )
    assert none.exit_code == 1 and "no clip has a text in the field 'words'" in none.output
    assert export(out, "--to", str(tmp_path / "t"), "--text", "words").exit_code == 0


def test_a_split_without_any_text_has_no_list(corpus: Path, tmp_path: Path) -> None:
    by_raw = {"from": "raw", "map": {"(three)": "val"}, "default": "train"}
    out = built(corpus, tmp_path / "d", fields={"text": "said", "raw": "raw"}, split=by_raw)
    done = export(out, "--to", str(tmp_path / "t"))
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "t/val.txt").exists() and "which is all of it, so there is no val.txt" in done.output


def test_ljspeech_for_a_trainer(corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpora / "coqui-tts/tests/data/ljspeech"
    recipe = (Path(__file__).parents[1] / "recipes/ljspeech.yaml").read_text()
    config = tmp_path / "ljspeech.yaml"
    few = recipe.replace('["wavs/*.wav"]', '["wavs/LJ001-000*.wav"]')
    few = few.replace("table: metadata.csv", "table: metadata.csv\n      missing_recordings: ignore")
    config.write_text(few)
    monkeypatch.setenv("CORPUS", str(corpus))
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    assert build(load(config), quiet=True, accept=True).status == "published"
    done = export(tmp_path / "out", "--to", str(tmp_path / "t"))
    assert done.exit_code == 0, done.output
    rows = stored(tmp_path / "out")
    check_files(tmp_path / "t", rows, set(rows))
    lines = [line.split("|") for line in (corpus / "metadata.csv").read_text("utf-8").splitlines()]
    wanted = {name: (raw, text) for name, raw, text in lines if name.startswith("LJ001-000")}
    table = load_filepaths_and_text(tmp_path / "t/metadata.csv")
    assert {Path(rows[name]["source_uri"]).stem: (raw, text) for name, raw, text in table} == wanted
    assert len(table) > 5
    assert {Path(path).stem: text for path, text in lists(tmp_path / "t")} == {name: text for name, _, text in table}
