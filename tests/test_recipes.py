"""The recipes, each on a slice of the real corpus, compared with pydub and the corpus's own tables."""

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import soundfile as sf
from conftest import build_here
from pydub import AudioSegment

from clipmill.pipelines.config_file import load
from clipmill.pipelines.run.build import build
from clipmill.stages.write.encode import decode_clip

RECIPES = Path(__file__).parents[1] / "recipes"


def built(recipe: str, corpus: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    monkeypatch.setenv("CORPUS", str(corpus))
    monkeypatch.setenv("OUT", str(out))
    commits = build_here(RECIPES / f"{recipe}.yaml")
    assert not any(c.counts.rejected for c in commits)
    return [row for p in sorted((out / "shards").rglob("*.parquet")) for row in pq.read_table(p).to_pylist()]


def assert_levels_are_pydubs(rows: list[dict]) -> None:
    for row in rows:
        pcm, rate = decode_clip(row["audio"]["bytes"])
        theirs = AudioSegment(pcm.tobytes(), frame_rate=rate, sample_width=2, channels=pcm.shape[1])
        if theirs.rms > 200:
            assert row["level_dbfs"] == pytest.approx(theirs.dBFS, abs=0.05)


def test_every_recipe_loads_without_its_corpus() -> None:
    paths = sorted(RECIPES.glob("*.yaml"))
    assert len(paths) >= 4
    for path in paths:
        load(path, environ={"CORPUS": "/nowhere"})


def test_fsdd(corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for path in sorted((corpora / "fsdd/recordings").glob("*_[0-3].wav")):
        shutil.copy(path, tmp_path / "in")
    rows = built("fsdd", tmp_path / "in", tmp_path / "out", monkeypatch)
    assert len(rows) == len(list((tmp_path / "in").iterdir())) == 120
    for row in rows:
        digit, speaker, take = Path(row["source_uri"]).stem.split("_")
        assert (row["label"], row["speaker"], row["take"]) == (digit, speaker, take)
        pcm, _ = decode_clip(row["audio"]["bytes"])
        assert (pcm[:, 0] == sf.read(row["source_uri"], dtype="int16")[0]).all(), (
            "8 kHz mono 16-bit recordings pass bit for bit"
        )
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["speaker"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values()), "no speaker stands on two sides"
    assert {s for side in sides.values() for s in side} == {"train", "val", "test"}
    assert sides == {"jackson": {"train"}, "nicolas": {"test"}, "theo": {"val"}}, "as the recipe says"
    assert_levels_are_pydubs(rows)


def test_esc10_with_one_table_and_folds(corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = tmp_path / "in"
    table = list(csv.DictReader((corpora / "esc10/esc50.rows.csv").open()))
    names = {f"{r['fold']}-{r['src_file']}-{r['take']}.ogg": r for r in table}
    for path in sorted((corpora / "esc10").glob("*/*.ogg"))[::12]:
        (corpus / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, corpus / path.parent.name)
    wanted = {p.name for p in corpus.rglob("*.ogg")}
    with (corpus / "esc50.rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(r for n, r in names.items() if n in wanted)
    rows = built("esc10", corpus, tmp_path / "out", monkeypatch)
    assert {Path(r["source_uri"]).name for r in rows} == wanted
    for row in rows:
        own = names[Path(row["source_uri"]).name]
        assert (row["label"], row["fold"]) == (own["category"], own["fold"])
        assert row["split"] == {"1": "test", "2": "val"}.get(own["fold"], "train")
    assert_levels_are_pydubs(rows)


def test_esc50_as_published(corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = tmp_path / "in"
    (corpus / "audio").mkdir(parents=True)
    (corpus / "meta").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for i, path in enumerate(sorted((corpora / "esc10").glob("*/*.ogg"))[::40]):
        y, rate = sf.read(path)
        name = f"{i % 5 + 1}-{1000 + i}-A-{i}.wav"
        sf.write(corpus / "audio" / name, y, rate)
        lines.append(f"{name},{i % 5 + 1},{i},class{i},False,{1000 + i},A")
    (corpus / "meta/esc50.csv").write_text("\n".join(lines) + "\n")
    rows = built("esc50", corpus, tmp_path / "out", monkeypatch)
    assert len(rows) == len(lines) - 1
    assert {r["split"] for r in rows} == {"train", "val", "test"}
    assert all(r["duration_s"] == pytest.approx(5.0, abs=0.2) for r in rows)


def make_urbansound(corpora: Path, out: Path) -> Path:
    """A corpus in UrbanSound's shape out of real clips."""
    maker = corpora.parent / "tools/make_corpus.py"
    if not maker.exists() or importlib.util.find_spec("soxr") is None:
        pytest.skip("the corpus maker is not beside the corpora")
    subprocess.run(
        [sys.executable, str(maker), str(out), "--recordings", "20", "--mean-seconds", "8", "--seed", "5"],
        check=True,
        capture_output=True,
    )
    return out / "data"


def test_urbansound_dogs_against_others(corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make_urbansound(corpora, tmp_path / "corpus")
    rows = built("urbansound", corpus, tmp_path / "out", monkeypatch)
    assert {r["label"] for r in rows} == {"dog", "other"}
    events: dict[str, list[tuple[float, float]]] = {}
    for path in (corpus / "dog_bark").glob("*.csv"):
        with path.open() as file:
            events[path.stem] = [(float(r[0]), float(r[1])) for r in csv.reader(file)]
    for row in rows:
        assert row["level_dbfs"] >= -40
        assert row["duration_s"] == 0.5
        folder, stem = Path(row["source_uri"]).parent.name, Path(row["source_uri"]).stem
        assert (folder == "dog_bark") == (row["label"] == "dog")
        if row["label"] == "dog":
            assert any(a - 1e-4 <= row["start_s"] < b for a, b in events[stem])
            assert row["salience"] in ("1", "2")
        else:
            assert row["start_s"] % 2.0 == 0
    assert_levels_are_pydubs(rows)
    commits = [json.loads(p.read_text()) for p in (tmp_path / "out/commits").glob("*.json")]
    assert sum(c["counts"]["clips_candidates"] for c in commits) > len(rows)


def test_ljspeech_transcripts_travel_to_speech_toolkits(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner
    from lhotse import CutSet

    from clipmill.pipelines.cli.main import main

    corpus = corpora / "coqui-tts/tests/data/ljspeech"
    lines = [line.split("|") for line in (corpus / "metadata.csv").read_text(encoding="utf-8").splitlines()]
    spoken = {name: (raw, text) for name, raw, text in lines if (corpus / f"wavs/{name}.wav").exists()}
    monkeypatch.setenv("CORPUS", str(corpus))
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    # A hundredth of this slice is less than a recording, so a side of the recipe's split stays empty.
    assert build(load(RECIPES / "ljspeech.yaml"), quiet=True, accept=True).status == "published"
    rows = [row for p in (tmp_path / "out/shards").rglob("*.parquet") for row in pq.read_table(p).to_pylist()]
    assert len(rows) == len(spoken) > 5
    for row in rows:
        name = Path(row["source_uri"]).stem
        assert (row["raw_text"], row["text"], row["chapter"]) == (*spoken[name], name.split("-")[0])
    said = {row["clip_id"]: row["text"] for row in rows}
    for format in ("nemo", "lhotse", "kaldi"):
        done = CliRunner().invoke(main, ["export", str(tmp_path / "out"), format, "--to", str(tmp_path / format)])
        assert done.exit_code == 0, done.output
    manifests = [
        json.loads(x) for p in (tmp_path / "nemo").glob("[tv]*.json") for x in p.read_text("utf-8").splitlines()
    ]
    assert {m["audio_filepath"].removesuffix(".flac"): m["text"] for m in manifests} == said
    cuts = [cut for place in (tmp_path / "lhotse").glob("[tv]*") for cut in CutSet.from_shar(in_dir=place)]
    assert {cut.id: cut.supervisions[0].text for cut in cuts} == said
    texts = [x.split(" ", 1) for p in (tmp_path / "kaldi").glob("*/text") for x in p.read_text("utf-8").splitlines()]
    assert sorted(words for _, words in texts) == sorted(" ".join(t.split()) for t in said.values())
