"""Commands that remove from a dataset: gc and forget."""

from __future__ import annotations

import json
import sys
from typing import IO

import click

from clipmill.pipelines.cli.command_line import (
    WholeNumber,
    dataset_at,
    json_option,
    reported,
    root_argument,
)
from clipmill.pipelines.cli.terminal import say
from clipmill.schemas.errors import ConfigError

_LIST_BYTES = 64 << 20


@click.command()
@root_argument
@click.option("--keep", type=WholeNumber(min=1), help="How many of the newest snapshots to keep; default: all.")
@click.option("--delete", is_flag=True, help="Remove what was found; without this option nothing is removed.")
@json_option
@reported
def gc(root: str, keep: int | None, delete: bool, as_json: bool) -> None:
    """List what no kept snapshot of ROOT needs, and remove it with --delete.

    That is shards that no kept snapshot names, snapshots beyond --keep and their exports, and what crashes left behind. Shards of the
    last build stay if it was interrupted or not published, so that it can continue. While a build runs, nothing is removed.
    """
    from clipmill.pipelines.cli.wording import garbage
    from clipmill.pipelines.dataset.gc import collect, find_garbage

    place = dataset_at(root)
    found = collect(place, keep) if delete else find_garbage(place, keep)
    if as_json:
        click.echo(json.dumps({**found.to_dict(), "removed": delete}))
    else:
        say(*garbage(found, delete))


@click.command()
@root_argument
@click.argument("recordings", nargs=-1, metavar="[RECORDING]...")
@click.option("--from", "listed", type=click.File("rb"), help="A file with more ids, one per line; - for stdin.")
@click.option(
    "--also-unknown", is_flag=True, help="Accept ids that are not in the dataset, so that no build adds them."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@reported
def forget(
    root: str, recordings: tuple[str, ...], listed: IO[bytes] | None, also_unknown: bool, yes: bool, as_json: bool
) -> None:
    """Take recordings out of the dataset under ROOT, and remove every trace of them there.

    RECORDING is an id, SOURCE/PATH, as in the manifest's column recording_id. A snapshot without them is published; snapshots that hold
    them are removed, with their shards and exports. No build brings them back: ROOT keeps salted hashes of their ids. Finally, all files
    under ROOT are searched for them. Without RECORDING, an interrupted forget is finished. With --json but without --yes nothing
    is done, and the exit code is 2 if there is something to do.
    """
    from clipmill.pipelines.cli.forget_wording import forgetting, forgot
    from clipmill.pipelines.dataset.forget import forget as carry_out
    from clipmill.pipelines.dataset.survey import survey

    place = dataset_at(root)
    given = [*recordings, *(_lines(listed) if listed is not None else ())]
    if not yes:
        found = survey(place, given, also_unknown)
        if as_json:
            click.echo(json.dumps({**found.to_dict(), "done": False}))
            sys.exit(2 if found.is_anything else 0)
        say(*forgetting(found))
        if not found.is_anything:
            return
        if not _confirmed():
            raise ConfigError("nothing was done; give --yes to forget without being asked", code="usage")
    done = carry_out(place, given, also_unknown, lambda said: None if as_json else say(f"{said} ...", err=True))
    if as_json:
        click.echo(json.dumps({**done.to_dict(), "done": True}))
    else:
        say(*forgot(done, place))
    if not done.is_clean:
        sys.exit(1)


def _confirmed() -> bool:
    """Ask for confirmation. The end of input means no."""
    try:
        return click.confirm("Go on? This cannot be undone.")
    except click.Abort:
        say("")
        return False


def _lines(stream: IO[bytes]) -> list[str]:
    """Return the lines of a list of ids, without empty ones."""
    content = stream.read(_LIST_BYTES + 1)
    if len(content) > _LIST_BYTES:
        raise ConfigError(
            f"--from {stream.name}: more than {_LIST_BYTES >> 20} MB; give the list in parts", code="usage"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"--from {stream.name}: not UTF-8 text: byte {error.start + 1} is 0x{content[error.start]:02x}",
            code="usage",
        ) from None
    found = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not found:  # most likely a mistake; treated as no list, it would be a success
        raise ConfigError(
            f"--from {stream.name}: it contains no id, so nothing was done; give one per line", code="usage"
        )
    return found
