"""What names hold is shown and never sent to the terminal, and a name that is not text can be told."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.cli.terminal import visible

EVIL = "a\x1b[31m\u202eb\r\nc\x9bd\u2028e\x07"
SHOWN = r"a\x1b[31m\u202eb\r\nc\x9bd\u2028e\x07"


def run(*args: Any) -> Any:
    return CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)


def harmless(text: str) -> None:
    """Fail where a text holds what a terminal acts on, other than the end of a line."""
    bad = [c for c in text if c != "\n" and (unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") or c == "\u202e")]
    assert not bad, (bad, text)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration whose recordings, labels and fields have such names, and its dataset with two snapshots."""
    folder = tmp_path_factory.mktemp("names")
    for i in range(2):
        write_audio(folder / "in" / EVIL / f"{EVIL}{i}.wav", tone(1.0, 8000, seed=i), 8000)
    (folder / "in" / EVIL / "broken\x1b]0;x\x07.wav").write_bytes(b"RIFF")
    with open(os.fsencode(folder / "in") + b"/\xff\xfe.wav", "wb"):
        pass
    written = {
        "name": "names",
        "sources": [{"name": "s", "root": str(folder / "in"), "label": {"from": "folder"}, "exclude": ["x\x1b[1m"]}],
        "output": {"root": str(folder / "out")},
        "limits": {"max_rejected_share": 1.0},
    }
    (folder / "c.yaml").write_text(json.dumps(written))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipmill.pipelines.run.build._ray_is_at_hand", lambda: False)
        for i in (2, 3):
            built = run("build", folder / "c.yaml")
            assert built.exit_code == 0, built.output
            harmless(built.output)
            write_audio(folder / "in" / EVIL / f"{EVIL}{i}.wav", tone(1.0, 8000, seed=i), 8000)
    return folder


@pytest.mark.parametrize(
    ("command", "shows"),
    [
        (["plan", "{}/c.yaml"], None),
        (["status", "{}/out"], None),
        (["failures", "{}/out"], r"broken\x1b]0;x\x07.wav"),
        (["diff", "{}/out", "1", "2"], SHOWN),
        (["show", "{}/out"], SHOWN),
        (["gc", "{}/out", "--keep", "1"], None),
        (["verify", "{}/out"], None),
        (["export", "{}/out", "csv", "--to", "{}/to\x1b[2J"], r"to\x1b[2J"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_no_command_sends_what_a_name_holds(command: list[str], shows: str | None, dataset: Path) -> None:
    given = [part.replace("{}", str(dataset)) for part in command]
    done = run(*given)
    assert done.exit_code == 0, done.output
    harmless(done.output)
    assert shows is None or shows in done.output
    target = ["--replace"] if command[0] == "export" else []
    told = run(*given, *target, "--json").output
    harmless(told)
    json.loads(told)


def test_errors_show_what_they_were_given(tmp_path: Path) -> None:
    for args in (["show", f"x{EVIL}"], ["build", f"x{EVIL}.yaml"], [f"no{EVIL}"], ["show", "x", f"--{EVIL}"]):
        done = run(*args)
        assert done.exit_code in (1, 2)
        harmless(done.output)
    (tmp_path / "c.yaml").write_text('name: "a\\e[31mb"\n"k\\e[1m": 1\n')
    done = run("plan", tmp_path / "c.yaml")
    assert done.exit_code == 2 and r"k\x1b[1m" in done.stderr
    harmless(done.output)


def test_a_terminal_of_ascii_and_names_that_are_not_text(dataset: Path) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    env |= {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}
    write_audio(dataset / "in" / "größe.wav", tone(1.0, 8000), 8000)
    for args in (["build", "c.yaml"], ["failures", "out", "--examples", "9"], ["show", b"\xff\xfe"], ["show", "größe"]):
        done = subprocess.run(
            [sys.executable, "-m", "clipmill", *args],
            cwd=dataset,
            env=env,
            capture_output=True,
            timeout=180,
        )
        told = (done.stdout + done.stderr).decode("ascii")
        assert done.returncode == int(args[0] == "show"), told
        assert "Traceback" not in told
        harmless(told)


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_no_text_has_anything_left_to_act_on(text: str) -> None:
    shown = visible(text)
    harmless(shown)
    assert "\n" not in shown
    assert not re.search("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)
    assert visible(shown) == shown
    if text.isascii() and text.isprintable():
        assert shown == text
