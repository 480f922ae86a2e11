"""The command that writes what other libraries read: export."""

from __future__ import annotations

import json

import click

from clipmill.pipelines.cli.command_line import (
    dataset_at,
    json_option,
    number_option,
    reported,
    root_argument,
)
from clipmill.pipelines.cli.terminal import say
from clipmill.pipelines.exports import FORMATS


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
    from clipmill.pipelines.exports.snapshot_export import export_snapshot

    done = export_snapshot(dataset_at(root), format, number=number, target=target, text=text, replace=replace)
    if as_json:
        click.echo(json.dumps(done.to_dict()))
        return
    snapshot = done.published.snapshot
    say(f"snapshot {snapshot.number} of {snapshot.name} as {format}:")
    for path in done.written:
        say(f"  {path}")
    for split in done.published.splits_without_clips:
        say(f"  nothing for split {split}, which has no clips")
    for note in done.notes:
        say(f"note: {note}")
