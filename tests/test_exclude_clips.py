"""`exclude_clips`: listed clips go, from committed clips and in their shards alone, and come back when they are no longer listed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import run, shard_hashes, tone, upload_source, write_audio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import clipmill
from clipmill import open_dataset
from clipmill.pipelines.dataset.records_io import read_commit
from clipmill.pipelines.plan.excluded import not_found
from clipmill.pipelines.run.report import Report
from clipmill.schemas.clip_list import parse_clip_list
from clipmill.schemas.errors import ConfigError
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


class Corpus:
    """A small corpus, its configuration, and its list of excluded clips."""

    def __init__(self, place: Path, **more: Any) -> None:
        self.place, self.list, self.root = place, place / "listened.txt", place / "out"
        self.config: dict[str, Any] = {
            "name": "c",
            "sources": [{"name": "s", "root": place / "in", "segment": {"mode": "window", "length_s": 0.5}, "label": {"from": "folder"}}],
            "audio": {"sample_rate_hz": 8000}, "features": {"log_mel": {"n_fft": 256, "n_mels": 20}},
            "split": {"train": 0.7, "test": 0.3, "by": "recording"},
            "output": {"root": self.root, "formats": ["parquet", "webdataset"], "shard_seconds": 6},
            "limits": {"allow_empty_splits": True, "max_rejected_share": 1.0}, **more,
        }  # fmt: skip
        self.config["sources"][0]["bytes_per_second"] = 16_000

    def build(self, ids: list[str] | None = None, root: Path | None = None) -> Report:
        config = json.loads(json.dumps(self.config, default=str))
        if ids is not None:
            self.list.write_text("# listened\n" + "".join(f"{clip_id}\n" for clip_id in ids))
            config["exclude_clips"] = str(self.list)
        if root is not None:
            config["output"]["root"] = str(root)
        report = clipmill.build(config, quiet=True, accept=True)
        assert report.status in ("published", "unchanged"), report.failures
        return report

    def warned(self, report: Report) -> list[str]:
        return [finding.message for finding in report.warnings if finding.limit == "exclude_clips"]

    def shards(self, root: Path | None = None) -> dict[str, tuple[str, ...]]:
        """The clips of the newest snapshot's shards, by key."""
        published = open_dataset(root or self.root)
        by_path: dict[str, list[str]] = {}
        for row in published.manifest(["clip_id", "shard"]).to_pylist():
            by_path.setdefault(row["shard"], []).append(row["clip_id"])
        outputs = {s.key: s.output("parquet", "webdataset") for s in published.all_shards()}
        return {key: tuple(by_path.get(o.path, ())) for key, o in outputs.items() if o is not None}

    def clips(self, root: Path | None = None) -> list[str]:
        return [clip_id for own in self.shards(root).values() for clip_id in own]

    def is_as_from_nothing(self, ids: list[str]) -> None:
        """Build into another root, and compare."""
        other = self.place / f"fresh-{len(list(self.place.glob('fresh-*')))}"
        self.build(ids, other)
        assert self.shards() == self.shards(other)
        now, fresh = shard_hashes(self.root), shard_hashes(other)
        assert {path: now[path] for path in fresh} == fresh
        a, b = (open_dataset(root).snapshot for root in (self.root, other))
        assert (a.counts, a.seconds, a.by_split, a.labels, a.statistics) == (
            b.counts,
            b.seconds,
            b.by_split,
            b.labels,
            b.statistics,
        )
        for key in a.commits:
            records = [read_commit(Root(str(root)), key) for root in (self.root, other)]
            assert records[0].content == records[1].content


def corpus(place: Path, n: int = 8, seconds: float = 2.0, **more: Any) -> Corpus:
    for i in range(n):
        write_audio(place / f"in/{'ab'[i % 2]}/r{i}.wav", tone(seconds, 8000, seed=i, peak=0.05 * (1 + i)), 8000)
    return Corpus(place, **more)


