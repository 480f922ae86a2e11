"""What is left under a root: the search for names, hashes of names, and what `gc` leaves of a recording that was dropped."""

from __future__ import annotations

# ruff: noqa: F811 (a fixture of another file)
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_forget import GONE, MARK, RATE, all_clean, assert_nothing_left, config_of, corpus, run, said  # noqa: F401

from clipmill.pipelines.dataset.records_io import snapshot_numbers
from clipmill.pipelines.dataset.traces import Names, Needles, search
from clipmill.pipelines.dataset.tries import read_retries, update_retries
from clipmill.schemas.forgotten import Forgotten
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


def test_names_are_found_where_they_are_and_not_in_longer_ones(tmp_path: Path) -> None:
    names = Names(ids={"s/ä.wav", "s/a b.wav"}, others={"s/a b.wav (2).wav"})
    needles = Needles(names)
    for text in ("x s/ä.wav y", 'json "s/\\u00e4.wav"', "s/a\u0308.wav", "(s/a b.wav)", "s/a b.wav"):
        assert needles.is_in_text(text), text
    for text in ("xs/ä.wav", "s/ä.wave", "t/s/a b.wav", "s/a b.wav (2).wav", "nothing"):
        assert not needles.is_in_text(text), text
    # Across the blocks in which a file is read.
    content = b"." * ((8 << 20) - 5) + b" s/a b.wav " + b"." * 100
    (tmp_path / "big.bin").write_bytes(content)
    assert [f["path"] for f in search(Root(str(tmp_path)), names).found] == ["big.bin"]
    (tmp_path / "big.bin").write_bytes(content.replace(b"s/a b.wav ", b"s/a b.wav2"))
    assert search(Root(str(tmp_path)), names).found == []


def test_salted_hashes_know_names_in_any_normal_form() -> None:
    forgotten = Forgotten().with_more(["s/x/ä.wav"])
    assert forgotten.holds("s/x/a\u0308.wav") and not forgotten.holds("s/x/a.wav")
    assert all(forgotten.names_one("s", n) for n in ("ä.wav", "ä", "x/ä", "./x/ä.wav", "top/x/ä.wav"))
    assert not any(forgotten.names_one(s, n) for s, n in (("t", "ä.wav"), ("s", "y/ä.wav"), ("s", "b.wav")))
    assert forgotten.with_more(["s/y"]).holds("s/x/ä.wav")
    assert Forgotten().with_more(["s/x"]).recordings != Forgotten().with_more(["s/x"]).recordings


def test_gc_leaves_no_copy_of_what_was_dropped(corpus: Path, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    config, out = config_of(tmp_path, make_config), tmp_path / "out"
    run("build", config)
    for format in ("csv", "kaldi", "lhotse", "huggingface", "croissant"):
        run("export", out, format)
    root = Root(str(out))
    update_retries(root, lambda _: {GONE: ("1-2", 1)})
    (out / "builds/rejections.parquet").write_bytes((out / "snapshots/000001/rejections.parquet").read_bytes())
    (corpus / f"dog/{MARK}.wav").unlink()
    run("build", config)
    run("export", out, "csv")
    (out / "exports/mine").mkdir()
    (out / "exports/mine/clipmill-export.json").write_text("{}")
    assert "exports of snapshots" in run("gc", out, "--keep", 1)
    run("gc", out, "--keep", 1, "--delete")
    assert_nothing_left(out)
    assert sorted(p.name for p in (out / "exports").iterdir()) == ["csv-000002", "mine"]
    assert sorted(p.name for p in (out / "snapshots").iterdir()) == ["000002", "000002.json"]
    assert not (out / "builds/rejections.parquet").exists() and read_retries(root) == {}
    assert "nothing to remove" in run("gc", out, "--keep", 1)
    all_clean(out)


def test_it_works_on_s3(
    corpus: Path,
    bucket: str, endpoint: str, tmp_path: Path, make_config: Callable[..., Path],
) -> None:  # fmt: skip
    options: dict[str, Any] = {"endpoint_url": endpoint}
    output = {"root": f"s3://{bucket}/out", "storage_options": options, "shard_seconds": 9}
    config = config_of(tmp_path, make_config)
    text = config.read_text().replace(f"root: {tmp_path}/out", f"root: s3://{bucket}/out")
    plain = yaml.safe_load(text)
    plain["output"] |= output
    config.write_text(yaml.safe_dump(plain))
    run("build", config)
    run("export", config, "csv")
    root = Root(f"s3://{bucket}/out", options)
    assert any(n.startswith("exports/") for n in root.sizes(""))
    found = said("forget", config, GONE, "--yes")
    assert (found["published"], found["clean"]) == (2, True)
    names = list(root.sizes(""))
    assert not [n for n in names if n.startswith(("exports/", "snapshots/000001")) or MARK in n]
    copy = tmp_path / "copy"
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(root.read_bytes(name))
    assert_nothing_left(copy)
    all_clean(copy)
    assert said("build", config)["status"] == "unchanged"


def test_a_damaged_shard_is_told_and_nothing_goes(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    config, out = config_of(tmp_path, make_config), tmp_path / "out"
    run("build", config)
    for path in (out / "shards").rglob("*.parquet"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    text = run("forget", out, GONE, "--yes", code=1)
    assert "is missing or damaged; no snapshot was removed" in text
    assert snapshot_numbers(Root(str(out))) == [1]
