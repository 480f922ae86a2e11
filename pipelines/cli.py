"""The command line. Exit codes: 0 done, 1 the work failed, 2 wrong usage or configuration, 3 built but not published."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

from schemas.errors import ClipmillError, ConfigError
from schemas.storage import Root, describe_os_error

P = ParamSpec("P")
T = TypeVar("T")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
_number = click.option("--snapshot", "number", type=click.IntRange(min=1), help="Which snapshot; default: the newest.")
_workers = click.option("--workers", type=click.IntRange(min=1), help="CPUs to use on this machine; default: all.")
_address = click.option(
    "--address", help="A running Ray cluster, as ray://host:10001 or auto; default: RAY_ADDRESS, else this machine."
)
_config = click.argument("config", type=click.Path(dir_okay=False))
_root = click.argument("root")


def _fail(message: str, code: int, as_json: bool = False, **more: Any) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"error": message, **more}))
    else:
        click.echo(f"error: {message}", err=True)
    sys.exit(code)


def _reported(command: Callable[P, T]) -> Callable[P, T]:
    """Turn the errors that users are meant to read into one line and an exit code."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        as_json = bool(kwargs.get("as_json"))
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            _fail(str(error), 2, as_json, key=error.key, file=error.file, line=error.line)
        except ClipmillError as error:
            _fail(str(error), 1, as_json)
        except KeyboardInterrupt:
            _fail("interrupted; what is committed is kept, the same command goes on from there", 1, as_json)
        except BrokenPipeError:
            # Whoever read the output has seen enough; Python would complain once more when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:
            _fail(
                str(describe_os_error(error, Root(str(kwargs.get("root") or error.filename or "storage")), "use")),
                1,
                as_json,
            )

    return wrapper


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="clipmill")
def main() -> None:
    """Raw audio corpora in, training shards out.

    A build reads recordings and annotations as a YAML configuration says, cuts them into clips, computes features, and
    writes Parquet and WebDataset shards under a root. Run it again and it does only what is missing.
    """


@main.command()
@_config
@_workers
@_address
@_json
@_reported
def build(config: str, workers: int | None, address: str | None, as_json: bool) -> None:
    """Bring the dataset of CONFIG up to date and publish a snapshot."""
    from pipelines.build import build as run
    from schemas.config_file import load

    _finish(run(load(config), workers=workers, address=address, quiet=as_json), as_json)


def _finish(report: Any, as_json: bool) -> None:
    from pipelines.wording import outcome

    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        click.echo("\n".join(outcome(report)))
        for message in dict.fromkeys(report.failures):
            click.echo(f"error: {report.failures.count(message)} shards: {message}", err=True)
        if report.snapshot is not None and report.snapshot.counts.clips_kept == 0:
            click.echo("warning: no clip was kept; see what was dropped and rejected above", err=True)
        if report.limit is not None:
            click.echo(f"not published: {report.limit}", err=True)
    sys.exit(report.exit_code)


@main.command()
@_config
@_json
@_reported
def plan(config: str, as_json: bool) -> None:
    """Say what `build CONFIG` would do, without doing it."""
    from pipelines.graph import output_root
    from pipelines.plan import make_plan
    from pipelines.wording import planned
    from schemas.config_file import load
    from schemas.layout import sound_commits

    file = load(config)
    made = make_plan(file.config)
    there = sound_commits(output_root(file.config), made.keys)
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
                    "annotations_read": made.annotations_read,
                    "shards_planned": len(made.keys),
                    "shards_missing": missing,
                    "estimated_s": made.estimated_s,
                    "rejections": made.rejections,
                    "shards": shards,
                }
            )
        )
        return
    click.echo("\n".join(planned(made, missing)))


@main.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Where to put it.",
)
@_workers
@_json
@_reported
def demo(out: Path, workers: int | None, as_json: bool) -> None:
    """Make a small corpus, build a dataset of it and draw a few of its spectrograms."""
    from pipelines.demo import run

    result = run(out, workers=workers, quiet=as_json)
    if as_json:
        click.echo(
            json.dumps({**result.report.to_dict(), "config": str(result.config), "picture": str(result.picture)})
        )
        sys.exit(result.report.exit_code)
    click.echo(result.text)
    sys.exit(result.report.exit_code)


@main.command()
@_root
@_json
@_reported
def status(root: str, as_json: bool) -> None:
    """Say what is published under ROOT and how far a running or interrupted build is."""
    from pipelines.inspection import status as look

    found = look(_dataset(root))
    if as_json:
        click.echo(json.dumps(found))
        return
    published = found.get("published")
    if published:
        click.echo(
            f"published    snapshot {published['snapshot']} of {published['created']}: {published['clips']:,} clips"
            f" in {published['shards']:,} shards"
        )
    else:
        click.echo("published    nothing yet")
    run = found["build"]
    if run is None:
        click.echo("build        none was started here")
    elif run["finished"]:
        click.echo(f"build        finished {run['started']} on {run['host']}")
    else:
        state = {True: "running", False: "interrupted", None: "running or interrupted"}[run["running"]]
        click.echo(
            f"build        started {run['started']} on {run['host']} (process {run['pid']}), {state}:"
            f" {run['shards_committed']:,} of {run['shards_planned']:,} shards are committed;"
            + ("" if run["running"] else "; `clipmill build` with the same configuration goes on from there")
        )


