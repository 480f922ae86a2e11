"""Errors have one shape as JSON, with a stable code, and every code is documented."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import tone, write_audio
from old_format import rewrite

from clipmill.pipelines.cli.main import main
from clipmill.schemas.errors import CODES, ConfigError, Problem, StorageError, os_error_code
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

ROOT = Path(__file__).parents[1]
SHAPE = {"schema", "error", "code", "key", "file", "line", "problems"}


def run(*args: Any) -> Any:
    return CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)


def told(*args: Any) -> tuple[int, dict[str, Any]]:
    done = run(*args, "--json")
    found = json.loads(done.stdout)
    assert set(found) == SHAPE and found["problems"], found
    assert found["code"] in CODES and found["code"] == found["problems"][0]["code"]
    assert all(set(p) == {"code", "message", "key", "file", "line"} for p in found["problems"])
    assert not done.stderr
    return done.exit_code, found


def test_a_configuration_gives_a_problem_for_each_mistake(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: x\nsources: [{name: s, rot: /in}]\naudio: {sample_rate_hz: fast}\noutput: {root: '${NO_SUCH_X}'}\n"
    )
    code, found = told("build", path)
    assert (code, found["code"], found["key"], found["line"]) == (2, "config.unknown_key", "sources[0].rot", 2)
    assert [(p["code"], p["line"]) for p in found["problems"]] == [
        ("config.unknown_key", 2),
        ("config.invalid_value", 3),
        ("config.environment", 4),
    ]
    assert found["file"] == str(path) and len(found["error"].splitlines()) == 3


@pytest.mark.parametrize(
    ("args", "exit_code", "code"),
    [
        (["build"], 2, "usage"),
        (["build", "none.yaml"], 2, "config.unreadable"),
        (["build", "{}"], 2, "usage"),
        (["show", "{}", "--nope"], 2, "usage"),
        (["show", "{}", "--snapshot", "x"], 2, "usage"),
        (["export", "{}", "floppy"], 2, "usage"),
        (["nope"], 2, "usage"),
        (["failures", "{}", "--reason", "nope"], 2, "usage"),
        (["show", "https://a:b@host/x"], 2, "usage"),
        (["show", "{}"], 1, "root.not_a_dataset"),
        (["show", "{}/file"], 1, "storage.invalid_path"),
        (["show", "x" * 5000], 1, "storage.invalid_path"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_usage_and_roots(args: list[str], exit_code: int, code: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done, found = told(*(a.replace("{}", str(tmp_path)) for a in args))
    assert (done, found["code"]) == (exit_code, code), found
    assert "\n" not in found["error"]


def test_datasets_that_are_not_what_was_asked_for(
    tmp_path: Path, make_config: Callable[..., Path], in_process: None
) -> None:
    write_audio(tmp_path / "in/r.wav", tone(1.0, 8000), 8000)
    config = make_config({"root": tmp_path / "in"})
    assert run("build", config).exit_code == 0
    out = tmp_path / "out"
    other = make_config({"root": tmp_path / "in"}, name="other")
    for command in ("plan", "build"):
        code, found = told(command, other)
        assert (code, found["code"]) == (1, "root.other_dataset")
    missing = make_config({"root": tmp_path / "nowhere"}, name="third", output={"root": str(tmp_path / "new")})
    assert told("plan", missing)[1]["code"] == "source.unreadable"
    inside = make_config({"root": tmp_path / "in"}, name="fourth", output={"root": str(tmp_path / "in/out")})
    for command in ("plan", "build"):
        code, found = told(command, inside)
        assert (code, found["key"], found["line"], found["file"]) == (2, "output.root", 6, str(inside))
    assert not (tmp_path / "in/out").exists()
    assert told("show", out, "--snapshot", "9")[1]["code"] == "root.no_snapshot"
    snapshot = out / "snapshots/000001.json"
    rewrite(snapshot, format_version=99, news=1)
    assert told("show", out)[1]["code"] == "root.newer_format"
    snapshot.write_text("[]")
    assert told("show", out)[1]["code"] == "root.damaged"


def test_an_error_of_the_system_has_its_code_and_names_its_file() -> None:
    full = describe_os_error(OSError(28, "No space left on device", "/elsewhere/x"), Root("/out"), "use")
    assert full.code == "storage.full" and "/elsewhere/x" in str(full)
    many = describe_os_error(OSError(24, "Too many open files", "/out/x"), Root("/out"), "use")
    assert many.code == "storage.too_many_files" and "ulimit -n" in str(many) and "storage answers" not in str(many)
    assert os_error_code(OSError(36, "File name too long")) == "storage.invalid_path"
    assert StorageError("x", transient=True).code == "storage.unavailable"


def test_errors_keep_their_code_between_processes() -> None:
    import pickle

    config = ConfigError.of([Problem("config.environment", "a", "k", "f", 1), Problem("usage", "b")])
    again = pickle.loads(pickle.dumps(config))
    assert (again.code, again.problems, str(again)) == (config.code, config.problems, str(config))
    storage = pickle.loads(pickle.dumps(StorageError("x", transient=False, code="storage.full")))
    assert (storage.code, storage.transient) == ("storage.full", False)


def test_every_code_is_documented_and_no_other_is_raised() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    documented = re.findall(r"^\| `([a-z_.]+)` \|", page, re.M)
    assert sorted(documented) == sorted(CODES)
    used: set[str] = set()
    for path in (p for layer in ("schemas", "stages", "pipelines") for p in (ROOT / layer).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                used.add(str(node.value.value))
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Problem"
                and node.args
            ):
                used |= {str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)}
    assert used - {""} <= set(CODES)
    assert {"usage", "interrupted", "root.damaged", "ray.failed", "config.no_gpu"} <= used
