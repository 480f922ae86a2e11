"""Fixtures and helpers that tests share: the real corpora, one Ray per session, small recordings, and builds without Ray."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import soundfile as sf
import yaml
from click.testing import CliRunner

from clipmill.pipelines.cli.main import main

# A busy machine must not fail a test, and failures in continuous integration must be reproducible.
hypothesis.settings.register_profile("clipmill", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("clipmill")

CORPORA = Path(os.environ.get("CLIPMILL_TEST_CORPORA", Path(__file__).parents[2] / "shared" / "corpora"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time than the limit in pyproject.toml, which stops tests that hang."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(5400))


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Return the folder of real recordings. Tests that need it are skipped if it is missing."""
    if not (CORPORA / "MANIFEST.csv").exists():
        pytest.skip(f"real recordings are not at {CORPORA}; set CLIPMILL_TEST_CORPORA")
    return CORPORA


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Start one private Ray with two CPUs for all tests that need it."""
    import logging

    import ray

    from clipmill.pipelines.run.cluster import WORKER_ENV

    os.environ.update(WORKER_ENV)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="session", autouse=True)
def schema_accepts_what_clipmill_accepts() -> Iterator[None]:
    """Hold the JSON Schema of configurations against each one that is loaded in this process."""
    import jsonschema

    from clipmill.pipelines import config_file
    from clipmill.pipelines.config_schema import SCHEMA_FILE, config_schema
    from clipmill.schemas.config.yaml_document import Document

    validator = jsonschema.Draft7Validator(json.loads(SCHEMA_FILE.read_text()))
    real = config_file.loads

    def loads(text: str, **more: Any) -> Any:
        loaded = real(text, **more)
        content = Document(text, "").data
        problem = jsonschema.exceptions.best_match(validator.iter_errors(content))
        if problem is not None:  # some tests install stages
            live = jsonschema.Draft7Validator(config_schema(installed=True))
            problem = jsonschema.exceptions.best_match(live.iter_errors(content))
        assert problem is None, f"the schema refuses {problem.json_path}: {problem.message}"
        return loaded

    config_file.loads = loads
    yield
    config_file.loads = real


@pytest.fixture(scope="session", autouse=True)
def json_is_as_its_schemas_say() -> Iterator[None]:
    """Hold what each command prints with --json in this process against the schema in docs/json."""
    import click
    import jsonschema

    from clipmill.pipelines.cli import terminal

    folder = Path(__file__).parents[1] / "docs/json"
    validators: dict[str, Any] = {}
    real = terminal.versioned

    def versioned(value: Any) -> Any:
        made = real(value)
        context = click.get_current_context(silent=True)
        name = "error" if {"error", "code"} <= made.keys() else context.info_name if context is not None else None
        if name is not None and (folder / f"{name}.json").exists():
            if name not in validators:
                validators[name] = jsonschema.Draft7Validator(json.loads((folder / f"{name}.json").read_text()))
            problem = jsonschema.exceptions.best_match(validators[name].iter_errors(made))
            assert problem is None, f"docs/json/{name}.json: {problem.json_path}: {problem.message[:300]}"
        return made

    terminal.versioned = versioned
    yield
    terminal.versioned = real


@pytest.fixture(autouse=True)
def own_secrets() -> Iterator[None]:
    """Have each test hide its own secrets alone: some make a word such as `columns` one, and the process remembers it."""
    from clipmill.schemas import secret_values

    before = secret_values._remembered
    own = secret_values._Remembered()
    own.add(list(before._values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secret_values, "_remembered", own)
        yield


_ASKS_FOR_RAY = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note whether a test, or a fixture of it, asks for the session's Ray: before fixtures of a module build for it."""
    item.config.stash[_ASKS_FOR_RAY] = "ray_session" in getattr(item, "fixturenames", ())
    if torch := sys.modules.get(
        "torch"
    ):  # one thread, as in a worker: several only wait for each other over clips this short
        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def ray_on_request(pytestconfig: pytest.Config) -> Iterator[None]:
    """Let builds use the session's Ray only in tests that ask for it: the others build as they do when they run alone, and faster."""
    from clipmill.pipelines.run import build

    is_at_hand = build._ray_is_at_hand
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_ray_is_at_hand", lambda: pytestconfig.stash[_ASKS_FOR_RAY] and is_at_hand())
        yield


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """Yield the address of an S3 server: that of S3_ENDPOINT_URL, or else of a moto server for the session."""
    address = os.environ.get("S3_ENDPOINT_URL")
    if address:
        yield address
        return
    server_module = pytest.importorskip(
        "moto.server", reason="no S3 server: set S3_ENDPOINT_URL, or install moto[server]"
    )
    server = server_module.ThreadedMotoServer(port=0)
    server.start()
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "testing")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "testing-secret")
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str) -> str:
    """Create a bucket and return its name."""
    import uuid

    from clipmill.stages.storage.root import Root

    name = f"clipmill-test-{uuid.uuid4().hex[:8]}"
    Root(f"s3://{name}", {"endpoint_url": endpoint}).fs.mkdir(name)
    return name


