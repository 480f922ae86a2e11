"""The command that writes files for other libraries: export."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from clipmill.pipelines.cli.command_line import (
    YamlText,
    dataset_at,
    hides_progress,
    json_option,
    number_option,
    reported,
    root_argument,
)
from clipmill.pipelines.cli.terminal import say, say_json
from clipmill.schemas.errors import ConfigError

_MAX_SHOWN = 50


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


class _Export(click.Command):
    """The command, whose help says what the formats' modules declare."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help, and a list of the formats with their options."""
        from clipmill.pipelines.exports import FORMATS, format_of

        super().format_help_text(ctx, formatter)
        about = {name: format_of(name) for name in FORMATS}
        with formatter.section("Formats"):
            formatter.write_dl([(name, format.summary) for name, format in about.items()])
        options = [(f"{name} {line}".split(": ", 1)) for name, of in about.items() for line in of.describe_options()]
        if options:
            with formatter.section("Options of formats, as --option KEY=VALUE"):
                formatter.write_dl([(name, text) for name, text in options])
        copying = [name for name, format in about.items() if format.copies_audio]
        formatter.write_paragraph()
        formatter.write_text(
            f"Only {', '.join(copying[:-1])} and {copying[-1]}, and nemo without tar shards, copy the audio. A folder must be new or empty, or"
            " contain the same export."
        )


class _KeyValue(click.ParamType):  # type: ignore[type-arg]
    """An option of a format, as KEY=VALUE."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the key and the value."""
        key, given, text = str(value).partition("=")
        if not given or not key.strip():
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key.strip(), text


@click.command(cls=_Export)
@root_argument
@click.argument("format", type=_FormatName(), metavar="FORMAT")
@number_option
@click.option(
    "--to",
    "target",
    help="Folder or URL for the files; default: <ROOT>/exports/<format>-<snapshot>. hub: a repository; iceberg: a table.",
)
@click.option(
    "--text",
    help="Field with the transcripts; default: text, transcript or normalized_text if it exists, else the label.",
)
@click.option("--where", type=YamlText(), help="Only clips within thresholds, as in '{snr_db: {min: 15}}'.")
@click.option("--replace", is_flag=True, help="Remove an earlier export from the folder first.")
@click.option(
    "--option",
    "options",
    type=_KeyValue(),
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of the format; repeatable.",
)
@click.option("--push", is_flag=True, help="hub: upload, instead of only saying what would be uploaded.")
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
    options: tuple[tuple[str, str], ...],
    push: bool,
    as_json: bool,
) -> None:
    """Write files with which other libraries read a snapshot."""
    from clipmill.pipelines.exports import ClipCount
    from clipmill.pipelines.exports.snapshot_export import export_snapshot
    from clipmill.pipelines.run.display import Progress

    given: dict[str, Any] = {}
    for key, value in options:
        if key in given:
            raise ConfigError(f"--option {key} is given twice; give it once", code="usage")
        given[key] = value
    if push:
        given["push"] = True
    count = ClipCount()
    with Progress(hides_progress(False, as_json)).phase("export", lambda: str(count)):
        result = export_snapshot(
            dataset_at(root),
            format,
            number=number,
            target=target,
            text=text,
            where=where,
            replace=replace,
            options=given,
            count=count,
        )
    if as_json:
        say_json(result.to_dict())
        return
    snapshot = result.published.snapshot
    say(f"snapshot {snapshot.number} of {snapshot.name} as {format}:")
    for path in result.written:
        say(f"  {path}")
    for line in result.planned[:_MAX_SHOWN]:
        say(f"  {line}")
    if len(result.planned) > _MAX_SHOWN:
        say(f"  and {len(result.planned) - _MAX_SHOWN:,} more, which --json lists")
    for split in result.published.splits_without_clips:
        say(f"  nothing for split {split}, which has no clips")
    for note in result.notes:
        say(f"note: {note}")
