"""The commands that plan and build: build, retry, plan, demo."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from clipmill.pipelines.cli.command_line import (
    WholeNumber,
    accept_option,
    address_option,
    check_reasons,
    config_argument,
    hides_progress,
    json_option,
    quiet_option,
    reported,
    workers_option,
)
from clipmill.pipelines.cli.terminal import say, say_json, say_sections
from clipmill.pipelines.cli.watching import metrics_option, on_finish_option, watching

limit_option = click.option(
    "--limit",
    type=WholeNumber(min=1),
    metavar="N",
    help="Only N recordings, into a dataset of its own, <output.root>-limit-N. The same ones each time.",
)


@click.command()
@config_argument
@workers_option
@address_option
@accept_option
@click.option(
    "--verify",
    "verify_parts",
    type=WholeNumber(min=1, max=10_000),
    metavar="N",
    help="Check one Nth of the published shards first, another in each build, and repair what is damaged.",
)
@limit_option
@metrics_option
@on_finish_option
@quiet_option
@json_option
@reported
def build(
    config: str,
    workers: int | None,
    address: str | None,
    accept: bool,
    verify_parts: int | None,
    limit: int | None,
    metrics: Path | None,
    on_finish: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Bring the dataset of CONFIG up to date and publish a snapshot.

    Only what is missing is built: shards whose recordings, annotations and configuration are unchanged are reused, and shards that
    differ only in features, pictures or file formats are made from committed clips. After an interruption or a crash, the same command
    continues from what is committed. Small builds run in this process, larger ones on Ray.
    """
    from clipmill.pipelines.run.build import build as run

    with watching("build", config, metrics, on_finish) as watch:
        report = run(
            config,
            workers=workers,
            address=address,
            quiet=hides_progress(quiet, as_json),
            accept=accept,
            verify_parts=verify_parts,
            numbers=watch.numbers,
            limit=limit,
        )
        watch.ended(report, report.to_dict())
        if as_json:
            say_json(watch.report)
        else:
            _say(report, quiet)
    sys.exit(watch.exit_code)


@click.command()
@config_argument
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    help="Try only recordings rejected for this reason; can be given several times.",
)
@workers_option
@address_option
@accept_option
@metrics_option
@on_finish_option
@quiet_option
@json_option
@reported
def retry(
    config: str,
    reasons: tuple[str, ...],
    workers: int | None,
    address: str | None,
    accept: bool,
    metrics: Path | None,
    on_finish: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Try the rejected recordings of CONFIG's dataset again.

    A rejection is committed with its shard and stays until the recording changes. After a decoder was upgraded, a limit raised or
    a permission granted, this command decodes the rejected recordings again, rebuilds their shards, and publishes a snapshot if
    anything changed.
    """
    from clipmill.pipelines.config_file import load
    from clipmill.pipelines.run.retry import retry as run

    check_reasons(reasons)
    with watching("retry", config, metrics, on_finish) as watch:
        result = run(
            load(config),
            list(reasons),
            workers=workers,
            address=address,
            quiet=hides_progress(quiet, as_json),
            accept=accept,
            numbers=watch.numbers,
        )
        watch.ended(result.report, result.to_dict())
        if as_json:
            say_json(watch.report)
        else:
            _say_retried(result, quiet)
    sys.exit(watch.exit_code)


def _say_retried(result: Any, quiet: bool) -> None:
    n, again = len(result.tried), len(result.rejected_again)
    _say(result.report, quiet)
    if quiet:
        return
    say(f"retried      {n:,} rejected: {n - again:,} no longer rejected, {again:,} rejected again for the same reason")
    if result.lost:
        codes = ", ".join(f"{code} {n:,}" for code, n in Counter(result.lost.values()).most_common())
        say(f"now rejected {len(result.lost):,} more that were used before: {codes}")


def _say(report: Any, quiet: bool) -> None:
    from clipmill.pipelines.cli.build_summary import errors, summary

    say_sections(errors(report) if quiet else summary(report))


@click.command()
@config_argument
@click.option("--no-sample", is_flag=True, help="Do not read the headers of some recordings to estimate lengths.")
@limit_option
@json_option
@reported
def plan(config: str, no_sample: bool, limit: int | None, as_json: bool) -> None:
    """Show what `build CONFIG` would do, without doing it."""
    from clipmill.pipelines.cli.limit_wording import describe_limited
    from clipmill.pipelines.cli.wording import describe_forecast, describe_plan
    from clipmill.pipelines.run.preview import plan as preview

    result = preview(config, sample=not no_sample, limit=limit)
    if as_json:
        say_json(result.to_dict())
        return
    notes = (f"note         {note}" for note in result.notes)
    say(*describe_limited(result.plan.limited, result.root))
    say(*describe_plan(result.plan, result.shards_missing, result.estimate), *describe_forecast(result.split), *notes)


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for the corpus and the dataset.",
)
@click.option("--root", metavar="ADDRESS", help="Where to build the dataset instead, such as s3://bucket/demo.")
@workers_option
@quiet_option
@json_option
@reported
def demo(out: Path, root: str | None, workers: int | None, quiet: bool, as_json: bool) -> None:
    """Build a dataset from a small synthetic corpus.

    It is built in a folder with its configuration, and spectrograms of a few clips are drawn.
    """
    from clipmill.pipelines.cli.demo import run

    result = run(out, root, workers=workers, quiet=hides_progress(quiet, as_json))
    if as_json:
        say_json({**result.report.to_dict(), "config": str(result.config), "picture": str(result.picture)})
        sys.exit(result.report.exit_code)
    _say(result.report, quiet)
    if not quiet:
        say(*result.text)
    sys.exit(result.report.exit_code)
