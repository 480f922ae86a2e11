"""The commands that remove parts of a dataset: gc and forget."""

from __future__ import annotations

import sys
from typing import IO

import click

from clipmill.pipelines.cli.command_line import (
    WholeNumber,
    dataset_at,
    hides_progress,
    json_option,
    reported,
    root_argument,
)
from clipmill.pipelines.cli.terminal import say, say_json
from clipmill.schemas.errors import ConfigError

_LIST_BYTES = 64 << 20


@click.command()
@root_argument
@click.option("--keep", type=WholeNumber(min=1), help="Number of the newest snapshots to keep; default: all.")
@click.option("--delete", is_flag=True, help="Remove what is listed; without this option nothing is removed.")
@json_option
@reported
def gc(root: str, keep: int | None, delete: bool, as_json: bool) -> None:
    """List files that ROOT no longer needs; remove them with --delete.

    These are shards that no kept snapshot names, snapshots beyond --keep with their exports, and files that crashes left behind. The
    shards of the last build stay if it was interrupted or not published, so that it can continue. Nothing is removed while a build
    is running.
    """
    from clipmill.pipelines.cli.removal_wording import describe_garbage
    from clipmill.pipelines.dataset.gc import collect, find_garbage
    from clipmill.pipelines.run.display import Progress

    place = dataset_at(root)
    doing = "removing what nothing needs" if delete else "looking for what nothing needs"
    with Progress(hides_progress(False, as_json)).phase("gc", doing):
        garbage = collect(place, keep) if delete else find_garbage(place, keep)
    if as_json:
        say_json({**garbage.to_dict(), "removed": delete})
    else:
        say(*describe_garbage(garbage, delete))


@click.command()
@root_argument
@click.argument("recordings", nargs=-1, metavar="[RECORDING]...")
@click.option("--from", "list_file", type=click.File("rb"), help="File with more ids, one per line; - for stdin.")
@click.option(
    "--also-unknown", is_flag=True, help="Accept ids that are not in the dataset, so that no build adds them."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@reported
def forget(
    root: str, recordings: tuple[str, ...], list_file: IO[bytes] | None, also_unknown: bool, yes: bool, as_json: bool
) -> None:
    """Remove recordings and every trace of them from ROOT.

    RECORDING is an id, SOURCE/PATH, as in the manifest's column recording_id. A snapshot without the recordings is published, and
    snapshots that contain them are removed with their shards and exports. No build brings them back: ROOT keeps salted hashes of
    their ids. Finally, all files under ROOT are searched for their names. Without RECORDING, an interrupted forget is finished. With
    --json but without --yes nothing is done, and the exit code is 2 if there is something to do.
    """
    from clipmill.pipelines.cli.removal_wording import describe_forgotten, describe_survey
    from clipmill.pipelines.dataset.forget import forget as carry_out
    from clipmill.pipelines.dataset.survey import survey

    place = dataset_at(root)
    ids = [*recordings, *(_lines(list_file) if list_file is not None else ())]
    if not yes:
        plan = survey(place, ids, also_unknown)
        if as_json:
            say_json({**plan.to_dict(), "done": False})
            sys.exit(2 if plan.has_work else 0)
        say(*describe_survey(plan))
        if not plan.has_work:
            return
        if not _confirm():
            raise ConfigError("nothing was done; with --yes the command does not ask", code="usage")
    done = carry_out(place, ids, also_unknown, lambda step: None if as_json else say(f"{step} ...", err=True))
    if as_json:
        say_json({**done.to_dict(), "done": True})
    else:
        say(*describe_forgotten(done, place))
    if not done.is_clean:
        sys.exit(1)


def _confirm() -> bool:
    """Ask for confirmation; return the answer. The end of input means no."""
    try:
        return click.confirm("Continue? This cannot be undone.")
    except click.Abort:
        say("")
        return False


def _lines(stream: IO[bytes]) -> list[str]:
    """Return the ids in a file, one per line, without empty lines. Raises ConfigError if there are none, or it is not UTF-8."""
    content = stream.read(_LIST_BYTES + 1)
    if len(content) > _LIST_BYTES:
        raise ConfigError(f"--from {stream.name}: larger than {_LIST_BYTES >> 20} MB; split the list", code="usage")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"--from {stream.name}: not UTF-8 text: byte {error.start + 1} is 0x{content[error.start]:02x}",
            code="usage",
        ) from None
    ids = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not ids:  # most likely a mistake; treated as no list, it would be a success
        raise ConfigError(
            f"--from {stream.name}: it contains no id, so nothing was done; give one per line", code="usage"
        )
    return ids
