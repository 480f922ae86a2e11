"""The command line as a user meets it: texts, JSON, exit codes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import tone, write_audio

from clipmill.pipelines.cli.main import main


def run(*args: Any) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for i in range(4):
        write_audio(tmp_path / "in" / f"{'ab'[i % 2]}" / f"{i}.wav", tone(1.2, 16000, seed=i), 16000)
    (tmp_path / "in/a/broken.wav").write_bytes(b"RIFF")
    return tmp_path / "in"


def test_build_then_look_at_it(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path], ray_session: None
) -> None:
    config = make_config(
        {"root": corpus, "label": {"from": "folder"}, "segment": {"mode": "window", "length_s": 0.5}},
        limits={"max_rejected_share": 0.5},
    )
    out = tmp_path / "out"
    planned = run("plan", config)
    assert planned.exit_code == 0
    assert "5 listed" in planned.output
    assert not out.exists(), "plan does nothing"
    assert "builds       none so far" not in planned.output
    built = run("build", config)
    assert built.exit_code == 0
    assert "recordings   5 listed = 4 used + 1 rejected + 0 without annotations" in built.output
    assert "12 candidates = 8 kept + 4 dropped (tail) + 0 rejected" in built.output
    assert "published    snapshot 1" in built.output
    again = run("build", config, "--json")
    assert json.loads(again.output)["status"] == "unchanged"
    shown = run("show", out)
    assert "8 clips" in shown.output
    assert json.loads(run("show", out, "--json").output)["labels"] == {
        "a": {"clips": 4, "seconds": 2.0},
        "b": {"clips": 4, "seconds": 2.0},
    }
    failed = run("failures", out)
    assert re.search(r"broken\.wav", failed.output)
    assert "what to do:" in failed.output
    assert json.loads(run("failures", out, "--json").output)["rejected"] == 1
    assert "finished" in run("status", out).output
    assert json.loads(run("status", out, "--json").output)["published"]["clips"] == 8
    assert run("verify", out).exit_code == 0
    assert json.loads(run("verify", out, "--json").output)["ok"] is True
    next((out / "shards").rglob("*.parquet")).unlink()
    damaged = run("verify", out)
    assert damaged.exit_code == 1
    assert "missing" in damaged.stderr


def test_a_limit_exceeded_exits_with_3(corpus: Path, make_config: Callable[..., Path], ray_session: None) -> None:
    result = run("build", make_config({"root": corpus}))
    assert result.exit_code == 3
    assert "not published: 1 of 5 recordings is rejected" in result.stderr


@pytest.mark.parametrize("command", ["build", "plan"])
def test_wrong_configuration_exits_with_2_and_one_message(
    command: str, corpus: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    path = make_config({"root": corpus, "segmnt": {"mode": "whole"}})
    result = run(command, path)
    assert result.exit_code == 2
    assert result.stderr.strip() == f"error: {path}:4: sources[0].segmnt: unknown key; did you mean 'segment'?"
    as_json = json.loads(run(command, path, "--json").output)
    assert (as_json["key"], as_json["line"]) == ("sources[0].segmnt", 4)
    assert not (tmp_path / "out").exists()


def test_a_missing_configuration_root_or_dataset_is_said(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    assert run("build", tmp_path / "none.yaml").exit_code == 2
    absent = run("build", make_config({"root": tmp_path / "nowhere"}))
    assert absent.exit_code == 1
    assert "nowhere does not exist" in absent.stderr
    for command in ("show", "verify", "failures", "status"):
        result = run(command, tmp_path)
        assert (result.exit_code, "is not a clipmill dataset" in result.stderr) == (1, True)
    assert run("build").exit_code == 2
    assert run("show", tmp_path, "--snapshot", "x").exit_code == 2


def test_every_command_has_help_and_json() -> None:
    top = run("--help")
    for command in ("build", "plan", "demo", "status", "failures", "verify", "show"):
        assert command in top.output
        text = run(command, "--help").output
        assert "--json" in text
    assert run("--version").exit_code == 0


def test_the_program_runs_by_itself_with_plain_progress_and_a_clean_stderr(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    config = make_config({"root": corpus, "exclude": ["broken.wav"]})
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-m", "clipmill", "build", str(config), "--workers", "1"],
        capture_output=True,
        text=True,
        env=env,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert "4 kept" in done.stdout
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 5, done.stderr


def test_the_demo_does_the_whole_job(tmp_path: Path, in_process: None) -> None:
    result = run("demo", "--out", tmp_path / "demo")
    assert "Ray" not in result.output, "it is small: most of its time would be Ray's"
    assert result.exit_code == 0, result.output
    assert "25 listed = 24 used + 1 rejected" in result.output
    assert "load_dataset" in result.output
    picture = (tmp_path / "demo/spectrograms.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
    assert run("verify", tmp_path / "demo/dataset").exit_code == 0
    found = json.loads(run("failures", tmp_path / "demo/dataset", "--json").output)
    assert {r["reason"] for r in found["reasons"]} == {"truncated", "recording_rejected"}
    # The lines that the demo prints for loading are run as they stand.
    lines = result.output.split("Load it, in .venv/bin/python:\n")[1].splitlines()
    code = "\n".join(line.strip() for line in lines if line.startswith("  ") and "clipmill " not in line)
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert scope["clips"].num_rows == 33 == sum(len(split) for split in scope["splits"].values())
