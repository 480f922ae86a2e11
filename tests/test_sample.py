"""`clipmill sample`: a few clips as files and on a page, before a build and from a dataset."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from browser import Page, needs_chromium, with_browser
from conftest import run, tone, upload_source, write_audio
from PIL import Image

import clipmill
from clipmill import open_dataset
from clipmill.pipelines.read.clip_source import clips as stored_clips
from clipmill.pipelines.reports.clip_pictures import clip_picture
from clipmill.pipelines.reports.clip_table import ClipTable
from clipmill.pipelines.reports.sample_page import write_sample
from clipmill.pipelines.reports.varied_clips import choose_varied
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.storage.root import Root

HOSTILE = '<img src=x onerror=alert(1)> "$x^2$ ../../etc'
LABELS = (HOSTILE, "cat", "dog")


class Read(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == name]


def config_of(place: Path, **more: Any) -> dict[str, Any]:
    table = {"table": "rows.csv", "recording": "file", "columns": {"label": "label"}, "fields": {"text": "text"}}
    return {
        "name": "animals",
        "sources": [
            {
                "name": "s", "root": str(place / "in"), "annotations": table, "segment": {"mode": "annotation"},
                "label": {"from": "annotation"},
            }
        ],
        "audio": {"sample_rate_hz": 16000},
        "clips": [{"measure": ["peak"]}, {"keep": {"peak_dbfs": {"min": -60}}}],
        "features": {"log_mel": {"n_mels": 40}},
        "split": {"train": 0.5, "test": 0.5, "by": "recording"},
        "output": {"root": str(place / "out")},
        "limits": {"max_rejected_share": 0.9},
        **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with hostile labels, a silent recording and a broken one, its configuration, and a sample of nothing that was built."""
    place = tmp_path_factory.mktemp("sample")
    lines = ["file,label,text"]
    for i in range(16):
        y = tone(0.5 + 0.1 * (i % 4), 16000, seed=i, peak=0.02 * (1 + i % 6))
        write_audio(place / f"in/r{i}.wav", y if i != 7 else y * 0, 16000)
        label = LABELS[i % 3].replace('"', '""')
        lines.append(f'r{i}.wav,"{label}","it says <b>{i}</b>"')
    (place / "in/broken.wav").write_bytes(b"RIFF")
    lines.append("broken.wav,cat,x")
    (place / "in/rows.csv").write_text("\n".join(lines) + "\n")
    (place / "c.yaml").write_text(json.dumps(config_of(place)))
    return place


@pytest.fixture(scope="module")
def told(place: Path) -> dict[str, Any]:
    """What the command said of a sample of 9 clips."""
    return json.loads(run("sample", place / "c.yaml", "--clips", 9, "--to", place / "heard", "--json").splitlines()[-1])


