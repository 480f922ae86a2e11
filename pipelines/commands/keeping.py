"""Commands that remove from a dataset: gc."""

from __future__ import annotations

import json

import click

from pipelines.command_line import (
    dataset_at,
    json_option,
    reported,
    root_argument,
)
from pipelines.terminal import say


@click.command()
@root_argument
@click.option("--keep", type=click.IntRange(min=1), help="How many of the newest snapshots to keep; default: all.")
@click.option("--delete", is_flag=True, help="Remove what was found; without it nothing is removed.")
@json_option
@reported
def gc(root: str, keep: int | None, delete: bool, as_json: bool) -> None:
    """List what no kept snapshot of ROOT needs, and remove it with --delete.

    That is shards that no kept snapshot names, snapshots beyond --keep, and what crashes left. Shards of the last build stay if it was
    interrupted or not published, for it to go on from. While a build runs nothing is removed.
    """
    from pipelines.gc import collect, find_garbage
    from pipelines.wording import garbage

    place = dataset_at(root)
    found = collect(place, keep) if delete else find_garbage(place, keep)
    if as_json:
        click.echo(json.dumps({**found.to_dict(), "removed": delete}))
    else:
        say(*garbage(found, delete))
