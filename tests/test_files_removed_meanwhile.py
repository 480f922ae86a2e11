"""Files that are removed or truncated while a build runs: a snapshot must not name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import tone, write_audio

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.records_io import read_snapshot, snapshot_numbers
from clipmill.pipelines.run import publishing
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.storage.root import Root

N = 24


@pytest.fixture
def config(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    for i in range(N):
        write_audio(tmp_path / f"in/r{i:02d}.wav", tone(1.0, 8000, seed=i), 8000)
    output = {"root": str(tmp_path / "out"), "shard_seconds": 1}
    config = make_config({"root": tmp_path / "in"}, output=output, audio={"sample_rate_hz": 8000})
    assert build(load(config), quiet=True).shards_built > N / 2
    write_audio(tmp_path / "in/r00.wav", tone(1.0, 8000, seed=99), 8000)
    return config


def shard_files(out: Path) -> set[Path]:
    return set((out / "shards").rglob("*.parquet"))


def record_files(out: Path) -> set[Path]:
    return set((out / "commits").glob("*.json"))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("which", ["new", "record", "old"])
@pytest.mark.parametrize("truncate", [False, True])
def test_nothing_is_published_that_lacks_a_file(
    which: str, truncate: bool, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = record_files if which == "record" else shard_files
    before, draft = files(tmp_path / "out"), publishing.draft_snapshot

    def meanwhile(*args: Any) -> Any:
        after = files(tmp_path / "out")
        file = sorted(after & before if which == "old" else after - before)[0]
        file.write_bytes(file.read_bytes()[:-9]) if truncate else file.unlink()
        return draft(*args)

    monkeypatch.setattr(publishing, "draft_snapshot", meanwhile)
    if which == "old":  # what was there a moment ago is looked for again after a while only
        monkeypatch.setattr(publishing, "_MOMENT_S", 0.0)
    with pytest.raises(
        ClipmillError, match="the files of 1 shard were removed or damaged during the build; build again"
    ):
        build(load(config), quiet=True)
    root = Root(str(tmp_path / "out"))
    assert snapshot_numbers(root) == [1]
    monkeypatch.undo()
    again = build(load(config), quiet=True)
    assert again.status == "published" and len(read_snapshot(root, 2).commits) == again.shards_planned


@pytest.mark.usefixtures("in_process")
def test_a_night_that_changes_little_lists_the_shards_once(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    sizes = Root.sizes

    def counted(self: Root, folder: str) -> dict[str, int]:
        listed.append(folder)
        return sizes(self, folder)

    monkeypatch.setattr(Root, "sizes", counted)
    assert build(load(config), quiet=True).status == "published"
    assert listed.count("shards") == 1
