"""Features in files of their own beside the shards: the same rows from every reader, and audio that no change of features touches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from beside_corpus import (
    SHARD,
    config,
    contents,
    flip,
    lay,
    made,
    problems,
    spoil_recordings,
    stamps,
    without_donors,
)
from conftest import run, tone, write_audio

from clipmill import ClipDataset, open_dataset
from clipmill.pipelines.config_file import load_config
from clipmill.pipelines.dataset.marks import read_marks
from clipmill.pipelines.dataset.records_io import read_snapshot, snapshot_numbers
from clipmill.pipelines.dataset.shard_table import shard_tables
from clipmill.pipelines.read.clip_source import clips
from clipmill.pipelines.run.build import Builder, build
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.records import OutputFile
from clipmill.stages import write as writing
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.versions import sha256_of

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture(scope="module", autouse=True)
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with recordings and the stage; tests that change recordings have copies."""
    place = tmp_path_factory.mktemp("beside")
    lay(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        yield place


@pytest.fixture(scope="module")
def first(corpus: Path) -> Path:
    """Return the root of a dataset of one snapshot, with features beside; not to be changed."""
    made(config(corpus, corpus / "first"))
    return corpus / "first"


@pytest.fixture
def own(first: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    shutil.copytree(first, tmp_path / "out")
    return tmp_path / "out"


def equal(a: Any, b: Any) -> bool:
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else bool(a == b)


def same_rows(a: list[dict[str, Any]], b: list[dict[str, Any]], but: tuple[str, ...] = ()) -> bool:
    assert len(a) == len(b) > 10
    assert [list(row) for row in a] == [list(row) for row in b]
    return all(equal(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in x if name not in but)


@pytest.fixture(scope="module")
def layouts(corpus: Path) -> tuple[Path, Path]:
    """Return the roots of two datasets that differ in their layout: with a log-mel, pictures, and the stage's columns."""
    pytest.importorskip("torch")
    features = {"log_mel": {"n_fft": 256, "hop_length": 128, "n_mels": 16}, "besides:Frames": {"scale": 2}}
    for layout in ("inside", "beside"):
        more = {"features": features, "output": {"images": True}}
        made({**config(corpus, corpus / layout, layout, **more), "split": {"train": 0.6, "test": 0.4}})
    return corpus / "inside", corpus / "beside"


def test_files_lie_where_they_should(layouts: tuple[Path, Path]) -> None:
    inside, beside = layouts
    assert not (inside / "features").exists()
    audio, features = stamps(beside, "shards"), stamps(beside, "features")
    assert len(audio) == len(features) == len(stamps(inside, "shards")) > 2
    for shard in open_dataset(beside).all_shards():
        file, other = shard.output("parquet"), shard.output("features")
        assert file is not None and other is not None
        assert file.path == f"shards/{shard.split}/{shard.split}-{shard.bucket}-{file.sha256[:12]}.parquet"
        assert other.path == f"features/{shard.split}/{shard.split}-{shard.bucket}-{shard.key[:12]}.parquet"
        there, with_features = (pq.read_table(beside / f.path) for f in (file, other))
        names = ["clip_id", "loudest", "image", "log_mel", "log_mel_shape", "frames", "frames_shape"]
        assert with_features.column_names == names
        assert not {*names[1:]} & {*there.column_names}
        assert there["clip_id"] == with_features["clip_id"]
    told = {column["name"] for column in open_dataset(beside).columns if column.get("file") == "features"}
    assert told == {*names[1:]}
    assert json.loads(run("show", beside, "--json"))["files"] == {"parquet": len(audio), "features": len(features)}


def test_every_reader_gives_the_same_rows(layouts: tuple[Path, Path]) -> None:
    inside, beside = (open_dataset(root) for root in layouts)
    for features, images in ((True, True), (False, False), (False, True)):
        rows = [
            [row for s in ("train", "test") for row in clips(p, s, features, images=images)] for p in (inside, beside)
        ]
        assert same_rows(*rows, but=("shard",))
    assert inside.manifest().drop_columns("shard") == beside.manifest().drop_columns("shard")
    assert inside.schema == beside.schema and inside.schema.metadata == beside.schema.metadata
    assert inside.statistics() == beside.statistics()
    assert [{k: v for k, v in c.items() if k != "file"} for c in beside.columns] == inside.columns
    assert read_snapshot(beside.root).counts == read_snapshot(inside.root).counts


@pytest.mark.parametrize(
    "columns",
    [
        ("audio", "label_id"),
        ("log_mel", "label_id", "frames"),
        ("frames", "clip_id"),
        ("image", "loudest", "audio", "clip_id", "log_mel"),
        ("loudest",),
    ],
)
def test_the_loader_gives_the_same_samples(layouts: tuple[Path, Path], columns: tuple[str, ...]) -> None:
    for shuffle in (False, True):
        both = [list(ClipDataset(root, "train", columns, shuffle=shuffle, buffer_size=7)) for root in layouts]
        plain = [[{k: np.asarray(v) if hasattr(v, "numpy") else v for k, v in s.items()} for s in of] for of in both]
        if not shuffle:
            assert same_rows(*plain)
        else:
            assert len(plain[0]) == len(plain[1])
    chosen = [ClipDataset(root, "train", columns, where={"loudest": {"min": 0.6}}) for root in layouts]
    assert len({len(of) for of in chosen}) == 1


def test_rows_that_need_one_file_open_one(layouts: tuple[Path, Path], tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(layouts[1], root)
    shutil.copytree(layouts[1] / "shards", tmp_path / "kept")
    for path in (root / "shards").rglob("*.parquet"):
        path.write_bytes(bytes(path.stat().st_size))
    assert len(list(ClipDataset(root, "train", ("log_mel", "clip_id")))) > 5
    shutil.rmtree(root / "shards")
    shutil.copytree(tmp_path / "kept", root / "shards")
    for path in (root / "features").rglob("*.parquet"):
        path.write_bytes(bytes(path.stat().st_size))
    assert len(list(ClipDataset(root, "train", ("audio", "label_id")))) > 5
    with pytest.raises(ClipmillError, match=r"features/train/train-b\w*-\w+\.parquet cannot be read as it was written"):
        list(ClipDataset(root, "train", ("audio", "log_mel")))


@pytest.mark.slow
def test_ray_reads_both(layouts: tuple[Path, Path], ray_session: None) -> None:
    for columns in (None, ["frames", "clip_id"], ["clip_id", "audio"]):
        tables = []
        for root in layouts:
            batches = (
                open_dataset(root)
                .to_ray_dataset("train", columns)
                .iter_batches(batch_size=None, batch_format="pyarrow")
            )
            tables.append(pa.concat_tables(batches).sort_by("clip_id"))
        assert tables[0].column_names == tables[1].column_names
        assert tables[0].to_pylist() == tables[1].to_pylist()


def test_a_change_of_features_reads_no_recording_and_rewrites_no_audio(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(corpus / "in", tmp_path / "in")
    report = made(config(tmp_path, tmp_path / "out"))
    before = stamps(tmp_path / "out", "shards")
    made(config(tmp_path, tmp_path / "fresh", scale=3))
    spoil_recordings(tmp_path)
    monkeypatch.setattr(writing, "audio_file", None)  # no audio is encoded, not even to find that it is there
    for scale in (2, 3):
        again = made(config(tmp_path, tmp_path / "out", scale=scale))
        assert again.shards_built == again.shards_from_clips == report.shards_built and again.decoded_s == 0
        assert stamps(tmp_path / "out", "shards") == before
    assert without_donors(tmp_path / "fresh").items() <= without_donors(tmp_path / "out").items()
    assert contents(tmp_path / "fresh", "index").items() <= contents(tmp_path / "out", "index").items()
    assert len(stamps(tmp_path / "out", "features")) == 3 * len(before)
    assert all(not problems(tmp_path / "out", n) for n in (1, 2, 3))
    back = made(config(tmp_path, tmp_path / "out", scale=1))
    assert back.shards_reused == back.shards_planned


def test_features_can_come_and_go(corpus: Path, tmp_path: Path) -> None:
    """A dataset without features has nothing beside its shards, and they stay when it gets some, also another layout."""
    out = tmp_path / "out"
    made(config(corpus, out, features={}))
    assert not (out / "features").exists()
    assert [row["label"] for row in clips(open_dataset(out), "train", features=True)]
    before = stamps(out, "shards")
    made(config(corpus, out))
    assert stamps(out, "shards") == before and len(stamps(out, "features")) == len(before)
    moved = made(config(corpus, out, "inside"))
    assert moved.shards_from_clips == moved.shards_built and len(stamps(out, "shards")) == 2 * len(before)
    again = made(config(corpus, out, features={}))
    assert again.shards_reused == again.shards_planned
    run("gc", out, "--keep", 1, "--delete")
    assert stamps(out, "shards") == before and not stamps(out, "features")
    assert open_dataset(out).names_beside == frozenset()
    with pytest.raises(ClipmillError, match="nothing lies beside its shards"):
        open_dataset(out).shards("train", "features")


def test_clips_that_features_reject_have_a_file_without_them(corpus: Path, tmp_path: Path) -> None:
    """The last window of a recording is shorter: with `least` it is rejected, in both layouts alike."""

    def plain(out: str, least: int, layout: str = "beside") -> dict[str, Any]:
        found = config(corpus, tmp_path / out, layout, least=least)
        found["sources"][0]["segment"]["tail"] = "keep"
        return found

    made(plain("inside", 2000, "inside"))
    made(plain("out", 1))
    audio = stamps(tmp_path / "out", "shards")
    made(plain("out", 2000))
    rows = [list(clips(open_dataset(tmp_path / name), "train", features=True)) for name in ("inside", "out")]
    assert same_rows(*rows, but=("shard",))
    assert read_snapshot(Root(str(tmp_path / "out"))).counts.clips_rejected == 8
    assert len(stamps(tmp_path / "out", "shards")) == 2 * len(audio)
    made(plain("fresh", 2000))
    assert without_donors(tmp_path / "fresh").items() <= without_donors(tmp_path / "out").items()
    assert not problems(tmp_path / "out", 1) and not problems(tmp_path / "out", 2)


def test_gc_keeps_audio_that_a_kept_snapshot_uses(corpus: Path, own: Path) -> None:
    audio, old = stamps(own, "shards"), stamps(own, "features")
    made(config(corpus, own, scale=2))
    run("gc", own, "--delete")
    assert stamps(own, "shards") == audio and len(stamps(own, "features")) == 2 * len(old)
    run("gc", own, "--keep", 1, "--delete")
    assert snapshot_numbers(Root(str(own))) == [2]
    assert stamps(own, "shards") == audio and not {*stamps(own, "features")} & {*old}
    assert not problems(own)
    stray = own / "features/train/train-b-0123456789ab.parquet"
    stray.write_bytes(b"of a build that was killed")
    (own / "features/train/mine.parquet").write_bytes(b"")
    assert "features/train/train-b-0123456789ab.parquet" in json.loads(run("gc", own, "--json"))["shards"]
    run("gc", own, "--delete")
    assert not stray.exists() and (own / "features/train/mine.parquet").exists() and not problems(own)


def test_gc_removes_audio_with_the_last_shard_that_uses_it(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus / "in", tmp_path / "in")
    made(config(tmp_path, tmp_path / "out"))
    made(config(tmp_path, tmp_path / "out", scale=2))
    write_audio(tmp_path / "in/a/r0.wav", tone(1.0, 8000, hz=900), 8000)
    made(config(tmp_path, tmp_path / "out", scale=2))
    run("gc", tmp_path / "out", "--keep", 1, "--delete")
    made(config(tmp_path, tmp_path / "fresh", scale=2))
    assert without_donors(tmp_path / "out") == without_donors(tmp_path / "fresh")


@pytest.mark.parametrize("n_snapshots", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_forget_removes_a_recording_from_audio_and_features(corpus: Path, tmp_path: Path, n_snapshots: int) -> None:
    shutil.copytree(corpus / "in", tmp_path / "in")
    one = {"output": {"shard_seconds": 3600}}  # so that no partition becomes so small that it is merged
    plain = [config(tmp_path, tmp_path / "out", scale=scale, **one) for scale in range(1, n_snapshots + 1)]
    for each in plain:
        made(each)
    told = json.loads(run("forget", tmp_path / "out", "s/a/r2.wav", "--yes", "--json"))
    assert told["clean"] and told["inexact"] == []
    assert not problems(tmp_path / "out")
    assert build(plain[-1], quiet=True).status == "unchanged"
    (tmp_path / "in/a/r2.wav").unlink()
    fresh = tmp_path / "fresh"
    made({**plain[-1], "output": {**plain[-1]["output"], "root": str(fresh)}})
    assert without_donors(tmp_path / "out") == without_donors(fresh)
    assert contents(tmp_path / "out", "index") == contents(fresh, "index")
    before = stamps(tmp_path / "out", "shards")
    made(config(tmp_path, tmp_path / "out", scale=9, **one))
    assert stamps(tmp_path / "out", "shards") == before


def some(root: Path, folder: str) -> Path:
    return sorted((root / folder).rglob("*.parquet"))[0]


@pytest.mark.parametrize("how", ["flip", pytest.param("missing", marks=pytest.mark.slow)])
def test_damaged_features_are_healed_from_the_audio_beside_them(corpus: Path, tmp_path: Path, how: str) -> None:
    """What is read of a recording by then is noise, so that nothing of it can have been read."""
    shutil.copytree(corpus / "in", tmp_path / "in")
    plain, out = config(tmp_path, tmp_path / "out"), tmp_path / "out"
    made(plain)
    before, audio = contents(out, *SHARD), stamps(out, "shards")
    spoil_recordings(tmp_path)
    flip(some(out, "features")) if how == "flip" else some(out, "features").unlink()
    assert len(problems(out)) == 1
    report = build(plain, quiet=True)
    assert (report.status, report.shards_healed, report.shards_renewed) == ("unchanged", 1, 0)
    assert (report.shards_from_clips, report.decoded_s) == (1, 0)
    assert stamps(out, "shards") == audio and contents(out, *SHARD) == before
    assert not problems(out) and not read_marks(Root(str(out)))


@pytest.mark.parametrize("how", ["flip", pytest.param("missing", marks=pytest.mark.slow)])
def test_damaged_audio_is_healed_for_all_shards_that_use_it(corpus: Path, own: Path, how: str) -> None:
    made(config(corpus, own, scale=2))
    before, features = contents(own, "shards", "features"), stamps(own, "features")
    audio = some(own, "shards")
    others = {path: stamp for path, stamp in stamps(own, "shards").items() if path != str(audio.relative_to(own))}
    flip(audio) if how == "flip" else audio.unlink()
    assert problems(own, 1) and problems(own, 2)
    report = build(config(corpus, own, scale=2), quiet=True)
    assert (report.status, report.shards_healed, report.shards_renewed) == ("unchanged", 1, 0)
    assert contents(own, "shards", "features") == before and stamps(own, "features") == features
    assert stamps(own, "shards").items() >= others.items()
    assert not problems(own, 1) and not problems(own, 2) and not read_marks(Root(str(own)))
    assert build(config(corpus, own, scale=2), quiet=True).shards_built == 0


def test_a_damaged_donor_is_no_reason_for_damaged_audio(corpus: Path, own: Path) -> None:
    """Nobody has noticed the damage before features change: reading the clips finds it, and the audio is built again."""
    before = contents(own, "shards")
    flip(some(own, "shards"))
    report = made(config(corpus, own, scale=2))
    assert report.donors_unusable == 1 and contents(own, "shards") == before
    assert not problems(own, 1) and not problems(own, 2)


def test_audio_with_other_bytes_gets_another_name(corpus: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with another version of a library: the old snapshot's file is not replaced by bytes that its record does not name."""
    damaged = some(own, "shards")
    flip(damaged)
    assert problems(own)
    with monkeypatch.context() as patch:
        patch.setattr("clipmill.stages.write.shard_files.ROW_GROUP_ROWS", 1)
        report = build(config(corpus, own), quiet=True)
    assert (report.status, report.shards_renewed) == ("published", 1)
    assert not problems(own, 2) and problems(own, 1)
    assert sha256_of(Root(str(own)), str(damaged.relative_to(own)))[:12] not in damaged.name


def test_rows_that_do_not_belong_together_are_an_error(tmp_path: Path) -> None:
    root = Root(str(tmp_path))

    def file(name: str, **columns: Any) -> OutputFile:
        pq.write_table(pa.table(columns), tmp_path / name, row_group_size=2)
        return OutputFile(name, "parquet", sha256_of(root, name), (tmp_path / name).stat().st_size, 3)

    audio = file("audio.parquet", clip_id=["a", "b", "c"], audio=[b"1", b"2", b"3"])
    good = file("good.parquet", clip_id=["a", "b", "c"], x=[1, 2, 3])
    tables = list(shard_tables(root, audio, good, ["x", "audio"], {"x"}))
    assert pa.concat_tables(tables).to_pylist() == [{"x": i + 1, "audio": b"123"[i : i + 1]} for i in range(3)]
    for bad, why in (
        (file("swapped.parquet", clip_id=["a", "c", "b"], x=[1, 2, 3]), "row 1 is about clip c, and that of the audio file about clip b"),
        (file("short.parquet", clip_id=["a", "b"], x=[1, 2]), "it has 2 rows, and the audio file 3"),
    ):  # fmt: skip
        with pytest.raises(ClipmillError, match=why):
            list(shard_tables(root, audio, bad, ["x", "audio"], {"x"}))


def test_webdataset_has_no_place_beside(corpus: Path, tmp_path: Path) -> None:
    plain = config(corpus, tmp_path / "out", output={"formats": ["parquet", "webdataset"]})
    with pytest.raises(ConfigError, match=r"output\.features: beside needs output\.formats: \[parquet\]"):
        load_config(plain)


def test_a_retry_that_changes_nothing_takes_back_no_audio(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus / "in", tmp_path / "in")
    (tmp_path / "in/a/broken.wav").write_bytes(b"no audio" * 50)
    plain = config(tmp_path, tmp_path / "out")
    made(plain)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(plain))
    before, audio = without_donors(tmp_path / "out"), stamps(tmp_path / "out", "shards")
    assert "0 no longer rejected, 1 rejected again for the same reason" in run("retry", tmp_path / "c.yaml")
    assert stamps(tmp_path / "out", "shards") == audio
    assert without_donors(tmp_path / "out") == before and not problems(tmp_path / "out")


def test_two_builders_with_other_features(corpus: Path, tmp_path: Path) -> None:
    """Both have planned before either has built: they make the same audio files, and each its own features."""
    out = tmp_path / "out"
    both = [Builder(load_config(config(corpus, out, scale=s)), None, None, True).begin() for s in (1, 2)]
    assert both[0].run(accept=False).status == "published"
    audio = stamps(out, "shards")
    assert both[1].run(accept=False).status == "published"
    assert stamps(out, "shards") == audio and len(stamps(out, "features")) == 2 * len(audio)
    assert not problems(out, 1) and not problems(out, 2)
