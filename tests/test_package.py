"""`import clipmill`: what it offers, how little it loads, and that a user's own modules are neither hidden nor taken for it."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import tone, write_audio

import clipmill
from clipmill.pipelines.config_file import load, loads

ROOT = Path(__file__).parents[1]
FACE = ROOT / "clipmill/__init__.py"
OWN = ("pipelines", "stages", "schemas")


def config_of(place: Path) -> dict[str, Any]:
    return {
        "name": "animals",
        "sources": [{"name": "s", "root": place / "in", "label": {"from": "folder"}}],
        "output": {"root": place / "out"},
        "features": {"log_mel": {}},
        "limits": {"max_rejected_share": 0.5},
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in ``out`` of two labels and one recording that cannot be read; no test changes it."""
    place = tmp_path_factory.mktemp("package")
    for i, label in enumerate(("dog", "cat", "dog", "cow")):
        write_audio(place / "in" / label / f"r{i}.wav", tone(1.0 + i / 4, 8000, seed=i), 8000)
    (place / "in/dog/broken.wav").write_bytes(b"RIFF")
    before = dict(os.environ)
    report = clipmill.build(config_of(place), quiet=True)
    assert dict(os.environ) == before, "a notebook's environment is its own"
    assert report.status == "published", report
    return place


def test_the_face_is_short_and_its_two_lists_are_one() -> None:
    text = FACE.read_text()
    assert len(text.splitlines()) < 100
    typed = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module != "clipmill.python_version" and node.module != "typing":
            typed |= {alias.name: str(node.module) for alias in node.names}
    typed = {name: module.removeprefix("clipmill.") for name, module in typed.items() if module.startswith("clipmill.")}
    assert typed == clipmill._MODULES
    assert sorted(clipmill.__all__) == sorted(typed)
    for name, module in typed.items():
        assert getattr(clipmill, name) is getattr(importlib.import_module(f"clipmill.{module}"), name)
    assert {*clipmill.__all__, "__version__"} <= set(dir(clipmill))
    with pytest.raises(AttributeError, match="has no attribute 'bild'"):
        clipmill.bild  # noqa: B018


def test_importing_it_loads_no_library() -> None:
    code = "import sys, clipmill; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "ray", "pyarrow", "numpy", "pandas", "pydantic", "fsspec", "click"} & set(done.stdout.split())


def test_a_mapping_says_what_a_file_says(tmp_path: Path) -> None:
    for recipe in sorted((ROOT / "recipes").glob("*.yaml")):
        environ = {"CORPUS": "/data", "OUT": "/out"}
        plain = yaml.safe_load(recipe.read_text())
        file, mapping = load(recipe, environ=environ), clipmill.load_config(plain, environ=environ)
        assert mapping.config == file.config
        assert mapping.public == file.public
        assert clipmill.load_config(file) is file
        assert clipmill.load_config(str(recipe), environ=environ).config == file.config


def test_a_mapping_may_hold_what_python_code_holds() -> None:
    import numpy as np

    plain = {
        "name": "t",
        "sources": ({"name": "s", "root": Path("/in"), "include": ("*.wav", "*.flac")},),
        "output": {"root": Path("/out"), "shard_seconds": np.float64(30)},
        "audio": {"sample_rate_hz": np.int64(16000)},
    }
    text = "name: t\nsources: [{name: s, root: /in, include: ['*.wav', '*.flac']}]\noutput: {root: /out, shard_seconds: 30.0}\n"
    assert clipmill.load_config(plain).config == loads(text + "audio: {sample_rate_hz: 16000}\n").config


@pytest.mark.parametrize(
    ("config", "messages"),
    [
        ({"name": "t", "sorces": []}, ["sorces: unknown key; did you mean 'sources'?", "output: is missing"]),
        (
            {"name": "t", "sources": [{"name": "s", "root": object()}]},
            ["sources[0].root: is object, which YAML cannot"],
        ),
        (7, ["a configuration is the path of a YAML file, or a mapping; this is int"]),
        ("nowhere.yaml", ["nowhere.yaml: cannot read the configuration: No such file"]),
        ({}, ["name: is missing"]),
    ],
)
def test_a_wrong_mapping_is_told_by_its_keys_and_no_line(config: object, messages: list[str]) -> None:
    with pytest.raises(clipmill.ClipmillError) as told:
        clipmill.load_config(config)  # type: ignore[arg-type]
    assert "<mapping>" not in str(told.value)
    for message in messages:
        assert message in str(told.value)
    assert [p.line for p in told.value.problems] == [None] * len(told.value.problems)


