"""What commands print with --json: a version, and the shape that docs/json says.

conftest.py also holds every object that a command of any test prints in its process against its schema.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import run, tone, write_audio

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.cli.terminal import JSON_VERSION

TOP = Path(__file__).parents[1]
FOLDER = TOP / "docs/json"
WITH_JSON = {name for name, command in main.commands.items() if any("--json" in p.opts for p in command.params)}


def schema_of(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def problems(name: str, value: Any) -> list[str]:
    return [f"{e.json_path}: {e.message[:200]}" for e in jsonschema.Draft7Validator(schema_of(name)).iter_errors(value)]


def test_the_files_are_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("make_json", TOP / "docs/make_json.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made = script.texts()
    assert {path: path.read_text() for path in made} == made, "out of date: python docs/make_json.py"
    assert set(FOLDER.glob("*.json")) == set(made)
    for path in made:
        jsonschema.Draft7Validator.check_schema(json.loads(path.read_text()))


def test_every_command_has_a_schema() -> None:
    assert set(main.commands) == WITH_JSON
    lacking = WITH_JSON - {path.stem for path in FOLDER.glob("*.json")}
    assert not lacking, f"add {', '.join(sorted(lacking))} to docs/make_json.py, and run it"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two configurations and a dataset of two snapshots. No test changes it but `forget`, which is the last one."""
    place = tmp_path_factory.mktemp("json")
    for i, label in enumerate(("dog", "cat", "dog")):
        write_audio(place / "in" / label / f"r{i}.wav", tone(1.0 + i / 4, 8000, seed=i), 8000)
    (place / "in/dog/copy.wav").write_bytes((place / "in/dog/r0.wav").read_bytes())
    (place / "in/dog/broken.wav").write_bytes(b"RIFF")
    config = {
        "name": "d",
        "sources": [{"name": "s", "root": str(place / "in"), "label": {"from": "folder"}, "segment": {"mode": "window", "length_s": 0.5}}],
        "audio": {"sample_rate_hz": 8000},
        "clips": [{"measure": ["peak"]}],
        "output": {"root": str(place / "out"), "formats": ["parquet", "webdataset"]},
        "limits": {"max_rejected_share": 0.5},
    }  # fmt: skip
    (place / "c.yaml").write_text(json.dumps(config))
    (place / "held.yaml").write_text(json.dumps({**config, "limits": {"min_clips": 1000}}))
    return place


def shown(*arguments: Any, code: int = 0) -> Any:
    """Run a command with --json, and return what it printed, as its schema says."""
    printed = json.loads(run(*arguments, "--json", code=code).splitlines()[-1])
    assert printed["schema"] == JSON_VERSION
    assert next(iter(printed)) == "schema"
    name = "error" if "error" in printed else arguments[0]
    assert problems(name, printed) == []
    for key in schema_of(name).get("required", []):
        lacking = {k: v for k, v in printed.items() if k != key}
        assert problems(name, lacking), f"{key} is required"
    return printed


def test_each_command_prints_what_its_schema_says(dataset: Path, in_process: None, tmp_path: Path) -> None:
    config, out = dataset / "c.yaml", dataset / "out"
    said: dict[str, Any] = {"plan": shown("plan", config), "build": shown("build", config)}
    assert said["build"]["status"] == "published"
    (dataset / "in/cat/r3.wav").write_bytes((dataset / "in/dog/r2.wav").read_bytes())
    assert shown("build", dataset / "held.yaml", code=3)["status"] == "not_published"
    assert shown("build", config)["snapshot"]["number"] == 2
    assert shown("build", config)["status"] == "unchanged"
    said["init"] = shown("init", dataset / "in", "--output", tmp_path / "init.yaml")
    said["retry"] = shown("retry", config)
    said["status"] = shown("status", out)
    said["failures"] = shown("failures", out)
    assert shown("failures", out, "--output", tmp_path / "r.csv")["rows"] == 1
    said["show"] = shown("show", out)
    for option in (
        ["--duplicates"],
        ["--near-duplicates"],
        ["--keep", "{peak_dbfs: {min: -20}}"],
        ["--manifest", tmp_path / "m.csv"],
    ):
        shown("show", out, *option)
    said["verify"] = shown("verify", out)
    said["audit"] = shown("audit", out, "--clips", 3)
    said["diff"] = shown("diff", out, 1, 2)
    said["export"] = shown("export", out, "csv", "--to", tmp_path / "csv")
    said["report"] = shown("report", out, "--to", tmp_path / "r.html")
    said["sample"] = shown("sample", out, "--clips", 2, "--to", tmp_path / "sample")
    said["recipes"] = shown("recipes")
    shown("recipes", "esc50")
    said["schema"] = shown("schema", "--to", tmp_path / "s.json")
    said["demo"] = shown("demo", "--out", tmp_path / "demo")
    said["gc"] = shown("gc", out, "--keep", 1)
    assert shown("forget", out, "s/dog/r0.wav", code=2)["done"] is False
    said["forget"] = shown("forget", out, "s/dog/r0.wav", "--yes")
    said["error"] = shown("show", tmp_path, code=1)
    assert said.keys() - {"error"} == WITH_JSON, "every command is tried"


def test_wrong_usage_and_a_wrong_configuration_have_the_shape_of_errors(tmp_path: Path) -> None:
    assert shown("show", code=2)["code"] == "usage"
    (tmp_path / "c.yaml").write_text("nme: x\n")
    assert shown("build", tmp_path / "c.yaml", code=2)["code"] == "config.unknown_key"


def test_a_command_that_is_told_gets_the_same_object(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/r0.wav", tone(1.0, 8000), 8000)
    config = make_config({"root": tmp_path / "in"})
    keep = tmp_path / "keep"
    keep.write_text(f"#!/bin/sh\ncp $CLIPMILL_REPORT {tmp_path}/told.json\n")
    keep.chmod(0o755)
    run("build", config, "--on-finish", str(keep))
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["schema"] == JSON_VERSION
    assert problems("build", told) == []


def test_the_page_names_the_version() -> None:
    text = (TOP / "docs/commands.md").read_text()
    assert re.search(rf"version of all these objects, at present {JSON_VERSION}\.", text)
