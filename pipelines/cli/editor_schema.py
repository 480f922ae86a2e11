"""The command that prints the JSON Schema of configurations: schema."""

from __future__ import annotations

import json
from pathlib import Path

import click

from clipmill.pipelines.cli.command_line import json_option, reported
from clipmill.pipelines.cli.terminal import say_json
from clipmill.schemas.errors import ClipmillError, os_error_code


@click.command()
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file instead.")
@json_option
@reported
def schema(to: Path | None, as_json: bool) -> None:
    """Print the JSON Schema of configurations, with which editors complete and check them.

    It knows the stages of all packages that are installed here. A configuration names the file in its first line:

    \b
    # yaml-language-server: $schema=clipmill.schema.json
    """
    from clipmill.pipelines.config_schema import config_schema

    text = json.dumps(config_schema(installed=True), indent=1, ensure_ascii=False)
    if to is None:
        click.echo(text)
        return
    try:
        to.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ClipmillError(f"cannot write {to}: {error.strerror}", code=os_error_code(error)) from None
    if as_json:
        say_json({"written": str(to)})
    else:
        click.echo(f"written      {to}; in the first line of a configuration: # yaml-language-server: $schema={to}")
