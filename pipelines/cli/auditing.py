"""The command that asks other programs about a dataset: audit."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from clipmill.pipelines.cli.command_line import (
    WholeNumber,
    dataset_at,
    hides_progress,
    json_option,
    names_config,
    number_option,
    quiet_option,
    reported,
)
from clipmill.pipelines.cli.terminal import say, say_json
from clipmill.schemas.plural import counted

if TYPE_CHECKING:
    from clipmill.pipelines.audits.audit import Audit
    from clipmill.pipelines.audits.audit_kinds import BeyondClip

_MOST_SHOWN = 20


@click.command()
@click.argument("root", metavar="ROOT|CONFIG")
@click.option(
    "--clips",
    "n_clips",
    type=WholeNumber(min=1),
    default=200,
    show_default=True,
    help="Number of clips.",
)
@click.option("--seed", type=WholeNumber(min=0), default=0, show_default=True, help="Another seed gives other clips.")
@number_option
@quiet_option
@json_option
@reported
def audit(root: str, n_clips: int, seed: int, number: int | None, quiet: bool, as_json: bool) -> None:
    """Compare a sample of clips with what pydub, librosa, torchaudio and the models' own packages give.

    Clips are cut again from their recordings, levels measured and features computed again, by none of the code that built them. Exit
    code 1 if a clip differs by more than the tolerances. Needs clipmill[reference].
    """
    from clipmill.pipelines.audits.audit import audit as compare
    from clipmill.pipelines.dataset.published import Published
    from clipmill.pipelines.dataset.records_io import read_snapshot
    from clipmill.pipelines.run.display import Progress

    place = dataset_at(root)
    published = Published(place, read_snapshot(place, number))
    so_far = [0, n_clips]

    def note(done: int, of: int) -> None:
        so_far[:] = [done, of]

    with Progress(hides_progress(quiet, as_json)).phase(
        "audit", lambda: f"{so_far[0]:,} of {counted(so_far[1], 'clip')}"
    ):
        result = compare(published, n_clips, seed, _source_options(root), note)
    if as_json:
        say_json(result.to_dict())
    else:
        _say(result, published.snapshot.name, quiet)
    sys.exit(0 if result.is_within else 1)


def _source_options(root: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the storage options of sources by name, where a configuration is given: a snapshot has none."""
    if not names_config(root):
        return {}
    from clipmill.pipelines.config_file import load

    return {source.name: source.storage_options for source in load(root).config.sources}


def _say(result: Audit, name: str, quiet: bool) -> None:
    if not quiet:
        readers = ", ".join(f"{n:,} by {reader}" for reader, n in result.readers.items())
        read = f" ({readers})" if readers else ""
        say(
            f"snapshot {result.snapshot} of {name}: {counted(result.clips, 'clip')}, {result.recut:,} cut again from their recordings{read}"
        )
        say(*_table(result))
        for reason, n in result.not_compared.items():
            say(f"not compared with the recording: {counted(n, 'clip')}: {reason}")
        for reason, n in result.left_out.items():
            say(f"no reference: {counted(n, 'clip')}: {reason}")
        for reason, n in result.skipped.items():
            say(f"not compared with the preset's package: {counted(n, 'clip')}: {reason}")
        say("compared with " + ", ".join(f"{package} {version}" for package, version in result.versions.items()))
    for clip in result.beyond[:_MOST_SHOWN]:
        say(f"error: {_beyond_text(clip)}", err=True)
    if len(result.beyond) > _MOST_SHOWN:
        say(f"error: and {len(result.beyond) - _MOST_SHOWN:,} more, which --json lists", err=True)
    if result.problem is not None:
        say(f"error: {result.problem}", err=True)
    elif result.beyond:
        say(f"error: {counted(result.n_beyond, 'clip')} of {result.clips:,} beyond the tolerances", err=True)
    elif not quiet:
        say(f"all that was compared is within the tolerances, {counted(result.clips, 'clip')}{_left_out(result)}")


def _left_out(result: Audit) -> str:
    """Return what an audit without differences says nothing about, to end a sentence with."""
    found = []
    if n := sum(result.not_compared.values()):
        found.append(f"{counted(n, 'clip')} not compared with the recording")
    if names := result.without_reference:
        found.append(f"{counted(len(names), 'column')} without a reference: {', '.join(names)}")
    if result.skipped:
        packages = sorted({reason.split(": ")[1] for reason in result.skipped})
        found.append(f"packages of presets that were left out: {', '.join(packages)}")
    return "".join(f"; {text}" for text in found)


def _table(result: Audit) -> list[str]:
    """Return a line for each kind of comparison."""
    rows = [("kind", "clips", "largest difference", "tolerance", "beyond")]
    for total in result.kinds:
        unit = f" {total.kind.unit}" if total.kind.unit else ""
        rows.append(
            (
                total.kind.name,
                f"{total.clips:,}",
                f"{_number(total.largest)}{unit}",
                f"{total.tolerance:.4g}{unit}",
                f"{total.beyond:,}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _beyond_text(clip: BeyondClip) -> str:
    finding = clip.finding
    unit = f" {finding.kind.unit}" if finding.kind.unit else ""
    detail = f" ({finding.detail})" if finding.detail else ""
    allowed = f"{finding.allowed:.4g}"
    return f"{clip.clip_id} of {clip.source_uri}: {finding.kind.name}: {_number(finding.difference)}{unit}, allowed {allowed}{detail}"


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "not comparable"
