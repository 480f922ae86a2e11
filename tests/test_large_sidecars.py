"""Large sidecars: what is in memory of many of them at a time."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_audio

from clipmill.pipelines.plan.annotations import sidecars
from clipmill.pipelines.plan.planning import make_plan
from clipmill.schemas.config import Config
from clipmill.stages.storage.root import Root

SIDECARS = {
    "annotations": {"sidecar": "{stem}.csv", "header": False, "columns": {"start": 0, "end": 1, "label": 2}},
    "label": {"from": "annotation"},
}


def test_thirty_large_sidecars_do_not_add_up(tmp_path: Path) -> None:
    for i in range(30):
        with (tmp_path / f"{i}").open("wb") as stream:
            stream.truncate(60 << 20)
    tracemalloc.start()
    paths = ((None, f"{i}") for i in range(30))
    sizes = [
        len(content) for _, _, content in sidecars._contents(Root(str(tmp_path)), paths) if isinstance(content, bytes)
    ]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes == [60 << 20] * 30
    assert peak < 200 << 20


@pytest.mark.parametrize(
    "split",
    [
        pytest.param({"train": 0.5, "test": 0.5}, marks=pytest.mark.slow),
        pytest.param({"train": 0.5, "test": 0.5, "balance": True}, marks=pytest.mark.slow),
    ],
)
def test_the_rows_of_many_sidecars_do_not_add_up_as_objects(tmp_path: Path, split: dict[str, Any]) -> None:
    """Of a row there stays what its columns in the plan take, some 60 bytes; as Python objects rows take 300 and more."""
    n_rows = 20_000
    rows = "".join(f"{i / 100:.4f},{i / 100 + 0.5:.4f},dog\n" for i in range(n_rows))

    def peak_bytes(n: int) -> int:
        root = tmp_path / f"{n}"
        for i in range(n):
            write_audio(root / f"{i}.wav", np.zeros((800, 1)), 8000)
            (root / f"{i}.csv").write_text(rows)
        plain = {
            "name": "d",
            "split": split,
            "output": {"root": "o"},
            "sources": [{"name": "s", "root": str(root), **SIDECARS}],
        }
        config = Config.model_validate(plain)
        tracemalloc.start()
        assert make_plan(config).annotations_read == n * n_rows
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(1)
    few, many = peak_bytes(2), peak_bytes(6)
    assert (many - few) / (4 * n_rows) < 100


def test_a_batch_of_sidecars_reads_no_more_than_its_share_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecars, "_BATCH_BYTES", 100)
    monkeypatch.setattr(sidecars, "_LARGE_BYTES", 60)
    for i, size in enumerate([40, 50, 61, 40, 10]):
        (tmp_path / f"{i}").write_bytes(b"x" * size)
    paths = ["0", "1", "gone", "2", "3", "4"]
    read_ahead = sidecars._read_batch(Root(str(tmp_path)), paths)
    assert [type(c) if isinstance(c, OSError) else c and len(c) for c in read_ahead] == [
        40,
        50,
        FileNotFoundError,
        None,
        None,
        None,
    ]
    whole = [content for _, _, content in sidecars._contents(Root(str(tmp_path)), ((p, p) for p in paths))]
    assert [None if isinstance(c, OSError) else len(c) for c in whole] == [40, 50, None, 61, 40, 10]
