"""Small corpora with splits, and commands on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner
from conftest import tone, write_audio

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.dataset import sides
from clipmill.pipelines.dataset.records_io import read_commit, read_snapshot
from clipmill.stages.storage.root import Root

ROUND = {"train": 0.6, "val": 0.2, "test": 0.2}
BALANCED = {**ROUND, "balance": True}


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def said(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return found


def edited(config: Path, **more: Any) -> Path:
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **more}, sort_keys=False))
    return config


def written(folder: Path, n: int, label: Callable[[int], str] = lambda i: ("cat", "dog")[i % 2]) -> Path:
    for i in range(n):
        write_audio(folder / label(i) / f"r{i:02d}_p{i % 5}.wav", tone(0.3, 8000, seed=i), 8000)
    return folder


def on(root: Path) -> dict[str, str]:
    """Return the side of each recording by the last snapshot's shards."""
    there = Root(str(root))
    found = {}
    for key in read_snapshot(there).commits:
        commit = read_commit(there, key)
        found |= {row["recording_id"]: commit.split for row in sides.recordings_of(there, commit)}
    return found


def small_corpus(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    """20 recordings of 2 labels and 5 speakers, every split there."""
    source = {"root": written(tmp_path / "in", 20), "label": {"from": "folder"}, "fields": r"_(?P<speaker>p\d)"}
    more = {"audio": {"sample_rate_hz": 8000}, "output": {"root": str(tmp_path / "out"), "shard_seconds": 2}}
    return make_config(source, split=BALANCED, **more)
