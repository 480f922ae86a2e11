"""`clipmill report`: one HTML file that tells what a snapshot holds, lets people hear it, and runs nothing that a dataset says."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from browser import Page, needs_chromium, with_browser
from click.testing import CliRunner
from conftest import run, tone, upload_source, write_audio
from hypothesis import given
from hypothesis import strategies as st
from old_format import as_version_1
from scipy.stats import ks_2samp

import clipmill
from clipmill import open_dataset
from clipmill.pipelines.cli.main import main
from clipmill.pipelines.read.clip_source import clips as stored_clips
from clipmill.pipelines.reports.clip_choice import HIGHEST, LOWEST, choose
from clipmill.pipelines.reports.clip_table import read_clips
from clipmill.pipelines.reports.drift import _shift
from clipmill.pipelines.reports.markup import Safe, escaped, tag
from clipmill.pipelines.reports.report_facts import gather
from clipmill.pipelines.reports.report_file import Asked, write_report
from clipmill.schemas.errors import ClipmillError, ConfigError

HOSTILE = '<script>alert("1")</script>'
LABELS = (HOSTILE, "$x^2$ & 'dogs'", "cat")
VOID = {"meta", "br", "img", "hr", "link"}


class Read(HTMLParser):
    """A page as a browser reads it: its elements with their attributes, its text, and elements that were never closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = "", list[str]()
        self.feed(text)
        self.close()

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attrs)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attrs)))

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == name]


def data_of(address: str | None) -> bytes:
    assert address is not None
    assert address.startswith("data:audio/flac;base64,")
    return base64.b64decode(address.split(",", 1)[1])