def upload_source(source: dict[str, Any], bucket: str, endpoint: str) -> dict[str, Any]:
    """Put a source's good recordings into a bucket; return the source with its remote root."""
    from clipmill.stages.storage.root import Root

    remote = Root(f"s3://{bucket}/in", {"endpoint_url": endpoint})
    for path in sorted(Path(source["root"]).glob("r*.wav")):
        remote.write_bytes(path.name, path.read_bytes())
    return {**source, "root": remote.url, "storage_options": {"endpoint_url": endpoint}}


def remote_hashes(root: Any) -> dict[str, str]:
    """Return the sha256 of every shard file under any root, by its path."""
    return {name: hashlib.sha256(root.read_bytes(name)).hexdigest() for name in root.sizes("shards")}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run small builds in this process, as the command line does, even if the session's Ray is running."""
    monkeypatch.setattr("clipmill.pipelines.run.build._ray_is_at_hand", lambda: False)


def run(*args: Any, code: int = 0) -> str:
    """Run a command of the command line in this process; return its output. code : expected exit code"""
    result = CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return str(result.output)


def clipmill_here(*args: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line in this process, in much less time than a new one takes; return what a new one would give."""
    words = [str(a) for a in args]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    return subprocess.CompletedProcess(words, result.exit_code, result.stdout, result.stderr)


def tone(
    seconds: float, rate: int, channels: int = 1, hz: float = 440.0, peak: float = 0.3, seed: int = 0
) -> np.ndarray:
    """Return a sine with a little noise, float64 [frames, channels]."""
    t = np.arange(round(seconds * rate)) / rate
    y = peak * np.sin(2 * np.pi * hz * t)[:, None] * np.ones(channels)
    return y + 0.001 * np.random.default_rng(seed).standard_normal(y.shape)


def write_audio(path: Path, y: np.ndarray, rate: int, subtype: str | None = None) -> Path:
    """Write samples [frames, channels] to a file, in blocks, since libsndfile's Vorbis encoder crashes on one long write; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sf.SoundFile(path, "w", rate, y.shape[1], subtype=subtype) as file:
        for k in range(0, len(y), 65536):
            file.write(y[k : k + 65536])
    return path


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a configuration and returns its path. Keys that are not given have small defaults."""

    def make(sources: list[dict[str, Any]] | dict[str, Any], name: str = "test", **more: Any) -> Path:
        source_list = [sources] if isinstance(sources, dict) else sources
        for i, source in enumerate(source_list):
            source.setdefault("name", f"s{i}")
            source["root"] = str(source["root"])
        plain: dict[str, Any] = {"name": name, "sources": source_list, "output": {"root": str(tmp_path / "out")}}
        plain.update(more)
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
        return path

    return make


def resolved(file: Any) -> Any:
    """Return a configuration with the width of clip ids that a build would take."""
    from clipmill.pipelines.run.graph import output_root
    from clipmill.pipelines.run.output_check import check_output

    return check_output(file, output_root(file.config))


def build_here(config: Path) -> list[Any]:
    """Build all shards in this process, without Ray; return the commits."""
    from clipmill.pipelines.config_file import load
    from clipmill.pipelines.plan.planning import make_plan
    from clipmill.pipelines.run.graph import stages_of, whole_shard
    from clipmill.pipelines.run.progress import Watch
    from clipmill.schemas.records import Commit

    file = resolved(load(config))
    plan = make_plan(file.config)
    run = whole_shard(stages_of(file.config, plan, "cpu"), Watch())
    commits = []
    for i in range(len(plan.keys)):
        row = run(plan.shard(i)).to_pylist()[0]
        assert row["error"] is None, row["error"]
        commits.append(Commit.from_json(row["commit"], "test"))
    return commits


def shard_hashes(root: Path) -> dict[str, str]:
    """Return the sha256 of every shard file under a dataset's root, by its path."""
    files = sorted(p for p in (root / "shards").rglob("[!.]*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def clips_of(root: Path, commits: list[Any]) -> list[dict[str, Any]]:
    """Return all rows of the Parquet shards of commits, in order."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for commit in commits:
        for output in commit.outputs:
            if output.format == "parquet":
                rows += pq.read_table(root / output.path).to_pylist()
    return rows


def kill_tree(process: subprocess.Popen[Any]) -> None:
    """Kill a build and the Ray processes that it started."""
    import psutil

    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    for child in children:
        if child.is_running():
            child.kill()
    psutil.wait_procs(children, timeout=20)
