"""The command line. Exit codes: 0 done, 1 the work failed, 2 wrong usage or configuration, 3 built but not published."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import click

from pipelines.command_line import (
    accept_option,
    address_option,
    config_argument,
    dataset_at,
    json_option,
    number_option,
    reported,
    root_argument,
    workers_option,
)
from pipelines.exports import FORMATS
from pipelines.plural import counted
from schemas.errors import ConfigError
from schemas.storage import Root


def _check_reasons(codes: Iterable[str], others: Iterable[str] = ()) -> None:
    from schemas.reasons import REASONS
    from schemas.remarks import REMARKS

    for code in codes:
        if code in REMARKS and code not in REASONS and code not in others:
            raise ConfigError(
                f"--reason {code}: {code} is a remark on recordings that were used; there is nothing to retry"
            )
        if code not in REASONS and code not in others:
            raise ConfigError(f"--reason {code}: there is no such reason; `clipmill failures` lists those that occur")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="clipmill")
def main() -> None:
    """Raw audio corpora in, training shards out.

    A build reads recordings and annotations as a YAML configuration says, cuts them into clips, computes features, and
    writes Parquet and WebDataset shards under a root. Run it again and it does only what is missing.
    """


@main.command()
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
    from pipelines.build import build as run
    from schemas.config_file import load

    report = run(load(config), workers=workers, address=address, quiet=as_json, accept=accept)
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        _say(report)
    sys.exit(report.exit_code)


@main.command()
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
    from pipelines.retry import retry as run
    from schemas.config_file import load

    _check_reasons(reasons)
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
    from pipelines.wording import outcome

    click.echo("\n".join(outcome(report)))
    for message in dict.fromkeys(report.failures):
        click.echo(f"error: {counted(report.failures.count(message), 'shard')}: {message}", err=True)
    if report.snapshot is not None and report.snapshot.counts.clips_kept == 0:
        click.echo("warning: no clip was kept; see what was dropped and rejected above", err=True)
    for excess in report.limits:
        click.echo(f"{'accepted' if report.accepted else 'not published'}: {excess.message}", err=True)
    if report.limits and not report.accepted:
        click.echo("everything is built; the same command with --accept publishes it all the same", err=True)


@main.command()
@config_argument
@json_option
@reported
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
                    "passed_over": made.passed_over,
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
@workers_option
@json_option
@reported
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
@root_argument
@json_option
@reported
def status(root: str, as_json: bool) -> None:
    """Say what is published under ROOT and how far running or interrupted builds are."""
    from pipelines.inspection import status as look
    from pipelines.wording import standing

    found = look(dataset_at(root))
    click.echo(json.dumps(found) if as_json else "\n".join(standing(found)))


@main.command()
@root_argument
@number_option
@click.option("--reason", help="Only this one.")
@click.option("--examples", type=click.IntRange(min=0), default=3, show_default=True, help="How many of each reason.")
@json_option
@reported
def failures(root: str, number: int | None, reason: str | None, examples: int, as_json: bool) -> None:
    """List what was rejected under ROOT, by reason, with examples and what to do, and what is worth knowing of recordings that were used.

    Without --snapshot, of the last build, also if it was not published.
    """
    from pipelines.inspection import failures as look
    from pipelines.wording import rejected
    from schemas.remarks import REMARKS

    _check_reasons([reason] if reason else [], REMARKS)
    found = look(dataset_at(root), number, reason, examples)
    click.echo(json.dumps(found) if as_json else "\n".join(rejected(found)))


@main.command()
@root_argument
@click.argument("a", type=click.IntRange(min=1))
@click.argument("b", type=click.IntRange(min=1))
@click.option(
    "--names", type=click.IntRange(min=0), default=5, show_default=True, help="How many of each list to print."
)
@json_option
@reported
def diff(root: str, a: int, b: int, names: int, as_json: bool) -> None:
    """Say what changed from snapshot A to snapshot B of ROOT: recordings, clips, seconds by label and split, configuration."""
    from pipelines.diff import diff as compare
    from pipelines.wording import differences

    found = compare(dataset_at(root), a, b)
    click.echo(json.dumps(found.to_dict()) if as_json else "\n".join(differences(found, names)))


@main.command()
@root_argument
@click.option("--keep", type=click.IntRange(min=1), help="How many of the newest snapshots to keep; default: all.")
@click.option("--delete", is_flag=True, help="Remove what was found; without it nothing is removed.")
@json_option
@reported
def gc(root: str, keep: int | None, delete: bool, as_json: bool) -> None:
    """List what no kept snapshot of ROOT needs, and remove it with --delete.

    That is shards that no kept snapshot names, snapshots beyond --keep, and what crashes left. Shards of the last build stay if it was
    interrupted or not published, for it to go on from. While a build runs nothing is removed.
    """
    from pipelines.gc import collect, find_garbage
    from pipelines.wording import garbage

    place = dataset_at(root)
    found = collect(place, keep) if delete else find_garbage(place, keep)
    if as_json:
        click.echo(json.dumps({**found.to_dict(), "removed": delete}))
    else:
        click.echo("\n".join(garbage(found, delete)))


@main.command()
@root_argument
@number_option
@json_option
@reported
def verify(root: str, number: int | None, as_json: bool) -> None:
    """Hash every shard of ROOT anew, count every row and do the sums again."""
    from pipelines.verify import verify as check
    from pipelines.wording import size

    verdict = None
    with click.progressbar(
        check(dataset_at(root), number), file=sys.stderr, hidden=as_json or not sys.stderr.isatty()
    ) as steps:
        for verdict in steps:  # noqa: B007
            pass
    assert verdict is not None  # noqa: S101
    if as_json:
        click.echo(json.dumps(verdict.to_dict()))
    else:
        click.echo(
            f"snapshot {verdict.snapshot}: {counted(verdict.shards, 'shard')}, {counted(verdict.files, 'file')}, {size(verdict.size_bytes)},"
            f" {counted(verdict.clips, 'clip')}: {'all as committed' if not verdict.problems else counted(len(verdict.problems), 'problem')}"
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
@root_argument
@number_option
@click.option("--clips", type=click.IntRange(min=0), default=5, show_default=True, help="How many clips to list.")
@json_option
@reported
def show(root: str, number: int | None, clips: int, as_json: bool) -> None:
    """Show what the dataset under ROOT holds: splits, labels, columns and a few clips."""
    from pipelines.inspection import clip_rows, finite
    from pipelines.inspection import show as look
    from pipelines.wording import duration, labels, remarked, saturation, size, splits, statistics

    found = look(dataset_at(root), number)
    rows = clip_rows(dataset_at(root), number, clips)
    if as_json:
        plain = [{k: finite(v) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
        click.echo(json.dumps({**found, "examples": plain}))
        return
    click.echo(f"{found['name']}, snapshot {found['snapshot']} of {found['created']}, in {found['root']}")
    click.echo(
        f"{counted(found['clips'], 'clip')}, {duration(found['seconds'])}, {size(found['bytes'])},"
        f" from {counted(found['recordings_listed'], 'recording')}"
    )
    told = [*saturation(found["saturation"]), *remarked(found["counts"]["remarked"])]
    click.echo("\n".join([*splits(found["splits"]), *told]))
    click.echo("\n".join(statistics(found["statistics"], found["splits"])))
    if found["labels"]:
        click.echo("\n".join(["labels:", *labels(found["labels"], found["labels_by_split"])]))
    if found["columns"]:
        click.echo("columns:\n  " + "\n  ".join(found["columns"]))
    for row in rows:
        level = "-inf" if row["level_dbfs"] is None else f"{row['level_dbfs']:.1f}"
        click.echo(
            f"  {row['clip_id']}  {row['split']}  {row['label'] or ''}  {row['start_s']:.3f} s + {row['duration_s']:.3f} s  {level} dBFS"
        )
    click.echo(f"manifest: {found['manifest']}")


@main.command()
@root_argument
@click.argument("format", type=click.Choice(list(FORMATS)))
@number_option
@click.option("--to", "target", help="Folder or URL for the files; by default <ROOT>/exports/<format>-<snapshot>.")
@click.option(
    "--text",
    help="Field with the transcripts; by default text, transcript or normalized_text if there is one, else the label.",
)
@click.option("--replace", is_flag=True, help="Remove what an earlier export has left in the folder.")
@json_option
@reported
def export(
    root: str, format: str, number: int | None, target: str | None, text: str | None, replace: bool, as_json: bool
) -> None:
    """Write what other libraries need to read a snapshot of the dataset under ROOT.

    \b
    huggingface  README.md in ROOT, by which load_dataset(ROOT) gives splits, audio and labels
    croissant    croissant.json in ROOT: metadata of MLCommons Croissant 1.1
    webdataset   the tar shards' addresses, a list a split
    nemo         JSONL manifests: of the tar shards, or of WAV files where there are none
    lhotse       a Lhotse Shar directory a split, with features
    kaldi        a Kaldi data directory a split, with WAV files
    csv          a table a split: every clip, its fields, and the shard that holds it

    Only lhotse and kaldi, and nemo without tar shards, repeat the audio. The folder must be empty, new, or of the same export.
    """
    from pipelines.exports import IN_PLACE, Export, exporter
    from pipelines.exports.target import claimed, target_root
    from pipelines.published import Published
    from schemas.layout import read_snapshot, snapshot_name

    place = dataset_at(root)
    published = Published(place, read_snapshot(place, number))
    if format in IN_PLACE:
        if target is not None:
            raise ConfigError(f"{format} goes into the dataset's root, where its readers look for it; leave --to out")
        there = place
    elif target is not None:
        there = target_root(target, place)
    else:
        folder = f"exports/{format}-{snapshot_name(published.snapshot.number)}"
        there = Root(place.full(folder) if place.is_local else place.uri(folder), place.storage_options)
    asked = Export(published, there, text)
    with nullcontext() if format in IN_PLACE else claimed(asked, format, replace):
        written = exporter(format)(asked)
    empty = sorted(set(published.splits) - set(asked.splits))
    if as_json:
        told = {"snapshot": published.snapshot.number, "format": format, "to": there.url, "written": written}
        click.echo(json.dumps({**told, "without_clips": empty}))
        return
    click.echo(f"snapshot {published.snapshot.number} of {published.snapshot.name} as {format}:")
    for path in written:
        click.echo(f"  {path}")
    for split in empty:
        click.echo(f"  nothing for split {split}, which has no clips")


def run() -> None:
    """Run the command line and leave at once: libraries' threads that are still there when Python takes itself apart can abort
    the process, and turn a success into exit code 134 (seen with pyarrow 26's)."""
    code: object = 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    run()
