"""Builds with features beside that SIGKILL ends before one of their files gets its name: the next build ends as an undisturbed one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from beside_corpus import config, contents, lay, made, problems, without_donors
from conftest import run

from clipmill.pipelines.run.build import build

pytestmark = pytest.mark.usefixtures("in_process")

KILLER = """
import json, os, signal, sys
from clipmill.pipelines.run.build import build
import clipmill.stages.write, clipmill.pipelines.run.graph

def watched(original, root, at, seen):
    def call(source, target, *more, **named):
        if os.fspath(target).startswith(root):
            if seen[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen[0] += 1
        return original(source, target, *more, **named)
    return call

for config, at in json.load(sys.stdin):
    child = os.fork()  # this process has no threads, and imports are done once
    if not child:
        seen, root = [0], config["output"]["root"] + os.sep
        os.replace, os.link = (watched(original, root, at, seen) for original in (os.replace, os.link))
        try:
            build(config, quiet=True)
        finally:
            os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, flush=True)
    if code == 0:
        break
"""


def kill(place: Path, tasks: list[tuple[dict[str, Any], int]]) -> list[bool]:
    """Build configurations until their file number so and so is about to get its name, up to the first that ends before.

    Returns
    -------
    which were killed there
    """
    environment = {**os.environ, "PYTHONPATH": f"{place}:{Path(__file__).parents[1]}"}
    command = [sys.executable, "-c", KILLER]
    done = subprocess.run(command, env=environment, input=json.dumps(tasks), capture_output=True, text=True, check=True)
    codes = [int(line) for line in done.stdout.split()]
    assert set(codes) <= {0, -signal.SIGKILL}, done.stderr
    return [code == -signal.SIGKILL for code in codes]


def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: dict[int, int]) -> None:
    """Kill builds before each file in so many. steps : for the first build, 1, and for the one after a change of features, 2"""
    monkeypatch.syspath_prepend(str(tmp_path))
    lay(tmp_path, 4)
    for scale in (1, 2):
        made(config(tmp_path, tmp_path / f"calm{scale}", scale=scale))
    for scale, step in steps.items():
        points = range(3, 60, step)
        for at in points if scale == 2 else ():
            shutil.copytree(tmp_path / "calm1", tmp_path / f"{scale}-{at}")
        tasks = [(config(tmp_path, tmp_path / f"{scale}-{at}", scale=scale), at) for at in points]
        were_killed = kill(tmp_path, tasks)
        assert sum(were_killed) > 1
        for (plain, at), was in zip(tasks, were_killed, strict=False):
            out = tmp_path / f"{scale}-{at}"
            if scale == 2:
                assert not problems(out, 1) and contents(out, "shards") == contents(tmp_path / "calm1", "shards")
            if was:
                assert build(plain, quiet=True).status in ("published", "unchanged")
                run("gc", out, "--keep", 1, "--delete")
                assert without_donors(out) == without_donors(tmp_path / f"calm{scale}"), (scale, at)
                assert not problems(out)


def test_killed_before_some_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(tmp_path, monkeypatch, {2: 5})


@pytest.mark.slow
def test_killed_before_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(tmp_path, monkeypatch, {1: 1, 2: 1})
