"""Nothing that a user can cause ends in a traceback."""

import copy
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from conftest import tone, write_audio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from old_format import rewrite

from clipmill.pipelines.cli.main import main

COMMANDS = [("status",), ("failures",), ("diff", "1", "1"), ("gc",), ("verify",), ("show",), ("export", "csv")]


def run(*args: Any) -> Any:
    """Run a command; an exception that is none of the errors for users comes out of it."""
    return CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings in ``in``, a configuration ``c.yaml`` and its dataset in ``out``."""
    folder = tmp_path_factory.mktemp("dataset")
    for i in range(2):
        write_audio(folder / f"in/r{i}.wav", tone(1.0, 8000, seed=i), 8000)
    plain = {
        "name": "t",
        "sources": [{"name": "s", "root": str(folder / "in")}],
        "output": {"root": str(folder / "out")},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(plain))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipmill.pipelines.run.build._ray_is_at_hand", lambda: False)
        assert run("build", folder / "c.yaml").exit_code == 0
    return folder


def _edited(**changes: Any) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        path = root / "snapshots/000001.json"
        rewrite(path, **changes)

    return edit


def _all(pattern: str, content: bytes) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for path in [p for p in root.rglob(pattern) if p.is_file()]:
            path.write_bytes(content)

    return write


def _instead(folder: str) -> Callable[[Path], None]:
    def put(root: Path) -> None:
        shutil.rmtree(root / folder)
        (root / folder).write_text("a file")

    return put


def _shards_as_records(root: Path) -> None:
    shard = next((root / "shards").rglob("*.parquet"))
    for path in (root / "snapshots").rglob("*.parquet"):
        shutil.copy(shard, path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no snapshots": lambda root: shutil.rmtree(root / "snapshots"),
    "no commits": lambda root: shutil.rmtree(root / "commits"),
    "no shards": lambda root: shutil.rmtree(root / "shards"),
    "snapshots a file": _instead("snapshots"),
    "commits a file": _instead("commits"),
    "shards a file": _instead("shards"),
    "empty records": _all("*.json", b""),
    "empty snapshot": _all("000001.json", b""),
    "snapshot a list": _all("000001.json", b"[]"),
    "snapshot deep": _all("000001.json", b"[" * 100_000),
    "snapshot binary": _all("000001.json", bytes(range(256))),
    "snapshot newer": _edited(format_version=99, news=1),
    "snapshot version odd": _edited(format_version="x"),
    "snapshot counts a list": _edited(counts=[]),
    "snapshot counts text": _edited(counts={"clips_kept": "many"}),
    "snapshot no commits": _edited(commits=None),
    "snapshot odd keys": _edited(commits=["../x"]),
    "snapshot odd label sums": _edited(by_split=3),
    "dataset a list": _all("dataset.json", b"[]"),
    "dataset newer": _all("dataset.json", b'{"format_version": 9, "name": "t"}'),
    "dataset infinite": _all("dataset.json", b'{"format_version": Infinity, "name": "t"}'),
    "dataset deep": _all("dataset.json", b"[" * 100_000),
    "tables empty": _all("*.parquet", b""),
    "tables cut": _all("*.parquet", b"PAR1xxxxPAR1"),
    "tables others": _shards_as_records,
    "a number too many": lambda root: (root / "snapshots/²2.json").write_text("{}"),
    "a large number": lambda root: (root / "snapshots/99999999999999999999.json").write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_dataset(damage: str, dataset: Path, tmp_path: Path, in_process: None) -> None:
    root = tmp_path / "out"
    shutil.copytree(dataset / "out", root)
    DAMAGES[damage](root)
    for command, *more in COMMANDS:
        done = run(command, root, *more)
        assert done.exit_code in (0, 1), done.output
        assert done.exit_code == 0 or "error: " in done.stderr
    config = yaml.safe_load((dataset / "c.yaml").read_text())
    config["output"]["root"] = str(root)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    for command in ("plan", "build"):
        assert run(command, tmp_path / "c.yaml").exit_code in (0, 1)


@pytest.mark.parametrize(
    "root", ["x" * 5000, "/".join(["d" * 200] * 30), "a\0b", "\udcff", "c.yaml", "", "s3:///", "ftp1://x/y"]
)
def test_roots_that_can_be_none(root: str, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dataset / "in")
    for command, *more in COMMANDS:
        assert run(command, root, *more).exit_code in (1, 2)


ODD = [
    "1e400", ".inf", "-.inf", ".nan", "1" + "0" * 400, "1" + "0" * 5000, "-0", "-0.0", "2024-01-01", "yes", "no", "null", "''", "[]", "{}",
    "[[[]]]", "0x" + "f" * 9000, "'\\x00'", '"\\0"', '"\\e[31m"', "1_000", "010", "'['", "'(?P<label>a{99999})'", "'(?P<label>(a*)*b)'",
    "'{stem}'", "'../..'", "'" + "x" * 5000 + "'", "!!binary aGk=", "!!set {a}", "[a, a]", "{a: b}", "1e-400", "0", "-1", "'${NO_SUCH_Y}'",
]  # fmt: skip
BASE = r"""
name: t
sources:
  - name: s
    root: IN
    include: ['*.wav']
    exclude: []
    any_name: false
    follow_links: false
    version: auto
    bytes_per_second: 1000
    segment: {mode: window, length_s: 0.5, hop_s: 0.5, tail: drop, tail_noise_dbfs: -50, keep_every: 1, max_clip_s: 600}
    label: {from: path, regex: '(?P<label>r)'}
    fields: '(?P<take>\d)'
    channels: mono
    track: default
    storage_options: {}
