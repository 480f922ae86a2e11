"""The JSON Schema of configurations: it accepts what clipmill accepts, and finds what an editor should show.

conftest.py also holds it against every configuration that any test loads.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from conftest import run
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmill.pipelines.config_file import load_config
from clipmill.pipelines.config_schema import SCHEMA_FILE, config_schema
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ConfigError
from clipmill.stages.annotations.registered import MODULES
from clipmill.stages.lookup import own_names

TOP = Path(__file__).parents[1]
SCHEMA = json.loads(SCHEMA_FILE.read_text())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
RECIPES = {p.stem: p.read_text() for p in sorted((TOP / "recipes").glob("*.yaml"))}
ENVIRON = {"CORPUS": "/data/corpus", "OUT": "/data/out"}
PLAIN: dict[str, Any] = {"name": "d", "sources": [{"name": "s", "root": "in"}], "output": {"root": "out"}}


def problems(data: Any) -> list[str]:
    return [f"{e.json_path}: {e.message[:200]}" for e in VALIDATOR.iter_errors(data)]


def test_the_files_are_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("make_schema", TOP / "docs/make_schema.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for path, text in script.texts().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: python docs/make_schema.py"
    assert json.loads((TOP / "docs/clipmill.schema.json").read_text()) == SCHEMA
    assert '"schemas/*.json"' in (TOP / "pyproject.toml").read_text(), "it is in the package"
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "path", [*sorted((TOP / "recipes").glob("*.yaml")), TOP / "examples/fsdd.yaml"], ids=lambda p: p.stem
)
def test_recipes_and_examples_are_valid(path: Path) -> None:
    assert problems(yaml.safe_load(path.read_text())) == []


def test_the_configurations_in_the_docs_are_valid() -> None:
    found = 0
    for page in (TOP / "README.md", *(TOP / "docs").glob("*.md")):
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S):
            try:
                data = yaml.safe_load(block)
            except yaml.YAMLError:
                continue  # two alternatives of one key
            if isinstance(data, dict) and {"name", "sources", "output"} <= data.keys():
                assert problems(data) == [], page.name
                found += 1
            elif isinstance(data, dict) and data.keys() <= Config.model_fields.keys():
                assert problems({**PLAIN, **data}) == [], page.name
                found += 1
    assert found >= 3


MISTAKES: list[tuple[str, Any]] = [
    ("sources.0.rot", "in"),
    ("output.formats", ["parket"]),
    ("audio.sample_rate_hz", "fast"),
    ("audio.sample_rate", 16000),
    ("audio.channels", "stereo"),
    ("sources.0.segment", {"mode": "windows"}),
    ("sources.0.segment", "window"),
    ("sources.0.annotations", {"format": "textgrit", "sidecar": "{stem}.TextGrid"}),
    ("sources.0.annotations", {"format": "rttm", "table": "x.rttm", "delimiter": ","}),
    ("sources.0.annotations", {"sidecar": "{stem}.csv", "tier": "words"}),
    ("sources.0.annotations", {"format": "textgrid", "teir": "words"}),
    ("sources.0.annotations.0", {"sidecar": "{stem}.csv", "colums": {"start": 0}}),
    ("sources.0.label", ["dog"]),
    ("sources.0.label", {"from": "folders"}),
    ("clips", [{"silense": {"min_dbfs": -40}}]),
    ("clips", [{"silence": {"min_db": -40}}]),
    ("clips", [{"silence": {"min_dbfs": -40}, "trim": {}}]),
    ("clips", ["level"]),
    ("clips", [{"level": {"to": "lufs"}}]),
    ("clips", [{"measure": ["snr", "loudness"]}]),
    ("clips", [{"keep": {"snr_db": {"minimum": 15}}}]),
    ("clips", [{"augment": {"speed": [0.9, 1.0, 1.1]}}]),
    ("features", {"log_mels": {}}),
    ("features", {"log_mel": {"n_mel": 80}}),
    ("split", {"train": 80, "test": 20}),
    ("limits", {"max_rejected_share": 2}),
    ("output.images", {"size": 224}),
    ("output.images", {"range_db": [-80, True]}),
    ("classes", []),
    ("name", "no spaces please"),
    ("output", None),
]


@pytest.mark.parametrize(("place", "value"), MISTAKES, ids=[f"{p}={json.dumps(v)[:40]}" for p, v in MISTAKES])
def test_mistakes_are_found(place: str, value: Any) -> None:
    """Each is also a mistake for clipmill, so the schema is not stricter than it."""
    data = copy.deepcopy(PLAIN)
    *path, last = place.split(".")
    inside: Any = data
    for i, part in enumerate(path):
        if isinstance(inside, dict) and part not in inside:
            inside[part] = [None] if (path[i + 1 :] or [last])[0].isdigit() else {}
        inside = inside[int(part)] if part.isdigit() else inside[part]
    if value is None:
        del inside[last]
    else:
        inside[int(last) if last.isdigit() else last] = value
    assert problems(data)
    with pytest.raises(ConfigError):
        load_config(data, environ={})


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("audio", {"sample_rate_hz": "${RATE:-16000}", "channels": "${CHANNELS}"}),
        ("audio", {"sample_rate_hz": "16000"}),
        ("clips", ["${STAGE}", {"my_package.denoise:Denoise": {"strength": 0.5}}, "my_package.denoise:Denoise"]),
        ("clips", [{"augment": {"speed": [0.9, 1.1], "gain_db": {"range": [-6, 6], "probability": 0.5}, "codec": "mp3", "pitch": 2}}]),
        ("features", {"log_mel": True, "mfcc": None, "my_package:Feature": {"x": 1}}),
        ("classes", [1, 2.5, "dog"]),
        ("split", {"from_files": {"test": ["a.txt", {"file": "b.csv", "column": 0}]}, "default": "train", "disjoint": "speaker"}),
        ("sources", [{"name": "s", "root": "in", "annotations": [{"format": "${FORMAT}", "anything": 1}, {"sidecar": "{stem}.csv"}]}]),
        ("sources", [{"name": "s", "root": "in", "label": 3, "text": {"strip": None, "remove": "x"}}]),
    ],
)  # fmt: skip
def test_every_way_to_write_a_value_is_accepted(place: str, value: Any) -> None:
    assert problems({**PLAIN, place: value}) == []


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*path, key))


OTHERS = [None, True, False, 0, 1, 2, -40, 0.5, 16000, "16000", "0.5", "true", "", "x", "label", "tab", [], {}, ["x"], [0, 1],
          {"x": 1}, "${CORPUS}", "mono", "each", "folder", {"from": "folder"}, {"mode": "whole"}, [{"trim": {}}], ["trim"]]  # fmt: skip
KEYS = sorted({key for made in (SCHEMA, *SCHEMA["$defs"].values()) for key in made.get("properties", {})})


@given(name=st.sampled_from(sorted(RECIPES)), seed=st.integers(0, 2**32), n=st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_what_clipmill_accepts_of_changed_recipes_the_schema_accepts(name: str, seed: int, n: int) -> None:
    draw = random.Random(seed)
    data = yaml.safe_load(RECIPES[name])
    for _ in range(n):
        path = draw.choice([p for p in places(data) if p])
        inside = data
        for part in path[:-1]:
            inside = inside[part]
        what = draw.choice(["remove", "replace", "add", "quote"])
        if what == "remove":
            del inside[path[-1]]
        elif what == "replace":
            inside[path[-1]] = copy.deepcopy(draw.choice(OTHERS))
        elif what == "quote":
            inside[path[-1]] = str(inside[path[-1]])
        elif isinstance(inside, dict):
            inside[draw.choice(KEYS)] = copy.deepcopy(draw.choice(OTHERS))
    try:
        load_config(data, environ=ENVIRON)
    except ConfigError:
        return
    assert problems(data) == []


def test_every_key_has_a_description() -> None:
    lacking = []
    for where, made in (("", SCHEMA), *SCHEMA["$defs"].items()):
        for key, about in made.get("properties", {}).items():
            reference = about.get("$ref", "")
            if reference.startswith("#/$defs/annotation_keys/"):
                about = SCHEMA["$defs"]["annotation_keys"]["properties"][reference.rsplit("/", 1)[1]]
            if len(about.get("description", "")) < 3:
                lacking.append(f"{where}.{key}")
    assert lacking == []


def test_it_knows_every_stage_and_format() -> None:
    stages = SCHEMA["$defs"]["clip_stages"]["items"]["anyOf"][0]["properties"]
    assert sorted(stages) == own_names("clip")
    assert set(MODULES) == {n.removeprefix("annotations_") for n in SCHEMA["$defs"] if n.startswith("annotations_")}
    assert set(own_names("derived")) <= SCHEMA["$defs"]["Features"]["properties"].keys()
    assert config_schema(installed=True)["$defs"].keys() >= SCHEMA["$defs"].keys()
    assert "later" not in json.dumps(SCHEMA).replace("later,", "").split('"')


def test_the_command_writes_it(tmp_path: Path) -> None:
    assert json.loads(run("schema"))["$defs"].keys() >= SCHEMA["$defs"].keys()
    assert json.loads(run("schema", "--to", tmp_path / "s.json", "--json"))["written"] == str(tmp_path / "s.json")
    jsonschema.Draft7Validator.check_schema(json.loads((tmp_path / "s.json").read_text()))
    assert json.loads(run("schema", "--to", tmp_path / "none/s.json", "--json", code=1))["code"] == "storage.missing"
