"""The command that shows a snapshot to people: report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clipmill.pipelines.cli.command_line import (
    WholeNumber,
    dataset_at,
    hides_progress,
    json_option,
    number_option,
    reported,
    root_argument,
)
from clipmill.pipelines.cli.terminal import say, say_json

if TYPE_CHECKING:
    from clipmill.pipelines.dataset.published import Published
    from clipmill.pipelines.reports.viewer import Viewer


@click.command()
@root_argument
@click.option("--to", metavar="FILE", help="The HTML file; default: <name>-<snapshot>.html in the current folder.")
@number_option
@click.option(
    "--by",
    metavar="COLUMN",
    help="Column by which the best and worst clips are chosen; default: snr_db, lufs or level_dbfs.",
)
@click.option(
    "--clips",
    "per_label",
    type=WholeNumber(min=0, max=30),
    default=3,
    show_default=True,
    help="Number of clips of each label.",
)
@click.option(
    "--seconds", type=click.FloatRange(0.5, 600), default=10, show_default=True, help="How much of a clip can be heard."
)
@click.option(
    "--max-mb",
    type=click.FloatRange(0.1, 1000),
    default=10,
    show_default=True,
    help="Greatest size of the file; fewer clips are shown if it is reached.",
)
@click.option(
    "--against", type=WholeNumber(min=1), help="Number of the snapshot to compare with; default: the one before."
)
@click.option(
    "--near-duplicates", is_flag=True, help="Look for recordings that sound alike; all clips are decoded for that."
)
@click.option(
    "--seed", type=WholeNumber(min=0), default=0, show_default=True, help="Another seed shows other random clips."
)
@click.option("--serve", is_flag=True, help="Show all clips in the browser instead: filter, sort, play, and mark them.")
@click.option(
    "--port",
    type=WholeNumber(min=0, max=65535),
    help="Port for --serve on this machine; default: 8377, or any if that is in use.",
)
@click.option(
    "--list",
    "marks_in",
    metavar="FILE",
    help="File for the ids of clips that are marked in --serve, for exclude_clips.",
)
@json_option
@reported
def report(
    root: str,
    to: str | None,
    number: int | None,
    by: str | None,
    per_label: int,
    seconds: float,
    max_mb: float,
    against: int | None,
    near_duplicates: bool,
    seed: int,
    serve: bool,
    port: int | None,
    marks_in: str | None,
    as_json: bool,
) -> None:
    """Write one HTML file that shows a snapshot: numbers, distributions, clips to listen to, what was rejected, what has changed.

    The file needs nothing else, neither a network nor scripts. With --serve, a page on this machine shows all clips until Ctrl-C.
    """  # fmt: skip
    from clipmill.pipelines.dataset.published import Published
    from clipmill.pipelines.dataset.records_io import read_snapshot
    from clipmill.pipelines.reports.amounts import size_text
    from clipmill.pipelines.reports.report_file import Asked, write_report
    from clipmill.pipelines.run.display import Progress

    if serve and to is not None:
        raise click.UsageError("--to writes a file and --serve shows a page; give one of them")
    if not serve and (port is not None or marks_in is not None):
        raise click.UsageError("--port and --list are for --serve")
    place = dataset_at(root)
    if serve:
        _serve(Published(place, read_snapshot(place, number)), port, marks_in, as_json)
        return
    asked = Asked(by, per_label, seconds, max_mb, seed, against, near_duplicates)
    doing = "decoding clips, comparing recordings" if near_duplicates else "reading clips"
    with Progress(hides_progress(False, as_json)).phase("report", doing):
        done = write_report(Published(place, read_snapshot(place, number)), to, asked)
    if as_json:
        say_json(done.to_dict())
        return
    say(
        f"report on snapshot {done.snapshot}: {done.address}, {size_text(done.size_bytes)}, {done.clips_shown:,} clips to listen to"
    )
    for text in done.remarks:
        say(f"  {text}")
    for text in done.notes:
        say(f"note: {text}")


def _serve(published: Published, port: int | None, marks_in: str | None, as_json: bool) -> None:
    from clipmill.pipelines.reports.serving import serve

    def ready(address: str, viewer: Viewer) -> None:
        clips, marked = viewer.index.clips, viewer.marked
        if as_json:
            say_json({"address": address, "clips": clips.table.num_rows, "list": marked.address if marked else None})
            return
        say(
            f"{clips.table.num_rows:,} clips of snapshot {published.snapshot.number} of {published.snapshot.name} at {address}"
        )
        if clips.is_sample:
            say(f"note: these are a sample of {clips.n_all:,} clips")
        if marked is not None:
            say(
                f"marked clips go to {marked.address}; add `exclude_clips: {marks_in}` to the configuration to leave them out"
            )
        else:
            say("note: without --list FILE clips cannot be marked")
        say("Ctrl-C ends it")

    serve(published, port, marks_in, ready)
