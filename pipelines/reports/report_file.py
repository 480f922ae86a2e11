"""Write a report: one HTML file without scripts that needs nothing else, neither a server nor a network."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.reports.amounts import duration_text, moment_text, size_text
from clipmill.pipelines.reports.attention import remarks_on
from clipmill.pipelines.reports.clip_cards import Cards, cards_section, make_cards
from clipmill.pipelines.reports.clip_choice import choose, column_for
from clipmill.pipelines.reports.column_spread import number_columns
from clipmill.pipelines.reports.markup import Safe, join, tag
from clipmill.pipelines.reports.overview_sections import counts, fields, labels, spread, tiles
from clipmill.pipelines.reports.page_head import page_head
from clipmill.pipelines.reports.quality_sections import (
    columns,
    configuration,
    drifted,
    leaks,
    loading,
    present,
    rejected,
    section,
)
from clipmill.pipelines.reports.report_facts import Facts, gather
from clipmill.schemas.config import check_address
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.keys import slug
from clipmill.schemas.layout import OWN_FILES
from clipmill.schemas.plural import counted
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

_SPARE = 20_000
MIN_MB = 0.5


@dataclass(frozen=True)
class Asked:
    """What a report is to show.

    by : the column by which clips are chosen; None: one that was measured
    per_label : number of clips of each label
    longest_s : how much of a clip is played and shown
    max_mb : the greatest size of the file, in 10^6 bytes
    seed : of random clips and of samples
    against : number of the snapshot to compare with; None: the last one before
    near_duplicates : look for recordings that sound alike
    """

    by: str | None = None
    per_label: int = 3
    longest_s: float = 10.0
    max_mb: float = 10.0
    seed: int = 0
    against: int | None = None
    near_duplicates: bool = False


@dataclass(frozen=True)
class Written:
    """A report that was written. by : the column by which clips were chosen; notes : what is not in it, and why"""

    address: str
    size_bytes: int
    snapshot: int
    clips_chosen: int
    clips_shown: int
    clips_looked_at: int
    by: str
    remarks: Sequence[str]
    notes: Sequence[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as plain data, for `clipmill report --json`."""
        return {
            "file": self.address, "size_bytes": self.size_bytes, "snapshot": self.snapshot, "by": self.by,
            "clips_chosen": self.clips_chosen, "clips_shown": self.clips_shown, "clips_looked_at": self.clips_looked_at,
            "remarks": list(self.remarks), "notes": list(self.notes),
        }  # fmt: skip


def write_report(published: Published, to: str | None = None, asked: Asked | None = None) -> Written:
    """Write a report on a snapshot.

    Parameters
    ----------
    to : the file, or an address; None: <name>-<number>.html in the current folder
    asked : what it is to show; None: the defaults

    Raises
    ------
    ConfigError : the file is one of the dataset's own, the size is too small, or there is no such column or snapshot
    ClipmillError : the dataset is damaged, or the file cannot be written
    """
    asked = asked or Asked()
    snapshot = published.snapshot
    target, name = _target(published, to or f"{slug(snapshot.name)}-{snapshot.number:06d}.html")
    facts = gather(published, asked.against, asked.seed, asked.near_duplicates)
    by = column_for(facts.clips, [column["name"] for column in number_columns(published)], asked.by)
    remarks = [remark.text for remark in remarks_on(facts)]
    choices, n_left_out = (
        choose(facts.clips, by, asked.per_label, asked.seed) if facts.clips.table.num_rows else ([], 0)
    )
    most = round(asked.max_mb * 1e6)
    before, after = _sections(facts)
    without = len(_page(facts, [*before, *after]).encode())
    if without + _SPARE > most:
        raise ConfigError(
            f"--max-mb {asked.max_mb:g}: the report has {size_text(without)} without any clip; give at least"
            f" {(without + _SPARE) / 1e6 + 0.05:.1f}", code="usage",
        )  # fmt: skip
    cards = make_cards(facts, choices, by, asked.longest_s, most - without - _SPARE)
    notes = _notes(facts, cards, asked)
    shown = present([section("clips", "Clips", cards_section(facts, cards, by, n_left_out, notes))])
    content = _page(facts, [*before, *shown, *after]).encode()
    try:
        target.write_bytes(name, content)
    except OSError as error:
        raise describe_os_error(error, target, "write", name, then="write the report again") from None
    return Written(
        target.uri(name), len(content), snapshot.number, cards.n_chosen, cards.n_shown, facts.clips.table.num_rows, by, remarks, notes
    )  # fmt: skip