def config_of(place: Path) -> dict[str, Any]:
    return {
        "name": "animals",
        "sources": [
            {
                "name": "s", "root": place / "in", "annotations": {
                    "table": "rows.csv", "recording": "file", "columns": {"label": "label"}, "fields": {"speaker": "speaker", "text": "text"},
                }, "segment": {"mode": "annotation"}, "label": {"from": "annotation"},
            }
        ],
        "audio": {"sample_rate_hz": 16000, "channels": "keep"},
        "clips": [{"measure": ["peak", "clipping"]}, {"keep": {"peak_dbfs": {"min": -60}}}],
        "features": {"log_mel": {"n_mels": 40}},
        "split": {"train": 0.5, "val": 0.3, "test": 0.2, "by": "recording"},
        "output": {"root": place / "out", "shard_seconds": 10},
        "limits": {"max_rejected_share": 0.9, "allow_empty_splits": True},
    }  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in ``out`` with two snapshots, hostile labels, several channels, rejections, and a dropped and a repeated clip."""
    place = tmp_path_factory.mktemp("report")
    lines = ["file,label,speaker,text"]
    for i in range(24):
        label, channels = LABELS[i % 3], 1 + 2 * (i == 5)
        peak = 0.05 if i in (9, 14) else 0.02 * (1 + i % 6)
        y = tone(0.5 + 0.25 * (i % 5), 16000, channels, seed=0 if i in (9, 14) else i, peak=peak)
        write_audio(place / f"in/r{i}.wav", y if i != 7 else y * 0, 16000)
        quoted = label.replace('"', '""')
        lines.append(f'r{i}.wav,"{quoted}",speaker {i % 4},"It said ""{i}"" <b>loudly</b>"')
    (place / "in/broken.wav").write_bytes(b"RIFF")
    lines.append("broken.wav,cat,x,y")
    (place / "in/rows.csv").write_text("\n".join(lines[:12] + lines[-1:]) + "\n")
    config = config_of(place)
    assert clipmill.build(config, quiet=True, accept=True).status == "published"
    (place / "in/rows.csv").write_text("\n".join(lines) + "\n")
    assert clipmill.build(config, quiet=True, accept=True).status == "published"
    return place


@pytest.fixture(scope="module")
def page(built: Path) -> str:
    """The report on it, with as many clips of each label as there are."""
    done = write_report(open_dataset(built / "out"), str(built / "report.html"), Asked(per_label=12))
    assert done.snapshot == 2
    return Path(done.address.removeprefix("file://")).read_text(encoding="utf-8")


def test_a_page_is_whole_and_runs_nothing(page: str) -> None:
    read = Read(page)
    assert not read.open
    assert not read.named("script")
    assert HOSTILE not in page
    assert HOSTILE in read.text
    for name, attributes in read.elements:
        assert not [a for a in attributes if a.startswith("on")], name
        for key in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(key) or "#").startswith(("#", "data:")), (name, attributes)
    policy = next(m["content"] for m in read.named("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "script-src" not in policy


def test_links_lead_to_parts_of_the_page_and_pictures_have_words(page: str) -> None:
    read = Read(page)
    ids = Counter(attributes["id"] for _, attributes in read.elements if "id" in attributes)
    assert [name for name, n in ids.items() if n > 1] == []
    links = {(a.get("href") or a.get("xlink:href") or "")[1:] for _, a in read.elements if "href" in a or "xlink:href" in a}  # fmt: skip
    assert {link for link in links if not link.startswith("ata:")} <= set(ids)
    for name in (
        "spread",
        "labels",
        "clips",
        "leaks",
        "drift",
        "rejected",
        "columns",
        "configuration",
        "loading",
        "counts",
        "fields",
    ):
        assert name in ids
    for attributes in read.named("svg"):
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"] or "") > 20
    assert all("aria-label" in attributes and "controls" in attributes for attributes in read.named("audio"))


def test_each_clip_sounds_as_it_is_stored(built: Path, page: str) -> None:
    published = open_dataset(built / "out")
    stored = {row["clip_id"]: row for split in published.splits for row in stored_clips(published, split)}
    read = Read(page)
    heard = {}
    for attributes in read.named("audio"):
        clip_id = (attributes["aria-label"] or "").split()[2]
        heard[clip_id] = data_of(attributes["src"])
    assert heard.keys() == stored.keys()
    for clip_id, content in heard.items():
        samples, rate = sf.read(io.BytesIO(content), dtype="int16", always_2d=True)
        own, own_rate = sf.read(io.BytesIO(stored[clip_id]["audio"]), dtype="int16", always_2d=True)
        assert rate == own_rate
        if own.shape[1] == 1:
            np.testing.assert_array_equal(samples, own)
        else:
            assert samples.shape == (len(own), 1)
            assert np.abs(samples[:, 0] - own.mean(axis=1)).max() <= 1
    assert "mixed down from 3 channels" in read.text


def test_it_tells_what_was_lost_what_repeats_and_what_changed(built: Path, page: str) -> None:
    text = " ".join(Read(page).text.split())
    published = open_dataset(built / "out")
    snapshot = published.snapshot
    assert snapshot.counts.dropped == {"peak_dbfs_below_min": 1} or "peak_dbfs_unknown" in snapshot.counts.dropped
    for code in (*snapshot.counts.rejected, *snapshot.counts.dropped):
        assert code in text
    assert "What to do:" in text
    assert "Compared with snapshot 1" in text
    assert (
        "24 of 25 listed" in text
        or f"{snapshot.counts.recordings_used:,}of {snapshot.recordings_listed:,} listed" in text
    )
    assert snapshot.duplicates.get("clips") == 1
    assert "1 clip with exactly the samples of another one" in text
    assert "values of speaker" in text
    config = snapshot.config
    assert f"shard_seconds: {config['output']['shard_seconds']}" in text
    assert f"open_dataset('{built / 'out'}', 2)" in text


def test_the_sums_in_the_table_of_labels_are_those_of_the_manifest(built: Path) -> None:
    published = open_dataset(built / "out")
    facts = gather(published)
    manifest = published.manifest().to_pylist()
    for label, own in facts.balance.labels.items():
        rows = [row for row in manifest if (row["label"] or "") == label]
        assert own["clips"] == len(rows)
        assert own["splits"] == dict(Counter(row["split"] for row in rows))
    for spread in facts.spreads:
        values = np.array([row[spread.name] for row in manifest if row[spread.name] is not None], float)
        finite = values[np.isfinite(values)]
        assert sum(map(sum, spread.counts.values())) == len(finite)
        assert spread.overall[0] == finite.min()
        assert spread.overall[-1] == finite.max()


def test_the_same_report_has_the_same_bytes(built: Path, tmp_path: Path) -> None:
    published = open_dataset(built / "out")
    pages = [
        Path(write_report(published, str(tmp_path / f"{i}.html"), Asked(seed=seed)).address).read_bytes()
        for i, seed in enumerate((0, 0, 1))
    ]
    assert pages[0] == pages[1]
    assert pages[0] != pages[2]


def test_recordings_that_sound_alike_are_looked_for_on_request(built: Path, tmp_path: Path) -> None:
    write_report(open_dataset(built / "out"), str(tmp_path / "r.html"), Asked(near_duplicates=True, per_label=0))
    text = Read((tmp_path / "r.html").read_text()).text
    assert "Recordings that sound alike" in text
    assert "recordings compared" in text


def test_clips_are_the_best_the_worst_and_others(built: Path) -> None:
    clips = read_clips(open_dataset(built / "out"))
    choices, n_left_out = choose(clips, "level_dbfs", 4, seed=3)
    assert n_left_out == 0
    assert len({choice.row for choice in choices}) == len(choices) == 12
    level = clips.numbers("level_dbfs")
    rows, codes, names = clips.labels
    for label in LABELS:
        members = rows[codes == names.index(label)]
        of = {kind: [c.row for c in choices if c.label == label and c.kind == kind] for kind in (HIGHEST, LOWEST)}
        assert level[of[HIGHEST][0]] == level[members].max()
        assert level[of[LOWEST][0]] == level[members].min()
        assert len(of[HIGHEST]) == 2


def test_a_file_is_as_small_as_asked(built: Path, tmp_path: Path) -> None:
    published = open_dataset(built / "out")
    full = write_report(published, str(tmp_path / "full.html"), Asked(per_label=8))
    small_mb = (full.size_bytes - 100_000) / 1e6
    small = write_report(published, str(tmp_path / "small.html"), Asked(per_label=8, max_mb=small_mb))
    assert small.size_bytes <= small_mb * 1e6
    assert 0 < small.clips_shown < full.clips_shown
    assert any("--max-mb" in note for note in small.notes)
    assert "--max-mb" in Read((tmp_path / "small.html").read_text()).text
    with pytest.raises(ConfigError, match="give at least"):
        write_report(published, str(tmp_path / "none.html"), Asked(max_mb=0.1))
    assert not (tmp_path / "none.html").exists()


def test_long_clips_are_cut_and_it_says_so(built: Path, tmp_path: Path) -> None:
    done = write_report(open_dataset(built / "out"), str(tmp_path / "r.html"), Asked(longest_s=0.6))
    read = Read((tmp_path / "r.html").read_text())
    lengths = [sf.info(io.BytesIO(data_of(a["src"]))).duration for a in read.named("audio")]
    assert max(lengths) == pytest.approx(0.6)
    assert "the first 600 ms" in read.text
    assert any("--seconds" in note for note in done.notes)


def test_a_sample_of_a_large_dataset_says_that_it_is_one(built: Path) -> None:
    facts = gather(open_dataset(built / "out"), most=8)
    assert 0 < facts.clips.table.num_rows < facts.clips.n_all
    again = gather(open_dataset(built / "out"), most=8)
    assert facts.clips.table.equals(again.clips.table)


def test_the_command_reports_and_refuses(built: Path, tmp_path: Path) -> None:
    root = built / "out"
    said = json.loads(run("report", root, "--to", tmp_path / "a.html", "--by", "peak_dbfs", "--json"))
    assert (said["snapshot"], said["by"], said["file"]) == (2, "peak_dbfs", str(tmp_path / "a.html"))
    assert said["size_bytes"] == (tmp_path / "a.html").stat().st_size
    assert said["clips_shown"] == said["clips_chosen"] == 9
    assert run("report", root, "--to", tmp_path / "b.html", "--snapshot", 1).startswith("report on snapshot 1")
    before = sorted(p.name for p in root.rglob("*"))
    for arguments, words in (
        (["--by", "peak_dbf"], "did you mean 'peak_dbfs'"),
        (["--to", tmp_path], "this is a folder"),
        (["--to", tmp_path / "a.pdf"], "ends in .html"),
        (["--to", root / "dataset.json"], "a file of the dataset itself"),
        (["--against", "7"], "the number of another snapshot than 2; there are 1"),
    ):
        more = [] if "--to" in arguments else ["--to", tmp_path / "c.html"]
        result = CliRunner().invoke(main, ["report", str(root), *map(str, (*arguments, *more))])
        assert result.exit_code == 2, result.output
        assert words in result.output
    assert sorted(p.name for p in root.rglob("*")) == before


SHAPES: dict[str, dict[str, Any]] = {
    "nothing but clips": {"segment": {"mode": "window", "length_s": 0.25}},
    "several labels": {"label": {"from": "path", "regex": r"(?P<label>[a-z,]+)\d", "several": True, "separator": ","}},
    "tar shards alone": {"label": {"from": "path", "regex": r"(?P<label>[a-z,]+)\d"}},
    "every clip dropped": {"clips": [{"silence": {"min_dbfs": 0}}]},
    "a low rate and floats": {"label": "all"},
}


@pytest.mark.parametrize("name", SHAPES)
def test_datasets_of_every_shape_have_a_report(name: str, tmp_path: Path) -> None:
    for i, stem in enumerate(("dog0", "cat1", "dog,cat2", "cat3")):
        write_audio(tmp_path / f"in/{stem}.wav", tone(1.0, 4000, 2, seed=i), 4000)
    source = {"name": "s", "root": tmp_path / "in", "segment": {"mode": "whole"}, **SHAPES[name]}
    formats = ["webdataset"] if name == "tar shards alone" else ["parquet"]
    config: dict[str, Any] = {
        "name": "shape", "sources": [source], "audio": {"sample_rate_hz": 4000, "channels": "keep"},
        "output": {"root": tmp_path / "out", "formats": formats}, "limits": {"min_clips": 0, "allow_empty_splits": True},
    }  # fmt: skip
    if name == "a low rate and floats":
        config["audio"]["sample_format"] = "float32"
        config["output"]["audio_codec"] = "wav"
    report = clipmill.build(config, quiet=True, accept=True)
    assert report.status == "published", report
    done = write_report(open_dataset(tmp_path / "out"), str(tmp_path / "r.html"))
    read = Read((tmp_path / "r.html").read_text())
    assert not read.open
    assert len(read.named("audio")) == done.clips_shown
    assert (done.clips_shown > 0) == (name != "every clip dropped")
    for attributes in read.named("audio"):
        assert sf.info(io.BytesIO(data_of(attributes["src"]))).samplerate == 8000  # browsers refuse less than 3 kHz
    if name == "several labels":
        assert "a clip with several labels counts for each of them" in read.text
        assert "cat · 3 clips" in read.text
    if name == "nothing but clips":
        assert "The clips have no labels." in read.text


def test_a_report_of_a_dataset_in_s3(
    bucket: str, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for i in range(3):
        write_audio(tmp_path / f"in/r{i}.wav", tone(0.5, 8000, seed=i), 8000)
    source = upload_source({"name": "s", "root": tmp_path / "in", "segment": {"mode": "whole"}}, bucket, endpoint)
    config = {
        "name": "remote", "sources": [source],
        "output": {"root": f"s3://{bucket}/out", "storage_options": {"endpoint_url": endpoint}},
    }  # fmt: skip
    assert clipmill.build(config, quiet=True).status == "published"
    published = open_dataset(f"s3://{bucket}/out", storage_options={"endpoint_url": endpoint})
    done = write_report(published, str(tmp_path / "r.html"))
    assert done.clips_shown == 3
    there = write_report(published, f"s3://{bucket}/reports/r.html")
    assert published.root.fs.cat_file(f"{bucket}/reports/r.html") == (tmp_path / "r.html").read_bytes()
    assert there.address == f"s3://{bucket}/reports/r.html"


def test_a_dataset_of_an_older_clipmill_has_a_report(built: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(built / "out", tmp_path / "out")
    as_version_1(tmp_path / "out")
    done = write_report(open_dataset(tmp_path / "out"), str(tmp_path / "r.html"))
    assert done.clips_shown == 9


def test_a_damaged_shard_is_told_by_its_name(built: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(built / "out", tmp_path / "out")
    shard = max((tmp_path / "out/shards").rglob("*.parquet"), key=lambda p: p.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ClipmillError, match=shard.name):
        write_report(open_dataset(tmp_path / "out"), str(tmp_path / "r.html"), Asked(per_label=12))
    assert not (tmp_path / "r.html").exists()


@pytest.mark.filterwarnings("ignore:ks_2samp")
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.lists(st.floats(-5, 5), min_size=1, max_size=40))
def test_the_distance_of_columns_is_that_of_kolmogorov_and_smirnov(old: list[float], new: list[float]) -> None:
    shift = _shift({"name": "x"}, np.array([*old, np.nan]), np.array(new))
    assert shift is not None
    assert shift.distance == pytest.approx(ks_2samp(old, new, method="asymp").statistic)


@given(st.text())
def test_any_text_is_text_in_a_page(text: str) -> None:
    read = Read(tag("p", text, title=text, data_x=Safe("x")))
    assert [name for name, _ in read.elements] == ["p"]
    assert read.named("p")[0].keys() == {"title", "data-x"}
    assert Read(tag("p", text)).text == Read(escaped(text)).text
    escaped(text).encode()


@needs_chromium
def test_a_browser_shows_it_and_plays_a_clip(built: Path, page: str) -> None:
    address = (built / "report.html").as_uri()

    async def look(tab: Page) -> None:
        await tab.resize(390, 844, phone=True)
        await tab.open(address)
        assert await tab.run("document.documentElement.scrollWidth") <= 390
        assert await tab.run("document.title") == "animals, snapshot 2"
        assert await tab.run("[...document.images].every(i => i.complete && i.naturalWidth)")
        n = await tab.run("document.querySelectorAll('audio[controls]').length")
        assert n == page.count("<audio ")
        await tab.run("window.clip = document.querySelector('audio'); clip.loop = true; clip.play()")
        await tab.until("clip.currentTime > 0.1 && !clip.paused && !clip.error")
        lengths = await tab.run(
            "Promise.all([...document.querySelectorAll('audio')].map(a => new Promise(r => {"
            " a.onloadedmetadata = () => r(a.duration); a.onerror = () => r(-1); a.preload = 'metadata'; a.load() })))"
        )
        assert min(lengths) > 0.4
        assert tab.errors == []

    with_browser(look)


def test_the_style_has_no_address(page: str) -> None:
    assert page.count("url(") == page.count("url(#")
    assert "@import" not in page
