"""Write docs/recipes.md from the heads of the recipes: `python docs/make_recipes.py`."""

from __future__ import annotations

from pathlib import Path

from clipmill.pipelines.cli.recipe_heads import Recipe, read_recipe, recipe_names

PAGE = Path(__file__).parent / "recipes.md"
HEAD = """# Recipes

Generated from the heads of the files in [`recipes/`](../recipes) by `python docs/make_recipes.py`.

A recipe is a configuration for a corpus as its authors publish it: its folders and tables, its own splits, its own labels. It is a file of
settings, so you can copy it and change what you like:

```
clipmill recipes                         # list them
clipmill recipes esc50                   # print one; its first lines say how to get the corpus
clipmill recipes esc50 --to esc50.yaml   # copy it
CORPUS=/data/ESC-50-master OUT=./out/esc50 clipmill build esc50.yaml
```

`CORPUS` is the folder that the column "layout" describes, or its address in S3, and `OUT` is where the dataset is written. Corpora without a
split by their authors are divided by recording or by speaker, so that what belongs together is on one side.

"""
TAIL = """
## What cannot be had

- **Million Song Dataset**: it holds features and metadata, and no audio. The previews that went with it were 7digital's, and are no longer
  given out. The recipe is for those who have audio of their own, with the names of tracks (`TRAAAAK128F9318786.mp3`).
- **AudioSet** and parts of **DESED**: the authors give out tables, and the audio has to come from YouTube. Rows without audio are counted.
- **Spoken Wikipedia**: its alignments (`aligned.swc`) are not read, so clips have no transcripts.
"""


def page() -> str:
    """Return the text of docs/recipes.md."""
    recipes = [read_recipe(name) for name in recipe_names()]
    rows = [
        "| recipe | corpus | size | licence | gives |",
        "|---|---|---|---|---|",
        *(_row(one) for one in recipes),
        "",
        "| recipe | how to get it | layout |",
        "|---|---|---|",
        *(f"| `{one.name}` | {_cell(one.get)} | {_cell(one.layout)} |" for one in recipes),
    ]
    return HEAD + "\n".join(rows) + "\n" + TAIL


def _row(one: Recipe) -> str:
    link = f"[`{one.name}`](../recipes/{one.name}.yaml)"
    return (
        f"| {link} | [{_cell(one.corpus)}]({one.url}) | {_cell(one.size)} | {_cell(one.licence)} | {_cell(one.gives)} |"
    )


def _cell(text: str) -> str:
    """Return a text as the cell of a table, in which nothing is taken for markup."""
    for sign in "\\|<>*_[]":
        text = text.replace(sign, f"\\{sign}")
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
