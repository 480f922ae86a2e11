"""`--metrics` and `--on-finish`: told however a build ends, and what is wrong with them is found before it starts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import clipmill_here, tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.cli import watching
from clipmill.pipelines.cli.prometheus_text import metrics_text
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.secret_values import remember_secrets

_SAMPLE = re.compile(r'([a-zA-Z_:][\w:]*)\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"(?:,(?!\}))?)+)\} (-?\d[\d.e+-]*)')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse(text: str) -> Samples:
    """Read Prometheus's text format as strictly as the format's description: HELP, TYPE, then the samples of this metric, each once."""
    assert text.endswith("\n")
    samples: Samples = {}
    current, seen, expects = "", set[str](), "HELP"
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            current = line.split(" ")[2]
            assert current not in seen
            seen.add(current)
            expects = "TYPE"
        elif line.startswith("# TYPE "):
            assert (expects, line) == ("TYPE", f"# TYPE {current} gauge")
            expects = "SAMPLE"
        else:
            match = _SAMPLE.fullmatch(line)
            assert match and expects != "TYPE" and match[1] == current, line
            unescaped = {
                k: re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], v) for k, v in _LABEL.findall(match[2])
            }
            key = (match[1].removeprefix("clipmill_"), frozenset(unescaped.items()))
            assert key not in samples
            samples[key] = float(match[3])
    return samples


def value(samples: Samples, name: str, **labels: str) -> float | None:
    found = [v for (n, given), v in samples.items() if n == name and labels.items() <= dict(given).items()]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.fixture
def config(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    write_audio(tmp_path / "in/r0.wav", tone(1.0, 8000), 8000)
    (tmp_path / "in/broken.wav").write_bytes(b"RIFF")
    segment = {"mode": "window", "length_s": 0.25}
    return make_config({"root": tmp_path / "in", "segment": segment}, limits={"max_rejected_share": 1.0})


@pytest.fixture
def hook(tmp_path: Path) -> str:
    """Return a command that keeps what it was told in told.json, with the report."""
    script = tmp_path / "hook.py"
    script.write_text(
        "import json, os, sys\n"
        "told = {k: v for k, v in os.environ.items() if k.startswith('CLIPMILL_')}\n"
        "told['report'] = json.load(open(told['CLIPMILL_REPORT']))\n"
        f"json.dump(told, open({str(tmp_path / 'told.json')!r}, 'w'))\n"
        "sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else 0)\n"
    )
    return f"{sys.executable} '{script}'"


def told(tmp_path: Path) -> dict[str, Any]:
    found = json.loads((tmp_path / "told.json").read_text())
    (tmp_path / "told.json").unlink()
    assert not os.path.exists(found["CLIPMILL_REPORT"])
    return dict(found)


@given(labels=st.fixed_dictionaries({"dataset": st.text(), "config": st.text('\\"\n{},= ab')}))
def test_labels_of_any_text_are_escaped(labels: dict[str, str]) -> None:
    samples = parse(metrics_text({}, labels, "failed", 1, 5.0))
    expected = {k: v.encode("utf-8", "backslashreplace").decode() for k, v in labels.items()}
    assert samples[("build_success", frozenset(expected.items()))] == 0
    assert value(samples, "build_outcome", outcome="failed") == 1


def test_both_tell_of_builds_that_publish_and_of_a_retry(config: Path, hook: str, tmp_path: Path) -> None:
    file = tmp_path / "clipmill.prom"
    for words, status in ((["build"], "published"), (["build"], "unchanged"), (["retry"], "unchanged")):
        done = clipmill_here(*words, config, "--metrics", file, "--on-finish", hook, "--json")
        assert done.returncode == 0, done.stderr
        samples = parse(file.read_text())
        assert value(samples, "build_success", dataset="test", config="test.yaml") == 1
        assert value(samples, "build_outcome", outcome=status) == 1
        assert abs((value(samples, "build_finished_timestamp_seconds") or 0) - time.time()) < 60
        assert value(samples, "snapshot_number") == 1
        assert value(samples, "build_rejections", reason="not_audio") == 1
        assert value(samples, "build_clips", outcome="kept") == 4
        assert (value(samples, "build_duration_seconds") or 0) > 0
        assert value(samples, "build_phase_seconds", phase="plan") is not None
        assert (value(samples, "build_stored_bytes") or 0) > 1000
        heard = told(tmp_path)
        assert heard["report"] == json.loads(done.stdout)
        assert (heard["CLIPMILL_STATUS"], heard["CLIPMILL_EXIT_CODE"], heard["CLIPMILL_SNAPSHOT"]) == (status, "0", "1")
        assert heard["CLIPMILL_ROOT"] == str(tmp_path / "out")
        assert sorted(p.name for p in tmp_path.iterdir() if "prom" in p.name) == ["clipmill.prom"]
    assert file.stat().st_mode & 0o777 == 0o644


def test_both_tell_of_builds_that_publish_nothing(
    config: Path, hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "clipmill.prom"
    watch = ("--metrics", file, "--on-finish", hook)
    text = config.read_text()
    config.write_text(text.replace("max_rejected_share: 1.0", "min_clips: 100"))
    assert clipmill_here("build", config, *watch).returncode == 3
    heard = told(tmp_path)
    assert (heard["CLIPMILL_STATUS"], heard["CLIPMILL_EXIT_CODE"], heard["CLIPMILL_SNAPSHOT"]) == (
        "not_published",
        "3",
        "",
    )
    samples = parse(file.read_text())
    assert (value(samples, "build_success"), value(samples, "build_exit_code")) == (0, 3)
    assert value(samples, "build_clips", outcome="kept") == 4

    config.write_text(text + "unknown: 3\n")
    assert clipmill_here("build", config, *watch).returncode == 2
    heard = told(tmp_path)
    assert (heard["CLIPMILL_STATUS"], heard["CLIPMILL_EXIT_CODE"], heard["CLIPMILL_ROOT"]) == ("failed", "2", "")
    assert heard["report"]["code"] == "config.unknown_key"
    assert value(parse(file.read_text()), "build_success", config="test.yaml") == 0

    config.write_text(text)
    remember_secrets(["hunter2hunter2"])

    def fail(*_: Any) -> None:
        raise ClipmillError("the key hunter2hunter2 was refused")

    monkeypatch.setattr("clipmill.pipelines.run.publishing.publish_draft", fail)
    done = clipmill_here("build", config, *watch)
    assert done.returncode == 1
    heard = told(tmp_path)
    assert (heard["CLIPMILL_STATUS"], heard["report"]["error"]) == ("failed", "the key *** was refused")
    assert value(parse(file.read_text()), "build_shards", outcome="reused") == 1


def test_an_interrupted_build_is_told(config: Path, hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr("clipmill.pipelines.run.publishing.publish_draft", interrupt)
    done = clipmill_here("build", config, "--metrics", tmp_path / "m.prom", "--on-finish", hook)
    assert (done.returncode, "interrupted" in done.stderr) == (1, True)
    assert told(tmp_path)["CLIPMILL_STATUS"] == "interrupted"
    assert value(parse((tmp_path / "m.prom").read_text()), "build_outcome", outcome="interrupted") == 1


def test_what_cannot_work_is_found_before_the_build(config: Path, tmp_path: Path) -> None:
    for option, text in (
        (("--on-finish", "no-such-command --x"), "no command 'no-such-command'"),
        (("--on-finish", "'unclosed"), "put the command in quotes"),
        (("--on-finish", ""), "no command ''"),
        (("--metrics", tmp_path / "none/x.prom"), "is not a folder that can be written to"),
    ):
        done = clipmill_here("build", config, *option)
        assert (done.returncode, text in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "out").exists()


def test_a_command_that_fails_or_hangs_is_told(config: Path, hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = clipmill_here("build", config, "--on-finish", f"{hook} 7")
    assert (done.returncode, "ended with exit code 7" in done.stderr) == (1, True)
    monkeypatch.setattr(watching, "LIMIT_S", 0.3)
    start_s = time.monotonic()
    done = clipmill_here("build", config, "--on-finish", "sleep 60")
    assert (done.returncode, "had not ended after 0.3 s and was killed" in done.stderr) == (1, True)
    assert time.monotonic() - start_s < 30


def test_its_output_does_not_mix_with_the_json(config: Path) -> None:
    command = [sys.executable, "-m", "clipmill", "build", str(config), "--json", "--on-finish", "echo $HOME; and more"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert json.loads(done.stdout)["status"] == "published"
    assert "$HOME; and more" in done.stderr, "no shell has seen it"