def test_only_shards_with_a_listed_clip_change_and_nothing_is_decoded(tmp_path: Path) -> None:
    c = corpus(tmp_path)
    assert c.build().shards_built > 2
    before = c.shards()
    key, own = next((k, ids) for k, ids in before.items() if len(ids) > 3)
    chosen = [own[0], own[2]]
    report = c.build(chosen)
    assert (report.status, report.shards_built, report.shards_from_clips) == ("published", 1, 1)
    after = c.shards()
    assert before.keys() - after.keys() == {key}
    (made,) = after.keys() - before.keys()
    assert after[made] == tuple(clip_id for clip_id in own if clip_id not in chosen)
    assert report.snapshot is not None
    assert report.snapshot.counts.dropped == {"excluded": 2}
    assert not report.snapshot.counts.problems()
    assert c.warned(report) == []
    c.is_as_from_nothing(chosen)
    assert c.build(chosen).status == "unchanged"
    said = run("failures", c.root)
    assert "excluded" in said
    assert "the list of exclude_clips names the clip" in said


def test_a_clip_comes_back_when_it_is_no_longer_listed(tmp_path: Path) -> None:
    c = corpus(tmp_path)
    c.build()
    before = c.shards()
    own = max(before.values(), key=len)
    c.build([own[1]])
    assert own[1] not in c.clips()
    again = c.build([])
    assert (again.shards_built, again.status) == (0, "published")
    assert c.shards() == before
    c.build([own[1]])
    run("gc", c.root, "--keep", 1, "--delete")
    assert c.shards() != before
    made = c.build([])
    assert (made.shards_built, made.shards_from_clips) == (1, 0)
    assert c.shards() == before
    c.is_as_from_nothing([])


def test_more_listed_clips_come_from_the_clips_that_are_left(tmp_path: Path) -> None:
    c = corpus(tmp_path)
    c.build()
    own = max(c.shards().values(), key=len)
    c.build([own[0]])
    run("gc", c.root, "--keep", 1, "--delete")
    more = c.build([own[0], own[1]])
    assert (more.shards_built, more.shards_from_clips) == (1, 1)
    c.is_as_from_nothing([own[0], own[1]])
    other = c.build([own[1]])  # the first one is in no shard any more
    assert (other.shards_built, other.shards_from_clips) == (1, 0)
    c.is_as_from_nothing([own[1]])
    everything = list(own)
    assert c.build(everything).shards_from_clips == 1
    assert not set(own) & set(c.clips())
    c.is_as_from_nothing(everything)


def test_an_empty_list_and_none_are_the_same(tmp_path: Path) -> None:
    c = corpus(tmp_path, n=3)
    c.build()
    before = c.shards()
    assert c.build([]).status == "unchanged"
    assert c.shards() == before


def test_what_fits_nothing_is_told(tmp_path: Path) -> None:
    c = corpus(tmp_path, n=4)
    c.build()
    before = c.shards()
    clip = c.clips()[0]
    origin = clip.rpartition("-")[0]
    report = c.build(
        ["r0-00000000000000000000000000000000-0000000000", "nothing-like-it", "what is this", f"{clip}-a1"]
    )
    assert report.status == "unchanged"
    assert c.shards() == before
    said = [finding.message for finding in report.warnings if finding.limit == "exclude_clips"]
    assert any("2 ids of 3 fit no recording, such as r0-000" in text and "on line 2" in text for text in said)
    assert any("1 line is no clip's id, such as 'what is this' on line 4" in text for text in said)
    assert any(f"names a copy that `augment` made, such as {clip}-a1" in text for text in said)
    report = c.build([f"{origin}-0000000123", clip])
    (told,) = [finding for finding in report.warnings if finding.limit == "exclude_clips"]
    assert "1 id of a known recording names no clip that would be kept" in told.message
    assert f"{origin}-0000000123" in told.message
    assert clip not in c.clips()
    assert not_found("x", {"a"}, {"a"}) == []


