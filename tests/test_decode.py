"""From a plan to chunks at the target rate: the same samples as of the whole file, and only what clips need decoded."""

from __future__ import annotations

import os
import struct
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import soundfile as sf
import soxr
from conftest import tone, write_audio

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.config_file import load
from clipmill.pipelines.plan.planning import Plan, make_plan
from clipmill.pipelines.run.shard_work import apply_stages
from clipmill.schemas.config import Config
from clipmill.schemas.tables import CHUNKS
from clipmill.stages.arrow_rows import float_lists, list_values
from clipmill.stages.downmix import Downmix, mono

MakeConfig = Callable[..., Path]
WINDOWS = {"mode": "window", "length_s": 1.0, "tail": "keep"}
TABLE = {"sidecar": "{stem}.csv", "header": False, "columns": {"start": 0, "end": 1}}


def planned(path: Path) -> tuple[Config, Plan]:
    config = load(path).config
    return config, make_plan(config)


def tables(config: Config, plan: Plan) -> Iterator[pa.Table]:
    """Pass a plan through Decode, Downmix and Resample."""
    return apply_stages(chain_of(config).to_clips[:3], [plan.table])


def rows_of(some: Iterator[pa.Table]) -> list[dict[str, Any]]:
    """Return the chunks, the samples of each as float32 [frames, channels] without the lead."""
    found = []
    for table in some:
        assert table.schema.equals(CHUNKS)
        samples = list_values(table["samples"])
        for row, flat in zip(table.drop_columns(["samples"]).to_pylist(), samples, strict=True):
            y = flat.reshape(-1, row["n_channels"] or 1)
            found.append({**row, "samples": y[row["lead"] or 0 :][: row["core_frames"]]})
    return found


def chunks(path: Path) -> list[dict[str, Any]]:
    return rows_of(tables(*planned(path)))


def joined(rows: list[dict[str, Any]]) -> npt.NDArray[np.float32]:
    """Join the chunks of a recording; where two hold the same cell they must agree to the last bit."""
    assert rows[-1]["last"] and rows[-1]["reason"] is None, rows[-1]["detail"]
    y = np.full((rows[-1]["total_frames"], rows[-1]["n_channels"]), np.nan, np.float32)
    for row in rows:
        if row["start_s"] is None:
            continue
        place = y[row["start_s"] * row["sample_rate_hz"] :][: len(row["samples"])]
        assert len(place) == len(row["samples"])
        both = ~np.isnan(place)
        assert np.array_equal(place[both], row["samples"][both])
        place[:] = row["samples"]
    return y


def last_rows(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in rows if row["last"]}


def noise(seconds: float, rate: int, channels: int = 1) -> npt.NDArray[np.float64]:
    return tone(seconds, rate, channels) + 0.05 * np.random.default_rng(rate).standard_normal(
        (round(seconds * rate), channels)
    )


# The whole recording.

RATES = [8000, 11025, 22050, 44100, 48000, 44056]


@pytest.mark.parametrize(
    ("extension", "rate"), [(e, r) for e in ("wav", "flac", "ogg", "mp3") for r in RATES if (e, r) != ("mp3", 44056)]
)
def test_joined_runs_equal_the_whole_file_resampled(
    make_config: MakeConfig, tmp_path: Path, extension: str, rate: int
) -> None:
    path = write_audio(tmp_path / "in" / f"a.{extension}", noise(70, rate), rate)
    rows = chunks(make_config({"root": tmp_path / "in", "segment": WINDOWS}))
    whole, _ = sf.read(path, dtype="float32", always_2d=True)
    expected = soxr.resample(whole, rate, 16000, quality="HQ")
    assert len(rows) > 2
    assert joined(rows).shape == expected.shape
    assert np.abs(joined(rows) - expected).max() <= 2e-6


