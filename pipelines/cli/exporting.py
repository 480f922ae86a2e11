"""The command that writes files for other libraries: export."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from clipmill.pipelines.cli.command_line import (
    YamlText,
    dataset_at,
    json_option,
    number_option,
    reported,
    root_argument,
)
from clipmill.pipelines.cli.terminal import say, say_json


class _FormatName(click.ParamType):  # type: ignore[type-arg]
    """The name of a format. The formats are looked up when one is given, since that takes longer than all else that starts a command."""

    name = "format"

    @property
    def _choice(self) -> click.Choice[str]:
        from clipmill.pipelines.exports import FORMATS

        return click.Choice(list(FORMATS))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name. Fails if there is no such format."""
        return self._choice.convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the formats that begin with a text."""
        return self._choice.shell_complete(ctx, param, incomplete)


@click.command()
@root_argument
@click.argument("format", type=_FormatName(), metavar="FORMAT")
@number_option
@click.option("--to", "target", help="Folder or URL for the files; default: <ROOT>/exports/<format>-<snapshot>.")
@click.option(
    "--text",
    help="Field with the transcripts; default: text, transcript or normalized_text if it exists, else the label.",
)
@click.option("--where", type=YamlText(), help="Only clips within thresholds, as in '{snr_db: {min: 15}}'.")
@click.option("--replace", is_flag=True, help="Remove an earlier export from the folder first.")
@json_option
@reported
def export(
    root: str,
    format: str,
    number: int | None,
    target: str | None,
    text: str | None,
    where: Any,
    replace: bool,
    as_json: bool,
) -> None:
    """Write files with which other libraries read a snapshot.

    FORMAT is one of:

    \b
    huggingface  README.md in ROOT, so that load_dataset(ROOT) returns splits, audio and labels
    croissant    croissant.json in ROOT: metadata in MLCommons Croissant 1.1
    webdataset   the addresses of the tar shards, one list per split
    nemo         JSONL manifests of the tar shards, or of WAV files if there are no tar shards
    lhotse       one Lhotse Shar directory per split, with features
    kaldi        one Kaldi data directory per split, with WAV files
    tts          one filelist per split for Tacotron 2, HiFi-GAN and VITS, with WAV files and mels
    csv          one table per split: every clip, its fields, and the shard that contains it

    Only lhotse, kaldi and tts, and nemo without tar shards, copy the audio. The folder must be new or empty, or contain the same export.
    """
    from clipmill.pipelines.exports.snapshot_export import export_snapshot

    result = export_snapshot(
        dataset_at(root), format, number=number, target=target, text=text, where=where, replace=replace
    )
    if as_json:
        say_json(result.to_dict())
        return
    snapshot = result.published.snapshot
    say(f"snapshot {snapshot.number} of {snapshot.name} as {format}:")
    for path in result.written:
        say(f"  {path}")
    for split in result.published.splits_without_clips:
        say(f"  nothing for split {split}, which has no clips")
    for note in result.notes:
        say(f"note: {note}")
