"""A dataset's own tables, damaged at their full size: the message names the file, and what it advises works."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import run, shard_hashes, tone, write_audio

from clipmill.pipelines.dataset.outcomes import clips_of
from clipmill.pipelines.dataset.records_io import read_commit, read_snapshot
from clipmill.pipelines.read.training import ClipDataset
from clipmill.schemas.errors import ClipmillError, StorageError
from clipmill.stages.storage.failures import repair_hint
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings, ``c.yaml`` and its dataset of several shards in ``out``."""
    place = tmp_path_factory.mktemp("damaged")
    for i in range(6):
        write_audio(place / f"in/r{i}.wav", tone(2.0, 8000, seed=i), 8000)
    (place / "in/broken.wav").write_bytes(b"no audio" * 40)
    plain = {
        "name": "t",
        "sources": [
            {
                "name": "s",
                "root": str(place / "in"),
                "bytes_per_second": 16000,
                "segment": {"mode": "window", "length_s": 0.5},
            }
        ],
        "audio": {"sample_rate_hz": 8000},
        "output": {"root": str(place / "out"), "shard_seconds": 5},
        "limits": {"max_rejected_share": 1},
    }
    (place / "c.yaml").write_text(yaml.safe_dump(plain))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipmill.pipelines.run.build._ray_is_at_hand", lambda: False)
        run("build", place / "c.yaml")
    return place


@pytest.fixture
def config(built: Path, tmp_path: Path) -> Path:
    """The configuration of a copy of the dataset, in ``out`` beside it."""
    shutil.copytree(built / "out", tmp_path / "out")
    plain = yaml.safe_load((built / "c.yaml").read_text())
    plain["output"]["root"] = str(tmp_path / "out")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(plain))
    return tmp_path / "c.yaml"


def flipped(path: Path) -> Path:
    """Change a file here and there, and neither its size nor its name."""
    content = bytearray(path.read_bytes())
    for i in range(50, len(content), 97):
        content[i] ^= 0xFF
    path.write_bytes(content)
    return path


COMMANDS = {
    "index/*.shards.parquet": [("show", "OUT"), ("export", "OUT", "csv"), ("gc", "OUT")],
    "index/*.manifest.parquet": [("show", "OUT"), ("export", "OUT", "csv"), ("export", "OUT", "kaldi")],
    "index/*.rejections.parquet": [("failures", "OUT")],
    "snapshots/000001/rejections.parquet": [("forget", "OUT", "s/r0.wav", "--yes")],
    "commits/*.manifest.parquet": [("forget", "OUT", "s/r0.wav", "--yes"), ("forget", "OUT", "s/r0.wav")],
    "commits/*.recordings.parquet": [("forget", "OUT", "s/r0.wav", "--yes")],
    "shards/train/*.parquet": [("export", "OUT", "kaldi")],
}  # fmt: skip


@pytest.mark.parametrize("pattern", COMMANDS)
def test_every_command_names_the_file_and_its_advice_heals(config: Path, pattern: str) -> None:
    out = config.parent / "out"
    before = {p.relative_to(out): p.read_bytes() for p in out.rglob("*.parquet")}
    harmed = [flipped(path) for path in out.glob(pattern)]
    assert harmed
    for command in COMMANDS[pattern]:
        told = run(*(str(out) if a == "OUT" else a for a in command), code=1)
        line = next(line for line in told.splitlines() if line.startswith("error: "))
        assert any(str(path) in line for path in harmed), told
        assert "cannot be read as it was written (" in line and f"clipmill verify {out}" in line, told
        assert "\\n" not in line and "what is committed is kept" not in line, told
        assert "build again" in line and repair_hint(str(out), str(harmed[0].relative_to(out))) in line, told
    verified = run("verify", out, code=1)
    assert "what to do: build again with the same configuration" in verified
    run("build", config)
    assert "all as committed" in run("verify", out)
    there = {p.relative_to(out): p.read_bytes() for p in out.rglob("*.parquet") if "exports" not in p.parts}
    assert there == before


def test_loading_says_what_exports_say(config: Path) -> None:
    out = config.parent / "out"
    healthy = shard_hashes(out)
    flipped(next(out.glob("shards/train/*.parquet")))
    with pytest.raises(ClipmillError) as loading:
        list(ClipDataset(out, "train"))
    exported = run("export", out, "kaldi", code=1)
    repair_hint = str(loading.value).partition("): ")[2]
    assert loading.value.code == "root.damaged"
    assert repair_hint.startswith("build again with the same configuration")
    assert repair_hint in exported
    run("build", config)
    assert shard_hashes(out) == healthy


def test_a_table_that_may_not_be_read_is_not_called_damaged(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Root(str(config.parent / "out"))
    commit = read_commit(root, read_snapshot(root).commits[0])

    def refused(self: Root, path: str, **_: Any) -> Any:
        raise PermissionError(13, "Permission denied", self.full(path))

    monkeypatch.setattr(Root, "read_bytes", refused)
    with pytest.raises(StorageError, match=r"manifest\.parquet: Permission denied \(check the permissions") as told:
        clips_of(root, commit)
    assert told.value.code == "storage.permission"
