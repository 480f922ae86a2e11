"""The command that lists and copies configurations for well-known corpora: recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipmill.pipelines.cli.command_line import json_option, reported
from clipmill.pipelines.cli.new_file import write_new_file
from clipmill.pipelines.cli.terminal import say, say_json
from clipmill.schemas.errors import ConfigError

if TYPE_CHECKING:
    from clipmill.pipelines.cli.recipe_heads import Recipe


@click.command()
@click.argument("name", required=False)
@click.option("--to", "target", metavar="FILE", help="Copy recipe NAME to FILE, or into a folder.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
@reported
def recipes(name: str | None, target: str | None, force: bool, as_json: bool) -> None:
    """List the recipes: configurations for well-known corpora.

    Without NAME all are listed. With NAME that recipe is printed, or copied with --to. Its first lines say how to get the corpus, and
    which folder the environment variable CORPUS must name:

    \b
    clipmill recipes esc50 --to esc50.yaml
    CORPUS=/data/ESC-50-master OUT=./out/esc50 clipmill build esc50.yaml
    """
    from clipmill.pipelines.cli.recipe_heads import read_recipe, recipe_names

    if name is None and target is not None:
        raise ConfigError(
            "--to needs the name of a recipe, as in `clipmill recipes esc50 --to esc50.yaml`", code="usage"
        )
    if force and target is None:
        raise ConfigError("--force needs --to FILE", code="usage")
    if name is None:
        every = [read_recipe(one) for one in recipe_names()]
        say_json({"recipes": [one.to_dict() for one in every]}) if as_json else say(*_listed(every))
        return
    recipe = read_recipe(name)
    if target is None:
        say_json({**recipe.to_dict(), "text": recipe.text}) if as_json else say(*recipe.text.rstrip("\n").split("\n"))
        return
    path = _copy(recipe, Path(target), force)
    if as_json:
        say_json({**recipe.to_dict(), "written": str(path)})
    else:
        say(f"written      {path}", f"get          {recipe.get}", f"layout       {recipe.layout}")


def _listed(every: list[Recipe]) -> list[str]:
    """Return a line for each recipe."""
    width = max((len(one.name) for one in every), default=0)
    return [f"{one.name:{width}}  {one.corpus}: {one.size}, {one.licence}; {one.gives}" for one in every]


def _copy(recipe: Recipe, path: Path, force: bool) -> Path:
    """Write a recipe to a file, or into a folder; return the file's path. Raises ConfigError if it exists, unless `force`."""
    if path.is_dir():
        path = path / f"{recipe.name}.yaml"
    write_new_file(path, recipe.text, force)
    return path
