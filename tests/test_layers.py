"""The structure: imports run downwards and in no circle, only pipelines knows Ray, and schemas reads no file."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("schemas", "stages", "pipelines")
# Within pipelines, each may import those in front of it. `read`, `exports`, `reports` and `audits` are for those who have a dataset and build none.
FOLDERS = (
    "clip_lists",
    "chain",
    "config_file",
    "config_schema",
    "dataset",
    "plan",
    "proposals",
    "run",
    "read",
    "exports",
    "reports",
    "audits",
    "cli",
)
NOT_BY_READERS = {"plan", "run"}
FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
READS_OR_WRITES = {"io", "os", "shutil", "socket", "tempfile", "fsspec", "urllib", "subprocess"}


def module_of(path: Path) -> str:
    return "clipmill." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it and for whatever."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    layer, folder = (*path.relative_to(ROOT).parts, "")[:2]
    names = [name.split(".") for name in imported(path)]
    assert not {name[0] for name in names} & {*LAYERS, "tests", "benchmarks"}, "not by way of the package"
    ours = [name[1:] for name in names if name[0] == "clipmill" and len(name) > 1]
    assert {name[0] for name in ours} <= {
        *LAYERS[: LAYERS.index(layer) + 1],
        *(["python_version"] if layer == "pipelines" else []),
    }
    if layer == "pipelines" and folder != "__init__.py":
        below = set(FOLDERS[: FOLDERS.index(folder.removesuffix(".py")) + 1])
        if folder in ("read", "exports", "reports", "audits"):
            below -= NOT_BY_READERS
        assert {name[1] for name in ours if name[0] == "pipelines"} <= below
    else:
        assert "ray" not in {name[0] for name in names}


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {
        module: {name for name in imported(path) if name in MODULES} - {module} for module, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()  # raises a CycleError that names the circle


def test_no_two_modules_have_one_name() -> None:
    names = Counter(module.rsplit(".", 1)[1] for module, path in MODULES.items() if path.name != "__init__.py")
    assert [name for name, n in names.items() if n > 1] == []
    folders = {path.parent.name for path in FILES if path.name == "__init__.py"}
    assert {name for name in names if name in folders} == set()


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[len(ROOT.parts)] == "schemas"], ids=lambda p: p.name)
def test_schemas_read_and_write_nothing(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & READS_OR_WRITES
    calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert not [c for c in calls if isinstance(c, ast.Name) and c.id in ("open", "Path")]


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


def test_what_is_slow_to_load_is_not_loaded_for_each_decoding_process() -> None:
    """Each worker starts such a process, and again after each crash, and the command line loads the same."""
    code = "import sys, clipmill.pipelines.run.sandbox_child, clipmill.pipelines.run.build; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    slow = {"ray", "torch", "pandas", "scipy.signal", "scipy.stats", "scipy.ndimage", "librosa", "numba", "lance"}
    assert not slow & set(done.stdout.split())


def test_no_unpickling_and_no_shell() -> None:
    for path in FILES:
        assert not {name.split(".")[0] for name in imported(path)} & {"pickle", "cloudpickle", "shelve", "marshal"}, (
            path
        )
        # Started are Python's own process, and the command of `--on-finish`, both with a list of arguments.
        assert "subprocess" not in set(imported(path)) or path.name in (
            "sandbox.py",
            "watching.py",
            "header_process.py",
            "model_process.py",
        ), path
        assert not re.search(r"shell=True|os\.system|os\.popen", path.read_text()), path


def test_parquet_is_read_in_the_thread_that_asks() -> None:
    """A thread of Arrow's that frees a buffer of Python's while Python ends takes the process with it: exit code 134."""
    reads = {"read_table", "read_row_group", "read_row_groups", "iter_batches"}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in reads:
                assert node.func.attr != "read_table", f"{path}:{node.lineno}: it scans in threads whatever it is told"
                given = {keyword.arg for keyword in node.keywords}
                assert "use_threads" in given or "batch_format" in given, f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pq.ParquetFile":
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("pre_buffer") == "False", (
                    f"{path}:{node.lineno}: threads of Arrow's read ahead by default"
                )


def test_no_file_is_longer_than_one_sitting() -> None:
    for layer in (*LAYERS, "clipmill", "tests"):
        for path in (ROOT / layer).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 450, path
