"""`clipmill recipes`: what comes with the package, listed, printed and copied."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import run
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.cli.recipe_heads import KEYS, parse_recipe, read_recipe, recipe_names
from clipmill.schemas.errors import ClipmillError

TOP = Path(__file__).parents[1]
FILES = sorted((TOP / "recipes").glob("*.yaml"), key=lambda path: path.stem)


def test_the_package_holds_every_recipe() -> None:
    """The wheel takes the data of the package by these patterns."""
    patterns = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["clipmill"]
    packed = {p.name for pattern in patterns for p in (TOP / "clipmill").glob(pattern)}
    assert {p.name for p in FILES} <= packed
    assert recipe_names() == [p.stem for p in FILES]
    assert [p.name for p in (TOP / "recipes").iterdir() if p.suffix != ".yaml"] == [], "a recipe is a file of settings"


def test_the_list_has_one_line_for_each() -> None:
    lines = run("recipes").splitlines()
    assert [line.split()[0] for line in lines] == recipe_names()
    assert "fsdd" in run("recipes")
    listed = json.loads(run("recipes", "--json"))["recipes"]
    assert [one["name"] for one in listed] == recipe_names()
    assert all(set(one) == {"name", *KEYS} and all(one.values()) for one in listed)


@pytest.mark.parametrize("name", recipe_names())
def test_a_head_says_what_it_must(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.url.startswith(("https://", "http://"))
    assert "CORPUS" in recipe.layout, "which folder the variable names"
    lines = recipe.text.splitlines()
    assert lines[0].startswith("# ") and lines[1] == "#"
    assert any(line.startswith("#   CORPUS=") and f"clipmill build recipes/{name}.yaml" in line for line in lines)
    plain = yaml.safe_load(recipe.text)
    assert plain["output"]["root"] == f"${{OUT:-./out/{name}}}"
    assert all(source["root"].startswith("${CORPUS}") for source in plain["sources"])
    assert max(map(len, lines)) <= 150


def test_the_page_of_recipes_is_made_from_the_heads() -> None:
    code = "import sys; sys.path.insert(0, 'docs'); import make_recipes as m; sys.exit(m.page() != m.PAGE.read_text())"
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, f"run `python docs/make_recipes.py`\n{done.stderr}"


def test_one_is_printed_and_copied_and_nothing_is_overwritten(tmp_path: Path) -> None:
    text = (TOP / "recipes/esc50.yaml").read_text()
    assert run("recipes", "esc50") == text == run("recipes", "esc50.yaml")
    assert json.loads(run("recipes", "esc50", "--json"))["text"] == text
    target = tmp_path / "mine.yaml"
    assert str(target) in run("recipes", "esc50", "--to", target)
    assert target.read_text() == text
    target.write_text("mine")
    assert "exists and is not replaced; give another file, or --force" in run(
        "recipes", "esc50", "--to", target, code=2
    )
    assert target.read_text() == "mine"
    done = json.loads(run("recipes", "fsdd", "--to", target, "--force", "--json"))
    assert done["written"] == str(target)
    assert target.read_text() == (TOP / "recipes/fsdd.yaml").read_text()
    run("recipes", "esc50", "--to", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["esc50.yaml", "mine.yaml"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["esc5"], 2, "there is no recipe 'esc5'; did you mean 'esc50'?; `clipmill recipes` lists them"),
        (["../pyproject"], 2, "there is no recipe '../pyproject'"),
        (["--to", "x.yaml"], 2, "--to needs the name of a recipe"),
        (["esc50", "--force"], 2, "--force needs --to FILE"),
        (["esc50", "--to", "gone/x.yaml"], 1, "cannot write gone/x.yaml: there is no folder gone"),
    ],
)
def test_what_cannot_be_done_is_told(
    words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in run("recipes", *words, code=code)
    assert message in json.loads(run("recipes", *words, "--json", code=code))["error"]
    assert list(tmp_path.iterdir()) == []


def test_a_value_of_a_head_goes_on_in_indented_lines() -> None:
    head = "".join(f"# {key}: {key} text\n" for key in KEYS)
    recipe = parse_recipe("x", f"# Title.\n#\n{head}#           and more\n#\n# Note: this is none.\nname: x\n")
    assert (recipe.corpus, recipe.gives) == ("corpus text", "gives text and more")
    for wrong in (head.replace("# url", "# link"), head.replace("# size: size text\n", ""), "name: x\n"):
        with pytest.raises(ClipmillError, match="recipe x: expected a head with the lines corpus, size"):
            parse_recipe("x", wrong)


@given(st.text())
def test_no_text_of_a_recipe_raises_anything_else(text: str) -> None:
    with pytest.raises(ClipmillError):
        parse_recipe("x", text)
