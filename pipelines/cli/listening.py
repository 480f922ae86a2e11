"""The command with which one hears what a configuration gives: sample."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from clipmill.pipelines.cli.command_line import (
    WholeNumber,
    dataset_at,
    hides_progress,
    json_option,
    names_config,
    number_option,
    reported,
)
from clipmill.pipelines.cli.terminal import say, say_json
from clipmill.schemas.plural import counted

if TYPE_CHECKING:
    from clipmill.pipelines.reports.sample_page import Sampled


@click.command()
@click.argument("root", metavar="CONFIG|ROOT")
@click.option(
    "--clips",
    "n_clips",
    type=WholeNumber(min=1, max=200),
    default=12,
    show_default=True,
    help="Number of clips, of different labels, splits and recordings.",
)
@click.option("--to", metavar="DIR", help="Folder or address for the files; default: <name>-sample.")
@click.option("--seed", type=WholeNumber(min=0), default=0, show_default=True, help="Another seed gives other clips.")
@click.option("--force", is_flag=True, help="Write into DIR even if it holds other files, which stay.")
@number_option
@json_option
@reported
def sample(root: str, n_clips: int, to: str | None, seed: int, force: bool, number: int | None, as_json: bool) -> None:
    """Write a few clips as WAV files and pictures, with a page to hear and see them: DIR/index.html.

    With a configuration, a few recordings are built into a temporary folder, so nothing needs to be built before, and what one hears
    is what a build would store. With the address of a dataset, the clips are those of its snapshot.
    """
    if names_config(root):
        if number is not None:
            raise click.UsageError("--snapshot is for the address of a dataset; CONFIG makes new clips")
        done = _of_config(root, n_clips, to, seed, force, hides_progress(False, as_json))
    else:
        done = _of_dataset(root, n_clips, to, seed, force, number)
    if as_json:
        say_json(done.to_dict())
    else:
        _say(done)
    sys.exit(0 if done.clips else 1)


def _of_config(config: str, n_clips: int, to: str | None, seed: int, force: bool, quiet: bool) -> Sampled:
    from clipmill.pipelines.config_file import load
    from clipmill.pipelines.dataset.published import Published
    from clipmill.pipelines.exports.target import target_root
    from clipmill.pipelines.reports.sample_folder import check_folder
    from clipmill.pipelines.reports.sample_page import write_sample
    from clipmill.pipelines.run.graph import output_root
    from clipmill.pipelines.run.output_check import check_apart
    from clipmill.pipelines.run.trial import tried_out

    file = load(config)
    target = target_root(to or f"{file.config.name}-sample", output_root(file.config))
    check_apart(file, target, "--to")
    check_folder(target, force)
    with tried_out(file, n_clips, seed, quiet=quiet) as (report, place):
        assert report.snapshot is not None  # noqa: S101 - it is published whatever it holds
        published = Published(place, report.snapshot)
        return write_sample(published, target, n_clips, seed=seed, force=force, is_trial=True)


def _of_dataset(root: str, n_clips: int, to: str | None, seed: int, force: bool, number: int | None) -> Sampled:
    from clipmill.pipelines.dataset.published import Published
    from clipmill.pipelines.dataset.records_io import read_snapshot
    from clipmill.pipelines.exports.target import target_root
    from clipmill.pipelines.reports.sample_page import write_sample

    place = dataset_at(root)
    published = Published(place, read_snapshot(place, number))
    target = target_root(to or f"{published.snapshot.name}-sample", place)
    return write_sample(published, target, n_clips, seed=seed, force=force)


def _say(done: Sampled) -> None:
    from clipmill.pipelines.cli.wording import describe_rejections, describe_rules

    n = done.counts
    read = f"{n['recordings_used']:,} used of {counted(n['recordings_listed'], 'recording')}"
    left_out = f", {n['recordings_left_out']:,} not read" if n["recordings_left_out"] else ""
    kept = f"{n['clips_kept']:,} kept of {counted(n['clips_candidates'], 'clip')}"
    say(f"{counted(len(done.clips), 'clip')} in {done.to}: open {done.to}/index.html", f"{read}{left_out}; {kept}")
    say(*describe_rules(dict(done.dropped), done.words), *describe_rejections(dict(done.rejected), done.words))
    for note in done.notes:
        say(f"note: {note}")
    if not done.clips:
        say("error: no clip was kept; the page says what became of the recordings", err=True)
