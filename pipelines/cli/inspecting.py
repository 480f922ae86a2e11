"""The commands that inspect a dataset: status, failures, diff, verify, show."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from clipmill.pipelines.cli.command_line import (
    WholeNumber,
    YamlText,
    check_reasons,
    dataset_at,
    hides_progress,
    json_option,
    number_option,
    quiet_option,
    reported,
    root_argument,
)
from clipmill.pipelines.cli.damage_wording import describe_versions
from clipmill.pipelines.cli.screen_layout import Section
from clipmill.pipelines.cli.terminal import say, say_json, say_sections
from clipmill.schemas.legible_amounts import format_duration, format_size
from clipmill.schemas.plural import counted

if TYPE_CHECKING:
    from clipmill.pipelines.dataset.verify import Verdict
    from clipmill.stages.storage.root import Root


@click.command()
@root_argument
@json_option
@reported
def status(root: str, as_json: bool) -> None:
    """Show what is published and the progress of builds.

    Lists builds that are running or were interrupted, and the last one. Exit code 1 if shards of the newest snapshot are missing.
    """
    from clipmill.pipelines.cli.wording import describe_status
    from clipmill.pipelines.dataset.inspection import status as look

    result = look(dataset_at(root))
    say_json(result) if as_json else say(*describe_status(result))
    if result["published"] and (damage := result["published"]["damage"]):
        if not as_json:
            say(f"error: {damage}", err=True)
        sys.exit(1)


@click.command()
@root_argument
@number_option
@click.option("--reason", help="Show only rejections for this reason.")
@click.option(
    "--examples", type=WholeNumber(min=0), default=3, show_default=True, help="Number of examples for each reason."
)
@click.option("--output", metavar="FILE", help="Write all rejections of a snapshot to FILE: *.parquet or *.csv.")
@json_option
@reported
def failures(
    root: str, number: int | None, reason: str | None, examples: int, output: str | None, as_json: bool
) -> None:
    """List rejections by reason, with examples and remedies.

    Also lists remarks on recordings that were used. Shows the last build by default, even if it was not published.
    """
    if output is not None and reason is not None:
        raise click.UsageError("--output writes all rejections; leave --reason out")
    if output is not None:
        _write_table("rejections", root, number, output, as_json)
        return
    from clipmill.pipelines.cli.wording import describe_failures
    from clipmill.pipelines.dataset.inspection import failures as look
    from clipmill.schemas.remarks import REMARKS

    check_reasons([reason] if reason else [], REMARKS)
    result = look(dataset_at(root), number, reason, examples)
    say_json(result) if as_json else say(*describe_failures(result))


@click.command()
@root_argument
@click.argument("a", type=WholeNumber(min=1))
@click.argument("b", type=WholeNumber(min=1))
@click.option(
    "--names", type=WholeNumber(min=0), default=5, show_default=True, help="Number of names to print in each list."
)
@json_option
@reported
def diff(root: str, a: int, b: int, names: int, as_json: bool) -> None:
    """Show what changed from snapshot A to snapshot B.

    Compares recordings, clips, seconds by label and split, and the configuration.
    """
    from clipmill.pipelines.cli.wording import describe_diff
    from clipmill.pipelines.dataset.diff import diff as compare

    result = compare(dataset_at(root), a, b)
    say_json(result.to_dict()) if as_json else say(*describe_diff(result, names))


@click.command()
@root_argument
@number_option
@click.option("--sample", help="Check a random sample of the shards: their number, or a share of them as in 5%.")
@quiet_option
@json_option
@reported
def verify(root: str, number: int | None, sample: str | None, quiet: bool, as_json: bool) -> None:
    """Check the files, rows and sums of a snapshot.

    The files of all shards are hashed, their rows counted, and the accounting is repeated. What is damaged is marked, and the next
    build repairs it.
    """
    from clipmill.pipelines.dataset.records_io import read_snapshot
    from clipmill.pipelines.dataset.verify import sample_of
    from clipmill.pipelines.dataset.verify import verify as check
    from clipmill.pipelines.run.display import Progress

    verdict = None
    place = dataset_at(root)
    chosen = None
    if sample is not None:
        try:
            chosen = sample_of(read_snapshot(place, number).commits, sample)
        except ValueError:
            raise click.UsageError(f"--sample {sample}: give a number of shards, or a share of them as in 5%") from None
    steps = check(place, number, chosen)
    with Progress(hides_progress(quiet, as_json)).phase(
        "verify",
        lambda: f"{_shards_checked(verdict)}, {format_size(verdict.size_bytes)}" if verdict else "reading records",
    ):
        for verdict in steps:  # noqa: B007
            pass
    assert verdict is not None  # noqa: S101
    if as_json:
        say_json(verdict.to_dict())
    else:
        say_sections(_verdict_sections(verdict, root, place, quiet))
    sys.exit(1 if verdict.problems else 0)


def _verdict_sections(verdict: Verdict, root: str, place: Root, quiet: bool) -> list[Section]:
    """Return what `verify` prints."""
    from clipmill.pipelines.dataset.records_io import snapshot_numbers
    from clipmill.stages.storage.failures import REBUILD_HINT

    verified = "all as committed" if not verdict.problems else counted(len(verdict.problems), "problem")
    about = (
        f"snapshot {verdict.snapshot}: {_shards_checked(verdict)}, {counted(verdict.files, 'file')}, {format_size(verdict.size_bytes)},"
        f" {counted(verdict.clips, 'clip')}: {verified}"
    )
    hint = []
    if verdict.problems:
        is_newest = verdict.snapshot == snapshot_numbers(place)[-1]
        older = f"builds do not repair older snapshots: use a newer one, and `clipmill gc {root} --keep 1 --delete` removes them"
        newest = f"{REBUILD_HINT}; it also writes the newest snapshot's tables again"
        hint.append(f"what to do: {newest if is_newest else older}")
    unmarked = []
    if verdict.not_marked:
        unmarked.append(
            f"error: {counted(verdict.not_marked, 'damaged file')} could not be marked for the next build: verify again where the dataset"
            " can be written"
        )
    problems = [f"error: {problem}" for problem in verdict.problems]
    return [
        *([] if quiet else [Section("verdict", [about], keep=1)]),
        Section("problems", problems, keep=3, what="problem", where="--json lists all", err=True),
        *([] if quiet else [Section("versions", describe_versions(verdict.versions))]),
        Section("hint", hint, keep=1, err=True, whole=True),
        Section("unmarked", unmarked, keep=1, err=True, whole=True),
    ]


def _shards_checked(verdict: Verdict) -> str:
    all_of_them = counted(verdict.of_shards, "shard")
    return all_of_them if verdict.shards == verdict.of_shards else f"{verdict.shards:,} of {all_of_them}"


def _write_table(name: str, root: str, number: int | None, path: str, as_json: bool) -> None:
    """Write the manifest or the rejections of a snapshot to a file."""
    from clipmill.pipelines.dataset.published import Published
    from clipmill.pipelines.dataset.records_io import read_snapshot
    from clipmill.pipelines.dataset.table_files import write_manifest, write_rejections

    place = dataset_at(root)
    published = Published(place, read_snapshot(place, number))
    n_rows = (write_manifest if name == "manifest" else write_rejections)(published, path)
    if as_json:
        say_json({"snapshot": published.snapshot.number, name: path, "rows": n_rows})
    else:
        say(f"{path}: the {name} of snapshot {published.snapshot.number}, {counted(n_rows, 'row')}")


def _describe_recordings(snapshot: dict[str, Any]) -> str:
    """Return ``24 recordings``, or ``24 of 27 listed recordings (2 forgotten)`` if not all were used."""
    used, listed = snapshot["counts"]["recordings_used"], snapshot["recordings_listed"]
    if listed == used:
        return counted(used, "recording")
    rest = {
        "forgotten": snapshot["recordings_forgotten"],
        "left out by the limit": snapshot["limited"].get("recordings_left_out", 0),
    }
    why = ", ".join(f"{n:,} {outcome}" for outcome, n in rest.items() if n)
    return f"{used:,} of {counted(listed, 'listed recording')}" + (f" ({why})" if why else "")


@click.command()
@root_argument
@number_option
@click.option("--clips", type=WholeNumber(min=0), default=5, show_default=True, help="Number of clips to list.")
@click.option("--labels", type=WholeNumber(min=0), default=30, show_default=True, help="Number of labels to list.")
@click.option("--duplicates", is_flag=True, help="List clips that are exact copies of others.")
@click.option("--near-duplicates", is_flag=True, help="List recordings that sound alike. Decodes all clips.")
@click.option(
    "--keep",
    "where",
    type=YamlText(),
    help="Say what thresholds would drop, as in '{snr_db: {min: 15}}'; nothing is built.",
)
@click.option("--manifest", metavar="FILE", help="Write the manifest, a row a clip, to FILE: *.parquet or *.csv.")
@json_option
@reported
def show(
    root: str,
    number: int | None,
    clips: int,
    labels: int,
    duplicates: bool,
    near_duplicates: bool,
    where: Any,
    manifest: str | None,
    as_json: bool,
) -> None:
    """Show splits, labels, columns and a few clips, or with --keep what thresholds would drop."""
    if sum((where is not None, duplicates, near_duplicates, manifest is not None)) > 1:
        raise click.UsageError(
            "--keep, --duplicates, --near-duplicates and --manifest exclude each other; give one of them"
        )
    if manifest is not None:
        _write_table("manifest", root, number, manifest, as_json)
        return
    if where is not None:
        _show_forecast(root, number, where, as_json)
        return
    if duplicates:
        _show_duplicates(root, number, as_json)
        return
    if near_duplicates:
        _show_near_duplicates(root, number, as_json)
        return
    from clipmill.pipelines.cli.measured_wording import describe_duplicates, describe_measured, describe_notes_on_clips
    from clipmill.pipelines.cli.wording import (
        describe_columns,
        describe_labels,
        describe_remark_counts,
        describe_saturated_sources,
        describe_splits,
        describe_statistics,
    )
    from clipmill.pipelines.dataset.inspection import clip_rows, finite
    from clipmill.pipelines.dataset.inspection import show as look

    result = look(dataset_at(root), number)
    rows = clip_rows(dataset_at(root), number, clips)
    if as_json:
        plain = [{k: finite(v) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
        say_json({**result, "examples": plain})
        return
    say(f"{result['name']}, snapshot {result['snapshot']} of {result['created']}, in {result['root']}")
    say(
        f"{counted(result['clips'], 'clip')}, {format_duration(result['seconds'])}, {format_size(result['bytes'])},"
        f" from {_describe_recordings(result)}"
    )
    notes = [*describe_saturated_sources(result["saturation"]), *describe_remark_counts(result["counts"]["remarked"])]
    notes += describe_duplicates(result["duplicates"])
    say(*describe_splits(result["splits"]), *notes)
    say(*describe_statistics(result["statistics"], result["splits"]), *describe_measured(result["measured"]))
    say(*describe_notes_on_clips(result["clip_notes"]), *describe_versions(result["versions"]))
    if result["labels"]:
        several = " (a clip with several counts for each)" if result["label_lists"] else ""
        say(f"labels:{several}", *describe_labels(result["labels"], result["labels_by_split"], labels))
    if result["columns"]:
        say("columns:", *describe_columns(result["columns"]))
    for row in rows:
        level = "-inf" if row["level_dbfs"] is None else f"{row['level_dbfs']:.1f}"
        told = ", ".join(row["labels"] or ()) if "labels" in result["label_lists"] else row["label"] or ""
        say(
            f"  {row['clip_id']}  {row['split']}  {told}  {row['start_s']:.3f} s + {row['duration_s']:.3f} s  {level} dBFS"
        )
    say(f"manifest: {result['manifest'] or 'in parts; --manifest FILE writes it as one file'}")


def _show_forecast(root: str, number: int | None, where: Any, as_json: bool) -> None:
    """Print what thresholds would drop of a snapshot."""
    from clipmill.pipelines.cli.measured_wording import describe_forecast_of_keep
    from clipmill.pipelines.dataset.measured import forecast
    from clipmill.pipelines.dataset.published import open_dataset
    from clipmill.pipelines.read.selection import thresholds_for

    published = open_dataset(root, number)
    thresholds = thresholds_for(published, where, "--keep")
    assert thresholds is not None  # noqa: S101 - `where` is not None
    result = forecast(published.root, published.parts, thresholds)
    if as_json:
        about = {
            "root": published.root.uri(""),
            "snapshot": published.snapshot.number,
            "keep": thresholds.model_dump(exclude_none=True),
        }
        say_json({**about, **asdict(result)})
        return
    say(*describe_forecast_of_keep(result, published.snapshot))


def _show_duplicates(root: str, number: int | None, as_json: bool) -> None:
    """Print the groups of equal clips."""
    from clipmill.pipelines.cli.measured_wording import describe_duplicates
    from clipmill.pipelines.dataset.published import open_dataset

    published = open_dataset(root, number)
    rows = published.duplicates().to_pylist()
    if as_json:
        about = {"root": published.root.uri(""), "snapshot": published.snapshot.number}
        say_json({**about, "counts": published.snapshot.duplicates, "duplicates": rows})
        return
    say(*(describe_duplicates(published.snapshot.duplicates) or ["duplicates   none"]))
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["pcm_sha256"], []).append(row)
    for sha256, group in groups.items():
        say(f"{sha256[:12]}")
        say(*(f"  {row['clip_id']}  {row['split']}  {row['label'] or ''}".rstrip() for row in group))


def _show_near_duplicates(root: str, number: int | None, as_json: bool) -> None:
    """Print the pairs of recordings that sound alike."""
    from clipmill.pipelines.dataset.published import open_dataset
    from clipmill.pipelines.read.near_duplicates import find_near_duplicates
    from clipmill.pipelines.run.display import Progress

    published = open_dataset(root, number)
    with Progress(hides_progress(False, as_json)).phase("compare", "comparing recordings"):
        found = find_near_duplicates(published)
    rows = found.table.to_pylist()
    if as_json:
        about = {"root": published.root.uri(""), "snapshot": published.snapshot.number}
        about |= {"recordings": found.recordings, "too_quiet": found.too_quiet, "skipped": found.skipped}
        say_json({**about, "near_duplicates": rows})
        return
    say(f"{counted(found.recordings, 'recording')} compared, {counted(len(rows), 'pair')} alike")
    if found.too_quiet:
        say(f"{counted(found.too_quiet, 'recording')} without peaks, as silent or very short ones, not compared")
    if found.skipped:
        say(
            f"{counted(found.skipped, 'group')} of over 1,000 recordings that have too much in common, not compared with each other"
        )
    for row in rows:
        sides = row["split_a"] if row["split_a"] == row["split_b"] else f"{row['split_a']} and {row['split_b']}"
        say(f"  {row['similarity']:.2f}  {row['recording_a']}  {row['recording_b']}  {sides}")