@pytest.fixture(scope="module")
def page(place: Path, told: dict[str, Any]) -> str:
    return (place / "heard/index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def built(place: Path, told: dict[str, Any]) -> Path:
    """The whole dataset, built after the sample."""
    assert clipmill.build(config_of(place), quiet=True).status == "published"
    return place / "out"


def test_nothing_is_built_but_the_sample(place: Path, told: dict[str, Any]) -> None:
    assert told["to"] == str(place / "heard")
    assert len(told["clips"]) == told["asked"] == 9
    assert told["snapshot"] is None
    assert told["notes"] == []
    there = {path.name for path in (place / "heard").iterdir()}
    assert there == {*told["files"], "clipmill-sample.json"}
    assert not list(Path(str(place)).glob("out*/**/*.parquet")) or (place / "out").exists()


def test_what_one_hears_is_what_a_build_stores(place: Path, told: dict[str, Any], built: Path) -> None:
    published = open_dataset(built)
    stored = {
        row["clip_id"]: row["audio"] for split in published.splits for row in stored_clips(published, split, ["audio"])
    }
    page = Read((place / "heard/index.html").read_text(encoding="utf-8"))
    played = [base64.b64decode(str(a["src"]).removeprefix("data:audio/flac;base64,")) for a in page.named("audio")]
    assert len(played) == 9
    manifest = {row["clip_id"]: row for row in published.manifest().to_pylist()}
    for clip, content in zip(told["clips"], played, strict=True):
        audio = stored[clip["clip_id"]]
        assert content == audio
        wanted, rate_hz = sf.read(io.BytesIO(audio), dtype="int16")
        heard, heard_hz = sf.read(place / "heard" / clip["wav"], dtype="int16")
        assert heard_hz == rate_hz
        assert np.array_equal(heard, wanted)
        for key in ("label", "split", "start_s", "duration_s", "level_dbfs", "recording_id"):
            assert clip[key] == manifest[clip["clip_id"]][key]


def test_clips_differ_in_label_split_and_recording(told: dict[str, Any]) -> None:
    clips = told["clips"]
    assert {clip["label"] for clip in clips} == set(LABELS)
    assert {clip["split"] for clip in clips} == {"train", "test"}
    assert len({clip["recording_id"] for clip in clips}) == 9
    assert [clip["label"] for clip in clips] == sorted(clip["label"] for clip in clips)


def test_files_have_safe_names_and_pictures_are_pictures(place: Path, told: dict[str, Any]) -> None:
    for name in told["files"]:
        assert re.fullmatch(r"index\.html|[0-9]{2}-[A-Za-z0-9_-]{1,30}\.(wav|png)", name)
    pictures = [place / "heard" / clip["png"] for clip in told["clips"]]
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.size == (990, 506)
            assert len(image.convert("RGB").getcolors(1 << 20) or []) > 100
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in pictures}) == 9


def test_the_page_tells_what_became_of_the_rest(page: str, told: dict[str, Any]) -> None:
    read = Read(page)
    assert told["counts"]["recordings_listed"] == 17
    assert told["rejected"] == {"not_audio": 1, "recording_rejected": 1}
    assert told["dropped"] == {"peak_dbfs_below_min": 1}
    assert "17 of 17 recordings were read" in read.text
    assert "1 clip dropped by the rule peak_dbfs_below_min." in read.text
    assert "broken.wav" in read.text
    for clip in told["clips"]:
        assert clip["clip_id"] in read.text
        assert f"{clip['start_s']:.2f} to {clip['start_s'] + clip['duration_s']:.2f} s" in read.text
    assert read.text.count("peak_dbfs") >= 9
    assert "it says <b>" in read.text
    assert "animals" in read.text


