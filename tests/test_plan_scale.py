"""The plan of many recordings: what it takes, and keys that stay what they are, since published datasets are found by them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

from clipmill.pipelines.plan.arrange import BATCH
from clipmill.pipelines.plan.planning import Plan, make_plan
from clipmill.schemas.config import Config
from clipmill.schemas.keys import digest

ROOT = Path(__file__).parents[1]
LABELS = "file,start,end,class,fold\n" + "".join(
    f"r{i:02d}.wav,{i / 4},{i / 4 + 1.5},{('dog', 'cät', '')[i % 3]},{i % 4}\nr{i:02d},0,x,dog,1\n"
    for i in range(0, 20, 2)
)


@pytest.fixture
def store() -> Iterator[str]:
    """A store in memory with names, sizes and times that never change, so neither may the keys of what is planned of it."""
    fs = fsspec.filesystem("memory")
    files = {f"{'ab'[i % 2]}/r{i:02d}.wav": b"x" * 100 * i for i in range(20)} | {"labels.csv": LABELS.encode()}
    for i, (name, content) in enumerate(files.items()):
        fs.pipe(f"/golden/{name}", content)
        fs.store[f"/golden/{name}"].created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=i)
    yield "memory://golden"
    fs.rm("/golden", recursive=True)


def planned(root: str, retries: Any = None, **source: Any) -> Plan:
    split = source.pop("split", {"train": 0.7, "test": 0.3})
    plain = {
        "name": "golden", "split": split, "output": {"root": "out", "shard_seconds": 5},
        "sources": [{"name": "s", "root": root, "bytes_per_second": 500, **source}],
    }  # fmt: skip
    return make_plan(Config.model_validate(plain), retries)


WINDOWS = {"segment": {"mode": "window", "length_s": 0.5}, "fields": r"r(?P<take>\d)"}
TABLE = {
    "annotations": {"table": "labels.csv", "recording": "file", "columns": {"start": 1, "end": 2, "label": "class"}},
    "label": {"from": "annotation"},
    "split": {"from": "fold", "map": {0: "test"}, "default": "train"},
}
RETRIES = {"s/a/r04.wav": ("400-1767225604.000000", 2), "s/a/r06.wav": ("another version", 2)}


@pytest.mark.parametrize(
    ("source", "retries", "shards", "keys", "clips_keys", "item_digests"),
    [
        ({}, None, 16, "87c59de0f1f2e880", "f57cff8ff214c9e1", "2c047eebfe56445e"),
        (WINDOWS, None, 16, "261ce0fee678cfa2", "c75bbb50150d2440", "8722d1e4442a469b"),
        (TABLE, None, 4, "dd90608a350c9021", "32b3cd38e0869337", "1f281ef3142f764e"),
        (TABLE, RETRIES, 4, "15d1c02629414483", "f7b28f95245a975c", "d5745be1dd8a63b9"),
    ],
    ids=["whole", "windows", "table", "retried"],
)
def test_keys_stay_what_they_are(
    source: dict[str, Any], retries: Any, shards: int, keys: str, clips_keys: str, item_digests: str, store: str
) -> None:
    """If this fails, no committed shard is found again. After a stage's `version` was raised it is to, but for `item_digests`."""
    plan = planned(store, retries, **source)
    columns = [plan.table[name].to_pylist() for name in ("key", "clips_key", "item_digest")]
    found = len(plan.keys), *(digest(column)[:16] for column in columns)
    assert found == (shards, keys, clips_keys, item_digests)
    assert set(plan.table["key"].to_pylist()) == set(plan.keys)


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("source", [WINDOWS, TABLE, {"annotations": {"sidecar": "{stem}.csv"}}])
def test_a_plan_is_the_same_whatever_the_batches(
    source: dict[str, Any], size: int, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = fsspec.filesystem("memory")
    for i in range(0, 20, 2):  # sidecars that do not all have the same columns
        fs.pipe(f"/golden/a/r{i:02d}.csv", f"{'one,two' if i % 3 else 'two,three'}\nx{i},y{i}\n".encode())
    whole = planned(store, **source)
    monkeypatch.setattr("clipmill.pipelines.plan.arrange.BATCH", size)
    monkeypatch.setattr("clipmill.pipelines.plan.arrange.RUN", size)
    for module in ("spill", "plan_table"):  # as if nothing fitted into memory
        monkeypatch.setattr(f"clipmill.pipelines.plan.{module}.RESIDENT_BYTES", 0)
    small = planned(store, **source)
    assert small.table.to_pylist() == whole.table.to_pylist()
    assert (small.keys, small.starts, small.shard_s) == (whole.keys, whole.starts, whole.shard_s)
    small.table.validate(full=True)
    (n_chunks,) = {column.num_chunks for column in small.table.columns}
    assert n_chunks > 1 or size == 8
    for i, key in enumerate(small.keys):
        shard = small.shard(i)
        assert set(shard["key"].to_pylist()) == {key}
        assert {column.num_chunks for column in shard.columns} == {1}, "a shard lies in one chunk"


def peak_mb(tmp_path: Path, way: str, n: int) -> float:
    """Return the peak of memory of a process that plans so many recordings. way : of `benchmarks.plan`"""
    code = (
        "import importlib.util, sys; from pathlib import Path\n"
        "spec = importlib.util.spec_from_file_location('benchmark', sys.argv[1])\n"
        "benchmark = sys.modules['benchmark'] = importlib.util.module_from_spec(spec); spec.loader.exec_module(benchmark)\n"
        "folder, n = Path(sys.argv[2]), int(sys.argv[3]); benchmark.make_tree(folder, n)\n"
        "print(benchmark.measure(sys.argv[4], folder, n).peak_mb)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        str(ROOT / "benchmarks" / "plan.py"),
        str(tmp_path / f"tree-{n}"),
        str(n),
        way,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("way", "most_bytes"), [("tree", 500), ("table", 1000)])
def test_a_recording_takes_little_memory(tmp_path: Path, way: str, most_bytes: int) -> None:
    """It is some 200 bytes, and 500 with a row of a table; when all were Python objects at once it was 4 kB. Buffers fill up first."""
    few, many = 5 * BATCH, 10 * BATCH
    per_recording = (peak_mb(tmp_path, way, many) - peak_mb(tmp_path, way, few)) * 2**20 / (many - few)
    assert per_recording < most_bytes
