"""The command that shows a snapshot to people: report."""

from __future__ import annotations

import click

from clipmill.pipelines.cli.command_line import (
    WholeNumber,
    dataset_at,
    json_option,
    number_option,
    reported,
    root_argument,
)
from clipmill.pipelines.cli.terminal import say, say_json


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
    as_json: bool,
) -> None:
    """Write one HTML file that shows a snapshot: numbers, distributions, clips to listen to, what was rejected, what has changed.

    The file needs nothing else, neither a network nor scripts.
    """  # fmt: skip
    from clipmill.pipelines.dataset.published import Published
    from clipmill.pipelines.dataset.records_io import read_snapshot
    from clipmill.pipelines.reports.amounts import size_text
    from clipmill.pipelines.reports.report_file import Asked, write_report

    place = dataset_at(root)
    asked = Asked(by, per_label, seconds, max_mb, seed, against, near_duplicates)
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
