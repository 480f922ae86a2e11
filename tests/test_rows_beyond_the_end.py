"""A row that reaches beyond its recording's end has one outcome, whatever the container tells of its length, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import tone, write_audio

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.records_io import read_commit, read_snapshot
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.run.shard_work import apply_stages
from clipmill.schemas.config import Segment
from clipmill.stages.decode import lookahead, recording
from clipmill.stages.decode.containers import Container
from clipmill.stages.decode.containers.structure import Part
from clipmill.stages.spans import Range
from clipmill.stages.storage.root import Root

MakeConfig = Callable[..., Path]
RATE = 16000
LENGTH_S = 70
NAME = "r.audio"  # the same for all, so that ids can be held against each other
KINDS = ("wav", "flac", "mp3", "ogg", "opus", "mka", "m4a", "aac", "wv")
CODED = {"mka": ("flac", "matroska"), "m4a": ("aac", "ipod"), "aac": ("aac", "adts"), "wv": ("wavpack", "wv")}
WINDOWS = {"mode": "window", "length_s": 1.0, "hop_s": 0.5}
APART = {"mode": "window", "length_s": 1.0, "keep_every": 200}
SHORT = {"mode": "annotation", "max_clip_s": 30}
LONG = {"mode": "annotation"}
# Line 1 to 6. Those that reach too far: 1, 2 and 4; the others end before the recording does, or as far behind as is tolerated.
ROWS = [(0, 100), (60, 100), (69, 70.03), (80, 90), (0.25, 70), (5, 45)]
BEYOND = {1, 2, 4}

pytestmark = pytest.mark.usefixtures("in_process")


def coded(path: Path, y: np.ndarray, codec: str, container: str) -> None:
    """Write float64 [frames, channels] by FFmpeg's libraries."""
    layout = "mono" if y.shape[1] == 1 else "stereo"
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=RATE)
        stream.layout = layout
        resampler = av.AudioResampler(format=stream.codec_context.format or "fltp", layout=layout, rate=RATE)
        for start in range(0, len(y), 1024):
            block = np.ascontiguousarray(y[start : start + 1024].T.astype(np.float32))
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = RATE, start
            for converted in resampler.resample(frame):
                file.mux(stream.encode(converted))
        file.mux(stream.encode(None))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same 70 s in two channels in every container, each file in a folder of its own."""
    root = tmp_path_factory.mktemp("recordings")
    y = tone(LENGTH_S, RATE, channels=2)
    found = {}
    for kind in KINDS:
        (root / kind).mkdir()
        path = root / kind / NAME
        if kind in ("wav", "flac", "mp3", "ogg", "opus"):
            written = write_audio(
                path.with_suffix(".ogg" if kind == "opus" else f".{kind}"), y, RATE, "OPUS" if kind == "opus" else None
            )
            written.rename(path)
        else:
            coded(path, y, *CODED[kind])
        found[kind] = path
    return found


def configured(
    make_config: MakeConfig, recording: Path, segment: dict[str, Any], rows: list[tuple[float, ...]], **more: Any
) -> Path:
    columns = more.pop("columns", {"start": 0, "end": 1})
    (recording.parent / "r.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    source = {
        "root": recording.parent, "include": ["*.audio"], "segment": segment, "channels": "mono",
        "annotations": {"sidecar": "{stem}.csv", "header": False, "columns": columns}, **more.pop("source", {}),
    }  # fmt: skip
    if "channel" in columns:
        del source["channels"]
    return make_config(source, audio={"sample_rate_hz": RATE, **more.pop("audio", {})}, **more)


def outcome(config_path: Path) -> dict[str, Any]:
    """Pass the plan through the stages; return what came of it: clips, rejections and sums."""
    config = load(config_path).config
    rows = [row for t in apply_stages(chain_of(config).to_clips, [make_plan(config).table]) for row in t.to_pylist()]
    accounts = [r for r in rows if r["status"] == "account"]
    clips = [(r["line"], r["start_s"], r["clip_id"]) for r in rows if r["status"] == "clip"]
    dropped = sum(r["count"] for r in rows if r["status"] == "dropped")
    rejected = sorted((r["kind"], r["line"], r["start_s"], r["reason"]) for r in rows if r["status"] == "rejected")
    n_candidates = sum(r["n_candidates"] for r in accounts)
    assert n_candidates == len(clips) + dropped + sum(r[0] == "clip" for r in rejected)
    return {
        "clips": sorted(clips), "rejected": rejected, "n_annotations": sum(r["n_annotations"] for r in accounts),
        "n_kept": n_candidates - dropped,
    }  # fmt: skip


@pytest.mark.parametrize("truncated", ["reject", "keep"])
@pytest.mark.parametrize("segment", [WINDOWS, APART, SHORT, LONG], ids=["windows", "apart", "short", "long"])
def test_all_containers_agree(
    segment: dict[str, Any], truncated: str, recordings: dict[str, Path], make_config: MakeConfig
) -> None:
    audio = {"truncated": truncated}
    found = {k: outcome(configured(make_config, recordings[k], dict(segment), ROWS, audio=audio)) for k in KINDS}
    wav = found["wav"]
    assert {kind: one for kind, one in found.items() if one != wav} == {}
    rejected = [(line, reason) for of, line, _, reason in wav["rejected"] if of == "annotation"]
    assert rejected == [(line, "annotation_out_of_range") for line in sorted(BEYOND)]
    assert not {line for line, *_ in wav["clips"]} & BEYOND
    assert wav["n_annotations"] == len(ROWS) - len(BEYOND)


@pytest.mark.parametrize("segment", [WINDOWS, LONG], ids=["windows", "long"])
def test_rows_without_an_end_run_to_the_end(
    segment: dict[str, Any], recordings: dict[str, Path], make_config: MakeConfig
) -> None:
    found = {
        kind: outcome(configured(make_config, recordings[kind], dict(segment), [(0,), (60,), (80,)], columns={"start": 0}))
        for kind in KINDS
    }  # fmt: skip
    wav = found["wav"]
    assert {kind: one for kind, one in found.items() if one != wav} == {}
    assert {line for line, *_ in wav["clips"]} == {1, 2}
    assert [(line, reason) for _, line, _, reason in wav["rejected"]] == [(3, "annotation_out_of_range")]


@pytest.mark.parametrize("kind", ["mp3", "ogg"])
@pytest.mark.parametrize("how", ["each", "by_row"])
def test_channels_agree(kind: str, how: str, recordings: dict[str, Path], make_config: MakeConfig) -> None:
    if how == "each":
        more: dict[str, Any] = {"source": {"channels": "each"}}
        rows: list[tuple[float, ...]] = list(ROWS)
    else:
        more = {"columns": {"start": 0, "end": 1, "channel": 2}}
        rows = [(*row, 1 + i % 2) for i, row in enumerate(ROWS)] + [(0, 100, 3)]
    wav, other = (outcome(configured(make_config, recordings[k], WINDOWS, rows, **more)) for k in ("wav", kind))
    assert other == wav
    assert {line for line, *_ in wav["clips"]} == {3, 5, 6}
    reasons = {line: reason for _, line, _, reason in wav["rejected"]}
    assert reasons == dict.fromkeys(BEYOND, "annotation_out_of_range") | (
        {7: "annotation_channel_missing"} if how == "by_row" else {}
    )


@pytest.mark.parametrize("kind", ["flac", "mp3", "ogg"])
def test_a_recording_that_was_cut_is_held_against_what_is_left(
    kind: str, recordings: dict[str, Path], make_config: MakeConfig, tmp_path: Path
) -> None:
    content = recordings[kind].read_bytes()
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / NAME
    path.write_bytes(content[: len(content) * 9 // 10])
    found = outcome(configured(make_config, path, WINDOWS, [(0, 70), (1, 50)], audio={"truncated": "keep"}))
    assert {line for line, *_ in found["clips"]} == {2}
    assert [r[1:2] + r[3:] for r in found["rejected"]] == [(1, "annotation_out_of_range")]


def test_a_length_that_is_not_believed_is_told_rightly(recordings: dict[str, Path], make_config: MakeConfig) -> None:
    config = load(configured(make_config, recordings["wav"], WINDOWS, [(80, 90)], audio={"truncated": "keep"})).config
    rows = [row for t in apply_stages(chain_of(config).to_clips, [make_plan(config).table]) for row in t.to_pylist()]
    assert [r["detail"] for r in rows if r["reason"]] == ["80 to 90 s, the recording has 70.000000 s"]


def test_builds_end_alike(recordings: dict[str, Path], make_config: MakeConfig, tmp_path: Path) -> None:
    """By the command line: exit code, counts and reasons, with one row that is bad and with one that is not."""
    ends: dict[str, list[Any]] = {}
    for kind in ("wav", "flac", "mp3", "ogg"):
        for rows in ([(0, 100)], [(0, 100), *[(k, k + 10) for k in range(30)]]):
            root = tmp_path / f"{kind}{len(rows)}"
            config = configured(
                make_config,
                recordings[kind],
                WINDOWS,
                list(rows),
                name=root.name,
                output={"root": str(root)},
                limits={"max_rejected_share": 0.05},
            )
            result = CliRunner().invoke(main, ["build", str(config)])
            said = result.exit_code, result.output.count("annotation_out_of_range")
            keys = [p.stem for p in (root / "commits").glob("*.json")]
            commits = [read_commit(Root(str(root)), key) for key in keys]
            published = (root / "snapshots").exists() and bool(read_snapshot(Root(str(root))).commits)
            rejected = [(r["reason"], r["line"]) for c in commits for r in c.rejections]
            counts = [asdict(c.counts) for c in commits]
            ends.setdefault(kind, []).append((said, published, counts, rejected))
    assert all(end == ends["wav"] for end in ends.values()), ends
    assert [end[0][0] for end in ends["wav"]] == [3, 0]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Up to where recordings are looked at before clips of them are cut."""
    found: list[float] = []

    def noted(*arguments: Any) -> int | None:
        found.append(arguments[3])
        return lookahead.length_before(*arguments)

    monkeypatch.setattr(recording, "length_before", noted)
    yield found


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "opus", "wv"])
def test_a_recording_of_known_length_is_decoded_once(
    kind: str, recordings: dict[str, Path], make_config: MakeConfig, looks: list[float]
) -> None:
    for segment in (WINDOWS, APART, SHORT, LONG):
        outcome(configured(make_config, recordings[kind], dict(segment), [(0, 70), (5, 45), (69, 70)]))
    assert looks == []


