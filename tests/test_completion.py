"""Completion in the shell, and how quickly a command starts."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.exports import FORMATS

TOP = Path(__file__).parents[1]
PAGE = (TOP / "docs/commands.md").read_text()
HEAVY = {"torch", "ray", "pyarrow", "pandas", "numpy", "pydantic", "matplotlib", "soundfile", "s3fs"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with a command `clipmill` of this source on its PATH."""
    command = tmp_path / "bin/clipmill"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m clipmill "$@"\n')
    command.chmod(0o755)
    return {"PATH": f"{command.parent}:/usr/bin:/bin", "PYTHONPATH": str(TOP), "HOME": str(tmp_path)}


def completed(line: str, environment: dict[str, str], folder: Path) -> list[str]:
    """Return what bash completes a line to, with the line of the page in its start file."""
    (setup,) = re.findall(r"^\| bash.*?`(eval .*?)` \|", PAGE, re.M)
    words = line.split(" ")
    array = " ".join(f"'{w}'" for w in words)
    script = (
        f"{setup}\nCOMP_WORDS=({array})\nCOMP_CWORD={len(words) - 1}\n"
        '_clipmill_completion clipmill\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=folder, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_bash_completes_commands_options_and_formats(environment: dict[str, str], tmp_path: Path) -> None:
    assert completed("clipmill re", environment, tmp_path) == sorted(c for c in main.commands if c.startswith("re"))
    assert "--accept" in completed("clipmill build c.yaml --a", environment, tmp_path)
    assert completed("clipmill export out hug", environment, tmp_path) == ["huggingface"]
    assert set(completed("clipmill export out ", environment, tmp_path)) == set(FORMATS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_page_names_what_each_shell_needs(environment: dict[str, str], shell: str) -> None:
    assert f"_CLIPMILL_COMPLETE={shell}_source clipmill" in PAGE
    if shell == "bash":  # click asks bash for its version
        return
    done = subprocess.run(
        ["clipmill"], env={**environment, "_CLIPMILL_COMPLETE": f"{shell}_source"}, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert f"{shell}_complete" in done.stdout


def loaded(variables: dict[str, str], *arguments: str) -> set[str]:
    """Return the modules that a command has loaded when it ends."""
    script = (
        "import sys\nfrom clipmill.pipelines.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('MODULES', *sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(TOP), **variables}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.rsplit("MODULES", 1)[1].split()}


def test_help_and_completion_load_no_large_library() -> None:
    assert not loaded({}, "--help") & HEAVY
    assert not loaded({}, "build", "--help") & HEAVY
    words = {"_CLIPMILL_COMPLETE": "bash_complete", "COMP_WORDS": "clipmill bu", "COMP_CWORD": "1"}
    assert not loaded(words) & HEAVY


def test_help_takes_less_than_half_a_second() -> None:
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run([sys.executable, "-m", "clipmill", "--help"], cwd=TOP, capture_output=True, check=True)
        times.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    assert min(times) < 0.5, "seconds of CPU"