def _target(published: Published, to: str) -> tuple[Root, str]:
    """Return the folder and the name of the file."""
    try:
        check_address(to)
    except ValueError as error:
        raise ConfigError(f"--to {error}", code="usage") from None
    if re.match(r"\w+://", to):
        folder, _, name = to.rpartition("/")
        target = Root(folder, published.root.storage_options)
    else:
        place = Path(os.path.abspath(os.path.expanduser(to)))
        if place.is_dir():
            raise ConfigError(f"--to {to}: this is a folder; give the name of a file, as in {to.rstrip('/')}/report.html", code="usage")  # fmt: skip
        target, name = Root(str(place.parent)), place.name
        root = published.root
        if root.is_local:
            inside = os.path.relpath(os.path.realpath(place), os.path.realpath(root.full()))
            if OWN_FILES.fullmatch(inside) or inside == "dataset.json":
                raise ConfigError(f"--to {to} is a file of the dataset itself; give another name", code="usage")
    if not name.lower().endswith((".html", ".htm")):
        raise ConfigError(f"--to {to}: give a name that ends in .html", code="usage")
    return target, name


def _notes(facts: Facts, cards: Cards, asked: Asked) -> list[str]:
    """Return what is not in the report, as sentences."""
    notes = []
    if facts.clips.is_sample:
        n, n_all = facts.clips.table.num_rows, facts.clips.n_all
        notes.append(f"Distributions, fields and clips are those of a sample of {n:,} of {n_all:,} clips.")
    if cards.n_shown < cards.n_chosen:
        rest = f"{counted(cards.n_chosen, 'clip')} that were chosen"
        notes.append(f"{cards.n_shown:,} of {rest} fit into {asked.max_mb:g} MB; --max-mb gives more room.")
    if cards.n_cut:
        first = f"only the first {duration_text(asked.longest_s)} are there"
        notes.append(f"Of {counted(cards.n_cut, 'clip')} {first}; --seconds gives more.")
    return notes


Section = tuple[str, str, Safe]


def _sections(facts: Facts) -> tuple[list[Section], list[Section]]:
    """Return the sections before and behind the one with clips."""
    before = [
        section("counts", "What became of it", counts(facts)),
        section("labels", "Splits and labels", labels(facts)),
        section("spread", "Distributions", spread(facts)),
        section("fields", "Fields", fields(facts)),
    ]
    after = [
        section("leaks", "Duplicates and leaks", leaks(facts)),
        section("drift", "Changes", drifted(facts)),
        section("rejected", "Rejected and dropped", rejected(facts)),
        section("columns", "Columns", columns(facts)),
        section("configuration", "Configuration", configuration(facts)),
        section("loading", "Load it", loading(facts)),
    ]
    return present(before), present(after)


def _page(facts: Facts, sections: Sequence[Section]) -> Safe:
    """Return the page."""
    published = facts.published
    snapshot = published.snapshot
    remarks = remarks_on(facts)
    listed = [
        tag("li", tag("a", remark.text, href=f"#{remark.section}"), class_="serious" if remark.is_serious else None)
        for remark in remarks
    ]
    address = published.root.uri("").rstrip("/")
    title = f"{snapshot.name}, snapshot {snapshot.number}"
    body = tag(
        "body",
        tag("nav", tag("ol", *(tag("li", tag("a", name, href=f"#{key}")) for key, name, _ in sections)), aria_label="contents"),
        tag(
            "main",
            tag("h1", snapshot.name),
            tag("p", f"Snapshot {snapshot.number} of {moment_text(snapshot.created)}, ", tag("code", address), class_="soft"),
            tiles(facts),
            tag("ul", *listed, class_="remarks") if listed else tag("p", "Nothing in it seems unusual.", class_="soft"),
            *(tag("section", tag("h2", name, id=key), content, aria_labelledby=key) for key, name, content in sections),
            class_="page",
        ),
    )  # fmt: skip
    return join(
        Safe("<!DOCTYPE html>\n"), tag("html", page_head(title, "clipmill report"), body, lang="en"), Safe("\n")
    )
