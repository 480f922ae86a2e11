"""Find the recipes that come with clipmill, and read the heads of comments that describe them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any

from clipmill.schemas.config.model import did_you_mean
from clipmill.schemas.errors import ClipmillError, ConfigError

KEYS = ("corpus", "size", "licence", "url", "get", "layout", "gives")
_KEY = re.compile(r"# ([a-z]+): +(\S.*)")
_MORE = re.compile(r"#    +(\S.*)")
_ENDING = ".yaml"


@dataclass(frozen=True)
class Recipe:
    """A configuration for a corpus.

    name : of its file, without extension
    corpus : the corpus's name
    size : how much there is, in recordings or hours
    licence : of the corpus
    url : of its home
    get : how to get it
    layout : its folders and files, and which folder CORPUS is
    gives : labels, fields and splits of the dataset
    text : the whole file
    """

    name: str
    corpus: str
    size: str
    licence: str
    url: str
    get: str
    layout: str
    gives: str
    text: str = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the head as plain data, without the text."""
        return {key: value for key, value in asdict(self).items() if key != "text"}


def recipe_names() -> list[str]:
    """Return the names of all recipes, sorted."""
    folder = files("clipmill").joinpath("recipes")
    if not folder.is_dir():
        raise ClipmillError("the recipes are missing from this installation; install clipmill again")
    return sorted(one.name.removesuffix(_ENDING) for one in folder.iterdir() if one.name.endswith(_ENDING))


def read_recipe(name: str) -> Recipe:
    """Return a recipe. Raises ConfigError if there is none of this name."""
    names = recipe_names()
    name = name.removesuffix(_ENDING)
    if name not in names:
        near = did_you_mean(name, names)
        raise ConfigError(f"there is no recipe {name[:100]!r}{near}; `clipmill recipes` lists them", code="usage")
    return parse_recipe(name, files("clipmill").joinpath("recipes", name + _ENDING).read_text(encoding="utf-8"))


def parse_recipe(name: str, text: str) -> Recipe:
    """Return the recipe of a file's text.

    The head is the comment with which the file begins. It has a line ``# key: value`` for each of `KEYS`, in this order; a value goes
    on in lines that are indented by at least four spaces. Other text of the head comes before or after these lines.

    Raises
    ------
    ClipmillError : a key is missing, comes twice or in another place, or is unknown
    """
    values: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if (match := _KEY.fullmatch(line)) is not None and match[1] not in values:
            last = match[1]
            values[last] = match[2].strip()
        elif last and (more := _MORE.fullmatch(line)) is not None:
            values[last] += f" {more[1].strip()}"
        elif values:
            break
    if tuple(values) != KEYS:
        found = ", ".join(values) or "none"
        raise ClipmillError(
            f"recipe {name}: expected a head with the lines {', '.join(KEYS)}, in this order; found {found}"
        )
    return Recipe(name, **values, text=text)
