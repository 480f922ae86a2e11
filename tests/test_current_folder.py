"""Files in the user's folder that are called as libraries are: they are not taken for them, in no process of a build."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import tone, write_audio

from clipmill.pipelines.run.search_path import TOP, without_current_folder

ROOT = Path(__file__).parents[1]
NAMES = (
    "calendar",
    "code",
    "json",
    "numpy",
    "pyarrow",
    "queue",
    "random",
    "soundfile",
    "statistics",
    "timeit",
    "types",
)
CONSOLE_SCRIPT = (
    "import sys\nfrom clipmill.pipelines.cli.main import run\nif __name__ == '__main__':\n    sys.exit(run())\n"
)


@pytest.mark.parametrize(
    ("how", "workers"),
    [
        ("script", []),
        pytest.param("module", [], marks=pytest.mark.slow),
        ("module", ["--workers", "1"]),
        pytest.param("script", ["--workers", "1"], marks=pytest.mark.slow),  # Ray's workers start in the same way
    ],
)
def test_a_build_from_a_folder_of_misleading_names(
    how: str, workers: list[str], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    # `python -m` itself imports types from the current folder, before it comes to clipmill.
    names = [name for name in NAMES if (how, name) != ("module", "types")]
    for name in names:
        (here / f"{name}.py").write_text(
            "import os, sys\nsys.stderr.write('misled: ' + __file__ + chr(10))\nos._exit(9)\n"
        )
    for i in range(2):
        write_audio(tmp_path / "in" / f"r{i}.wav", tone(1.0, 8000, seed=i), 8000)
    config = make_config({"root": tmp_path / "in"}, features={"log_mel": {}})
    script = tmp_path / "bin" / "clipmill"
    script.parent.mkdir()
    script.write_text(CONSOLE_SCRIPT)
    command = [str(script)] if how == "script" else ["-m", "clipmill"]
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command, "build", str(config), *workers],
        cwd=here, env=env, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "misled" not in done.stderr
    assert "2 listed = 2 used" in done.stdout
    assert sorted(p.name for p in here.iterdir()) == [f"{n}.py" for n in sorted(names)]


def test_only_the_current_folder_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = str(tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    assert without_current_folder(["", str(tmp_path), str(tmp_path / "link"), other]) == [other]
    monkeypatch.chdir(TOP)
    assert without_current_folder([str(TOP), other]) == [str(TOP), other], "clipmill is developed from its own folder"
