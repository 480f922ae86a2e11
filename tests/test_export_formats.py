"""What modules of exports declare: all of them are known, told in the help and in the docs, and say what they lack."""

from __future__ import annotations

import pkgutil
import re
import tomllib
from pathlib import Path

import pytest
from conftest import run

import clipmill.pipelines.exports as exports
from clipmill.pipelines.exports import FORMATS, exporter, format_of
from clipmill.schemas.errors import ClipmillError, ConfigError

TOP = Path(__file__).parents[1]


def test_every_module_that_is_a_format_is_known() -> None:
    modules = {m.name for m in pkgutil.iter_modules(exports.__path__)}
    declaring = {name for name in modules if "\nFORMAT = Format(" in (TOP / f"pipelines/exports/{name}.py").read_text()}
    assert declaring == {*FORMATS} and len(FORMATS) == len({*FORMATS})


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_declares(name: str) -> None:
    about = format_of(name)
    assert callable(exporter(name)) and about.summary and not about.summary.endswith(".")
    assert bool(about.address) == (about.place == "service")
    extras = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*about.needs.values()} <= extras.keys()
    assert all(field.description for field in about.options.model_fields.values())
    assert about.read_options(name, {}) == about.options()
    page = (TOP / "docs/exports.md").read_text()
    assert f"| `{name}` |" in page and f"## {name}\n" in page
    assert all(re.search(rf"\b{option}\b", page.split(f"## {name}\n")[1]) for option in about.options.model_fields)


def test_the_help_has_all_formats_and_options() -> None:
    told = " ".join(run("export", "--help").split())
    for name in FORMATS:
        about = format_of(name)
        assert f"{name} {about.summary}" in told
        for option, field in about.options.model_fields.items():
            assert f"{name} {option} {field.description}" in told
    assert "folders files the clips' audio, or their pictures (wav | flac | png)" in told
    assert "tfrecord audio" in told and "nemo without tar shards, copy the audio" in told


def test_wrong_options_are_told_all_at_once() -> None:
    with pytest.raises(ConfigError) as wrong:
        format_of("tfrecord").read_options("tfrecord", {"file_mb": "many", "audi": "none"})
    assert str(wrong.value).split("\n") == [
        "--option file_mb: expected a whole number",
        "--option audi: tfrecord has no such option; its options are audio, file_mb; did you mean 'audio'?",
    ]
    assert format_of("hub").read_options("hub", {"push": "true"}).push is True  # type: ignore[attr-defined]
    assert "is given twice" in run("export", TOP, "csv", "--option", "a=1", "--option", "a=2", code=2)


def test_a_package_that_is_missing_is_told() -> None:
    from dataclasses import replace

    about = replace(format_of("lance"), needs={"no_such_package": "lance"})
    with pytest.raises(
        ClipmillError, match=r"needs no_such_package, which is not installed: pip install 'clipmill\[lance\]'"
    ):
        about.check_packages("lance")