@pytest.mark.parametrize("quality", ["HQ", "VHQ", "MQ"])
@pytest.mark.parametrize(
    ("rate", "target"), [(8000, 48000), (44100, 22050), (44101, 16000), (16000, 44100), (96000, 8000)]
)
def test_any_pair_of_rates_gives_the_whole_files_result(
    make_config: MakeConfig, tmp_path: Path, rate: int, target: int, quality: str
) -> None:
    y = noise(9.37, rate, 2)
    write_audio(tmp_path / "in" / "a.wav", y, rate, "FLOAT")
    audio = {"sample_rate_hz": target, "resampler": f"soxr_{quality.lower()}", "channels": "keep"}
    rows = chunks(make_config({"root": tmp_path / "in", "segment": WINDOWS}, audio=audio))
    expected = soxr.resample(y.astype(np.float32), rate, target, quality=quality)
    assert joined(rows).shape == expected.shape
    assert np.abs(joined(rows) - expected).max() <= 2e-6


def test_samples_at_the_target_rate_pass_unchanged(make_config: MakeConfig, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "in" / "a.wav", noise(70, 16000), 16000)
    rows = chunks(make_config({"root": tmp_path / "in", "segment": WINDOWS}))
    assert np.array_equal(joined(rows), sf.read(path, dtype="float32", always_2d=True)[0])
    assert [row["lead"] for row in rows] == [0] * len(rows)


@pytest.mark.parametrize("segment", [{**WINDOWS, "hop_s": 0.3}, {**WINDOWS, "length_s": 7.3}, {"mode": "whole"}])
def test_samples_do_not_depend_on_how_a_recording_is_cut(
    make_config: MakeConfig, tmp_path: Path, segment: dict[str, Any]
) -> None:
    write_audio(tmp_path / "in" / "a.wav", noise(40, 22050), 22050)
    expected = joined(chunks(make_config({"root": tmp_path / "in", "segment": WINDOWS})))
    assert np.array_equal(joined(chunks(make_config({"root": tmp_path / "in", "segment": segment}))), expected)


@pytest.mark.parametrize("extension", ["wav", "flac"])
def test_spans_of_a_long_recording_are_decoded_by_themselves(
    make_config: MakeConfig, tmp_path: Path, extension: str
) -> None:
    write_audio(tmp_path / "in" / f"a.{extension}", noise(70, 22050), 22050)
    config = {
        "root": tmp_path / "in",
        "segment": WINDOWS,
        "bytes_per_second": (tmp_path / "in" / f"a.{extension}").stat().st_size / 70,
    }
    whole = joined(chunks(make_config(config)))
    parts = chunks(make_config(config, output={"root": str(tmp_path / "out"), "shard_seconds": 20}))
    ends = [row for row in parts if row["last"]]
    assert sorted(row["item_id"] for row in ends) == [f"s0/a.{extension}#{k}" for k in range(4)]
    assert max(row["decoded_s"] for row in ends) < 24
    seen = np.zeros(len(whole), bool)
    for row in parts:
        place = slice(row["start_s"] * 16000, row["start_s"] * 16000 + len(row["samples"]))
        assert np.array_equal(row["samples"], whole[place])
        seen[place] = True
    assert seen.all()


# Only what is needed.


@pytest.mark.parametrize(("extension", "most_s"), [("wav", 5), ("flac", 5), ("aiff", 5), ("ogg", 63), ("mp3", 63)])
def test_one_annotation_at_60_s_decodes_a_few_seconds(
    make_config: MakeConfig, tmp_path: Path, extension: str, most_s: float
) -> None:
    write_audio(tmp_path / "in" / f"a.{extension}", noise(70, 22050), 22050)
    whole = joined(chunks(make_config({"root": tmp_path / "in", "segment": WINDOWS})))
    (tmp_path / "in" / "a.csv").write_text("60,61\n")
    rows = chunks(make_config({"root": tmp_path / "in", "annotations": TABLE, "segment": {"mode": "annotation"}}))
    assert rows[-1]["decoded_frames"] <= most_s * 22050
    assert rows[-1]["decoded_s"] == rows[-1]["decoded_frames"] / 22050
    held = [row for row in rows if len(row["samples"])]
    assert len(held) == 1 and held[0]["start_s"] <= 60 and held[0]["start_s"] + len(held[0]["samples"]) / 16000 >= 61
    start = held[0]["start_s"] * 16000
    assert np.array_equal(held[0]["samples"], whole[start : start + len(held[0]["samples"])])