@main.command()
@_root
@_number
@_json
@_reported
def failures(root: str, number: int | None, as_json: bool) -> None:
    """List what was rejected under ROOT, by reason, with examples and what to do."""
    from pipelines.inspection import failures as look

    found = look(_dataset(root), number)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"snapshot {found['snapshot']}: {found['rejected']:,} rejected")
    for group in found["reasons"]:
        click.echo(
            f"\n{group['count']:,} x {group['reason']} ({group['kind']}): {group['meaning']}\n  what to do: {group['remedy']}"
        )
        for row in group["examples"]:
            place = f"{row['file']}:{row['line']}" if row["file"] else ""
            click.echo("  " + "  ".join(p for p in (row["source_uri"], place, row["detail"]) if p))
        if group["count"] > len(group["examples"]):
            click.echo(f"  ... and {group['count'] - len(group['examples']):,} more in rejections.parquet")
    if found["dropped"]:
        from pipelines.wording import rules

        click.echo("\ndropped by rule, as configured:\n" + "\n".join(rules(found["dropped"])))


@main.command()
@_root
@_number
@_json
@_reported
def verify(root: str, number: int | None, as_json: bool) -> None:
    """Hash every shard of ROOT anew, count every row and do the sums again."""
    from pipelines.verify import verify as check
    from pipelines.wording import size

    verdict = None
    with click.progressbar(
        check(_dataset(root), number), file=sys.stderr, hidden=as_json or not sys.stderr.isatty()
    ) as steps:
        for verdict in steps:  # noqa: B007
            pass
    assert verdict is not None  # noqa: S101
    if as_json:
        click.echo(json.dumps(verdict.to_dict()))
    else:
        click.echo(
            f"snapshot {verdict.snapshot}: {verdict.shards:,} shards, {verdict.files:,} files, {size(verdict.size_bytes)},"
            f" {verdict.clips:,} clips: {'all as committed' if not verdict.problems else f'{len(verdict.problems)} problems'}"
        )
        for problem in verdict.problems:
            click.echo(f"error: {problem}", err=True)
        if verdict.problems:
            click.echo(
                "what to do: remove the commit record (commits/<key>.json) of each damaged shard and build again; the same bytes come back",
                err=True,
            )
    sys.exit(1 if verdict.problems else 0)


@main.command()
@_root
@_number
@click.option("--clips", type=click.IntRange(min=0), default=5, show_default=True, help="How many clips to list.")
@_json
@_reported
def show(root: str, number: int | None, clips: int, as_json: bool) -> None:
    """Show what the dataset under ROOT holds: splits, labels, columns and a few clips."""
    from pipelines.inspection import clip_rows
    from pipelines.inspection import show as look
    from pipelines.wording import duration, size, splits

    found = look(_dataset(root), number)
    rows = clip_rows(_dataset(root), number, clips)
    if as_json:
        click.echo(json.dumps({**found, "examples": _finite(rows)}))
        return
    click.echo(f"{found['name']}, snapshot {found['snapshot']} of {found['created']}, in {found['root']}")
    click.echo(
        f"{found['clips']:,} clips, {duration(found['seconds'])}, {size(found['bytes'])}, from {found['recordings_listed']:,} recordings"
    )
    click.echo("\n".join(splits(found["splits"])))
    if found["labels"]:
        click.echo("labels:")
        for label, sums in found["labels"].items():
            click.echo(f"  {label or '(none)':<24} {sums['clips']:>8,} clips  {duration(sums['seconds']):>12}")
    if found["columns"]:
        click.echo("columns:\n  " + "\n  ".join(found["columns"]))
    for row in rows:
        level = "-inf" if row["level_dbfs"] is None else f"{row['level_dbfs']:.1f}"
        click.echo(
            f"  {row['clip_id']}  {row['split']}  {row['label'] or ''}  {row['start_s']:.3f} s + {row['duration_s']:.3f} s  {level} dBFS"
        )
    click.echo(f"manifest: {found['manifest']}")


def _finite(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """JSON has no infinity: the level of digital silence becomes null."""
    return [{k: None if v == float("-inf") else v for k, v in row.items()} for row in rows]


def _dataset(root: str) -> Root:
    place = Root(root)
    if not place.exists("dataset.json"):
        raise ClipmillError(f"{root} is no dataset: there is no dataset.json; give the output.root of a build")
    return place


if __name__ == "__main__":
    main()
