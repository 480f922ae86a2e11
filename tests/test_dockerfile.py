"""The Dockerfile: what it copies is there, what it runs is what the Makefile knows, and the result is small and not root's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dockerfile_steps import Folders, copied, is_ignored, read_stages

TOP = Path(__file__).parents[1]
TEXT = (TOP / "Dockerfile").read_text()
IGNORED = (TOP / ".dockerignore").read_text()
BUILD, LAST = read_stages(TEXT)


def test_everything_that_is_copied_is_there_and_is_not_ignored() -> None:
    for stage in (BUILD, LAST):
        for rest in stage.of("COPY"):
            name, sources, _ = copied(rest)
            assert name in (None, BUILD.name)
            for source in sources if name is None else []:
                assert (TOP / source).exists(), source
                assert not is_ignored(source, IGNORED), source


def test_everything_that_is_needed_is_copied() -> None:
    sources = {source for rest in BUILD.of("COPY") for source in copied(rest)[1]}
    links = {p.resolve().name for p in (TOP / "clipmill").iterdir() if p.is_symlink()}
    assert links <= sources, "folders that clipmill/ links to"
    needed = set(
        re.findall(
            r'"([A-Za-z.]+)"',
            "".join(re.findall(r"^(?:readme|license-files) = .*$", (TOP / "pyproject.toml").read_text(), re.M)),
        )
    )
    assert needed <= sources, "files that pyproject.toml names"


_NOT_NEEDED = "out/a.parquet .venv/bin/python .git/config tests/test_cli.py pipelines/__pycache__/x.pyc corpus.wav"


@pytest.mark.parametrize("path", _NOT_NEEDED.split())
def test_what_an_image_does_not_need_is_ignored(path: str) -> None:
    assert is_ignored(path, IGNORED)


def test_every_command_is_one_of_the_makefile_and_it_passes_the_variant_on() -> None:
    makefile = (TOP / "Makefile").read_text()
    for command in BUILD.of("RUN"):
        make, target, *settings = command.split()
        assert make == "make"
        assert re.search(rf"^{target}:", makefile, re.M), target
        assert settings == ["VENV=/opt/clipmill", "TORCH=cuda"]
    cpu, _ = read_stages(TEXT, {"TORCH": "cpu"})
    assert all(command.endswith(" TORCH=cpu") for command in cpu.of("RUN"))
    lines = subprocess.run(
        ["make", "-n", "image-libraries", "TORCH=cpu", f"PYTHON={sys.executable}", "VENV=/nowhere"],
        cwd=TOP, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "download.pytorch.org/whl/cpu" in lines
    assert lines.count("--require-hashes") == 2, "both locks"


def test_the_last_stage_has_no_tools_for_building_and_is_not_roots() -> None:
    assert "slim" in LAST.base
    assert not re.search(r"apt-get|pip |make |gcc|curl", " ".join(LAST.of("RUN")))
    assert "pip uninstall" in (TOP / "Makefile").read_text()
    assert LAST.of("USER") == ["clipmill"]
    assert [kind for kind, _ in LAST.steps].index("USER") > max(
        i for i, (kind, _) in enumerate(LAST.steps) if kind in ("RUN", "COPY")
    )
    assert LAST.of("ENTRYPOINT") == ['["clipmill"]']
    assert BUILD.base.split("-")[0] == LAST.base.split("-")[0], "the environment needs the Python that made it"
    assert not re.search(r"(?i)secret|password|AKIA|TOKEN", TEXT)


def test_another_python_reaches_both_stages() -> None:
    assert {stage.base.split("-")[0] for stage in read_stages(TEXT, {"PYTHON": "3.12"})} == {"python:3.12"}


def test_broken_dockerfiles_are_found() -> None:
    assert is_ignored("a/b.txt", "a")
    assert not is_ignored("a/b.txt", "*\n!a")
    with pytest.raises(AssertionError, match="backslash"):
        read_stages("FROM x\nRUN a \\\n")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_its_steps_give_a_clipmill_that_builds(tmp_path: Path) -> None:
    """Installs the locked libraries into an empty folder: 3 GB of downloads and 6 GB of disk."""
    python = tmp_path / "python"
    python.mkdir()
    (python / "python3.11").symlink_to(Path(sys.executable).resolve())
    folders = Folders(TOP, tmp_path, IGNORED, f"{python}:/usr/local/bin:/usr/bin:/bin")
    entry, environment, folder = folders.run([BUILD, LAST])
    assert [step.split()[0] for step in folders.left_out] == ["useradd", "chown", "USER"]
    entry[0] = str(folders.root(LAST) / "opt/clipmill/bin/clipmill")
    assert environment["PATH"].startswith(str(folders.root(LAST)))
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [*entry, "demo", "--json"], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = subprocess.run(
        [str(folders.root(LAST) / "opt/clipmill/bin/python"), "-c", "import clipmill, ray.dashboard.modules.job.sdk; print(clipmill.__file__)"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert str(folders.root(LAST)) in found.stdout, found.stderr
    assert not list((folders.root(LAST) / "opt/clipmill/bin").glob("pip*")), os.listdir(
        folders.root(LAST) / "opt/clipmill/bin"
    )
