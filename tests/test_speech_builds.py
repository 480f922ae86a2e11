"""Real builds from Kaldi directories, LibriSpeech, TIMIT, and manifests of Lhotse and NeMo, which need no more than the format and a file."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import yaml
from annotated_corpora import annotate_source
from conftest import run, tone, write_audio
from labelled_corpora import RATE, stored_rows

from clipmill.pipelines.config_file import load, load_config
from clipmill.pipelines.dataset.published import Published, open_dataset
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.run.build import build

pytestmark = pytest.mark.usefixtures("in_process")
SEGMENT = {"mode": "annotation"}
NEVER = "never"
"""A file that no test may find: the commands in manifests would make it."""


def write(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def kaldi(root: Path) -> dict[str, Any]:
    for i, name in enumerate(("rec1", "rec2", "sw02001")):
        write_audio(root / f"audio/{name}.wav", tone(3.0, RATE, seed=i), RATE)
    command = f"touch {root / NEVER}; cat audio/sw02001.wav |"
    write(
        root / "data/wav.scp", f"rec1 /elsewhere/corpus/audio/rec1.wav\nrec2-id audio/rec2.wav\nsw02001-A {command}\n"
    )
    write(
        root / "data/segments", "u1 rec1 0.0 1.25\nu2 rec1 1.5 -1\nu3 rec2-id 0.5 1.0\nu4 sw02001-A 0 2\nu5 gone 0 1\n"
    )
    write(root / "data/text", "u1 HELLO THERE\nu2 BYE\nu3 ANNYEONG\nu4 YES\nu5 NO\n")
    write(root / "data/utt2spk", "u1 ann\nu2 bob\nu3 ann\nu4 sw\nu5 sw\n")
    write(root / "data/reco2file_and_channel", "sw02001-A sw02001 A\n")
    return {"annotations": {"format": "kaldi", "table": "data"}}


def librispeech(root: Path) -> dict[str, Any]:
    chapter = root / "dev-clean/84/121550"
    for i in range(2):
        write_audio(chapter / f"84-121550-000{i}.flac", tone(1.0, RATE, seed=10 + i), RATE)
    write(chapter / "84-121550.trans.txt", "84-121550-0000 ONE\n84-121550-0001 TWO WORDS")
    return {"annotations": {"format": "librispeech"}}


def timit(root: Path) -> dict[str, Any]:
    write_audio(root / "TRAIN/DR1/FCJF0/SA1.WAV", tone(1.0, 16000, seed=20), 16000)
    write(root / "TRAIN/DR1/FCJF0/SA1.phn", "0 3050 h#\n3050 8000 sh\n")
    return {"annotations": {"format": "timit"}}


def lhotse(root: Path) -> dict[str, Any]:
    write_audio(root / "a/one.wav", tone(2.0, RATE, seed=30), RATE)
    write_audio(root / "a/two.wav", tone(2.0, RATE, seed=31), RATE)
    recordings = [
        {"id": "r1", "sources": [{"type": "file", "channels": [0], "source": "/data/x/a/one.wav"}], "sampling_rate": RATE, "num_samples": 16000,
         "duration": 2.0},
        {"id": "two", "sources": [{"type": "command", "channels": [0], "source": f"touch {root / NEVER}"}], "sampling_rate": RATE,
         "num_samples": 16000, "duration": 2.0},
    ]  # fmt: skip
    supervisions = [
        {
            "id": "s1",
            "recording_id": "r1",
            "start": 0.5,
            "duration": 0.75,
            "channel": 0,
            "text": "first",
            "custom": {"snr": 3.50},
        },
        {
            "id": "s2",
            "recording_id": "two",
            "start": 0,
            "duration": 1.5,
            "channel": 0,
            "text": "second",
            "speaker": "x",
        },
    ]
    for name, items in (("recordings", recordings), ("supervisions", supervisions)):
        write(root / f"m/x_{name}_all.jsonl.gz", gzip.compress("\n".join(map(json.dumps, items)).encode()))
    return {"annotations": {"format": "lhotse", "table": "m/x_supervisions_all.jsonl.gz"}}


def nemo(root: Path) -> dict[str, Any]:
    write_audio(root / "wavs/n1.wav", tone(2.0, RATE, seed=40), RATE)
    lines = [
        {"audio_filepath": "wavs/n1.wav", "offset": 0.25, "duration": 0.5, "text": "part", "speaker": 7},
        {"audio_filepath": "/abs/wavs/n1.wav", "duration": 2.0, "text": "all of it"},
        {"audio_filepath": "n1", "offset": 5.0, "duration": 1.0, "text": "beyond"},
    ]
    write(root / "manifest.json", "\n".join(map(json.dumps, lines)) + "\n{broken\n")
    return {"annotations": {"format": "nemo", "table": "manifest.json"}}


MAKERS = {"kaldi": kaldi, "librispeech": librispeech, "timit": timit, "lhotse": lhotse, "nemo": nemo}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("speech")
    sources = [
        {"name": name, "root": str(place / name), "segment": SEGMENT, **maker(place / name)}
        for name, maker in MAKERS.items()
    ]
    plain = {
        "name": "speech", "sources": sources, "audio": {"sample_rate_hz": RATE}, "output": {"root": str(place / "out")},
        "limits": {"max_rejected_share": 0.5},
    }  # fmt: skip
    (place / "c.yaml").write_text(yaml.safe_dump(plain))
    assert build(load(place / "c.yaml"), quiet=True).status == "published"
    return place


@pytest.fixture(scope="module")
def published(place: Path) -> Published:
    return open_dataset(place / "out")


@pytest.fixture(scope="module")
def clips(published: Published, place: Path) -> dict[str, dict[str, Any]]:
    rows = stored_rows(place / "out", published.commits)
    assert len({row["label"] for row in rows}) == len(rows)
    return {row["label"]: row for row in rows}


def test_clips_are_what_the_annotations_describe(clips: dict[str, dict[str, Any]]) -> None:
    assert {label: (row["source"], row["start_s"], pytest.approx(row["duration_s"], abs=1e-3)) for label, row in clips.items()} == {
        "HELLO THERE": ("kaldi", 0, 1.25), "BYE": ("kaldi", 1.5, 1.5), "ANNYEONG": ("kaldi", 0.5, 0.5), "YES": ("kaldi", 0, 2),
        "ONE": ("librispeech", 0, 1), "TWO WORDS": ("librispeech", 0, 1),
        "h#": ("timit", 0, 3050 / 16000), "sh": ("timit", 3050 / 16000, 4950 / 16000),
        "first": ("lhotse", 0.5, 0.75), "second": ("lhotse", 0, 1.5),
        "part": ("nemo", 0.25, 0.5), "all of it": ("nemo", 0, 2),
    }  # fmt: skip


def test_samples_are_those_of_the_range(clips: dict[str, dict[str, Any]], place: Path) -> None:
    for label, path, start, end in [
        ("HELLO THERE", "kaldi/audio/rec1.wav", 0, 10000),
        ("first", "lhotse/a/one.wav", 4000, 10000),
    ]:
        whole, _ = sf.read(place / path, dtype="int16")
        clip, _ = sf.read(io.BytesIO(clips[label]["audio"]["bytes"]), dtype="int16")
        assert np.array_equal(clip, whole[start:end])


def test_texts_and_facts_are_fields(clips: dict[str, dict[str, Any]]) -> None:
    assert all(row["text"] == label for label, row in clips.items() if row["source"] != "timit")
    assert [clips[label]["speaker"] for label in ("BYE", "ONE", "second", "part")] == ["bob", "84", "x", "7"]
    assert (clips["first"]["snr"], clips["YES"]["channel"], clips["ONE"]["chapter"]) == ("3.5", "A", "121550")


def test_wrong_rows_are_rejected_with_their_place(published: Published, place: Path) -> None:
    shown = json.loads(run("failures", place / "out", "--json"))
    examples = [example for reason in shown["reasons"] for example in reason["examples"]]
    assert {(e["reason"], e["file"], e["line"], e["detail"]) for e in examples} == {
        ("annotation_malformed", "manifest.json", 4, "not JSON: column 2: Expecting property name enclosed in double quotes"),
        ("annotation_out_of_range", "manifest.json", 3, "5 to 6 s, the recording has 2.000000 s"),
        ("recording_not_found", "data", 5, "segments, line 5: 'gone'"),
    }  # fmt: skip


def test_commands_are_told_and_never_run(place: Path) -> None:
    shown = run("plan", place / "c.yaml")
    assert "2 rows are about recordings that are outputs of commands, which are never run" in shown
    assert "passed over" not in shown
    assert not list(place.rglob(NEVER))


@pytest.mark.parametrize(("name", "table"), [("kaldi", "train"), ("nemo", "train.json")])
def test_what_was_exported_can_be_read_again(
    name: str, table: str, clips: dict[str, dict[str, Any]], place: Path, tmp_path: Path
) -> None:
    run("export", place / "out", name, "--to", tmp_path / name)
    found = annotate_source(tmp_path / name, annotations={"format": name, "table": table})
    expected = {row["clip_id"]: label for label, row in clips.items() if name != "kaldi" or row["text"]}
    assert {Path(path).stem: [row.label for _, row in rows] for path, rows in found.by_path.items()} == {
        clip: [label] for clip, label in expected.items()
    }
    assert not found.strays


@pytest.mark.parametrize("name", ["kaldi", "librispeech", "lhotse", "nemo"])
def test_where_labels_come_from_elsewhere_texts_are_fields(name: str, tmp_path: Path) -> None:
    source = MAKERS[name](tmp_path / name)
    plan = make_plan(
        load_config({
            "name": "t", "output": {"root": str(tmp_path / "out")},
            "sources": [{"name": name, "root": str(tmp_path / name), "segment": SEGMENT, "label": {"from": "folder"}, **source}],
        }).config
    )  # fmt: skip
    at = plan.field_names.index("text")
    rows = [row for item in plan.table.to_pylist() for row in item["annotations"] if not row["reason"]]
    assert rows
    assert all(row["fields"][at] and row["label"] != row["fields"][at] for row in rows)
    assert {name for name in plan.field_names if "label" in name} == ({"annotation_label"} if name == "nemo" else set())
