"""Exact copies among clips: found by their samples, listed, limited, and left out by the loader."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from conftest import run, shard_hashes, write_audio
from hypothesis import given
from hypothesis import strategies as st
from old_format import as_version_1

import clipmill
from clipmill.pipelines.dataset.duplicates import is_repeated

RATE = 8000


def noise(seed: int, seconds: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((round(seconds * RATE), 1)) * 0.1


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Recordings a/x, a/y, b/z of their own, b/x2 with the samples of a/x, and c/x3 with those, as FLAC."""
    folder = tmp_path / "in"
    for i, name in enumerate(("a/x", "a/y", "b/z")):
        write_audio(folder / f"{name}.wav", noise(i), RATE, "PCM_16")
    shutil.copy(folder / "a/x.wav", folder / "b/x2.wav")
    (folder / "c").mkdir()
    sf.write(folder / "c/x3.flac", *sf.read(folder / "a/x.wav", dtype="int16"), subtype="PCM_16")
    return folder


def configured(corpus: Path, root: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "d",
        "sources": [{"name": "s", "root": str(corpus), "label": {"from": "folder"}, "fields": r"/?(?P<stem>\w+)\.\w+$"}],
        "audio": {"sample_rate_hz": RATE},
        "split": {"from": "stem", "map": {"x3": "test"}, "default": "train"},
        "output": {"root": str(root)},
        **more,
    }  # fmt: skip


def test_copies_are_found_listed_and_left_out(corpus: Path, tmp_path: Path) -> None:
    report = clipmill.build(configured(corpus, tmp_path / "out"), quiet=True).raise_for_status()
    assert report.snapshot.duplicates == {"clips": 2, "across_splits": 1, "labels": 1}
    assert [f.limit for f in report.warnings].count("shared_clips") == 1
    published = clipmill.open_dataset(tmp_path / "out")
    rows = published.duplicates().to_pylist()
    assert sorted(row["recording_id"] for row in rows) == ["s/a/x.wav", "s/b/x2.wav", "s/c/x3.flac"]
    assert [row["split"] for row in rows if row["first"]] == ["test"], "the manifest begins with this split"
    for split, n, unique in (("train", 4, 2), ("test", 1, 1)):
        assert len(clipmill.ClipDataset(published, split)) == n
        clips = clipmill.ClipDataset(published, split, ["clip_id"], duplicates="first")
        assert len(clips) == len(list(clips)) == unique
    told = json.loads(run("show", tmp_path / "out", "--duplicates", "--json"))
    assert told["counts"] == report.snapshot.duplicates and len(told["duplicates"]) == 3
    assert "2 clips are exact copies of others, 1 clip in more than one split" in run("show", tmp_path / "out")
    assert "x2" in run("show", tmp_path / "out", "--duplicates")
    run("verify", tmp_path / "out")


def tar_rows(root: Path) -> list[Any]:
    rows = []
    for path in root.glob("shards/*/*.tar"):
        with tarfile.open(path) as tar:
            rows += [json.loads(tar.extractfile(m).read()) for m in tar if m.name.endswith(".json")]  # type: ignore[union-attr]
    return rows


@pytest.mark.parametrize("format", ["parquet", "webdataset"])
def test_the_sha256_is_that_of_the_stored_samples(format: str, corpus: Path, tmp_path: Path) -> None:
    config = configured(corpus, tmp_path / "out", output={"root": str(tmp_path / "out"), "formats": [format]})
    clipmill.build(config, quiet=True).raise_for_status()
    from clipmill.pipelines.read.clip_source import clips
    from clipmill.stages.write.encode import decode_clip

    published = clipmill.open_dataset(tmp_path / "out")
    hashes = dict(zip(*(published.manifest()[n].to_pylist() for n in ("clip_id", "pcm_sha256")), strict=True))
    for split in ("train", "test"):
        for row in clips(published, split):
            pcm = np.ascontiguousarray(decode_clip(row["audio"])[0], "<i2").tobytes()
            assert hashes[row["clip_id"]] == hashlib.sha256(pcm).hexdigest()
    if format == "parquet":
        assert "pcm_sha256" not in published.schema.names, "shards stay as they were"
    else:
        rows = tar_rows(tmp_path / "out")
        assert rows and not any("pcm_sha256" in row for row in rows)


def test_a_limit_holds_the_snapshot_back(corpus: Path, tmp_path: Path) -> None:
    config = configured(corpus, tmp_path / "out", limits={"max_duplicate_share": 0.2})
    report = clipmill.build(config, quiet=True)
    assert (report.status, [f.limit for f in report.limits]) == ("not_published", ["max_duplicate_share"])
    assert "2 of 5 clips are exact copies" in report.limits[0].message
    config["limits"]["max_duplicate_share"] = 0.5
    assert clipmill.build(config, quiet=True).status == "published"


def test_shards_of_an_older_clipmill_are_unknown(corpus: Path, tmp_path: Path) -> None:
    """Records without the column are read as before, a repaired manifest has the bytes that it had."""
    root = tmp_path / "out"
    clipmill.build(configured(corpus, root), quiet=True).raise_for_status()
    as_version_1(root)
    for path in root.glob("commits/*.json"):
        commit = json.loads(path.read_text())
        del commit["has_pcm_sha256"]
        (output,) = (o for o in commit["outputs"] if o["format"] == "manifest")
        table = pq.read_table(root / output["path"]).drop_columns(["pcm_sha256"])
        pq.write_table(table, root / output["path"])
        content = (root / output["path"]).read_bytes()
        output |= {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        path.write_text(json.dumps(commit))
    shutil.rmtree(root / "snapshots")
    report = clipmill.build(configured(corpus, root), quiet=True)
    assert report.status == "published" and report.shards_built == 0 and report.snapshot.duplicates == {"unknown": 5}
    manifest = next(root.glob("snapshots/*/manifest.parquet"))
    before = manifest.read_bytes()
    assert pq.read_table(manifest)["pcm_sha256"].null_count == 5
    manifest.write_bytes(b"damaged")
    assert clipmill.build(configured(corpus, root), quiet=True).status == "unchanged"
    assert manifest.read_bytes() == before
    with pytest.raises(clipmill.ClipmillError, match="before clipmill kept the sha256"):
        clipmill.ClipDataset(root, "train", duplicates="first")


def test_what_is_forgotten_is_no_duplicate(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    clipmill.build(configured(corpus, root), quiet=True).raise_for_status()
    run("forget", root, "s/b/x2.wav", "s/c/x3.flac", "--yes")
    published = clipmill.open_dataset(root)
    assert published.snapshot.duplicates == {} and published.duplicates().num_rows == 0
    for name in ("b/x2.wav", "c/x3.flac"):
        (corpus / name).unlink()
    config = configured(corpus, tmp_path / "new", limits={"allow_empty_splits": True})
    clipmill.build(config, quiet=True).raise_for_status()
    assert shard_hashes(tmp_path / "new").items() <= shard_hashes(root).items()


@given(st.lists(st.text(alphabet="abc", max_size=2), min_size=1, max_size=20))
def test_a_value_is_repeated_if_it_was_there_before(values: list[str]) -> None:
    expected = [value in values[:i] for i, value in enumerate(values)]
    assert is_repeated(pa.chunked_array([values[:3], values[3:]], pa.string())).tolist() == expected