def test_overlapping_and_unsorted_annotations_are_decoded_once(make_config: MakeConfig, tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "a.flac", noise(70, 22050), 22050)
    (tmp_path / "in" / "a.csv").write_text("40,42\n3,5\n3,5\n4,4.5\n41,43\n3.5,9\n")
    rows = chunks(make_config({"root": tmp_path / "in", "annotations": TABLE, "segment": {"mode": "annotation"}}))
    assert rows[-1]["decoded_s"] < 16
    assert sum(len(row["cuts"]) for row in rows) == 6


@pytest.mark.parametrize(("unit", "scale"), [("ms", 1000), ("samples", 22050)])
def test_annotation_in_another_unit_gives_the_same_chunks(
    make_config: MakeConfig, tmp_path: Path, unit: str, scale: int
) -> None:
    write_audio(tmp_path / "in" / "a.wav", noise(20, 22050), 22050)
    source = {"root": tmp_path / "in", "segment": {"mode": "annotation"}}
    (tmp_path / "in" / "a.csv").write_text("5,6\n11,12\n")
    expected = chunks(make_config({**source, "annotations": TABLE}))
    (tmp_path / "in" / "a.csv").write_text(f"{5 * scale},{6 * scale}\n{11 * scale},{12 * scale}\n")
    found = chunks(make_config({**source, "annotations": {**TABLE, "time_unit": unit}}))
    assert [row["start_s"] for row in found] == [row["start_s"] for row in expected]
    assert all(np.array_equal(a["samples"], b["samples"]) for a, b in zip(found, expected, strict=True))


def test_recording_without_a_usable_annotation_is_not_decoded(make_config: MakeConfig, tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "a.wav", noise(3, 8000), 8000)
    (tmp_path / "in" / "a.csv").write_text("2,1\n")
    rows = chunks(make_config({"root": tmp_path / "in", "annotations": TABLE, "segment": {"mode": "annotation"}}))
    assert (len(rows), rows[0]["decoded_frames"], rows[0]["annotations"][0]["reason"]) == (
        1,
        0,
        "annotation_end_before_start",
    )


def test_tables_and_memory_stay_small_for_a_recording_of_20_minutes(make_config: MakeConfig, tmp_path: Path) -> None:
    size = 20 * 60 * 48000 * 4
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "a.wav").open("wb") as file:
        file.write(
            b"RIFF"
            + struct.pack("<I", 36 + size)
            + b"WAVEfmt "
            + struct.pack("<IHHIIHH", 16, 1, 2, 48000, 192000, 4, 16)
        )
        file.write(b"data" + struct.pack("<I", size))
        file.truncate(44 + size)
    config, plan = planned(make_config({"root": tmp_path / "in", "segment": WINDOWS}))
    decode, downmix, resample = chain_of(config).to_clips[:3]
    tracemalloc.start()
    n_frames, largest = 0, 0
    for table in apply_stages([decode], [plan.table]):
        largest = max(largest, table.nbytes)
        n_frames += sum(resample(downmix(table))["core_frames"].drop_null().to_pylist())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_frames >= 20 * 60 * 16000
    assert largest < 64e6
    assert peak < 200e6


# Where recordings lie.


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
def test_remote_root_gives_the_same_chunks_as_a_folder(make_config: MakeConfig, tmp_path: Path, extension: str) -> None:
    path = write_audio(tmp_path / "in" / f"a [b] #1.{extension}", noise(12, 22050, 2), 22050)
    url = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").pipe_file(f"{url}/{path.name}", path.read_bytes())
    expected = chunks(make_config({"root": tmp_path / "in", "segment": WINDOWS}))
    found = chunks(make_config({"root": url, "segment": WINDOWS}))
    assert np.array_equal(joined(found), joined(expected))
    assert found[-1]["source_uri"] == f"{url}/{path.name}"


def test_remote_recording_that_is_replaced_or_removed_is_noticed(make_config: MakeConfig, tmp_path: Path) -> None:
    content = write_audio(tmp_path / "a.wav", noise(2, 8000), 8000).read_bytes()
    fs, url = fsspec.filesystem("memory"), f"memory://{uuid.uuid4().hex}"
    for name in ("gone.wav", "new.wav", "same.wav"):
        fs.pipe_file(f"{url}/{name}", content)
    config, plan = planned(make_config({"root": url}))
    fs.rm_file(f"{url}/gone.wav")
    fs.pipe_file(f"{url}/new.wav", content + content)
    found = last_rows(rows_of(tables(config, plan)))
    assert {name: row["reason"] for name, row in found.items()} == {
        "gone.wav": "recording_missing", "new.wav": "recording_changed", "same.wav": None,
    }  # fmt: skip


