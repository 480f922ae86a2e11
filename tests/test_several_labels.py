"""Clips have several labels: from cells, from columns, from rows of equal times and from rows that overlap them, and all rows are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import build_here, clips_of, tone, write_audio

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.plan.planning import make_plan

pytestmark = pytest.mark.usefixtures("in_process")
RATE = 8000
ANY = {"limits": {"max_rejected_share": 1.0}, "audio": {"sample_rate_hz": RATE}}


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def recordings(folder: Path, **seconds: float) -> Path:
    for i, (name, length_s) in enumerate(seconds.items()):
        write_audio(folder / f"{name}.wav", tone(length_s, RATE, seed=i), RATE)
    return folder


def clips(config: Path) -> dict[tuple[str, float], dict[str, Any]]:
    """Build, and return the clips by the name of their recording and their start."""
    root = config.parent / "out"
    rows = clips_of(root, build_here(config))
    found = {(Path(r["recording_id"]).stem, round(r["start_s"], 6)): r for r in rows}
    assert len(found) == len(rows)
    return found


def test_rows_with_equal_times_are_one_clip(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    folder = recordings(tmp_path / "in", a=4.0)
    (folder / "a.csv").write_text(
        'start,end,label,by\n1,2,dog,x\n0,1,rain,x\n1,2,"cat, dog",y\n1.5,3,bird,x\n3,4,,\n1,2.0000001,dog,x\n'
    )
    source = {
        "root": folder,
        "annotations": {"sidecar": "{stem}.csv", "columns": {"start": "start", "end": "end", "label": "label"}},
        "label": {"several": True},
    }
    config = make_config(source, **ANY)
    found = clips(config)
    labels = {start: (r["labels"], r["label"], r["by"]) for (_, start), r in found.items()}
    assert labels == {
        0.0: (["rain"], None, "x"),
        1.0: (["bird", "cat", "dog"], None, "x,y"),
        1.5: (["bird", "cat", "dog"], None, "x"),
        3.0: ([], None, ""),
    }
    assert found["a", 1.5]["events"] == [
        {"label": "cat", "onset_s": 0.0, "offset_s": 0.5},
        {"label": "dog", "onset_s": 0.0, "offset_s": 0.5},
        {"label": "bird", "onset_s": 0.0, "offset_s": 1.5},
    ]
    done = run("build", config)
    assert done.exit_code == 0, done.output
    assert "6 read = 4 used + 0 rejected + 2 merged" in done.output
    assert "6 read, 0 rejected, 2 merged" in run("plan", config).output
    assert run("verify", tmp_path / "out").exit_code == 0
    snapshot = open_dataset(tmp_path / "out").snapshot
    assert snapshot.seconds.clips_by_label == {"": 1, "bird": 2, "cat": 2, "dog": 2, "rain": 1}
    assert snapshot.classes == ["bird", "cat", "dog", "rain"]


def test_windows_have_the_labels_that_overlap_them_enough(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    folder = recordings(tmp_path / "in", a=6.0, b=2.0)
    (folder / "rows.csv").write_text(
        "file,start,end,label\na,0.5,1.5,dog\na,1.6,1.8,cat\na,1.2,1.9,dog\na,3,4,edge\na,4.9,5.05,split\nb,0,0,bad\n"
    )
    source = {
        "root": folder,
        "annotations": {
            "table": "rows.csv", "recording": "file",
            "columns": {"start": "start", "end": "end", "label": "label"},
        },
        "segment": {"mode": "window", "length_s": 1.0},
        "label": {"by_overlap": {"min_s": 0.5}, "none": "background"},
    }  # fmt: skip
    found = clips(make_config(source, **ANY))
    labels = {place: r["labels"] for place, r in found.items()}
    assert labels == {
        ("a", 0.0): ["dog"],
        ("a", 1.0): ["dog"],
        ("a", 2.0): ["background"],
        ("a", 3.0): ["edge"],
        ("a", 4.0): ["background"],
        ("a", 5.0): ["background"],
        ("b", 0.0): ["background"],
        ("b", 1.0): ["background"],
    }
    assert found["a", 1.0]["events"] == [
        {"label": "dog", "onset_s": 0.0, "offset_s": 0.5},
        {"label": "dog", "onset_s": 0.2, "offset_s": 0.9},
        {"label": "cat", "onset_s": 0.6, "offset_s": 0.8},
    ]
    assert found["a", 4.0]["events"] == [{"label": "split", "onset_s": 0.9, "offset_s": 1.0}]
    source["label"] = {"by_overlap": {"min_s": 0.5, "min_share": 0.6}}
    labels = {place: r["labels"] for place, r in clips(make_config(source, **ANY)).items()}
    assert labels["a", 1.0] == ["cat", "dog"]
    assert labels["a", 4.0] == ["split"]
    assert labels["a", 5.0] == []
    plan = make_plan(load(make_config(source, **ANY)).config)
    assert plan.annotations_read == 6
