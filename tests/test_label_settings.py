"""Settings of several labels: columns that are labels, what goes together, and which keys move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import build_here, tone, write_audio
from labelled_corpora import RATE, by_start, outcome, table, write_rows

from clipmill.pipelines.config_file import load
from clipmill.pipelines.plan.planning import make_plan
from clipmill.schemas.errors import ConfigError

pytestmark = pytest.mark.usefixtures("in_process")


def test_columns_are_labels(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for i, name in enumerate("abcd"):
        write_audio(tmp_path / f"in/{name}.wav", tone(1.0, RATE, seed=i), RATE)
    (tmp_path / "in/tags.csv").write_text(
        "file,dog,cat,is_loud,note\na,1,0,true,x\nb,0,0.4,FALSE,y\nc,0.0,0.6,1,z\nd,yes,0,0,w\n"
    )
    source = {
        "root": tmp_path / "in",
        "annotations": {"table": "tags.csv", "recording": "file"},
        "label": {
            "several": True,
            "one_hot": ["dog", "cat", "is_*"],
            "map": {"dog": "canine", "cat": "cat", "is_loud": "loud"},
        },
    }
    config = make_config(source, limits={"max_rejected_share": 1.0})
    commits = build_here(config)
    assert outcome(commits) == {"used": 3, "rejected": 1}
    assert commits[0].rejections[0]["detail"].startswith("dog is 'yes'; expected 0, 1, true")
    found = {name: row for (name, *_), row in by_start(tmp_path / "out", commits).items()}
    assert {name: row["labels"] for name, row in found.items()} == {
        "a": ["canine", "loud"],
        "b": [],
        "c": ["cat", "loud"],
    }
    assert "events" not in found["a"] and "dog" not in found["a"] and found["a"]["note"] == "x"
    source["label"] = {"several": True, "one_hot": "dgo"}
    plan = make_plan(load(make_config(source)).config)
    details = [row["detail"] for rows in plan.table["annotations"].to_pylist() for row in rows]
    assert len(details) == 4 and details[0].startswith("no column is called 'dgo'; did you mean 'dog'?")
    (tmp_path / "in/tags.csv").write_text("a,0,1,0.25,0.3\nb,1,2,0.2,0.3\n")
    columns = {"start": 1, "end": 2}
    source["annotations"] = {
        "table": "tags.csv", "recording": 0, "header": False, "columns": columns, "fields": {"label": 3, "dog": 4},
    }  # fmt: skip
    write_audio(tmp_path / "in/b.wav", tone(2.0, RATE), RATE)
    for columns_of_labels in (["label", "dog"], "*"):
        source["label"] = {"by_overlap": True, "one_hot": columns_of_labels, "threshold": 0.25}
        plan = make_plan(load(make_config(source)).config)
        assert plan.field_names == []
        events = [[event["labels"] for event in own] for own in plan.table["events"].to_pylist()]
        assert sorted(events) == [[["dog"]], [["dog", "label"]]]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({"separator": ";", "from": "folder"}, "`separator` needs `several: true`"),
        ({"one_hot": ["dog"], "drop": ["x"]}, "`one_hot` needs `several: true`"),
        ({"several": True, "one_hot": ["dog"]}, "`label.one_hot` and `annotations.columns.label` exclude each other"),
        ({"several": True, "one_hot": ["dog"], "from": "folder"}, "`one_hot` and `from: folder` exclude each other"),
        ({"several": True, "threshold": 1}, "`threshold` belongs to `one_hot`"),
        ({"from": "folder", "by_overlap": True}, "`by_overlap` and `from: folder` exclude each other"),
        ({"several": True, "none": "x"}, "`none` needs `by_overlap`"),
        ({"by_overlap": {"min_share": 2}}, "min_share"),
        ({"by_overlap": {"mins": 2}}, "did you mean 'min_s'"),
        ({"by_overlap": 3}, "min_s: 0.5, min_share: 0.2"),
    ],
)
def test_what_does_not_go_together_is_told(
    label: dict[str, Any], message: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError) as error:
        load(make_config({"root": tmp_path, "annotations": table(), "label": label}))
    assert message in str(error.value)


def test_labels_by_overlap_fit_segment_and_split(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    source = {"root": tmp_path, "annotations": table(), "label": {"by_overlap": True}}
    with pytest.raises(ConfigError, match="exclude each other: rows that label do not cut"):
        load(make_config({**source, "segment": {"mode": "annotation"}}))
    with pytest.raises(ConfigError, match="write `balance: true` instead of `stratify`"):
        load(make_config(source, split={"train": 0.5, "test": 0.5, "stratify": "label"}))
    with pytest.raises(ConfigError, match="cannot decide the split"):
        load(make_config(source, split={"from": "label", "map": {"dog": "train"}}))
    with pytest.raises(ConfigError, match=r"need `annotations\.columns\.label`, or `label\.one_hot`"):
        load(make_config({**source, "annotations": {**table(), "columns": {"start": 1}}}))
    named = {**source, "fields": "(?P<events>.)"}
    write_audio(tmp_path / "a.wav", tone(1.0, RATE), RATE)
    write_rows(tmp_path / "rows.csv", [("a", 0, 1, "dog")])
    with pytest.raises(ConfigError, match="a field 'events'"):
        make_plan(load(make_config(named)).config)


def test_keys_move_with_what_labels_a_clip_and_only_with_that(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for name in "ab":
        write_audio(tmp_path / f"{name}/{name}.wav", tone(1.0, RATE), RATE)
    write_rows(tmp_path / "a/rows.csv", [("a", 0, 0.5, "dog"), ("a", 0, 0.5, "cat")])

    def digests(label: Any) -> dict[str, str]:
        first = {"root": tmp_path / "a", "annotations": table(), **({"label": label} if label else {})}
        plan = make_plan(load(make_config([first, {"root": tmp_path / "b", "label": "cow"}])).config).table
        return dict(zip(plan["recording_id"].to_pylist(), plan["item_digest"].to_pylist(), strict=True))

    by = {"min_s": 0.5}
    labels: list[Any] = [
        None, {"several": True}, {"by_overlap": True}, {"by_overlap": by}, {"by_overlap": {"min_share": 0.5}},
        {"by_overlap": by, "none": "no"}, {"by_overlap": by, "none": "no", "drop": "no"}, {"by_overlap": by, "map": {"dog": "x", "cat": "y"}},
    ]  # fmt: skip
    found = [digests(label) for label in labels]
    assert len({each["s0/a.wav"] for each in found}) == len(labels)
    assert len({each["s1/b.wav"] for each in found}) == 1
    assert digests({"several": True, "separator": ";"}) == found[1], "what is read counts, not how"
