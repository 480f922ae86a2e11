"""docs/operate.md and the alarms: what they name exists, and what they show works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import run, tone, write_audio

from clipmill.pipelines.cli.prometheus_text import metrics_text
from clipmill.schemas.errors import CODES

TOP = Path(__file__).parents[1]
PAGE = (TOP / "docs/operate.md").read_text()
RULES = yaml.safe_load((TOP / "deploy/prometheus-rules.yaml").read_text())
OURS = re.compile(r"clipmill_[a-z_]+")


@pytest.fixture
def config(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    write_audio(tmp_path / "in/r0.wav", tone(1.0, 8000), 8000)
    return make_config({"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 0.25}})


@pytest.fixture
def metrics(config: Path, tmp_path: Path) -> dict[str, set[str]]:
    """The metrics of a real build, each with the names of its labels."""
    (tmp_path / "in/broken.wav").write_bytes(b"RIFF")
    run("build", config, "--accept", "--metrics", tmp_path / "m.prom")
    found: dict[str, set[str]] = {}
    for line in (tmp_path / "m.prom").read_text().splitlines():
        if not line.startswith("#"):
            found.setdefault(line.split("{")[0], set()).update(re.findall(r'(\w+)="', line))
    return found


def test_the_alarms_name_metrics_and_labels_of_a_real_build(metrics: dict[str, set[str]]) -> None:
    alarms = [rule for group in RULES["groups"] for rule in group["rules"]]
    assert len({a["alert"] for a in alarms}) == len(alarms) > 4
    for alarm in alarms:
        assert set(alarm) <= {"alert", "expr", "for", "labels", "annotations"}
        assert alarm["annotations"]["summary"]
        assert OURS.findall(alarm["expr"])
        for name in OURS.findall(yaml.safe_dump(alarm)):
            assert name in metrics, name
        for name, labels in re.findall(r"(clipmill_\w+)\{([^}]*)\}", alarm["expr"]):
            assert set(re.findall(r"(\w+)=", labels)) <= metrics[name]
        assert set(re.findall(r"\$labels\.(\w+)", yaml.safe_dump(alarm))) <= {"dataset", "config"}
        assert alarm["expr"].count("(") == alarm["expr"].count(")")


def test_the_alarms_cover_each_way_to_fail(metrics: dict[str, set[str]]) -> None:
    failed = metrics_text({}, {"dataset": "d", "config": "c"}, "failed", 1, 0.0)
    assert 'clipmill_build_success{dataset="d",config="c"} 0' in failed
    expressions = {rule["expr"] for group in RULES["groups"] for rule in group["rules"]}
    assert {"clipmill_build_success == 0", "absent(clipmill_build_success)"} <= expressions


def test_the_page_names_every_code_and_exit_code() -> None:
    table = PAGE[PAGE.index("| code | what to do |") : PAGE.index("Recordings that are rejected")]
    named = [n for row in table.splitlines() if "|" in row for n in re.findall(r"`([a-z_.]+)`", row.split("|")[1])]
    assert sorted(named) == sorted(CODES), "each code once"
    exit_codes = PAGE[PAGE.index("| exit code | what happened") : PAGE.index("The code is the key")]
    assert re.findall(r"^\| (\d+)", exit_codes, re.M) == ["0", "1", "2", "3", "137"]


def test_the_page_names_files_that_exist() -> None:
    for name in re.findall(r"deploy/[\w.-]+", PAGE):
        assert (TOP / name).exists(), name


def test_the_probe_tells_a_fresh_dataset_from_an_old_one(config: Path, tmp_path: Path) -> None:
    run("build", config)
    (script,) = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    (tmp_path / "probe").write_text(script)
    (tmp_path / "bin").mkdir()
    stand_in = (
        tmp_path / "bin/clipmill"
    )  # what `clipmill status --json` printed, as starting Python again takes a second
    shown: Any = run("status", tmp_path / "out", "--json")
    (tmp_path / "shown.json").write_text(shown)
    stand_in.write_text(f'#!/bin/sh\n[ "$1 $3" = "status --json" ] && cat {tmp_path}/shown.json\n')
    stand_in.chmod(0o755)
    (tmp_path / "bin/python3").symlink_to(sys.executable)

    def probe() -> int:
        path = f"{tmp_path}/bin:/usr/bin:/bin"
        return subprocess.run(
            ["sh", str(tmp_path / "probe"), str(tmp_path / "out")], env={"PATH": path}, capture_output=True
        ).returncode

    assert probe() == 0
    (tmp_path / "shown.json").write_text(re.sub(r'"created": "20\d\d', '"created": "2001', shown))
    assert probe() == 1


def test_a_backup_in_the_order_of_the_page_is_whole(config: Path, tmp_path: Path) -> None:
    run("build", config)
    order = re.search(r"^for folder in (.*?); do", PAGE, re.M)
    assert order is not None
    folders = order[1].split()
    assert folders.index("shards") < folders.index("commits") < folders.index("snapshots") < folders.index(".")
    for folder in folders:
        if (tmp_path / "out" / folder).exists():
            shutil.copytree(tmp_path / "out" / folder, tmp_path / "backup" / folder, dirs_exist_ok=True)
    assert "all as committed" in run("verify", tmp_path / "backup")