audio: {sample_rate_hz: 8000, channels: mono, resampler: soxr_hq, sample_format: int16}
silence: {min_dbfs: -60}
features: {device: cpu, dtype: float32, log_mel: {n_fft: 256, hop_length: 128, n_mels: 20, fmin: 0, fmax: 4000, top_db: 80}, mfcc: {n_mfcc: 5}}
split: {train: 0.5, test: 0.5, by: recording, disjoint: [recording]}
output: {root: OUT, formats: [parquet], audio_codec: flac, shard_seconds: 1800, images: {height: 8, width: 8, colormap: magma, range_db: [-80, 0]}}
limits: {max_rejected_share: 0.5, decoder_timeout_s: 60, decoder_memory_mb: 4000, max_recording_s: 86400, max_temporary_mb: 100}
"""


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [p for k, v in parts for p in _places(v, (*path, k))]


PLAIN = yaml.safe_load(BASE)


def _written(plain: Any, odd: str) -> str:
    return yaml.safe_dump(plain, allow_unicode=True).replace("ODD_VALUE", odd)


@settings(
    max_examples=int(os.environ.get("CLIPMILL_FUZZ", "60")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.sampled_from(_places(PLAIN)), odd=st.sampled_from(ODD), how=st.sampled_from(["value", "key", "gone"]))
@example(place=("sources", 0, "root"), odd='"\\0"', how="value")
@example(place=("output", "root"), odd='"\\0"', how="value")
@example(place=("sources", 0, "include", 0), odd='"\\0"', how="value")
@example(place=("features", "log_mel", "n_fft"), odd="1" + "0" * 400, how="value")
def test_a_changed_configuration(place: tuple[Any, ...], odd: str, how: str, dataset: Path, tmp_path: Path) -> None:
    plain = copy.deepcopy(PLAIN)
    plain["sources"][0]["root"] = str(dataset / "in")
    plain["output"]["root"] = str(tmp_path / "out")
    parent = plain
    for part in place[:-1]:
        parent = parent[part]
    if how == "gone":
        del parent[place[-1]]
    elif how == "key" and isinstance(parent, dict):
        parent["ODD_VALUE"] = parent.pop(place[-1])
    else:
        parent[place[-1]] = "ODD_VALUE"
    path = tmp_path / "c.yaml"
    path.write_text(_written(plain, odd))
    done = run("plan", path)
    assert done.exit_code in (0, 1, 2), done.output
    assert done.exit_code == 0 or done.stderr.startswith("error: ")


def test_a_gpu_that_is_not_there(
    dataset: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    plain = yaml.safe_load((dataset / "c.yaml").read_text())
    plain |= {"features": {"device": "cuda", "log_mel": {}}, "output": {"root": str(tmp_path / "gpu")}}
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(plain))
    monkeypatch.setattr("clipmill.pipelines.run.build.make_plan", lambda *_: pytest.fail("listed the recordings first"))
    done = run("build", path)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {path}:2: features.device: is cuda, and this machine has no GPU")
    assert not (tmp_path / "gpu").exists()
    planned = run("plan", path)
    assert planned.exit_code == 0 and "note         features.device: is cuda" in planned.output
    assert json.loads(run("plan", path, "--json").output)["notes"]


def test_a_full_tmpdir_is_named_and_not_the_output(dataset: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    nowhere.write_text("")
    code = (
        "import tempfile; tempfile._get_default_tempdir = lambda *_: (_ for _ in ()).throw("
        "FileNotFoundError(2, 'No usable temporary directory found')); import clipmill.pipelines.cli.main; clipmill.pipelines.cli.main.run()"
    )
    (tmp_path / "c.yaml").write_text(
        (dataset / "c.yaml").read_text().replace(str(dataset / "out"), str(tmp_path / "out"))
    )
    env = {**os.environ, "TMPDIR": str(nowhere)}
    done = subprocess.run(
        [sys.executable, "-c", code, "build", str(tmp_path / "c.yaml")],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stdout
    assert f"under {nowhere}: No usable temporary" in done.stderr and "TMPDIR" in done.stderr
    assert "Traceback" not in done.stderr and "storage answers" not in done.stderr


def test_too_many_open_files_are_told_as_such(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        (dataset / "c.yaml").read_text().replace(str(dataset / "out"), str(tmp_path / "out"))
    )

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))

    done = subprocess.run(
        [sys.executable, "-m", "clipmill", "build", str(tmp_path / "c.yaml")],
        preexec_fn=few, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or "storage answers" not in done.stderr, done.stderr


def test_ray_that_cannot_write_names_its_folders() -> None:
    from clipmill.pipelines.run.ray_folder import describe_start_failure

    told = describe_start_failure(PermissionError(13, "Permission denied", "/home/x/.ray"), None)
    assert (
        told.code == "ray.unavailable" and "/home/x/.ray: Permission denied" in str(told) and "RAY_TMPDIR" in str(told)
    )
    assert "cannot connect to the Ray cluster at auto" in str(describe_start_failure(ConnectionError("no"), "auto"))