@pytest.mark.parametrize("version", ["auto", "sha256"])
def test_unchanged_recording_is_decoded_whatever_tells_its_version(
    make_config: MakeConfig, tmp_path: Path, version: str
) -> None:
    write_audio(tmp_path / "in" / "a.wav", noise(2, 8000), 8000)
    rows = chunks(make_config({"root": tmp_path / "in", "version": version}))
    assert rows[-1]["reason"] is None, rows[-1]["detail"]


def test_touched_recording_with_equal_content_is_the_same_by_sha256(make_config: MakeConfig, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "in" / "a.wav", noise(2, 8000), 8000)
    config, plan = planned(make_config({"root": tmp_path / "in", "version": "sha256"}))
    os.utime(path, (1, 1))
    assert rows_of(tables(config, plan))[-1]["reason"] is None


def other_content(path: Path) -> None:
    write_audio(path, noise(3, 8000), 8000)


def other_time(path: Path) -> None:
    os.utime(path, (1, 1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [(Path.unlink, "recording_missing"), (other_content, "recording_changed"), (other_time, "recording_changed")],
)
@pytest.mark.parametrize("when", ["before reading", "while reading"])
def test_recording_that_moves_under_the_build_is_rejected(
    make_config: MakeConfig, tmp_path: Path, change: Callable[[Path], None], reason: str, when: str
) -> None:
    path = write_audio(tmp_path / "in" / "a.wav", noise(75, 22050, 4), 22050)
    config, plan = planned(make_config({"root": tmp_path / "in", "segment": WINDOWS}))
    some = tables(config, plan)
    first = [next(some)] if when == "while reading" else []
    change(path)
    rows = rows_of(iter([*first, *some]))
    assert rows[-1]["last"] and rows[-1]["reason"] == reason
    assert [row["last"] for row in rows[:-1]] == [False] * (len(rows) - 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_recording_without_read_permission_is_unreadable(make_config: MakeConfig, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "in" / "a.wav", noise(1, 8000), 8000)
    config, plan = planned(make_config({"root": tmp_path / "in"}))
    path.chmod(0)
    assert rows_of(tables(config, plan))[-1]["reason"] == "unreadable"


# Bad files.


def test_bad_files_are_rejected_and_good_ones_beside_them_are_not(make_config: MakeConfig, tmp_path: Path) -> None:
    good = write_audio(tmp_path / "in" / "good.wav", noise(3, 16000), 16000)
    content = good.read_bytes()
    bad = {
        "text.wav": b"no audio",
        "empty.flac": b"",
        "header.wav": content[:40] + bytes(4),
        "cut.wav": content[:999],
        "zeros.mp3": bytes(999),
    }
    for name, some in bad.items():
        (tmp_path / "in" / name).write_bytes(some)
    write_audio(tmp_path / "in" / "also.flac", noise(3, 16000), 16000)
    rows = chunks(make_config({"root": tmp_path / "in", "segment": WINDOWS}))
    assert {name: row["reason"] for name, row in last_rows(rows).items()} == {
        "text.wav": "not_audio", "empty.flac": "empty", "header.wav": "empty", "cut.wav": "truncated",
        "zeros.mp3": "not_audio", "good.wav": None, "also.flac": None,
    }  # fmt: skip
    for name in ("good.wav", "also.flac"):
        found = joined([row for row in rows if row["path"] == name])
        assert np.array_equal(found, sf.read(tmp_path / "in" / name, dtype="float32", always_2d=True)[0])


@pytest.mark.parametrize("name", ["text.wav", "empty.wav"])
def test_rejected_recording_keeps_its_annotations_to_be_counted(
    make_config: MakeConfig, tmp_path: Path, name: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(b"" if name == "empty.wav" else b"text")
    (tmp_path / "in" / name.replace(".wav", ".csv")).write_text("0,1\n1,2\n")
    rows = chunks(make_config({"root": tmp_path / "in", "annotations": TABLE, "segment": {"mode": "annotation"}}))
    assert len(rows) == 1 and len(rows[0]["annotations"]) == 2


# Channels.


@pytest.mark.parametrize("alike", [False, True], ids=["different", "alike"])
def test_downmix_of_1_to_25_channels_is_their_mean(alike: bool) -> None:
    wrong = {}
    for channels in range(1, 26):
        y = np.random.default_rng(channels).uniform(-1, 1, (5000, 1 if alike else channels)).astype(np.float32)
        y = np.ascontiguousarray(np.broadcast_to(y, (5000, channels)))
        off = np.abs(mono(y) - y.mean(axis=1, dtype=np.float64)).max()
        if off > 1e-7:
            wrong[channels] = float(off)
    assert wrong == {}


@pytest.mark.parametrize("channels", [2, 3, 25])
def test_downmix_of_a_frame_does_not_depend_on_its_place(channels: int) -> None:
    y = np.random.default_rng(0).uniform(-1, 1, (1000, channels)).astype(np.float32)
    for start, stop in ((0, 1), (1, 8), (13, 29), (500, 1000)):
        assert np.array_equal(mono(y[start:stop].copy()), mono(y)[start:stop])


@pytest.mark.parametrize(
    ("channels", "extension"), [(25, "wav"), (64, "wav"), (500, "wav"), (8, "flac"), (6, "ogg"), (2, "mp3")]
)
def test_many_channels_are_averaged_and_resampled(
    make_config: MakeConfig, tmp_path: Path, channels: int, extension: str
) -> None:
    path = write_audio(tmp_path / "in" / f"a.{extension}", 0.5 * noise(2.5, 8000, channels), 8000)
    whole, _ = sf.read(path, dtype="float32", always_2d=True)
    rows = chunks(make_config({"root": tmp_path / "in", "segment": WINDOWS}))
    expected = soxr.resample(whole.mean(axis=1, dtype=np.float64).astype(np.float32), 8000, 16000, quality="HQ")
    assert rows[-1]["n_channels"] == 1
    assert np.abs(joined(rows)[:, 0] - expected).max() <= 2e-6


def test_channels_are_kept_in_their_order(make_config: MakeConfig, tmp_path: Path) -> None:
    y = noise(5, 22050, 25) * np.linspace(0.1, 1, 25)
    write_audio(tmp_path / "in" / "a.wav", y, 22050, "FLOAT")
    rows = chunks(make_config({"root": tmp_path / "in", "segment": WINDOWS}, audio={"channels": "keep"}))
    expected = soxr.resample(y.astype(np.float32), 22050, 16000, quality="HQ")
    assert np.abs(joined(rows) - expected).max() <= 2e-6


def test_real_recording_of_25_channels_is_read(corpora: Path, make_config: MakeConfig) -> None:
    root = corpora / "soundata/tests/resources/sound_datasets/eigenscape"
    rows = chunks(make_config({"root": root, "include": ["Beach.1.wav"]}, audio={"sample_rate_hz": 48000}))
    whole, _ = sf.read(root / "Beach.1.wav", dtype="float32")
    assert np.abs(joined(rows)[:, 0] - whole.mean(axis=1, dtype=np.float64)).max() <= 1e-7


def test_downmix_leaves_mono_and_rejected_rows_as_they_are() -> None:
    rows = [
        {"item_id": "a", "n_channels": 1},
        {"item_id": "b", "n_channels": None, "reason": "empty"},
        {"item_id": "c", "n_channels": 3},
    ]
    table = pa.Table.from_pylist(rows, schema=CHUNKS)
    samples = float_lists([np.arange(4, dtype=np.float32), np.empty(0, np.float32), np.arange(6, dtype=np.float32)])
    table = table.set_column(table.schema.get_field_index("samples"), CHUNKS.field("samples"), samples)
    mixed = Downmix()(table)
    assert mixed["n_channels"].to_pylist() == [1, None, 1]
    assert [y.tolist() for y in list_values(mixed["samples"])] == [[0, 1, 2, 3], [], [1, 4]]
    assert Downmix("keep")(table).equals(table)
