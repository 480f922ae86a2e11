"""Labels have the names that the configuration gives them, classes keep their ids, and the sums stay whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from conftest import clips_of, tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.classes import class_order
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.dataset.records_io import read_commit, read_snapshot
from clipmill.pipelines.plan.planning import make_plan
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.records import Counts, Seconds, Snapshot
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")
RATE = 8000


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def labels_of(root: Path) -> dict[str, str | None]:
    there = Root(str(root))
    commits = [read_commit(there, key) for key in read_snapshot(there).commits]
    return {row["recording_id"].partition("/")[2]: row["label"] for row in clips_of(root, commits)}


def rewritten(config: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    plain = yaml.safe_load(config.read_text())
    change(plain)
    config.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    return config


@pytest.fixture
def emotions(tmp_path: Path) -> dict[str, Any]:
    for i, code in enumerate(("01", "01", "03", "08", "99")):
        write_audio(tmp_path / f"in/{code}/r{i}.wav", tone(0.5, RATE, seed=i), RATE)
    return {"root": tmp_path / "in"}


def test_labels_are_mapped_dropped_defaulted_and_rejected_and_all_add_up(
    emotions: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    label = {"from": "folder", "map": {"01": "neutral", "03": "happy", "55": "never"}, "drop": ["08"]}
    config = make_config({**emotions, "label": label}, limits={"max_rejected_share": 1.0})
    done = run("build", config)
    assert done.exit_code == 0, done.output
    assert labels_of(tmp_path / "out") == {"01/r0.wav": "neutral", "01/r1.wav": "neutral", "03/r2.wav": "happy"}
    assert "5 listed = 3 used + 1 rejected + 0 without annotations + 1 dropped by label" in done.output
    assert "no recording or annotation has the label '55'" in done.output
    assert "label_not_mapped" in run("failures", config).output
    planned = run("plan", config).output
    assert "5 listed: 3 to read, 1 rejected, 0 without annotations, 1 dropped by label" in planned
    rewritten(config, lambda c: c["sources"][0]["label"].update(default="other"))
    assert run("build", config).exit_code == 0
    assert labels_of(tmp_path / "out")["99/r4.wav"] == "other"
    rewritten(config, lambda c: c["sources"][0]["label"].update(drop=["neutral"]))
    assert run("build", config).exit_code == 0
    assert set(labels_of(tmp_path / "out").values()) == {"happy", "other"}, "dropped by the name that map gives"
    assert run("verify", tmp_path / "out").exit_code == 0


def test_rows_with_dropped_labels_are_counted_as_such(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for name, rows in {
        "a": "0,0.2,dog\n0.2,0.4,noise\n0.3,x,dog\n",
        "b": "0,0.3,noise\n",
        "c": "0,0.1,cat\nx,1,hum\n",
    }.items():
        write_audio(tmp_path / f"in/{name}.wav", tone(0.5, RATE), RATE)
        (tmp_path / f"in/{name}.csv").write_text(rows)
    annotations = {"sidecar": "{stem}.csv", "header": False, "columns": {"start": 0, "end": 1, "label": 2}}
    source = {
        "root": tmp_path / "in", "annotations": annotations, "segment": {"mode": "annotation"}, "label": {"drop": ["noise", "hum"]},
    }  # fmt: skip
    config = make_config(source, limits={"max_rejected_share": 1.0}, classes=["cat", "dog"])
    done = run("build", config)
    assert done.exit_code == 0, done.output
    assert "annotations  6 read = 2 used + 2 rejected + 2 dropped by label" in done.output
    assert "3 listed = 2 used + 0 rejected + 0 without annotations + 1 dropped by label" in done.output
    told = json.loads(run("plan", config, "--json").output)
    assert told["rejected"] == {"annotation_not_a_number": 2}, "as the build says"
    assert told["warnings"] == [], "the label of a rejected row is there all the same"
    assert told["annotations_dropped"] == {"noise": 2}
    assert told["estimate"]["clips"] == 2
    assert run("build", config).output.count("unchanged") == 1


def test_ids_stay_when_classes_come_and_go(
    emotions: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    config = make_config({**emotions, "label": {"from": "folder"}})
    assert run("build", config).exit_code == 0
    assert open_dataset(str(tmp_path / "out")).classes == ["01", "03", "08", "99"]
    write_audio(tmp_path / "in/02/new.wav", tone(0.5, RATE, seed=9), RATE)
    done = run("build", config)
    assert open_dataset(str(tmp_path / "out")).classes == ["01", "03", "08", "99", "02"]
    assert "'02' is new: label ids from 4 on; the others keep theirs" in done.output
    line = 'classes: ["01", "03", "08", "99", "02"]'
    assert line in done.output
    (tmp_path / "in/03/r2.wav").unlink()
    assert run("build", config, "--accept").exit_code == 0
    assert open_dataset(str(tmp_path / "out")).classes[1] == "03", "a class that went keeps its place"
    config.write_text(config.read_text() + line + "\nlimits: {missing_classes: ignore}\n")
    assert "unchanged" in run("build", config).output, "the line changes nothing"
    rewritten(config, lambda c: c.update(classes=["02", "99", "08", "03", "01"]))
    moved = run("build", config)
    assert moved.exit_code == 0, moved.output
    assert "published    snapshot" in moved.output
    assert "0 built" in moved.output, "no shard holds an id"
    assert "models trained on that snapshot do not fit this order" in moved.output
    assert open_dataset(str(tmp_path / "out")).classes == ["02", "99", "08", "03", "01"]


def test_classes_reject_what_they_do_not_have(
    emotions: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    config = make_config({**emotions, "label": {"from": "folder"}}, classes=["01", "03", "8"])
    held = run("build", config)
    assert held.exit_code == 3, held.output
    assert "label_not_a_class" in run("failures", config).output
    with pytest.raises(ConfigError, match="'dgo' is not one of classes; did you mean 'dog'"):
        load(make_config({**emotions, "label": "dgo"}, classes=["dog", "cat"]))
    with pytest.raises(ConfigError, match="is listed twice"):
        load(make_config({**emotions, "label": "dog"}, classes=["dog", "dog"]))


names = st.sampled_from([f"c{i}" for i in range(8)])


@given(st.lists(st.sets(names), min_size=1, max_size=6))
def test_no_class_ever_changes_its_id(nights: list[set[str]]) -> None:
    config = Config.model_validate({"name": "x", "sources": [{"name": "s", "root": "/r"}], "output": {"root": "/o"}})
    last: Snapshot | None = None
    for labels in nights:
        now = Snapshot(
            number=1, name="x", parent=None, created="", commits=[], plan_digest="", config={}, fields=[], bytes_stored=0, by_split={},
            counts=Counts(), seconds=Seconds(clips_by_label=dict.fromkeys(labels, 1)), recordings_listed=0,
            recordings_without_annotations=0, annotations_read=0,
        )  # fmt: skip
        order = class_order(config, now, last)
        before = (
            class_order(config, last, None) if last is not None and not last.classes else (last.classes if last else [])
        )
        assert order[: len(before)] == before
        assert set(order) == set(before) | labels
        assert len(order) == len(set(order))
        last = Snapshot(**{**now.__dict__, "classes": order})


def test_nothing_kept_is_no_dataset(emotions: dict[str, Any], make_config: Callable[..., Path]) -> None:
    held = run("build", make_config(emotions, silence={"min_dbfs": -0.1}))
    assert held.exit_code == 3
    assert "limits.min_clips requires (1)" in held.output
    assert "--accept" not in held.output, "there is nothing to publish"


@pytest.mark.parametrize(
    ("label", "classes", "expected"),
    [
        ({"map": {"a": "a", "b": "b"}}, None, ["a", "b"]),
        ({"map": {"a": "a", "b": "b"}, "default": "other"}, None, ["a", "b", "other"]),
        (None, ["a", "b"], ["a", "b"]),
        (None, None, ["a", "b", None]),
    ],
)
def test_an_empty_label_gets_past_no_rule(
    tmp_path: Path, label: Any, classes: Any, expected: list[str | None], make_config: Callable[..., Path]
) -> None:
    write_audio(tmp_path / "in/r.wav", tone(1, RATE), RATE)
    (tmp_path / "in/r.csv").write_text("0,0.2,a\n0.2,0.4,b\n0.4,0.6,\n")
    annotations = {"sidecar": "{stem}.csv", "header": False, "columns": {"start": 0, "end": 1, "label": 2}}
    source = {"root": tmp_path / "in", "annotations": annotations, "segment": {"mode": "annotation"}}
    top = {"limits": {"max_rejected_share": 1.0}, **({"classes": classes} if classes else {})}
    plan = make_plan(load(make_config({**source, **({"label": label} if label else {})}, **top)).config)
    rows = plan.table["annotations"][0].as_py()
    assert [row["label"] for row in rows if row["reason"] is None] == expected
    assert [row["reason"] for row in rows if row["reason"]] == ["label_missing"] * (3 - len(expected))


def test_a_sidecar_that_cannot_be_used_rejects_its_recording(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    """It counted as one of so many rows, so that half of a corpus could be lost under a limit of 1 %."""
    rows = "".join(f"{i / 100},{i / 100 + 0.01},a\n" for i in range(100))
    for name, text in {"r": rows, "s": rows, "t": '"1,000","2,000",a\n' * 50}.items():
        write_audio(tmp_path / f"in/{name}.wav", tone(1.2, RATE), RATE)
        (tmp_path / f"in/{name}.csv").write_text(text)
    annotations = {"sidecar": "{stem}.csv", "header": False, "columns": {"start": 0, "end": 1, "label": 2}}
    config = make_config({"root": tmp_path / "in", "annotations": annotations, "segment": {"mode": "annotation"}})
    done = run("build", config)
    assert done.exit_code == 3, done.output
    assert "3 listed = 2 used + 1 rejected" in done.output and "200 read = 200 used" in done.output
    assert "t.csv" in run("failures", config).output


@pytest.mark.parametrize(
    ("label", "told"), [("kind", True), ("label", True), ("dog", False), ({"from": "annotation"}, False)]
)
def test_a_text_for_all_labels_that_is_the_column_s_name_is_told(
    label: Any, told: bool, make_config: Callable[..., Path], tmp_path: Path
) -> None:
    write_audio(tmp_path / "in/a.wav", tone(1.0, 8000), 8000)
    (tmp_path / "in/a.csv").write_text("kind\ncat\n")
    annotations = {"sidecar": "{stem}.csv", "columns": {"label": "kind"}}
    plan = make_plan(load(make_config({"root": tmp_path / "in", "annotations": annotations, "label": label})).config)
    assert [
        f"label: {label} gives every clip the text" in w.message and "{from: annotation}" in w.message
        for w in plan.warnings
    ] == [True] * told