@pytest.mark.parametrize("kind", ["mka", "m4a"])
def test_of_unknown_length_only_what_is_in_doubt_is_decoded_twice(
    kind: str, recordings: dict[str, Path], make_config: MakeConfig, looks: list[float]
) -> None:
    outcome(configured(make_config, recordings[kind], WINDOWS, [(0, 20), (41, 70), (50, 50.5)]))
    assert looks == []
    outcome(configured(make_config, recordings[kind], WINDOWS, [(0, 20), (5, 45), (41, 70)]))
    assert looks == [45]


def test_the_least_length_is_what_decoding_makes_sure_of() -> None:
    whole = Part(((0, 9),), 100, 1, n_frames=1000, tolerance=10)
    unknown = Part(((9, 19),), 100, 1)
    holed = Part(((9, 19),), 100, 1, n_frames=1000, hole="a hole")
    for container, gaps, least_s in (
        (Container("wav", n_frames=1000), "fill", 10.0),
        (Container("flac", n_frames=1000), "fill", 0.0),
        (Container("wav", n_frames=1000, truncated="cut"), "fill", 0.0),
        (Container("mp3", parts=(whole, whole)), "fill", 19.8),
        (Container("mp3", parts=(whole, whole), truncated="cut"), "fill", 0.0),
        (Container("mp3", parts=(whole, unknown, whole)), "fill", 9.9),
        (Container("ogg", parts=(holed, whole)), "fill", 19.9),
        (Container("ogg", parts=(holed, whole)), "ignore", 0.0),
        (Container("matroska"), "fill", 0.0),
    ):
        assert lookahead.minimum_length_s(container, 100, gaps) == pytest.approx(least_s)


def test_rows_that_are_cut_in_one_go_are_in_no_doubt() -> None:
    spec = Segment(mode="window", length_s=1.0)
    for end_s, tolerance_s, expected in ((29.0, 0.0, None), (30.0, 0.0, 30.0), (1e9, 0.0, 1e9), (40.04, 0.05, None)):
        least_s = 40.0 if end_s > 40 else 0.0
        assert lookahead.lookahead_end_s([Range(0, 0.0, end_s)], spec, 30.0, least_s, tolerance_s) == expected
    assert lookahead.lookahead_end_s([Range(0, 0.0, None), Range(-1, 0.0, None)], spec, 30.0, 0.0, 0.0) is None