@pytest.mark.parametrize("name", ["", "missing.txt", "folder", "binary", "s3://user:pw@bucket/x"])
def test_a_list_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    c = corpus(tmp_path, n=1)
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x00\x81")
    c.config["exclude_clips"] = name if not name or "://" in name else str(tmp_path / name)
    with pytest.raises(ConfigError, match="exclude_clips") as raised:
        clipmill.build(json.loads(json.dumps(c.config, default=str)), quiet=True)
    assert "pw@" not in str(raised.value)
    assert not list(c.root.glob("snapshots/*"))


def annotated(place: Path, unit: str, scale: float, to_the_end: bool = False) -> Corpus:
    """Rows of six recordings, two of which are equal. to_the_end : without the ends of rows"""
    c = corpus(place, n=6)
    lines = ["file,start,end,label"]
    for i in range(6):
        for start in (0.1, 0.7, 0.7, 1.3):
            begin, end = (round(t * scale) if scale > 1 else t for t in (start, start + 0.4))
            lines.append(f"{'ab'[i % 2]}/r{i}.wav,{begin},{end},x")
    (place / "in/rows.csv").write_text("\n".join(lines) + "\n")
    columns = {name: name for name in ("start", "end", "label") if name != "end" or not to_the_end}
    annotations = {"table": "rows.csv", "recording": "file", "columns": columns, "time_unit": unit}
    c.config["sources"][0] |= {
        "segment": {"mode": "annotation"}, "label": {"from": "annotation"}, "annotations": annotations,
    }  # fmt: skip
    return c


@pytest.mark.parametrize(
    ("unit", "scale", "to_the_end"),
    [("s", 1.0, False), ("ms", 1000.0, False), ("samples", 8000.0, False), ("s", 1.0, True)],
)
def test_clips_of_annotations_are_found_by_their_ranges(
    tmp_path: Path, unit: str, scale: float, to_the_end: bool
) -> None:
    c = annotated(tmp_path, unit, scale, to_the_end)
    c.build()
    before = c.shards()
    rows = open_dataset(c.root).manifest().to_pylist()
    of_one = [r for r in rows if r["recording_id"].endswith("r3.wav")]
    twice = [r["clip_id"] for r in of_one if round(r["start_s"], 3) == 0.7]
    last = next(r["clip_id"] for r in of_one if round(r["start_s"], 3) == 1.3)
    assert len(twice) == 2
    report = c.build([twice[1], last])
    assert (report.shards_built, report.shards_from_clips, c.warned(report)) == (1, 1, [])
    assert set(c.clips()) == {r["clip_id"] for r in rows} - {twice[1], last}
    assert len(before.keys() - c.shards().keys()) == 1
    c.is_as_from_nothing([twice[1], last])


def test_places_in_samples_touch_recordings_of_the_same_name(tmp_path: Path) -> None:
    c = annotated(tmp_path, "samples", 8000.0)
    write_audio(tmp_path / "in/b/r0.wav", tone(2.0, 8000, seed=99), 8000)
    with (tmp_path / "in/rows.csv").open("a") as rows:
        rows.write("b/r0.wav,800,4000,y\n")
    c.build()
    listed = next(
        r["clip_id"] for r in open_dataset(c.root).manifest().to_pylist() if r["recording_id"] == "s/a/r0.wav"
    )
    assert c.warned(c.build([listed])) == []
    assert listed not in c.clips()
    c.is_as_from_nothing([listed])


def test_one_channel_of_a_recording_and_spans_of_a_long_one(tmp_path: Path) -> None:
    for i in range(2):
        write_audio(tmp_path / f"in/a/r{i}.wav", tone(20.0, 8000, 2, seed=i), 8000)
    c = Corpus(tmp_path, audio={"sample_rate_hz": 8000, "channels": "each"})
    c.config["output"]["shard_seconds"] = 5
    c.build()
    before = c.shards()
    assert len(before) > 4
    rows = open_dataset(c.root).manifest().to_pylist()
    for start in (0.0, 5.0, 9.5):
        chosen = [
            r["clip_id"]
            for r in rows
            if r["start_s"] == start and r["channel"] == 1 and r["recording_id"] == "s/a/r0.wav"
        ]
        assert len(chosen) == 1
        report = c.build(chosen)
        assert c.warned(report) == []
        assert set(c.clips()) == {r["clip_id"] for r in rows} - set(chosen)
        # A clip that begins where spans meet may be on both sides, as far as its id tells.
        assert len(before.keys() - c.shards().keys()) in ((1, 2) if start == 5.0 else (1,))
    c.is_as_from_nothing(chosen)


