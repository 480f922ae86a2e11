"""Names of labels that are read from a table of the corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import tone, write_audio

from clipmill.pipelines.config_file import load_config
from clipmill.pipelines.plan.planning import Plan, make_plan
from clipmill.schemas.errors import ConfigError

TABLE = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05zppz,"Male speech, man speaking"\n2,/m/04rlf,Music\n'
NAMES = {"path": "names.csv", "key": "mid", "value": "display_name"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in "ab":
        write_audio(tmp_path / f"in/{name}.wav", tone(1.0, 8000), 8000)
    (tmp_path / "in/names.csv").write_text(TABLE)
    (tmp_path / "in/labels.csv").write_text("file,mid\na.wav,/m/09x0r\nb.wav,/m/05zppz\n")
    return tmp_path / "in"


def planned(root: Path, label: Any, **more: Any) -> Plan:
    annotations = {"table": "labels.csv", "recording": "file", "columns": {"label": "mid"}}
    config = {
        "name": "t",
        "sources": [{"name": "s", "root": str(root), "annotations": annotations, "label": label, **more}],
        "output": {"root": f"{root}-out"},
    }
    return make_plan(load_config(config).config)


def labels(plan: Plan) -> list[str]:
    return sorted(row["label"] for item in plan.table.to_pylist() for row in item["annotations"])


def test_labels_get_the_names_of_the_table_and_unused_ones_are_no_mistake(root: Path) -> None:
    plan = planned(root, {"map_file": NAMES})
    assert labels(plan) == ["Male speech, man speaking", "Speech"]
    assert plan.warnings == []


def test_entries_of_the_configuration_come_first(root: Path) -> None:
    assert labels(planned(root, {"map_file": NAMES, "map": {"/m/05zppz": "man"}})) == ["Speech", "man"]


def test_without_a_header_columns_are_given_by_index(root: Path) -> None:
    (root / "names.csv").write_text("/m/09x0r\tSpeech\n/m/05zppz\tMan\n")
    assert labels(planned(root, {"map_file": {"path": "names.csv", "key": 0, "value": 1}})) == ["Man", "Speech"]


def test_labels_that_the_table_lacks_are_rejected(root: Path) -> None:
    (root / "names.csv").write_text("mid,display_name\n/m/09x0r,Speech\n")
    rows = [row for item in planned(root, {"map_file": NAMES}).table.to_pylist() for row in item["annotations"]]
    assert sorted((row["reason"] or "", row["label"]) for row in rows)[1][0] == "label_not_mapped"


@pytest.mark.parametrize(
    ("table", "spec", "message"),
    [
        (None, NAMES, "does not exist"),
        (TABLE + "3,/m/04rlf,Noise\n", NAMES, "'/m/04rlf' is 'Music' on line 4 and 'Noise' on line 5"),
        (TABLE, {**NAMES, "key": "MID2"}, "has no column 'MID2'"),
        (TABLE, {**NAMES, "value": "name"}, "no column 'name'"),
        (TABLE + "3,/m/04rlf,\n", NAMES, "line 5 lacks a label or its name"),
        ("mid,display_name\n", NAMES, "has no rows"),
        (TABLE, {**NAMES, "path": "../names.csv"}, "leads out of the source's root"),
        (TABLE, {**NAMES, "key": 0}, "both by name, or both by index"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error_that_says_why(
    root: Path, table: str | None, spec: dict[str, Any], message: str
) -> None:
    (root / "names.csv").unlink()
    if table is not None:
        (root / "names.csv").write_text(table)
    with pytest.raises(ConfigError) as caught:
        planned(root, {"map_file": spec})
    assert message in str(caught.value)
    assert caught.value.problems[0].key.startswith("sources")
    assert "map_file" in caught.value.problems[0].key
