"""Which channels of a recording become clips: one, a mix, all in one clip, or each a clip of its own."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import torch.utils.data
from conftest import build_here, clips_of, tone, write_audio
from hypothesis import given, settings
from hypothesis import strategies as st
from test_segment import chunk_of

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.exports import FORMATS, Export, exporter, format_of
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.read.batches import padded
from clipmill.pipelines.read.training import ClipDataset
from clipmill.pipelines.run.build import build
from clipmill.pipelines.run.graph import output_root
from clipmill.schemas.config import Segment as Spec
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.records import Counts
from clipmill.schemas.tables import CHANNEL_COLUMN
from clipmill.stages.clips.silence import SilenceFilter
from clipmill.stages.downmix import Downmix
from clipmill.stages.segment import Segment, SegmentSource

MakeConfig = Callable[..., Path]
WINDOWS = {"mode": "window", "length_s": 0.5, "hop_s": 0.3, "tail": "pad_noise", "keep_every": 2}

pytestmark = pytest.mark.usefixtures("in_process")


def many(channels: int, seconds: float = 3.3, rate: int = 22050) -> np.ndarray:
    """A tone of its own in each channel, float64 [frames, channels]."""
    return np.hstack([tone(seconds, rate, hz=200.0 * (c + 1), peak=0.1 * (c + 1), seed=c) for c in range(channels)])


def pcm(row: dict[str, Any]) -> np.ndarray:
    return sf.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16", always_2d=True)[0]


def built(config: Path) -> list[dict[str, Any]]:
    return clips_of(Path(load(config).config.output.root), build_here(config))


def source_of(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {"root": tmp_path / "in", "segment": dict(WINDOWS), **more}


def at(tmp_path: Path, name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "output": {"root": str(tmp_path / name), **more}}


def test_each_channel_gives_the_clips_that_it_gives_alone(make_config: MakeConfig, tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "a.wav", many(3), 22050)
    each = built(make_config(source_of(tmp_path), audio={"channels": "each"}, **at(tmp_path, "each")))
    assert [r["channel"] for r in each] == [0, 1, 2] * (len(each) // 3) and len(each) == 3 * 6
    assert {r["n_channels"] for r in each} == {1}
    for channel in range(3):
        name = f"only{channel}"
        alone = built(make_config(source_of(tmp_path), audio={"channels": [channel]}, **at(tmp_path, name)))
        own = [r for r in each if r["channel"] == channel]
        assert [r["clip_id"] for r in own] == [f"{r['clip_id']}-c{channel}" for r in alone]
        assert [r["start_s"] for r in own] == [r["start_s"] for r in alone]
        for a, b in zip(own[:-1], alone[:-1], strict=True):
            assert (pcm(a) == pcm(b)).all()
        assert "channel" not in alone[0]
    noises = [pcm(r)[-2000:].tobytes() for r in each[-3:]]
    assert len(set(noises)) == 3, "padding repeats from channel to channel"


def test_the_names_and_numbers_of_channels(make_config: MakeConfig, tmp_path: Path) -> None:
    y = many(4, rate=16000)
    write_audio(tmp_path / "in" / "a.wav", y, 16000, "FLOAT")
    asked = {"left": [0], "right": [1], "pair": [3, 1], "all": [0, 1, 2, 3], "mono": [0, 1, 2, 3], "one": [2]}
    for name, channels in asked.items():
        given: Any = name if name in ("left", "right", "mono") else channels
        source = {"root": tmp_path / "in", "segment": {"mode": "whole"}}
        (row,) = built(make_config(source, audio={"channels": given}, **at(tmp_path, name)))
        wanted = np.float32(y)[:, channels].mean(axis=1, dtype=np.float64)
        assert np.abs(pcm(row)[:, 0] - wanted * 32768).max() <= 0.51, name


def test_annotated_rows_stand_for_each_channel(make_config: MakeConfig, tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "a.wav", many(2), 22050)
    write_audio(tmp_path / "in" / "b.wav", many(5), 22050)
    rows = "start,end,label\n0.1,1.3,x\n0.1,1.3,x\n2,9,late\n1,0,wrong\n3,,open\n0.5,0.500001,none\n"
    for name in ("a.csv", "b.csv"):
        (tmp_path / "in" / name).write_text(rows)
    annotations = {"sidecar": "{stem}.csv", "columns": {"start": "start", "end": "end", "label": "label"}}
    for mode in ({"mode": "annotation", "max_clip_s": 1.0}, dict(WINDOWS), {"mode": "window", "length_s": 0.4}):
        root = f"{mode['mode']}{len(mode)}"
        source = source_of(tmp_path, annotations=annotations, segment=mode, channels="each")
        counts = {}
        for channels in (["each"], [0]):
            source["channels"] = channels[0] if channels == ["each"] else channels
            commits = build_here(make_config(dict(source), **at(tmp_path, root + str(channels[0]))))
            counts[channels[0]] = sum((c.counts for c in commits), Counts())
            assert not counts[channels[0]].problems()
        each, alone = counts["each"], counts[0]
        assert (each.annotations_used, each.annotations_rejected) == (
            alone.annotations_used,
            alone.annotations_rejected,
        )
        assert alone.annotations_rejected == 6 and alone.clips_rejected >= 2
        # Both recordings give the same clips a channel: 2 and 5 of them.
        for name in ("clips_candidates", "clips_kept", "clips_dropped", "clips_rejected"):
            assert getattr(each, name) * 2 == getattr(alone, name) * 7, name


def test_a_silent_channel_is_dropped_alone(make_config: MakeConfig, tmp_path: Path) -> None:
    y = many(2)
    y[:, 1] = 0
    write_audio(tmp_path / "in" / "a.flac", y, 22050)
    config = make_config(source_of(tmp_path), audio={"channels": "each"}, silence={"min_dbfs": -60})
    commits = build_here(config)
    rows = clips_of(tmp_path / "out", commits)
    assert {r["channel"] for r in rows[:-1]} == {0}
    # The last one of each is padded, with noise at -50 dBFS.
    assert commits[0].counts.dropped["silence"] == 5 and commits[0].counts.clips_kept == 7


@pytest.mark.parametrize("minutes", [0.05, 2.2], ids=["short", "of several tables"])
@pytest.mark.parametrize("annotated", [False, True])
def test_a_recording_without_the_channel_is_rejected_whole(
    make_config: MakeConfig, tmp_path: Path, minutes: float, annotated: bool
) -> None:
    seconds = minutes * 60
    write_audio(tmp_path / "in" / "a.flac", tone(seconds, 44100), 44100)
    write_audio(tmp_path / "in" / "b.flac", tone(3, 44100, 2), 44100)
    source = source_of(tmp_path, channels="right")
    if annotated:
        rows = f"start,end\n0,{seconds - 0.5}\n0,{seconds - 1}\n1,2\n{seconds - 2},{seconds - 1}\nx,y\n{seconds + 5},\n"
        (tmp_path / "in" / "a.csv").write_text(rows)
        (tmp_path / "in" / "b.csv").write_text("start,end\n0,2\n")
        source["annotations"] = {"sidecar": "{stem}.csv", "columns": {"start": "start", "end": "end"}}
    commits = build_here(make_config(source))
    counts = sum((c.counts for c in commits), Counts())
    assert (counts.recordings_used, counts.recordings_rejected) == (1, 1)
    assert counts.clips_kept and not counts.problems()
    found = [r for c in commits for r in c.rejections if r["kind"] == "recording"]
    assert [(r["reason"], r["stage"], r["detail"]) for r in found] == [
        ("channel_missing", "downmix", "it has 1 channel, and channels: right asks for channel 1, counted from 0")
    ]
    if annotated:
        assert counts.rejected == {"channel_missing": 1, "recording_rejected": 4, "annotation_not_a_number": 2}
    assert {r["recording_id"] for r in clips_of(tmp_path / "out", commits)} == {"s0/b.flac"}


def test_spans_without_the_channel_are_rejected_each(make_config: MakeConfig, tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "a.wav", tone(60, 16000, 2), 16000)
    config = make_config(
        source_of(tmp_path, bytes_per_second=64000), audio={"channels": [0, 7]},
        output={"root": str(tmp_path / "out"), "shard_seconds": 10},
    )  # fmt: skip
    commits = build_here(config)
    counts = sum((c.counts for c in commits), Counts())
    assert (counts.recordings_rejected, counts.rejected["channel_missing"]) == (1, 1 + counts.spans_rejected)
    assert (
        commits[0].rejections[0]["detail"]
        == "it has 2 channels, and channels: [0, 7] asks for channel 7, counted from 0"
    )
    assert counts.spans_rejected > 2 and counts.clips_candidates == 0


def test_sources_choose_for_themselves(make_config: MakeConfig, tmp_path: Path) -> None:
    for name in "abc":
        write_audio(tmp_path / name / f"{name}.wav", many(2), 22050)

    def config(name: str, **channels: Any) -> Path:
        sources = [
            {"name": n, "root": tmp_path / n, "segment": dict(WINDOWS), **({"channels": channels[n]} if n in channels else {})}
            for n in "abc"
        ]  # fmt: skip
        return make_config(sources, **at(tmp_path, name))

    rows = built(config("x", b="each", c="right"))
    found = {s: {r["channel"] for r in rows if r["source"] == s} for s in "abc"}
    assert found == {"a": {None}, "b": {0, 1}, "c": {None}}
    assert all(r["clip_id"].endswith(f"-c{r['channel']}") == (r["source"] == "b") for r in rows)
    plain, given = (make_plan(load(config("x", **c)).config) for c in ({}, {"a": "left"}))
    digests = [
        dict(zip(p.table["item_id"].to_pylist(), p.table["item_digest"].to_pylist(), strict=True))
        for p in (plain, given)
    ]
    assert {i for i in digests[0] if digests[0][i] != digests[1][i]} == {"a/a.wav"}
    # Clips of the other sources get the column as well, so their shards are others.
    assert make_plan(load(config("x", b="each")).config).clips_digest != plain.clips_digest == given.clips_digest


def test_no_column_and_no_key_moves_without_each(make_config: MakeConfig, tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "a.wav", many(2), 22050)
    source = source_of(tmp_path)
    plain = make_plan(load(make_config(dict(source))).config)
    said = {"track": "default", "gaps": "fill", "channels": "mono"}
    assert make_plan(load(make_config(dict(source), audio=said)).config).keys == plain.keys
    for audio in (
        {"track": "first"}, {"track": 1}, {"track": {"language": "eng"}}, {"gaps": "ignore"}, {"channels": [1, 0]},
    ):  # fmt: skip
        assert make_plan(load(make_config(dict(source), audio=audio)).config).clips_digest != plain.clips_digest, audio
    track = make_plan(load(make_config({**source, "track": {"language": "eng"}})).config)
    assert track.keys != plain.keys and track.clips_digest == plain.clips_digest
    for name, common, other in (
        ("channels", "mono", "left"),
        ("channels", "keep", "mono"),
        ("channels", [0, 1], [1]),
        ("track", "default", "first"),
        ("track", 1, 0),
        ("track", {"language": "eng"}, {"language": "deu"}),
    ):
        audio = {name: common}
        inherited = make_plan(load(make_config(dict(source), audio=audio)).config).keys
        assert make_plan(load(make_config({**source, name: common}, audio=audio)).config).keys == inherited, common
        assert make_plan(load(make_config({**source, name: other}, audio=audio)).config).keys != inherited, other
    order = [make_plan(load(make_config(dict(source), audio={"channels": c})).config).keys for c in ([0, 1], [1, 0])]
    assert order[0] == order[1], "a mean does not depend on the order of its channels"
    report = build(load(make_config(dict(source))), quiet=True)
    manifest = pq.read_schema(tmp_path / "out" / "snapshots" / "000001" / "manifest.parquet")
    assert CHANNEL_COLUMN not in manifest.names and report.snapshot is not None
    assert "has_channel" not in (tmp_path / "out" / "snapshots" / "000001.json").read_text()
    assert not report.snapshot.has_channel


@pytest.mark.parametrize("key", ["audio.channels", "sources[0].channels"])
def test_a_field_named_channel(make_config: MakeConfig, tmp_path: Path, key: str) -> None:
    write_audio(tmp_path / "in" / "near" / "a.wav", many(2), 22050)
    source = source_of(tmp_path, fields="(?P<channel>[^/]+)/")
    rows = built(make_config(dict(source)))
    assert {r["channel"] for r in rows} == {"near"}
    build(load(make_config(dict(source))), quiet=True)
    report = build(load(make_config(dict(source), features={"log_mel": {"n_mels": 8}})), quiet=True)
    assert report.shards_from_clips == 1  # a reread of clips whose field has the column's name
    asked: dict[str, Any] = {"channels": "each"}
    config = make_config({**source, **asked}) if key != "audio.channels" else make_config(source, audio=asked)
    with pytest.raises(ConfigError, match=r"field 'channel' \(in source 's0'\).*another name") as refused:
        make_plan(load(config).config)
    assert key in str(refused.value)


def test_the_source_with_a_field_named_channel_is_named(make_config: MakeConfig, tmp_path: Path) -> None:
    for name in "ab":
        write_audio(tmp_path / name / "x.wav", many(2), 22050)
        (tmp_path / name / "x.csv").write_text(f"start,end,{'channel' if name == 'b' else 'side'}\n0,1,near\n")
    rows = {"sidecar": "{stem}.csv", "columns": {"start": "start", "end": "end"}}
    sources = [
        {"name": n, "root": tmp_path / n, "annotations": dict(rows), "segment": {"mode": "annotation"}} for n in "ab"
    ]
    sources[0]["channels"] = "each"
    with pytest.raises(ConfigError, match=r"\(in source 'b'\).*extra_columns: drop"):
        make_plan(load(make_config([dict(s) for s in sources])).config)
    sources[1]["annotations"] = {**rows, "extra_columns": "drop"}
    assert "side" in make_plan(load(make_config(sources)).config).field_names


@pytest.mark.parametrize(
    ("where", "given", "said"),
    [
        ("audio", {"channels": "both"}, "expected mono, keep, left, right, each, or a list"),
        ("audio", {"channels": []}, "a list of channel numbers"),
        ("audio", {"channels": [0, -1]}, "counted from 0"),
        ("audio", {"channels": [1, 1]}, "twice"),
        ("audio", {"channels": [True]}, "counted from 0"),
        ("source", {"channels": "sides"}, "expected mono"),
        ("audio", {"track": "second"}, "expected default, first, a track's number"),
        ("source", {"track": -1}, "counted from 0"),
        ("audio", {"track": {"langage": "eng"}}, "did you mean 'language'"),
        ("audio", {"track": {"language": False}}, "in quotes"),
        ("source", {"track": {"language": "english please"}}, "track"),
        ("audio", {"gaps": "close"}, "fill"),
    ],
)
def test_what_is_no_choice_is_told(
    make_config: MakeConfig, tmp_path: Path, where: str, given: dict[str, Any], said: str
) -> None:
    source = {"root": tmp_path, **(given if where == "source" else {})}
    config = make_config(source, **({"audio": given} if where == "audio" else {}))
    with pytest.raises(ConfigError) as refused:
        load(config)
    assert said in str(refused.value) and "yaml:" in str(refused.value)


def test_track_and_gaps_reach_decoding(make_config: MakeConfig, tmp_path: Path) -> None:
    from clipmill.pipelines.chain import chain_of
    from clipmill.stages.decode import Decode

    sources = [{"root": tmp_path, "name": "a"}, {"root": tmp_path, "name": "b", "track": 2}]
    config = load(make_config(sources, audio={"gaps": "reject", "track": {"language": "eng"}})).config
    decode = chain_of(
        type(config).model_validate_json(config.model_dump_json(by_alias=True, exclude_unset=True))
    ).chunk[0]
    assert isinstance(decode, Decode) and decode.gaps == "reject"
    assert decode.sources["a"].track == config.audio.track and decode.sources["b"].track == 2


@pytest.mark.parametrize("formats", [["parquet"], ["webdataset"]])
def test_shards_made_again_keep_the_channel(make_config: MakeConfig, tmp_path: Path, formats: list[str]) -> None:
    write_audio(tmp_path / "in" / "a.wav", many(2), 22050)
    write_audio(tmp_path / "mono" / "b.wav", many(2), 22050)
    sources = [source_of(tmp_path, channels="each"), {"root": tmp_path / "mono", "segment": dict(WINDOWS)}]
    output = {"root": str(tmp_path / "out"), "formats": formats}
    build(load(make_config([dict(s) for s in sources], output=output)), quiet=True)
    more = make_config(
        sources, output={**output, "formats": ["parquet", "webdataset"]}, features={"log_mel": {"n_mels": 8}}
    )
    report = build(load(more), quiet=True)
    assert report.status == "published" and report.shards_from_clips == report.shards_built > 0
    manifests = [pq.read_table(tmp_path / "out" / "snapshots" / f"00000{n}" / "manifest.parquet") for n in (1, 2)]
    assert manifests[0].drop_columns("shard").equals(manifests[1].drop_columns("shard"))
    assert Counter(manifests[1]["channel"].to_pylist()) == {0: 6, 1: 6, None: 6}
    assert manifests[1].schema.field("channel").type == pa.int32()
    (tar,) = (
        (tmp_path / "out" / "shards").rglob("*.tar")
        if formats == ["parquet"]
        else list((tmp_path / "out" / "shards").rglob("*.tar"))[:1]
    )
    with tarfile.open(tar) as members:
        told = [json.load(members.extractfile(m)) for m in members if m.name.endswith(".json")]  # type: ignore[arg-type]
    assert Counter(row["channel"] for row in told) == {0: 6, 1: 6, None: 6}


def test_readers_and_exports_have_the_channel(make_config: MakeConfig, tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "a.wav", many(2), 22050)
    text = {"formats": ["parquet", "webdataset"], "root": str(tmp_path / "out")}
    plain = make_config(source_of(tmp_path), output=text)
    assert build(load(plain), quiet=True).status == "published"
    config = make_config(
        source_of(tmp_path), output=text, audio={"channels": "each"}, features={"log_mel": {"n_mels": 8}}
    )
    assert build(load(config), quiet=True).status == "published"
    root = output_root(load(config).config)
    assert [*verify(root)][-1].problems == []
    published = open_dataset(tmp_path / "out")
    assert published.huggingface_features()["channel"] == {"dtype": "int32", "_type": "Value"}
    dataset = ClipDataset(published, "train", columns=("audio", "channel", "log_mel"))
    (batch,) = torch.utils.data.DataLoader(dataset, batch_size=99, collate_fn=padded)
    assert batch["channel"].tolist() == [0, 1] * 6 and batch["audio"].shape[:2] == (12, 1)
    pytest.importorskip("lhotse")
    for name in FORMATS:
        if format_of(name).place == "service":
            continue
        there = root if format_of(name).place == "root" else type(root)(str(tmp_path / "exports" / name))
        Path(there.full()).mkdir(parents=True, exist_ok=True)
        assert exporter(name)(Export(published, there)), name
    lines = (tmp_path / "exports" / "csv" / "train.csv").read_text().splitlines()
    place = lines[0].split(",").index("channel")
    assert [line.split(",")[place] for line in lines[1:]] == ["0", "1"] * 6
    nemo = [json.loads(line) for line in (tmp_path / "exports" / "nemo" / "train.json").read_text().splitlines()]
    assert [row["recording_channel"] for row in nemo] == [0, 1] * 6
    card, croissant = (
        (tmp_path / "out" / "README.md").read_text(),
        json.loads((tmp_path / "out" / "croissant.json").read_text()),
    )
    assert "name: channel\n" in card
    assert "channel" in [f["name"] for f in croissant["recordSet"][0]["field"]]
    from lhotse import CutSet

    cuts = CutSet.from_shar(in_dir=str(tmp_path / "exports" / "lhotse" / "train"))
    assert [(c.supervisions[0].channel, c.supervisions[0].custom["recording_channel"]) for c in cuts] == [
        (0, 0),
        (0, 1),
    ] * 6
    from datasets import load_dataset

    columns = load_dataset("parquet", data_files=published.uris("train"), split="train", cache_dir=str(tmp_path / "hf"))
    assert columns["channel"][:4] == [0, 1, 0, 1]


def test_diff_of_a_field_that_became_the_column(make_config: MakeConfig, tmp_path: Path) -> None:
    from clipmill.pipelines.dataset.diff import diff

    for name in ("in/7", "other/7"):
        write_audio(tmp_path / name / "a.wav", many(2), 22050)
    mixed = {"root": tmp_path / "other", "segment": dict(WINDOWS)}
    fields = {"fields": "(?P<channel>[^/]+)/"}
    assert build(load(make_config([source_of(tmp_path, **fields), dict(mixed)])), quiet=True).status == "published"
    config = make_config([source_of(tmp_path, channels="each"), dict(mixed)])
    assert build(load(config), quiet=True).status == "published"
    found = diff(output_root(load(config).config), 1, 2)
    assert len(found.clips.added) == 12 and len(found.clips.removed) == 6 and found.clips.changed == []


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 4), seconds=st.floats(0.05, 3), length=st.floats(0.05, 1), hop=st.floats(0.05, 1), every=st.integers(1, 3),
    tail=st.sampled_from(["drop", "keep", "pad_zero", "pad_noise"]), loud=st.sets(st.integers(0, 3)), holes=st.sets(st.integers(0, 3)),
    mode=st.sampled_from(["window", "whole"]), longest=st.floats(0.3, 4),
)  # fmt: skip
def test_sums_with_each(
    channels: int, seconds: float, length: float, hop: float, every: int, tail: Any, loud: set[int], holes: set[int], mode: Any, longest: float,
) -> None:  # fmt: skip
    y = 0.001 * np.random.default_rng(channels).standard_normal((round(seconds * 16000), channels))
    for channel in range(channels):
        y[:, channel] *= 100 if channel in loud else 1
        y[len(y) // 2, channel] = np.nan if channel in holes else 0
    spec = (
        Spec(mode="window", length_s=length, hop_s=hop, tail=tail, keep_every=every)
        if mode == "window"
        else Spec(max_clip_s=longest)
    )

    def sums(each: bool, samples: np.ndarray) -> tuple[Counter[str], set[str]]:
        run = chunk_of(samples, n_channels=samples.shape[1], core_frames=len(samples), total_frames=len(samples))
        found: Counter[str] = Counter()
        ids: list[str] = []
        for part in Segment({"s": SegmentSource(spec, each_channel=each)})(Downmix("each" if each else "keep")(run)):
            for row in SilenceFilter(-40)(part).to_pylist():
                if row["status"] == "account":
                    found["candidates"] += row["n_candidates"]
                else:
                    found[row["reason"] or row["rule"] or "kept"] += row["count"] or 1
                    ids += [row["clip_id"]] if row["clip_id"] and row["status"] == "clip" else []
        assert found["candidates"] == sum(found.values()) - found["candidates"]
        assert len(set(ids)) == len(ids)
        return found, set(ids)

    each, ids = sums(True, y)
    alone = [sums(False, y[:, [c]]) for c in range(channels)]
    # Noise at the end differs from channel to channel and may be quieter or louder than the threshold; all else is equal.
    assert each["candidates"] == sum(found["candidates"] for found, _ in alone)
    if tail != "pad_noise":
        assert each == sum((found for found, _ in alone), Counter())
        assert ids == {f"{i}-c{c}" for c, (_, of_channel) in enumerate(alone) for i in of_channel}