def test_copies_go_with_their_clip(tmp_path: Path) -> None:
    c = corpus(tmp_path, n=5, clips=[{"measure": ["peak"]}, {"augment": {"copies": 2, "gain_db": [-6, 6]}}])
    c.build()
    manifest = open_dataset(c.root).manifest().to_pylist()
    original = next(r["augmented_from"] for r in manifest if r["augmented_from"])
    report = c.build([original])
    assert (report.shards_from_clips, report.shards_built) == (1, 1)
    left = open_dataset(c.root).manifest().to_pylist()
    assert {r["clip_id"] for r in manifest} - {r["clip_id"] for r in left} == {
        original,
        f"{original}-a1",
        f"{original}-a2",
    }
    c.is_as_from_nothing([original])
    c.build([])
    assert open_dataset(c.root).manifest().to_pylist() == manifest


@pytest.mark.parametrize("least", [-90.0, -20.0, -14.0])
def test_bounds_and_lists_change_together(tmp_path: Path, least: float) -> None:
    """Whatever was excluded or dropped before, the outcome is that of a build from nothing."""
    stages = [{"measure": ["peak"]}, {"keep": {"peak_dbfs": {"min": -20.0}}}]
    c = corpus(tmp_path, n=6, clips=stages)
    c.build()
    kept = c.clips()
    own = max(c.shards().values(), key=len)
    everything = [
        r["clip_id"] for p in (c.root / "commits").glob("*.dropped.parquet") for r in pq.read_table(p).to_pylist()
    ]
    assert everything
    c.build([own[0], everything[0]])
    assert set(c.clips()) == set(kept) - {own[0]}
    stages[1]["keep"]["peak_dbfs"]["min"] = least
    c.build([own[0], everything[0]])
    c.is_as_from_nothing([own[0], everything[0]])
    dropped = open_dataset(c.root).snapshot.counts.dropped
    assert dropped.get("excluded", 0) == {-90.0: 2, -20.0: 1, -14.0: dropped.get("excluded", 0)}[least]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    c = corpus(
        tmp_path_factory.mktemp("nights"), n=4, clips=[{"measure": ["peak"]}, {"keep": {"peak_dbfs": {"min": -24}}}]
    )
    c.config["features"], c.config["output"]["formats"] = {}, ["parquet"]
    c.build()
    return c


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lists=st.lists(st.sets(st.integers(0, 11), max_size=6), min_size=1, max_size=3))
def test_any_nights_end_as_a_build_from_nothing(nights: Corpus, lists: list[set[int]]) -> None:
    nights.build([])
    known = sorted(nights.clips())
    for chosen in lists:
        ids = sorted(known[i] for i in chosen if i < len(known))
        nights.build(ids)
        assert sorted(nights.clips()) == [clip_id for clip_id in known if clip_id not in ids]
    nights.is_as_from_nothing(ids)


def test_a_forgotten_recording_leaves_shards_as_if_it_had_never_been(tmp_path: Path) -> None:
    c = corpus(tmp_path, n=8)
    c.config["output"]["shard_seconds"] = 60
    c.build()
    own = next(ids for ids in c.shards().values() if len({clip_id[:2] for clip_id in ids}) > 1)
    first, last = own[0], own[-1]
    assert first[:2] != last[:2]
    c.build([first, last])
    manifest = open_dataset(c.root).manifest().to_pylist()
    name = next(r["recording_id"] for r in manifest if r["clip_id"][:2] == first[:2])
    c.list.unlink()  # it names clips of the recording
    run("forget", c.root, name, "--yes")
    published = c.shards()
    report = c.build([last])
    assert report.status == "unchanged"
    assert c.shards() == published
    (tmp_path / "in" / name.removeprefix("s/")).unlink()
    c.is_as_from_nothing([last])