def test_a_mapping_that_holds_itself_is_told() -> None:
    plain: dict[str, object] = {"name": "t"}
    plain["sources"] = [plain]
    with pytest.raises(clipmill.ClipmillError, match="nested too deeply"):
        clipmill.load_config(plain)


def test_the_tables_of_a_dataset_are_what_its_files_hold(built: Path) -> None:
    dataset = clipmill.open_dataset(built / "out")
    folder = built / "out/snapshots/000001"
    assert dataset.manifest() == pq.read_table(folder / "manifest.parquet")
    assert dataset.manifest(["clip_id", "label"]).column_names == ["clip_id", "label"]
    assert dataset.rejections() == pq.read_table(folder / "rejections.parquet")
    assert dataset.rejections().to_pandas()["recording_id"].tolist() == ["s/dog/broken.wav"]
    assert list(dataset.classes) == ["cat", "cow", "dog"]
    classes = dataset.classes.to_pandas()
    assert dict(zip(classes["label"], classes["label_id"], strict=True)) == {"cat": 0, "cow": 1, "dog": 2}
    with pytest.raises(clipmill.ClipmillError, match="column 'lable' does not exist"):
        dataset.manifest(["lable"])
    (row,) = dataset.statistics().to_pylist()
    lengths = dataset.manifest()["duration_s"].to_numpy()
    assert (row["split"], row["clips"], row["shards"]) == ("train", 4, 1)
    assert row["duration_s"] == pytest.approx(lengths.sum())
    assert row["mean_duration_s"] == pytest.approx(lengths.mean())
    assert row["std_duration_s"] == pytest.approx(lengths.std())
    assert (row["min_duration_s"], row["max_duration_s"]) == (lengths.min(), lengths.max())
    values = pd.concat(
        pd.Series(clip["log_mel"].numpy().ravel()) for clip in clipmill.ClipDataset(dataset, "train", ["log_mel"])
    )
    assert row["log_mel_mean"] == pytest.approx(values.mean(), abs=1e-3)
    assert row["log_mel_std"] == pytest.approx(values.std(ddof=0), abs=1e-3)
    assert len(row["log_mel_mean_by_bin"]) == len(row["log_mel_std_by_bin"]) == 128


