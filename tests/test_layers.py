"""Imports run downwards only, and only pipelines knows Ray."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {"schemas": {"schemas"}, "stages": {"stages", "schemas"}, "pipelines": {"pipelines", "stages", "schemas"}}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize(
    "path", sorted(p for layer in ALLOWED for p in (ROOT / layer).rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_run_downwards(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    found = imported(path)
    assert not (found & ALLOWED.keys()) - ALLOWED[layer]
    assert layer == "pipelines" or "ray" not in found


@pytest.mark.parametrize(
    ("modules", "needed"),
    [
        (
            "clipmill.stages.features, clipmill.stages.features.kernels.spectral, clipmill.stages.features.kernels.transfer",
            {"numpy", "pyarrow", "torch"},
        ),
        ("clipmill.stages.images", {"numpy", "pyarrow", "PIL"}),
    ],
)
def test_features_and_pictures_need_few_packages(modules: str, needed: set[str]) -> None:
    """A machine with a GPU may have no more than these."""
    code = f"import sys, {modules}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(done.stdout.split())
    assert needed <= loaded
    others = {"matplotlib", "pydantic", "torch", "PIL", "ray", "soundfile", "soxr", "av", "fsspec"}
    assert not loaded & (others - needed)


def test_no_unpickling_and_no_shell() -> None:
    for layer in ALLOWED:
        for path in (ROOT / layer).rglob("*.py"):
            assert not imported(path) & {"pickle", "cloudpickle", "shelve", "marshal"}, path
            # The one process that is started is Python's own, with a list of arguments.
            assert "subprocess" not in imported(path) or path.name == "sandbox.py", path
            assert not re.search(r"shell=True|os\.system|os\.popen", path.read_text()), path


def test_no_file_is_longer_than_one_sitting() -> None:
    for layer in (*ALLOWED, "tests"):
        for path in (ROOT / layer).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 450, path
