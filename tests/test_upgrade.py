"""Datasets of format version 1 are read, and brought up to date by the next build; clip ids keep their width."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import shard_hashes, tone, write_audio
from old_format import as_version_1, plain_of, unseal

import clipmill
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.keys import clip_origin
from clipmill.schemas.seal import unsealed
from clipmill.stages.storage.root import Root

RATE = 8000


def configured(place: Path, bits: int | None = 48, **more: Any) -> dict[str, Any]:
    output: dict[str, Any] = {"root": str(place / "out"), "shard_seconds": 3}
    return {
        "name": "old",
        "sources": [{"name": "s", "root": str(place / "in"), "label": "a"}],
        "audio": {"sample_rate_hz": RATE},
        "output": {**output, **({"clip_id_bits": bits} if bits else {})},
        **more,
    }


@pytest.fixture
def old(tmp_path: Path) -> Path:
    for i in range(8):
        write_audio(tmp_path / f"in/r{i}.wav", tone(1.0, RATE, seed=i), RATE)
    build(configured(tmp_path), quiet=True).raise_for_status()
    as_version_1(tmp_path / "out")
    return tmp_path


def test_an_old_dataset_is_read(old: Path) -> None:
    root = Root(str(old / "out"))
    published = clipmill.open_dataset(old / "out")
    assert published.snapshot.format_version == 1 and published.snapshot.parts == []
    assert published.manifest().num_rows == 8 == len(list(clipmill.ClipDataset(published, "train")))
    assert len(published.all_shards()) == len(published.commits) == len(published.snapshot.commits)
    *_, verdict = verify(root)
    assert verdict.problems == []
    shard = sorted((old / "out/shards").rglob("*.parquet"))[0]
    content = shard.read_bytes()
    shard.write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])
    with pytest.raises(ClipmillError, match="cannot be read as it was written"):
        list(clipmill.ClipDataset(old / "out", "train"))


def test_the_next_build_brings_the_records_up_to_date(old: Path) -> None:
    out = old / "out"
    hashes = shard_hashes(out)
    times = {p: p.stat().st_mtime_ns for p in (out / "shards").rglob("*.parquet")}
    before = clipmill.open_dataset(out)
    report = build(configured(old, None), quiet=True)
    assert (report.status, report.upgraded, report.shards_built) == ("published", True, 0)
    assert shard_hashes(out) == hashes and all(p.stat().st_mtime_ns == t for p, t in times.items())
    after = clipmill.open_dataset(out)
    assert after.snapshot.commits == before.snapshot.commits and after.snapshot.clip_id_bits == 48
    assert before.manifest(["clip_id"]) == after.manifest(["clip_id"])
    for path in (*out.glob("commits/*.json"), *out.glob("snapshots/*.json"), out / "dataset.json"):
        unsealed(path.read_bytes(), must_be_sealed=True)
    assert plain_of(out / "dataset.json")["format_version"] == 2
    assert build(configured(old, None), quiet=True).status == "unchanged"
    for number in (1, 2):
        *_, verdict = verify(Root(str(out)), number)
        assert verdict.problems == []


@pytest.mark.parametrize("at", range(1, 8))
def test_an_upgrade_can_be_interrupted_anywhere(old: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    class CutError(BaseException):
        """The process is gone."""

    calls = iter(range(10**6))
    honest = Root.write_bytes

    def counting(self: Root, path: str, content: bytes) -> None:
        if path.startswith(("commits/", "snapshots/", "dataset.json")) and next(calls) == at - 1:
            raise CutError
        honest(self, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Root, "write_bytes", counting)
        with contextlib.suppress(CutError):
            build(configured(old), quiet=True)
    hashes = shard_hashes(old / "out")
    assert clipmill.open_dataset(old / "out").manifest().num_rows == 8
    report = build(configured(old), quiet=True)
    assert report.shards_built == 0 and report.status in ("published", "unchanged")
    assert build(configured(old), quiet=True).status == "unchanged"
    assert plain_of(old / "out/dataset.json")["format_version"] == 2
    *_, verdict = verify(Root(str(old / "out")))
    assert verdict.problems == [] and shard_hashes(old / "out") == hashes


def test_a_changed_row_count_of_an_old_record_is_not_sealed(old: Path) -> None:
    """Old records have no digest, so what they say is compared with their own counts; the shard is built again."""
    hashes = shard_hashes(old / "out")
    path = sorted((old / "out/commits").glob("*.json"))[0]
    outputs = plain_of(path)["outputs"]
    outputs[0]["rows"] += 1
    unseal(path, outputs=outputs)
    *_, verdict = verify(Root(str(old / "out")))
    assert any("by the counts there are" in problem for problem in verdict.problems)
    report = build(configured(old), quiet=True)
    assert report.shards_built == 1 and shard_hashes(old / "out") == hashes
    *_, verdict = verify(Root(str(old / "out")))
    assert verdict.problems == []


def test_changed_sums_of_an_old_record_are_not_sealed(old: Path) -> None:
    path = sorted((old / "out/commits").glob("*.json"))[0]
    statistics = plain_of(path)["statistics"]
    statistics["lengths"]["max_s"] = 7.0
    unseal(path, statistics=statistics)
    with pytest.raises(ClipmillError, match=r"do not add up to snapshot 1 \(statistics\).* remove its \.json files"):
        build(configured(old), quiet=True)
    for record in (old / "out/commits").glob("*.json"):
        record.unlink()
    assert build(configured(old), quiet=True).status == "published"
    *_, verdict = verify(Root(str(old / "out")))
    assert verdict.problems == []


def test_new_datasets_have_wide_clip_ids_and_old_ones_keep_theirs(old: Path, tmp_path: Path) -> None:
    ids = clipmill.open_dataset(old / "out").manifest(["clip_id"])["clip_id"].to_pylist()
    assert {len(name.split("-")[1]) for name in ids} == {12}
    new = {**configured(old, None), "output": {"root": str(old / "new"), "shard_seconds": 3}}
    build(new, quiet=True).raise_for_status()
    wide = clipmill.open_dataset(old / "new").manifest(["clip_id"])["clip_id"].to_pylist()
    assert {len(name.split("-")[1]) for name in wide} == {32}
    assert [name.split("-")[1][:12] for name in wide].sort() == [name.split("-")[1] for name in ids].sort()
    assert plain_of(old / "new/dataset.json")["clip_id_bits"] == 128
    same = {**new, "output": {**new["output"], "root": str(old / "same"), "clip_id_bits": 48}}
    build(same, quiet=True).raise_for_status()
    assert clipmill.open_dataset(old / "same").snapshot.commits == clipmill.open_dataset(old / "out").snapshot.commits
    with pytest.raises(ConfigError, match="have 48 bits"):
        build(configured(old, 128), quiet=True)


def test_origins() -> None:
    assert clip_origin("s/a.wav", "a", None) == clip_origin("s/a.wav", "a", None, 48)
    assert clip_origin("s/a.wav", "a", None, 128).startswith(clip_origin("s/a.wav", "a", None))


def test_a_newer_dataset_is_refused(old: Path) -> None:
    (old / "out/dataset.json").write_text(json.dumps({"format_version": 3, "name": "old", "news": 1}))
    with pytest.raises(ClipmillError, match="use a newer clipmill") as told:
        build(configured(old), quiet=True)
    assert told.value.code == "root.newer_format"