def test_a_damaged_manifest_is_named(built: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(built / "out", tmp_path / "out")
    manifest = tmp_path / "out/snapshots/000001/manifest.parquet"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    with pytest.raises(clipmill.ClipmillError, match=r"manifest\.parquet"):
        clipmill.open_dataset(tmp_path / "out").manifest()


def test_reprs_fit_into_a_notebooks_cell(built: Path) -> None:
    file = clipmill.load_config(config_of(built))
    ahead = clipmill.plan(file)
    report = clipmill.build(file, quiet=True)
    dataset = clipmill.open_dataset(built / "out")
    things = [
        file,
        ahead,
        ahead.plan,
        report,
        report.snapshot,
        dataset,
        dataset.commits[0],
        clipmill.ClipDataset(dataset, "train"),
    ]
    for thing in things:
        assert type(thing).__name__ in repr(thing)
        assert len(repr(thing)) < 300 + len(str(built)), repr(thing)
    assert repr(report).startswith("Report(unchanged, snapshot 1: 0 of 1 shard built, 1 reused, 0 failed")
    assert "5 recordings, 1 shard, 0 to build" in repr(ahead)
    assert ahead.shards_missing == 0
    assert ahead.shards.to_pandas()["committed"].tolist() == [True]


def test_a_report_that_fell_short_raises_when_asked(built: Path, tmp_path: Path) -> None:
    config = {
        "name": "animals",
        "sources": [{"name": "s", "root": built / "in"}],
        "output": {"root": tmp_path / "out"},
        "limits": {"max_rejected_share": 0.0},
    }
    report = clipmill.build(config, quiet=True)
    assert report.status == "not_published"
    with pytest.raises(clipmill.ClipmillError, match=r"built but not published: .*max_rejected_share") as told:
        report.raise_for_status()
    assert told.value.code == "not_published"
    accepted = clipmill.build(config, quiet=True, accept=True)
    assert accepted.raise_for_status() is accepted


SCRIPT = """
import sys
import pipelines.build, stages.loud, schemas.config
import clipmill
report = clipmill.build(sys.argv[1], workers=int(sys.argv[2]) or None, quiet=True).raise_for_status()
assert pipelines.build.MINE and schemas.config.MINE
named = [m for m in sys.modules if m.split(".")[0] in ("pipelines", "stages", "schemas")]
wanted = "pipelines pipelines.build schemas schemas.config stages stages.level stages.level.quiet stages.loud"
assert sorted(named) == wanted.split(), named
clips = clipmill.ClipDataset(clipmill.open_dataset(report.root), "train", ["audio"])
print(report.status, max(float(clip["audio"].abs().max()) for clip in clips))
"""
LOUD = """
import dataclasses
import numpy as np
import clipmill
from stages import level
from .level.quiet import FACTOR
from clipmill.stages.clip_samples import waveforms, with_waveforms

MINE = True

@dataclasses.dataclass(frozen=True)
class Quiet(clipmill.Stage):
    section = "quiet"
    scope = "clip"
    changes_samples = True

    @classmethod
    def of(cls, config, settings=None):
        return cls()

    def __call__(self, table):
        return with_waveforms(table, {row: y * np.float32(FACTOR) for row, y in waveforms(table)})
"""


@pytest.mark.parametrize(
    ("path", "workers"),
    [("", 0), ("src", 1), pytest.param("src", 0, marks=pytest.mark.slow), pytest.param("", 1, marks=pytest.mark.slow)],
)
def test_a_users_modules_of_the_same_names(
    workers: int, path: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    """Not taken for clipmill's in the process, Ray's workers and the decoding process; importable all the same; and a stage of theirs works."""
    here = tmp_path / "project"
    for name in OWN:
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text("")
    for name in ("pipelines/build", "pipelines/chain", "schemas/config", "schemas/tables", "stages/stage"):
        guard = "" if name in ("pipelines/build", "schemas/config") else "raise RuntimeError('misled')\n"
        (here / f"{name}.py").write_text(guard + "MINE = True\n")
    (here / "stages/loud.py").write_text(LOUD)
    (here / "stages/level").mkdir()  # a namespace package
    (here / "stages/level/quiet.py").write_text("FACTOR = 0.001\n")
    (here / "train.py").write_text(SCRIPT)
    write_audio(tmp_path / "in/a.wav", tone(1.0, 8000), 8000)
    config = make_config({"root": tmp_path / "in"}, clips=[{"stages.loud:Quiet": {}}])
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT / path)}
    done = subprocess.run(
        [sys.executable, "train.py", str(config), str(workers)],
        cwd=here, env=env, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    status, loudest = done.stdout.split()
    assert status == "published"
    assert 0 < float(loudest) < 0.01


MAIN = """
import dataclasses, sys
import clipmill

@dataclasses.dataclass(frozen=True)
class Pass(clipmill.Stage):
    section, scope = "pass", "clip"

    @classmethod
    def of(cls, config, settings=None):
        return cls()

    def __call__(self, table):
        return table

if __name__ == "__main__":
    print("once")
    clipmill.build(sys.argv[1], quiet=True)
"""


def test_a_stage_of_a_script_is_refused_before_a_worker_runs_the_script_again(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    write_audio(tmp_path / "in/a.wav", tone(1.0, 8000), 8000)
    (tmp_path / "script.py").write_text(MAIN)
    config = make_config({"root": tmp_path / "in"}, clips=[{"__main__:Pass": {}}])
    command = [sys.executable, str(tmp_path / "script.py"), str(config)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "once\n"
    assert "is defined in a script or a notebook; put it into a module of its own" in done.stderr.splitlines()[-1]


def test_the_page_of_the_api_is_made_from_the_docstrings() -> None:
    code = "import sys; sys.path.insert(0, 'docs'); import make_api; sys.exit(make_api.page() != make_api.PAGE.read_text())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"run `python docs/make_api.py`\n{done.stderr}"


@pytest.mark.slow
def test_a_users_type_checker_knows_the_types(tmp_path: Path) -> None:
    """With an editable install: mypy follows the path that it puts up."""
    script = tmp_path / "train.py"
    script.write_text(
        "import clipmill\n"
        "reveal_type(clipmill.build('c.yaml').status)\n"
        "reveal_type(clipmill.open_dataset('out').classes)\n"
        "clipmill.build('c.yaml', workes=2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "train.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert 'Revealed type is "' in done.stdout, done.stdout + done.stderr
    assert "Classes" in done.stdout
    assert 'Unexpected keyword argument "workes"' in done.stdout