def test_the_page_is_whole_and_runs_nothing(page: str, told: dict[str, Any]) -> None:
    read = Read(page)
    assert not read.named("script")
    assert HOSTILE not in page
    assert HOSTILE in read.text
    assert not [a for _, attributes in read.elements for a in attributes if a.startswith("on")]
    for name, attributes in read.elements:
        for key in ("src", "href"):
            value = attributes.get(key) or "#"
            assert value.startswith(("#", "data:")) or (name == "a" and value in told["files"])
    policy = next(str(m["content"]) for m in read.named("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert all("controls" in attributes for attributes in read.named("audio"))


def test_the_same_seed_gives_the_same_files_and_another_one_others(built: Path, tmp_path: Path) -> None:
    published, folders = open_dataset(built), [tmp_path / name for name in "ab"]
    first, again = (write_sample(published, Root(str(folder)), 3) for folder in folders)
    assert first.files == again.files
    assert all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in first.files)
    other = write_sample(published, Root(str(folders[0])), 2, seed=1)
    assert {clip["clip_id"] for clip in other.clips} - {clip["clip_id"] for clip in first.clips}
    # Nothing of the sample before is left.
    assert {path.name for path in folders[0].iterdir()} == {*other.files, "clipmill-sample.json"}


def test_a_sample_of_a_dataset_says_so(place: Path, built: Path, tmp_path: Path) -> None:
    said = run("sample", built, "--clips", 20, "--to", tmp_path / "s")
    assert "15 clips in" in said
    assert "note: 15 of 20 clips: there are no more." in said
    assert "peak_dbfs_below_min" in said
    read = Read((tmp_path / "s/index.html").read_text(encoding="utf-8"))
    assert f"From snapshot 1 in {built}" in read.text
    assert "played: the first" not in read.text
    assert "snapshot 9 does not exist" in run("sample", built, "--snapshot", 9, "--to", tmp_path / "t", code=1)


def test_a_folder_of_others_stays_as_it_is(place: Path, built: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "01-cat.wav").write_text("mine too")
    refused = run("sample", built, "--clips", 1, "--to", tmp_path, code=2)
    assert "is not empty" in refused
    assert "--force" in refused
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01-cat.wav", "notes.txt"]
    run("sample", built, "--clips", 3, "--to", tmp_path, "--force")
    run("sample", built, "--clips", 1, "--to", tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "index.html").exists()
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_a_mark_cannot_name_files_elsewhere(built: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim.wav"
    victim.write_text("mine")
    (tmp_path / "s").mkdir()
    (tmp_path / "s/keep.wav").write_text("mine")
    named = ["../victim.wav", str(victim), "keep.wav", 7, {"a": 1}]
    (tmp_path / "s/clipmill-sample.json").write_text(json.dumps({"files": named}))
    write_sample(open_dataset(built), Root(str(tmp_path / "s")), 1)
    assert victim.exists()
    assert (tmp_path / "s/keep.wav").exists()
    (tmp_path / "s/clipmill-sample.json").write_text("[[")
    write_sample(open_dataset(built), Root(str(tmp_path / "s")), 1)


@pytest.mark.parametrize(("to", "why"), [("in/x", "is inside the source"), ("out/shards/x", "a folder of the dataset")])
def test_places_that_would_do_harm_are_refused(place: Path, told: dict[str, Any], to: str, why: str) -> None:
    assert why in run("sample", place / "c.yaml", "--to", place / to, code=2)
    assert not (place / to).exists()


def test_without_a_clip_the_page_says_why_and_the_command_fails(place: Path, tmp_path: Path) -> None:
    config = config_of(place, silence={"min_dbfs": 0.0}, output={"root": str(tmp_path / "out")})
    del config["clips"]
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    said = run("sample", tmp_path / "c.yaml", "--clips", 2, "--to", tmp_path / "s", code=1)
    assert "no clip was kept" in said
    read = Read((tmp_path / "s/index.html").read_text(encoding="utf-8"))
    assert "dropped by the rule silence" in read.text
    assert not read.named("audio")
    assert not (tmp_path / "out").exists()


def test_wrong_usage_is_told(place: Path, told: dict[str, Any], tmp_path: Path) -> None:
    assert "--snapshot is for the address of a dataset" in run("sample", place / "c.yaml", "--snapshot", 1, code=2)
    assert "is not a clipmill dataset" in run("sample", tmp_path, "--to", tmp_path / "s", code=1)
    assert "cannot read the configuration" in run("sample", tmp_path / "no.yaml", code=2)
    assert not list(tmp_path.iterdir())


def test_a_damaged_shard_is_told_by_its_name(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "out")
    shards = sorted((tmp_path / "out/shards").rglob("*.parquet"))
    for shard in shards:
        content = bytearray(shard.read_bytes())
        content[len(content) // 3] ^= 1
        shard.write_bytes(content)
    with pytest.raises(ClipmillError, match="|".join(re.escape(shard.name) for shard in shards)):
        write_sample(open_dataset(tmp_path / "out"), Root(str(tmp_path / "s")), 12)


def test_stored_wav_files_are_copied_as_they_are(place: Path, told: dict[str, Any], tmp_path: Path) -> None:
    config = config_of(place, output={"root": str(tmp_path / "out"), "audio_codec": "wav", "formats": ["webdataset"]})
    config["audio"] = {"sample_rate_hz": 16000, "sample_format": "float32"}
    report = clipmill.build(config, quiet=True, limit=2)
    sampled = write_sample(open_dataset(report.root), Root(str(tmp_path / "s")), 2)
    for clip in sampled.clips:
        assert sf.info(tmp_path / "s" / clip["wav"]).subtype == "FLOAT"
    assert "of 17 listed" in (tmp_path / "s/index.html").read_text()


def test_pictures_of_odd_clips() -> None:
    for samples, rate_hz in ((np.zeros((0, 1)), 8000), (np.zeros((1, 2)), 8000), (np.ones((3, 1)), 192_000)):
        picture = clip_picture(samples.astype(np.float32), rate_hz, "\u202e$\\frac{1}$\n\x1b[2J" * 40)
        assert Image.open(io.BytesIO(picture)).size == (990, 506)


def test_a_rare_label_is_heard_and_recordings_take_turns(built: Path) -> None:
    import pyarrow as pa

    n = 400
    rows = {
        "clip_id": [f"c{i}" for i in range(n)], "recording_id": [f"r{i // 40}" for i in range(n)],
        "split": ["test" if i % 50 == 0 else "train" for i in range(n)],
        "label": ["rare" if i == 200 else None if i % 9 == 0 else "usual" for i in range(n)],
    }  # fmt: skip
    clips = ClipTable(pa.table(rows), n)
    for seed in range(6):
        chosen = [{name: values[i] for name, values in rows.items()} for i in choose_varied(clips, 10, seed)]
        assert {row["label"] for row in chosen} == {"rare", "usual", None}
        assert {row["split"] for row in chosen} == {"train", "test"}
        assert len({row["recording_id"] for row in chosen}) >= 8
    assert len(choose_varied(clips, 1000, 0)) == n
    assert choose_varied(clips, 3, 0) == choose_varied(clips, 3, 0)


def test_a_sample_from_and_to_s3(bucket: str, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        write_audio(tmp_path / f"in/r{i}.wav", tone(0.5, 8000, seed=i), 8000)
    source = upload_source({"name": "s", "root": tmp_path / "in", "segment": {"mode": "whole"}}, bucket, endpoint)
    output = {"root": f"s3://{bucket}/out", "storage_options": {"endpoint_url": endpoint}}
    (tmp_path / "c.yaml").write_text(json.dumps({"name": "remote", "sources": [source], "output": output}))
    inside = run("sample", tmp_path / "c.yaml", "--to", f"s3://{bucket}/in/x", code=2)
    assert "is inside the source" in inside
    run("sample", tmp_path / "c.yaml", "--clips", 2, "--to", f"s3://{bucket}/heard")
    there = Root(f"s3://{bucket}/heard", {"endpoint_url": endpoint})
    assert len(there.names("")) == 6
    report = clipmill.build(tmp_path / "c.yaml", quiet=True, limit=2)
    assert report.root.rstrip("/") == f"s3://{bucket}/out-limit-2"
    assert not Root(f"s3://{bucket}/out", {"endpoint_url": endpoint}).names("")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    run("sample", f"s3://{bucket}/out-limit-2", "--clips", 2, "--to", tmp_path / "s")
    assert len(list((tmp_path / "s").glob("*.wav"))) == 2


@needs_chromium
def test_a_browser_shows_it_and_plays_a_clip(place: Path, told: dict[str, Any]) -> None:
    async def look(tab: Page) -> None:
        await tab.resize(390, 844, phone=True)
        await tab.open((place / "heard/index.html").as_uri())
        assert await tab.run("document.documentElement.scrollWidth") <= 390
        assert await tab.run("document.querySelectorAll('audio[controls]').length") == 9
        await tab.run("window.clip = document.querySelector('audio'); clip.loop = true; clip.play()")
        await tab.until("clip.currentTime > 0.1 && !clip.paused && !clip.error")
        await tab.until("[...document.querySelectorAll('audio')].every(a => a.duration > 0.4)")
        assert tab.errors == []
        await tab.open(await tab.run("document.querySelector('figcaption a[href$=png]').href"))
        assert await tab.run("document.images[0].naturalWidth") == 990
        assert tab.errors == []

    with_browser(look)
