"""The command that writes what other libraries read: export."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from clipmill.pipelines.cli.command_line import (
    dataset_at,
    json_option,
    number_option,
    reported,
    root_argument,
)
from clipmill.pipelines.cli.terminal import say
from clipmill.pipelines.dataset.notes import refuse_while_collecting
from clipmill.pipelines.exports import FORMATS
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.stages.storage.root import Root

if TYPE_CHECKING:
    from clipmill.pipelines.dataset.published import Published


def _check_not_removed(published: Published, there: Root, written: list[str]) -> None:
    """Raise a ClipmillError where the snapshot was removed while it was exported: what is to be forgotten may be in the files."""
    from clipmill.schemas.layout import snapshot_path

    refuse_while_collecting(
        published.root, f"what was just written to {there.url} can hold what it removes, so remove it"
    )
    if not published.root.exists(snapshot_path(published.snapshot.number)):
        raise ClipmillError(
            f"{published.root.url}: snapshot {published.snapshot.number} was removed by `gc` or `forget` while it was exported: remove"
            f" {', '.join(written[:3]) if there == published.root else there.url}, and export again"
        )


@click.command()
@root_argument
@click.argument("format", type=click.Choice(list(FORMATS)))
@number_option
@click.option("--to", "target", help="Folder or URL for the files; by default <ROOT>/exports/<format>-<snapshot>.")
@click.option(
    "--text",
    help="Field with the transcripts; by default text, transcript or normalized_text if there is one, else the label.",
)
@click.option("--replace", is_flag=True, help="Remove what an earlier export has left in the folder.")
@json_option
@reported
def export(
    root: str, format: str, number: int | None, target: str | None, text: str | None, replace: bool, as_json: bool
) -> None:
    """Write what other libraries need to read a snapshot of the dataset under ROOT.

    \b
    huggingface  README.md in ROOT, by which load_dataset(ROOT) gives splits, audio and labels
    croissant    croissant.json in ROOT: metadata of MLCommons Croissant 1.1
    webdataset   the tar shards' addresses, a list a split
    nemo         JSONL manifests: of the tar shards, or of WAV files where there are none
    lhotse       a Lhotse Shar directory a split, with features
    kaldi        a Kaldi data directory a split, with WAV files
    csv          a table a split: every clip, its fields, and the shard that holds it

    Only lhotse and kaldi, and nemo without tar shards, repeat the audio. The folder must be empty, new, or of the same export.
    """
    from clipmill.pipelines.dataset.published import Published
    from clipmill.pipelines.dataset.records_io import read_snapshot
    from clipmill.pipelines.exports import IN_PLACE, Export, exporter
    from clipmill.pipelines.exports.target import claimed, target_root
    from clipmill.schemas.layout import snapshot_name

    place = dataset_at(root)
    refuse_while_collecting(place, "nothing was exported")
    published = Published(place, read_snapshot(place, number))
    if format in IN_PLACE:
        if target is not None:
            raise ConfigError(
                f"{format} goes into the dataset's root, where its readers look for it; leave --to out", code="usage"
            )
        there = place
    elif target is not None:
        there = target_root(target, place)
    else:
        folder = f"exports/{format}-{snapshot_name(published.snapshot.number)}"
        there = Root(place.full(folder) if place.is_local else place.uri(folder), place.storage_options)
    asked = Export(published, there, text)
    if not asked.splits:
        raise ClipmillError(
            f"{place.url}: snapshot {published.snapshot.number} has no clips, so there is nothing to export; see `clipmill failures {place.url}`"
        )
    with nullcontext() if format in IN_PLACE else claimed(asked, format, replace):
        written = exporter(format)(asked)
        _check_not_removed(published, there, written)
    empty = published.splits_without_clips
    if as_json:
        told = {"snapshot": published.snapshot.number, "format": format, "to": there.url, "written": written}
        click.echo(json.dumps({**told, "without_clips": empty, "notes": asked.notes}))
        return
    say(f"snapshot {published.snapshot.number} of {published.snapshot.name} as {format}:")
    for path in written:
        say(f"  {path}")
    for split in empty:
        say(f"  nothing for split {split}, which has no clips")
    for note in asked.notes:
        say(f"note: {note}")
