"""The Pythons that are supported, the locks for them, and what is declared to be needed."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from clipmill.python_version import FIRST, LAST

ROOT = Path(__file__).parents[1]
LAYERS = ("clipmill", "schemas", "stages", "pipelines")
DATA = {".css", ".html", ".js", ".json"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSIONS = [f"{FIRST[0]}.{minor}" for minor in range(FIRST[1], LAST[1] + 1)]
CHECK = ROOT / "clipmill" / "python_version.py"

DIRECT = PROJECT["project"]["dependencies"]
DEVELOPMENT = [
    *DIRECT,
    *(line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra),
    *PROJECT["dependency-groups"]["dev"],
]
CLUSTER = [line for line in (ROOT / "requirements-cluster.in").read_text().splitlines() if line[:1] not in ("", "#")]
LOCKS = {"requirements.lock": DIRECT, "requirements-dev.lock": DEVELOPMENT, "requirements-cluster.lock": CLUSTER}

# What is declared though no module says `import`, and what is imported though only another package declares it.
IMPORTED_BY_OTHERS = {"pandas"}
DECLARED_BY_OTHERS = {"aiohttp": "s3fs", "botocore": "s3fs", "pydantic-core": "pydantic"}
# httpx2 comes with huggingface_hub, whose errors it raises. What is imported for an audit alone is used where it is installed.
OF_EXTRAS = {
    "kaldi-native-fbank",
    "librosa",
    "pydub",
    "threadpoolctl",
    "torchaudio",
    "torchlibrosa",
    "transformers",
    "whisper",
    "google-crc32c",
    "httpx2",
    "huggingface-hub",
    "lance",
    "lhotse",
    "onnxruntime",
    "pyiceberg",
    "starlette",
    "uvicorn",
}
NAMES = {"yaml": "pyyaml", "PIL": "pillow", "google_crc32c": "google-crc32c"}


def environment(version: str, machine: str = "x86_64") -> dict[str, str]:
    """Return what markers are compared with, on Linux."""
    on = {"python_version": version, "python_full_version": f"{version}.0", "platform_machine": machine}
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    return {**{k: str(v) for k, v in default_environment().items()}, **on, **linux, "extra": ""}


def locked(lock: str) -> Iterator[tuple[Requirement, int]]:
    """Yield each pin of a lock, and how many hashes it has."""
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text())
    for entry in entries:
        yield Requirement(entry.split(" \\\n")[0]), entry.count("--hash=sha256:")


def pins(lock: str, on: dict[str, str]) -> dict[str, str]:
    """Return the version of each package that pip installs from a lock."""
    found: dict[str, str] = {}
    for requirement, _ in locked(lock):
        if requirement.marker is None or requirement.marker.evaluate(on):
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} has two pins"
            (only,) = requirement.specifier
            assert only.operator == "==", requirement
            found[name] = only.version
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock: str) -> None:
    assert not [str(requirement) for requirement, n_hashes in locked(lock) if not n_hashes]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_all_that_is_needed_on_each_python(lock: str, version: str, machine: str) -> None:
    """As pip sees it: what a package that is installed here needs there, must be pinned there, at a version that will do."""
    on = environment(version, machine)
    found = pins(lock, on)
    waiting = [(Requirement(line), "clipmill") for line in LOCKS[lock]]
    seen: set[tuple[str, str]] = set()
    while waiting:
        needed, by = waiting.pop()
        extras = ["", *needed.extras]
        name = canonicalize_name(needed.name)
        if needed.marker is not None and not needed.marker.evaluate(on):
            continue
        assert name in found, f"{lock} on Python {version}: {by} needs {needed}"
        assert needed.specifier.contains(found[name], prereleases=True), (
            f"{lock} on Python {version}: {by} needs {needed}"
        )
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in distribution.requires or () if distribution.version == found[name] else ():
            further = Requirement(line)
            for extra in extras:
                if (name, extra + line) not in seen and (
                    further.marker is None or further.marker.evaluate({**on, "extra": extra})
                ):
                    seen.add((name, extra + line))
                    further.marker = None
                    waiting.append((further, name))


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-cluster.lock"])
def test_the_locks_agree(lock: str) -> None:
    for version in VERSIONS:
        one, other = pins(lock, environment(version)), pins("requirements-dev.lock", environment(version))
        assert {name: pin for name, pin in one.items() if other.get(name, pin) != pin} == {}


def test_all_files_name_the_same_pythons() -> None:
    assert SpecifierSet(PROJECT["project"]["requires-python"]) == SpecifierSet(
        f">={VERSIONS[0]},<{LAST[0]}.{LAST[1] + 1}"
    )
    kinds = [line.removeprefix("Programming Language :: Python :: ") for line in PROJECT["project"]["classifiers"]]
    assert [kind for kind in kinds if re.fullmatch(r"3\.\d+", kind)] == VERSIONS
    makefile = (ROOT / "Makefile").read_text()
    assert f"PYTHONS := {' '.join(f'python{version}' for version in VERSIONS)}\n" in makefile
    assert f"--universal --python-version {VERSIONS[0]} " in makefile
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{VERSIONS[0].replace('.', '')}"
    assert PROJECT["tool"]["mypy"]["python_version"] == VERSIONS[0]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    (first,) = [
        s["with"]["python-version"] for s in jobs["everything"]["steps"] if "python-version" in s.get("with", {})
    ]
    assert [first, *jobs["pythons"]["strategy"]["matrix"]["python-version"]] == VERSIONS
    assert ".ci/run" in [step.get("run") for step in jobs["everything"]["steps"]]


def test_the_extras_are_described_as_they_are() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \| (.+?) \| ", (ROOT / "docs" / "installing.md").read_text(), re.M)
    extras = PROJECT["project"]["optional-dependencies"]
    plain = {k: [r.name for r in map(Requirement, lines) if r.marker is None] for k, lines in extras.items()}
    assert {name: packages.split(", ") for name, packages in rows} == plain


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    imported: set[str] = set()
    for path in (path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
    imported -= {*sys.stdlib_module_names, *LAYERS, "clipmill"}
    names = {canonicalize_name(NAMES.get(name, name)) for name in imported}
    declared = {canonicalize_name(Requirement(line).name) for line in DIRECT}
    assert set(DECLARED_BY_OTHERS.values()) <= declared
    # fsspec imports s3fs by its name, for s3:// addresses.
    assert names - DECLARED_BY_OTHERS.keys() - OF_EXTRAS | {"s3fs"} | IMPORTED_BY_OTHERS == declared


def test_the_wheel_has_every_module_and_the_markers_of_types(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in (*LAYERS, "src"):
        shutil.copytree(
            ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    code = f"import setuptools.build_meta as backend; backend.build_wheel({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=copy, check=False)
    assert done.returncode == 0, done.stderr
    shutil.unpack_archive(next(tmp_path.glob("*.whl")), tmp_path / "wheel", "zip")
    wheel = tmp_path / "wheel"
    files = {str(p.relative_to(wheel)) for p in wheel.rglob("*") if p.is_file() and ".dist-info" not in str(p)}
    modules = {str(p.relative_to(ROOT)) for layer in LAYERS for p in (ROOT / layer).rglob("*.py")}
    data = {str(p.relative_to(ROOT)) for layer in LAYERS for p in (ROOT / layer).rglob("*") if p.suffix in DATA}
    assert files == {m if m.startswith("clipmill/") else f"clipmill/{m}" for m in modules | data} | {
        "clipmill/py.typed"
    }
    metadata = next(wheel.glob("*.dist-info/METADATA")).read_text()
    assert "License-Expression: Apache-2.0" in metadata
    assert f"Requires-Python: <{LAST[0]}.{LAST[1] + 1},>={VERSIONS[0]}" in metadata
    assert list(wheel.glob("*.dist-info/licenses/LICENSE"))


def under(version: tuple[int, int, int], code: str) -> subprocess.CompletedProcess[str]:
    """Run code by this Python under another version."""
    pretended = f"import sys; sys.version_info = ({version[0]}, {version[1]}, {version[2]}, 'final', 0); "
    return subprocess.run(
        [sys.executable, "-c", pretended + code], capture_output=True, text=True, cwd=ROOT, check=False
    )


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 10, 13), (3, 14, 0), (4, 0, 1)])
@pytest.mark.parametrize("name", ["/opt/venv/bin/clipmill", "-m"])
def test_the_command_says_in_one_line_that_its_python_is_not_supported(
    version: tuple[int, int, int], name: str
) -> None:
    done = under(version, f"sys.argv[:] = [{name!r}, 'plan', 'x.yaml']; import clipmill.pipelines.cli.main")
    shown = ".".join(map(str, version))
    assert done.stderr == (
        f"error: clipmill needs Python {VERSIONS[0]} to {VERSIONS[-1]}, but {sys.executable} is Python {shown}\n"
    )
    assert (done.returncode, done.stdout) == (2, "")


def test_an_import_raises_rather_than_ends_the_program() -> None:
    done = under((3, 10, 13), "sys.argv[:] = ['train.py']; import clipmill.pipelines.dataset.published")
    assert done.stderr.splitlines()[-1].startswith("ImportError: clipmill needs Python 3.11 to 3.13, but ")


@pytest.mark.parametrize("version", [FIRST, LAST])
def test_the_first_and_the_last_are_supported(version: tuple[int, int]) -> None:
    assert under((*version, 0), "import clipmill").returncode == 0


def test_the_check_can_be_read_by_old_pythons() -> None:
    """Neither f-strings, annotations nor a module that Python 2 lacks: it must print its line, not a SyntaxError."""
    new = (ast.JoinedStr, ast.AnnAssign, ast.arg, ast.FunctionDef, ast.ImportFrom, ast.NamedExpr, ast.Match)
    nodes = list(ast.walk(ast.parse(CHECK.read_text())))
    assert not [type(node).__name__ for node in nodes if isinstance(node, new)]
    assert {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names} == {"os", "sys"}


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # The tests may be run by make, and what it was given is not for this one.
    given = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "PYTHON", "VENV")
    plain = {**{k: v for k, v in os.environ.items() if k not in given}, **variables}
    return subprocess.run(["make", "-s", *arguments], capture_output=True, text=True, cwd=ROOT, check=False, env=plain)


def pretending(folder: Path, version: tuple[int, int, int]) -> Path:
    """Write a program that runs scripts by this Python under another version."""
    code = f"import runpy, sys; sys.version_info = {(*version, 'final', 0)}; del sys.argv[0]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    path.chmod(0o755)
    return path


@needs_make
@pytest.mark.parametrize("version", [(3, 10, 13), (3, 14, 0)])
def test_make_refuses_other_pythons_before_it_installs(tmp_path: Path, version: tuple[int, int, int]) -> None:
    venv = tmp_path / "venv"
    done = make("demo", f"PYTHON={pretending(tmp_path, version)}", f"VENV={venv}")
    said, by_make = done.stderr.splitlines()
    shown = ".".join(map(str, version))
    assert said.endswith(f"is Python {shown}; name another one with PYTHON=/path/to/python")
    assert by_make.startswith("make: ***")
    assert done.returncode != 0
    assert not venv.exists()


@needs_make
def test_make_says_that_there_is_no_such_python(tmp_path: Path) -> None:
    done = make("demo", "PYTHON=python9.9", f"VENV={tmp_path / 'venv'}")
    assert done.stderr.splitlines()[0] == "error: there is no python9.9; name a Python with PYTHON=/path/to/python"


@needs_make
def test_make_does_not_use_an_environment_of_another_python(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.9.2\n")
    done = make("python", f"PYTHON={sys.executable}", f"VENV={venv}")
    here = ".".join(map(str, sys.version_info[:2]))
    assert done.stderr.splitlines()[0] == (
        f"error: {venv} was made with Python 3.9.2, not {here}; remove it with `make clean`, or name another folder with VENV=FOLDER"
    )
    # Nor where it finds a Python by itself: what stands in the way is the environment, not a lack of Pythons.
    done = make("python", f"VENV={venv}", PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert done.stderr.startswith(f"error: {venv} was made with Python 3.9.2, not 3.")
    (venv / "pyvenv.cfg").write_text(f"version = {here}.99\n")
    assert make("python", f"PYTHON={sys.executable}", f"VENV={venv}").returncode == 0


@needs_make
def test_without_cuda_all_but_torch_is_installed_as_locked(tmp_path: Path) -> None:
    done = make("-n", "demo", "TORCH=cpu", f"PYTHON={sys.executable}", f"VENV={tmp_path}")
    lines = [line for line in done.stdout.splitlines() if "awk" in line or "--index-url" in line]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pip").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "bin" / "pip").chmod(0o755)
    said = subprocess.run(lines[0], shell=True, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert said.endswith(f"torch=={pins('requirements.lock', environment('3.11'))['torch']}\n")
    subprocess.run(lines[1], shell=True, cwd=ROOT, check=True)
    everything = (ROOT / "requirements.lock").read_text()
    kept = (tmp_path / "requirements.lock").read_text()
    names = {entry.split("==")[0] for entry in re.findall(r"^\S.*", everything, re.M)}
    left_out = names - {entry.split("==")[0] for entry in re.findall(r"^\S.*", kept, re.M)}
    assert {"torch", "triton"} < left_out
    assert {name for name in left_out if not name.startswith(("nvidia-", "cuda-"))} == {"torch", "triton"}
    assert all(entry in everything for entry in re.split(r"\n(?=\S)", kept.rstrip()))
