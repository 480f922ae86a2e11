"""What is worth knowing of a recording that was used: from decoding to the one who built."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from conftest import build_here, tone, write_audio
from hypothesis import given, settings
from hypothesis import strategies as st
from old_format import rewrite
from test_segment import ITEM, chunk_of

from clipmill.pipelines.cli.build_summary import describe_build
from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.records_io import read_commit, read_snapshot
from clipmill.pipelines.run.build import build
from clipmill.schemas.config import Segment as Spec
from clipmill.schemas.config.audio_config import Audio
from clipmill.schemas.records import Commit, Counts, Snapshot
from clipmill.schemas.remarks import REMARKS, Remark
from clipmill.schemas.seal import sealed, unsealed
from clipmill.schemas.tables import CLIPS, PLAN
from clipmill.stages.downmix import Downmix
from clipmill.stages.segment import Segment, SegmentSource
from clipmill.stages.storage.root import Root
from clipmill.stages.write.ledger import Ledger

MakeConfig = Callable[..., Path]
WINDOWS = {"mode": "window", "length_s": 1.0}

pytestmark = pytest.mark.usefixtures("in_process")


def stereo(seconds: float, right: float, rate: int = 16000, peak: float = 0.3) -> np.ndarray:
    """A tone on the left, and the same times `right` on the other side: float64 [frames, 2]."""
    left = tone(seconds, rate, peak=peak)
    return np.hstack([left, right * left])


def run_cli(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_antiphase_is_told_from_decoding_to_the_user(make_config: MakeConfig, tmp_path: Path) -> None:
    recordings = {
        "antiphase": stereo(70, -0.9), "cancels": stereo(2, -1.0), "in_phase": stereo(3, 0.5), "one_side": stereo(3, 0.0),
        "silence": np.zeros((32000, 2)), "mono": tone(2, 16000), "odd": stereo(2, -0.7),
    }  # fmt: skip
    for name, y in recordings.items():
        write_audio(tmp_path / "in" / f"{name}.wav", y, 16000, "FLOAT")
    config = make_config({"root": tmp_path / "in", "segment": WINDOWS}, audio={"sample_rate_hz": 8000})
    report = build(load(config), quiet=True)
    root = Root(str(tmp_path / "out"))
    assert report.snapshot is not None and report.snapshot.counts.remarked == {"antiphase": 2}
    rows = [row for key in read_snapshot(root).commits for row in read_commit(root, key).remarks]
    # 20 log10((1 - 0.9) / 2) = -26.02; of a chunk's margins nothing counts twice.
    assert {(r["recording_id"], r["detail"]) for r in rows} == {
        ("s0/antiphase.wav", "the mix is 26 dB under channel 0, the loudest of 2"),
        ("s0/cancels.wav", "nothing is left of channel 0, the loudest of 2"),
    }
    assert set(rows[0]) == {"code", "source", "recording_id", "source_uri", "detail"} and rows[0]["code"] == "antiphase"
    said = describe_build(report)
    place = next(i for i, line in enumerate(said) if line.startswith("remarks on"))
    assert said[place + 1] == f"       2  antiphase: {REMARKS['antiphase'].meaning}"
    assert (
        f"          {tmp_path}/in/antiphase.wav: the mix is 26 dB under channel 0, the loudest of 2"
        in said[place + 2 :]
    )

    found = json.loads(run_cli("failures", str(tmp_path / "out"), "--json"))["remarks"]
    (group,) = found
    assert (group["code"], group["count"], group["remedy"]) == ("antiphase", 2, REMARKS["antiphase"].remedy)
    assert {r["source_uri"].rsplit("/", 1)[1] for r in group["examples"]} == {"antiphase.wav", "cancels.wav"}
    assert "2 x antiphase" in run_cli("failures", str(tmp_path / "out"))
    assert "... and 1 more" in run_cli("failures", str(tmp_path / "out"), "--examples", "1")
    assert "antiphase" not in run_cli("failures", str(tmp_path / "out"), "--reason", "corrupt")
    assert "2 x antiphase" in run_cli("failures", str(tmp_path / "out"), "--reason", "antiphase")
    assert json.loads(run_cli("show", str(tmp_path / "out"), "--json"))["counts"]["remarked"] == {"antiphase": 2}
    line = "remarks on recordings that were used (see `clipmill failures`): antiphase 2"
    assert line in run_cli("show", str(tmp_path / "out")).splitlines()
    assert run_cli("failures", str(tmp_path / "out")).startswith("snapshot 1: 0 rejected\n")
    asked = run_cli("failures", str(tmp_path / "out"), "--reason", "antiphase")
    assert asked.startswith("snapshot 1: 0 rejected for this reason\n")
    refused = CliRunner().invoke(main, ["retry", str(config), "--reason", "antiphase"])
    assert refused.exit_code == 2
    assert "antiphase is a remark on recordings that were used; there is nothing to retry" in refused.output
    assert CliRunner().invoke(main, ["retry", str(config), "--reason", "timeline_gap"]).exit_code == 0
    again = json.loads(run_cli("build", str(config), "--json"))
    assert again["status"] == "unchanged"
    assert again["remarks"] == found and again["snapshot"]["counts"]["remarked"] == {"antiphase": 2}


@pytest.mark.parametrize("remark", REMARKS.values(), ids=list(REMARKS))
def test_a_remedy_is_an_action_or_none(remark: Remark) -> None:
    assert re.match("nothing, (if|unless) |copy it again |set ", remark.remedy), remark.remedy
    if "audio." in remark.remedy:
        assert all(key in Audio.model_fields for key in re.findall(r"audio\.(\w+)", remark.remedy))


def test_shards_made_from_clips_and_builds_held_back_keep_remarks(make_config: MakeConfig, tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "a.wav", stereo(3, -0.95), 16000)
    source = {"root": tmp_path / "in", "segment": WINDOWS}
    held = build(load(make_config(dict(source), limits={"min_clips": 99})), quiet=True)
    assert held.status == "not_published" and held.remarks[0]["count"] == 1
    found = json.loads(run_cli("failures", str(tmp_path / "out"), "--json"))["remarks"]
    assert found == held.remarks
    assert build(load(make_config(dict(source))), quiet=True).status == "published"
    report = build(load(make_config(dict(source), features={"log_mel": {"n_mels": 8}})), quiet=True)
    assert report.shards_from_clips == 1 and report.remarks == found
    root = Root(str(tmp_path / "out"))
    first, second = (read_commit(root, read_snapshot(root, n).commits[0]) for n in (1, 2))
    assert second.donor == first.key and second.remarks == first.remarks != []


def test_records_without_remarks_are_as_they_were(make_config: MakeConfig, tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "a.wav", stereo(3, 0.9), 16000)
    report = build(load(make_config({"root": tmp_path / "in", "segment": WINDOWS})), quiet=True)
    root = Root(str(tmp_path / "out"))
    snapshot = unsealed((tmp_path / "out" / "snapshots" / "000001.json").read_bytes())
    commit = read_commit(root, snapshot["commits"][0])
    plain = json.loads(commit.to_json())
    assert not {"remarks", "has_channel"} & (plain.keys() | snapshot.keys())
    assert "remarked" not in plain["counts"].keys() | snapshot["counts"].keys()
    assert commit.remarks == [] and commit.counts.remarked == {} and report.remarks == []
    assert not any("remarks on" in line for line in describe_build(report))
    told = replace(commit, remarks=[{"code": "joined"}], counts=replace(commit.counts, remarked={"joined": 1}))
    assert Commit.from_json(told.to_json(), "x") == told
    assert Snapshot.from_json(sealed(snapshot), "x") == read_snapshot(root)


def test_all_of_a_recording_counts(make_config: MakeConfig, tmp_path: Path) -> None:
    """Antiphase in a minute of two, as loud as the rest: the mix keeps more than 1 % of the energy. Quiet rests do not save it."""
    y = stereo(120, -1.0, peak=0.3)
    y[60 * 16000 :, 1] *= -1
    write_audio(tmp_path / "in" / "half.wav", y, 16000)
    y[60 * 16000 :] *= 0.05
    write_audio(tmp_path / "in" / "most.wav", y, 16000)
    write_audio(tmp_path / "rows" / "annotated.wav", y[::-1].copy(), 16000)  # the good minute first
    (tmp_path / "rows" / "annotated.csv").write_text("start,end\n0,20\n30,50\n")
    rows = {"annotations": {"sidecar": "{stem}.csv", "columns": {"start": "start", "end": "end"}}}
    sources = [{"root": tmp_path / "in", "segment": WINDOWS}, {"root": tmp_path / "rows", "segment": WINDOWS, **rows}]
    commits = build_here(make_config(sources))
    assert [r["recording_id"] for c in commits for r in c.remarks] == ["s0/most.wav"]


@pytest.mark.parametrize("channels", ["left", "keep", "each", [1], [0, 1]])
def test_only_a_mix_can_be_antiphase(make_config: MakeConfig, tmp_path: Path, channels: Any) -> None:
    write_audio(tmp_path / "in" / "a.wav", stereo(2, -1.0), 16000)
    commits = build_here(make_config({"root": tmp_path / "in", "segment": WINDOWS}, audio={"channels": channels}))
    assert len(commits[0].remarks) == (channels == [0, 1])


def test_the_loudest_of_the_channels_that_are_mixed_is_named() -> None:
    y = np.random.default_rng(0).uniform(-1, 1, (100_000, 1)) * np.array([9.0, 0.2, 9.0, 0.0, -0.21])
    mixed = Downmix([1, 4])(chunk_of(y, n_channels=5))
    (remarks,) = mixed["remarks"].to_pylist()
    assert remarks == [{"code": "antiphase", "detail": "the mix is 32 dB under channel 4, the loudest of 2"}]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 5), st.integers(0, 200_000), st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 4),
    st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e30]), st.booleans(),
)  # fmt: skip
def test_energies_are_those_of_the_samples_that_count(
    channels: int, frames: int, lead: int, behind: int, n_runs: int, scale: float, broken: bool
) -> None:
    """Whatever the lengths, in one chunk or in several tables, and with samples that are no numbers: no warning, no other sum."""
    gains = np.linspace(-1.0, 0.97, channels)
    y = np.random.default_rng(frames).uniform(-1, 1, (frames, 1)) * gains * scale
    if broken and frames:
        y[frames // 2, 0] = np.nan
    downmix, rows = Downmix(), []
    edges = np.linspace(0, frames, n_runs + 1).astype(int)
    for i in range(n_runs):
        start, stop = max(0, edges[i] - lead), min(frames, edges[i + 1] + behind)
        core = int(edges[i + 1] - edges[i])
        chunk = chunk_of(
            y[start:stop], n_channels=channels, lead=int(edges[i] - start), core_frames=core, last=i + 1 == n_runs
        )
        rows += downmix(chunk).to_pylist()
    if scale in (1e-3, 1.0) and not broken:
        loss = 20 * np.log10(np.abs(gains).max() / max(abs(gains.mean()), 1e-9))
        assert bool(rows[-1]["remarks"]) == (loss > 20 and frames > 0)
    assert not any(row["remarks"] for row in rows[:-1])


def ledger_of(*ended: tuple[str, str, bool, list[tuple[str, str]]]) -> Ledger:
    """Return the ledger of items that ended: id, recording, whether rejected, their remarks."""
    plan = [{**ITEM, "item_id": item, "recording_id": recording} for item, recording, _, _ in ended]
    ledger = Ledger(pa.Table.from_pylist(plan, schema=PLAN), {})
    for row, (item, _, rejected, remarks) in zip(plan, ended, strict=True):
        told = [{"code": code, "detail": detail} for code, detail in remarks]
        account = {"status": "account", "n_candidates": 0, "n_annotations": 0, "last": True, "remarks": told or None}
        rows = [{**row, "status": "rejected", "kind": "span", "reason": "corrupt"}] if rejected else []
        own = {name: row[name] for name in row if name in CLIPS.names}
        table = pa.Table.from_pylist([*rows, {**own, **account}], schema=CLIPS)
        ledger.count(item, table, table.slice(0, 0))
        ledger.end(item)
    return ledger


def test_the_parts_of_a_recording_are_one_recording() -> None:
    gap, late = "timeline_gap", "late_start"
    ledger = ledger_of(
        ("a#0", "a", False, [(late, "by 2 s"), (gap, "at 3 s")]),
        ("a#1", "a", False, [(late, "by 2 s"), (gap, "at 9 s"), (gap, "at 11 s")]),
        ("a#2", "a", True, [("joined", "2")]),
        ("b", "b", False, [(gap, "at 1 s")]),
        ("c", "c", False, []),
    )
    assert ledger.counts.remarked == {late: 1, gap: 2}
    assert [(r["code"], r["recording_id"], r["detail"]) for r in ledger.remarks] == [
        (late, "a", "by 2 s"), (gap, "a", "at 3 s (and 2 more)"), (gap, "b", "at 1 s"),
    ]  # fmt: skip
    assert (ledger.counts + Counts(remarked={gap: 3})).remarked == {late: 1, gap: 5}


def test_spans_in_one_shard_are_one_recording(make_config: MakeConfig, tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "a.wav", stereo(100, -0.9, rate=8000), 8000)
    config = make_config(
        {"root": tmp_path / "in", "bytes_per_second": 32000, "segment": {**WINDOWS, "keep_every": 20}},
        output={"root": str(tmp_path / "out"), "shard_seconds": 20},
    )
    commits = build_here(config)
    assert sum(c.n_items for c in commits) == 6 and len(commits) == 1
    assert [c.counts.remarked for c in commits] == [{"antiphase": 1}]


def test_spans_in_several_shards_are_one_recording(make_config: MakeConfig, tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "a.wav", stereo(100, -0.9, rate=8000), 8000)
    write_audio(tmp_path / "in" / "b.wav", stereo(5, -0.9, rate=8000), 8000)
    source = {"root": tmp_path / "in", "bytes_per_second": 32000, "segment": WINDOWS}
    output = {"root": str(tmp_path / "out"), "shard_seconds": 20}
    held = build(load(make_config(dict(source), output=output, limits={"min_clips": 999})), quiet=True)
    assert held.status == "not_published" and held.shards_built > 3
    waiting = json.loads(run_cli("failures", str(tmp_path / "out"), "--json"))["remarks"]
    config = make_config(source, output=output)
    report = build(load(config), quiet=True)
    assert report.snapshot is not None and report.snapshot.counts.remarked == {"antiphase": 2}
    told = json.loads(run_cli("failures", str(tmp_path / "out"), "--json"))["remarks"]
    for found in (held.remarks, waiting, report.remarks, told):
        assert [(group["code"], group["count"]) for group in found] == [("antiphase", 2)]
        assert sorted(row["recording_id"] for row in found[0]["examples"]) == ["s0/a.wav", "s0/b.wav"]
    for path in (tmp_path / "out" / "snapshots").glob("*.json"):
        path.unlink()
    for path in (tmp_path / "out" / "builds").glob("*.json"):
        rewrite(path, outcome="failed")
    unfinished = json.loads(run_cli("failures", str(tmp_path / "out"), "--json"))
    assert "not finished" in unfinished["of"] and unfinished["remarks"] == told


def test_a_recording_that_is_rejected_loses_its_remarks(make_config: MakeConfig, tmp_path: Path) -> None:
    place = write_audio(tmp_path / "in" / "a.flac", stereo(90, -0.9, rate=44100), 44100)
    content = bytearray(place.read_bytes())
    content[-20_000:-18_000] = bytes(2000)
    place.write_bytes(content)
    write_audio(tmp_path / "in" / "b.flac", stereo(2, -0.9), 16000)
    commits = build_here(make_config({"root": tmp_path / "in", "segment": WINDOWS}))
    counts = sum((c.counts for c in commits), Counts())
    assert (counts.recordings_rejected, counts.remarked) == (1, {"antiphase": 1})
    assert [r["recording_id"] for c in commits for r in c.remarks] == ["s0/b.flac"]


@pytest.mark.parametrize("channels", ["mono", "keep", "each", "left"])
def test_what_decoding_remarks_stays_beside_what_the_mix_does(channels: Any) -> None:
    said = [{"code": "late_start", "detail": "by 2 s"}, {"code": "joined", "detail": "2 parts"}]
    segment = Segment({"s": SegmentSource(Spec(), each_channel=channels == "each")})
    for y in (stereo(1, -1.0), tone(1, 16000)):
        chunks = Downmix(channels)(chunk_of(y, n_channels=y.shape[1], remarks=said))
        (account,) = [row for table in segment(chunks) for row in table.to_pylist() if row["status"] == "account"]
        more = ["antiphase"] if channels == "mono" and y.shape[1] == 2 else []
        assert [remark["code"] for remark in account["remarks"]] == ["late_start", "joined", *more]
        assert account["remarks"][:2] == said


def test_margins_do_not_count() -> None:
    y = stereo(2, -1.0)
    y[:8000, 1] *= -1
    y[-8000:, 1] *= -1
    downmix = Downmix()
    assert downmix(chunk_of(y, n_channels=2, lead=8000, core_frames=16000))["remarks"][0].is_valid
    assert not downmix(chunk_of(y, n_channels=2, lead=8000, core_frames=24000))["remarks"][0].is_valid


@pytest.mark.parametrize("end", [{"n_channels": None, "reason": "corrupt"}, {"n_channels": 1, "item_id": "other"}])
def test_nothing_is_left_of_an_item_that_did_not_come_to_its_end(end: dict[str, Any]) -> None:
    """A file that changes under the build is planned again, and its item comes a second time."""
    good, bad = chunk_of(stereo(1, 0.9), n_channels=2, last=False), chunk_of(stereo(1, -1.0), n_channels=2, last=True)
    row = {
        "start": 0.0,
        "end": 0.5,
        "ordinal": 0,
        "label": "",
        "fields": [],
        "file": "a.csv",
        "line": 1,
        "reason": None,
        "detail": None,
        "channel": None,
    }
    cut = {"annotation": 0, "first": 0, "last": 1}
    lacking = {"n_channels": 2, "annotations": [row], "cuts": [cut]}
    for downmix in (Downmix(), Downmix([0, 5])):
        downmix(good if downmix.channels == "mono" else chunk_of(stereo(1, 1.0), last=False, **lacking))
        downmix(chunk_of(np.zeros((0, 1)), last=True, **end))
        if downmix.channels == "mono":
            assert downmix(bad)["remarks"][0].is_valid
        else:
            (found,) = downmix(chunk_of(stereo(1, 1.0), last=True, **lacking)).to_pylist()
            assert found["reason"] == "channel_missing" and found["annotations"] == [row]
