"""Commands that plan and build: build, retry, plan, demo."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from clipmill.pipelines.cli.command_line import (
    accept_option,
    address_option,
    check_reasons,
    config_argument,
    json_option,
    reported,
    workers_option,
)
from clipmill.pipelines.cli.terminal import say
from clipmill.schemas.plural import counted


@click.command()
@config_argument
@workers_option
@address_option
@accept_option
@json_option
@reported
def build(config: str, workers: int | None, address: str | None, accept: bool, as_json: bool) -> None:
    """Bring the dataset of CONFIG up to date and publish a snapshot.

    Only what is missing is done: shards whose recordings, annotations and configuration are unchanged are reused, and shards in
    which only features, pictures or file formats differ are made from the clips that are there. Killed or interrupted, the same
    command goes on from what is committed. Little work is done in this process, more on Ray.
    """
    from clipmill.pipelines.config_file import load
    from clipmill.pipelines.run.build import build as run

    report = run(load(config), workers=workers, address=address, quiet=as_json, accept=accept)
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        _say(report)
    sys.exit(report.exit_code)


@click.command()
@config_argument
@click.option(
    "--reason", "reasons", multiple=True, help="Only recordings rejected for this; can be given several times."
)
@workers_option
@address_option
@accept_option
@json_option
@reported
def retry(
    config: str, reasons: tuple[str, ...], workers: int | None, address: str | None, accept: bool, as_json: bool
) -> None:
    """Try rejected recordings of CONFIG's dataset again.

    A rejection is committed with its shard and stands until the recording changes. After an upgrade of a decoder, a raised
    limit or a granted permission, this decodes those recordings again, with the shards that hold them, and publishes a
    snapshot if anything came of it.
    """
    from clipmill.pipelines.config_file import load
    from clipmill.pipelines.run.retry import retry as run

    check_reasons(reasons)
    result = run(load(config), list(reasons), workers=workers, address=address, quiet=as_json, accept=accept)
    if as_json:
        click.echo(json.dumps(result.to_dict()))
    else:
        n, again = len(result.tried), len(result.rejected_again)
        _say(result.report)
        click.echo(
            f"retried      {n:,} rejected: {n - again:,} are not any more, {again:,} rejected for the same reason again"
        )
        if result.lost:
            codes = ", ".join(f"{code} {n:,}" for code, n in Counter(result.lost.values()).most_common())
            click.echo(
                f"now rejected {len(result.lost):,} that were used before, beside those that were retried: {codes}"
            )
    sys.exit(result.report.exit_code)


def _say(report: Any) -> None:
    from clipmill.pipelines.cli.wording import outcome

    say(*outcome(report))
    for message in dict.fromkeys(report.failures):
        say(f"error: {counted(report.failures.count(message), 'shard')}: {message}", err=True)
    nothing_kept = report.snapshot is not None and report.snapshot.counts.clips_kept == 0
    if nothing_kept:
        say("warning: no clip was kept; see what was dropped and rejected above", err=True)
    for excess in report.limits:
        say(f"{'accepted' if report.accepted else 'not published'}: {excess.message}", err=True)
    if report.limits and not report.accepted and not nothing_kept:
        say("everything is built; the same command with --accept publishes it all the same", err=True)
    elif report.limits and not report.accepted:
        say(
            f"nothing can be trained on this: `clipmill failures {report.root}` says why, with examples and what to do",
            err=True,
        )


@click.command()
@config_argument
@json_option
@reported
def plan(config: str, as_json: bool) -> None:
    """Say what `build CONFIG` would do, without doing it."""
    from clipmill.pipelines.cli.wording import foreseen, planned
    from clipmill.pipelines.config_file import load
    from clipmill.pipelines.dataset.records_io import read_forgotten, read_snapshot, snapshot_numbers, sound_commits
    from clipmill.pipelines.plan.estimates import annotations_rejected, estimate, rejected_by_reason, rejected_examples
    from clipmill.pipelines.plan.planning import make_plan
    from clipmill.pipelines.run.build import device_notes, guarded
    from clipmill.pipelines.run.foresight import foresee
    from clipmill.pipelines.run.graph import output_root
    from clipmill.pipelines.run.output_check import check_output

    file = load(config)
    root = output_root(file.config)
    with guarded(file):
        check_output(file, root)
        notes = device_notes(file.config)
        made = make_plan(file.config, forgotten=read_forgotten(root))
        there = sound_commits(root, made.keys)
        ahead = foresee(file.config, root, made)
        numbers = snapshot_numbers(root)
        last = read_snapshot(root, numbers[-1]) if numbers else None
    missing_s = sum(s for key, s in zip(made.keys, made.shard_s, strict=True) if key not in there)
    about = estimate(file.config, file.public, made, missing_s, last)
    missing = sum(key not in there for key in made.keys)
    if as_json:
        shards = [
            {
                "key": key,
                "split": shard["split"][0].as_py(),
                "bucket": shard["bucket"][0].as_py(),
                "recordings": shard["recording_id"].to_pylist(),
                "committed": key in there,
            }
            for key, shard in ((key, made.shard(i)) for i, key in enumerate(made.keys))
        ]
        click.echo(
            json.dumps(
                {
                    "recordings_listed": made.recordings_listed,
                    "recordings_rejected": made.recordings_rejected,
                    "recordings_without_annotations": made.recordings_without_annotations,
                    "recordings_forgotten": made.recordings_forgotten,
                    "annotations_read": made.annotations_read,
                    "annotations_rejected": annotations_rejected(made),
                    "recordings_dropped": dict(made.recordings_dropped),
                    "annotations_dropped": dict(made.annotations_dropped),
                    "annotations_ignored": made.annotations_ignored,
                    "rejected": dict(sorted(rejected_by_reason(made).items())),
                    "rejected_examples": dict(sorted(rejected_examples(made).items())),
                    "estimate": about.to_dict(),
                    "noted": dict(sorted(made.noted.items())),
                    "shards_planned": len(made.keys),
                    "shards_missing": missing,
                    "estimated_s": made.estimated_s,
                    "rejections": made.rejections,
                    "passed_over": made.passed_over,
                    **ahead.to_dict(),
                    "notes": notes,
                    "shards": shards,
                }
            )
        )
        return
    say(*planned(made, missing, about), *foreseen(ahead), *(f"note         {note}" for note in notes))


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Where to put it.",
)
@workers_option
@json_option
@reported
def demo(out: Path, workers: int | None, as_json: bool) -> None:
    """Make a small corpus, build a dataset of it and draw a few of its spectrograms."""
    from clipmill.pipelines.cli.demo import run

    result = run(out, workers=workers, quiet=as_json)
    if as_json:
        click.echo(
            json.dumps({**result.report.to_dict(), "config": str(result.config), "picture": str(result.picture)})
        )
        sys.exit(result.report.exit_code)
    say(*result.text.split("\n"))
    sys.exit(result.report.exit_code)