def test_a_list_in_s3_and_comments(bucket: str, endpoint: str, tmp_path: Path) -> None:
    for i in range(2):
        write_audio(tmp_path / f"in/r{i}.wav", tone(1.0, 8000, seed=i), 8000)
    options = {"endpoint_url": endpoint}
    source = upload_source({"name": "s", "root": tmp_path / "in", "segment": {"mode": "whole"}}, bucket, endpoint)
    config = {"name": "c", "sources": [source], "output": {"root": f"s3://{bucket}/out", "storage_options": options}}
    assert clipmill.build(config, quiet=True).status == "published"
    clip = open_dataset(f"s3://{bucket}/out", storage_options=options).manifest()["clip_id"][0].as_py()
    text = f"\ufeff# mine\r\n\r\n{clip}  # noisy\r\n"
    Root(f"s3://{bucket}/lists", options).write_bytes("listened.txt", text.encode())
    report = clipmill.build({**config, "exclude_clips": f"s3://{bucket}/lists/listened.txt"}, quiet=True, accept=True)
    assert (report.status, report.warnings) == ("published", [])
    assert report.snapshot is not None
    assert report.snapshot.counts.dropped == {"excluded": 1}


def test_the_viewer_writes_what_a_build_reads(tmp_path: Path) -> None:
    from clipmill.pipelines.reports.marked_clips import MarkedClips

    c = corpus(tmp_path, n=3)
    c.build()
    published = open_dataset(c.root)
    own = max(c.shards().values(), key=len)
    MarkedClips(str(c.list), published.root).change([own[0], own[1]], set())
    assert list(parse_clip_list(c.list.read_text()).ids) == [own[0], own[1]]
    c.config["exclude_clips"] = c.list
    assert c.build().snapshot.counts.dropped == {"excluded": 2}  # type: ignore[union-attr]


def test_plan_tells_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    c = corpus(tmp_path, n=2)
    c.build()
    c.list.write_text(f"{c.clips()[0]}\nother-00000000000000000000000000000000-0000000000\n")
    c.config["exclude_clips"] = c.list
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(c.config, default=str))))
    said = run("plan", tmp_path / "c.yaml")
    assert "1 id of 2 fits no recording, such as other-0000" in said


def test_shards_that_are_cut_for_a_device_leave_them_out_too(tmp_path: Path) -> None:
    import pyarrow as pa

    from clipmill.pipelines.config_file import load_config
    from clipmill.pipelines.plan.planning import make_plan
    from clipmill.pipelines.run.graph import stages_of
    from clipmill.pipelines.run.progress import Watch
    from clipmill.pipelines.run.shard_work import ClipsOfShard, MakeBlock, OnGpu, WriteBlock

    c = corpus(tmp_path, n=4)
    c.build()
    chosen = max(c.shards().values(), key=len)[:2]
    c.build(list(chosen))
    config = json.loads(
        json.dumps(
            {**c.config, "exclude_clips": c.list, "output": {**c.config["output"], "root": tmp_path / "cut"}},
            default=str,
        )
    )
    config["output"]["clip_id_bits"] = 128
    file = load_config(config)
    plan = make_plan(file.config)
    stages = stages_of(file.config, plan, "cpu")
    stages = replace(stages, cut=stages.gpu_range)
    results: list[pa.Table] = []
    for i in range(len(plan.keys)):
        block = MakeBlock(stages, ClipsOfShard(stages, Watch()))(plan.shard(i))
        results.append(WriteBlock(stages)(OnGpu(stages)(block)))
    assert [error for result in results for error in result["error"].to_pylist()] == [None] * len(plan.keys)
    now, cut = shard_hashes(c.root), shard_hashes(tmp_path / "cut")
    assert {path: now[path] for path in cut} == cut
