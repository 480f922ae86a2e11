"""Take a source's listing into the plan, block by block: blocks whose files did not change are taken as they were kept."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain as chained
from itertools import islice
from typing import Any, Protocol

import pyarrow as pa

from clipmill.pipelines.chain import Chain
from clipmill.pipelines.dataset.kept_parts import KeptParts, Part
from clipmill.pipelines.plan.annotations.annotated import Rows, Unusable
from clipmill.pipelines.plan.annotations.sidecars import Sidecars
from clipmill.pipelines.plan.arrange import ItemCollector, batches, items_table, joined
from clipmill.pipelines.plan.block_outcome import Counts, Outcome
from clipmill.pipelines.plan.fingerprints import item_digest, source_fingerprint
from clipmill.pipelines.plan.items import clips_of
from clipmill.pipelines.plan.kept_settings import planning_settings, reading_settings
from clipmill.pipelines.plan.kept_source import Block, KeptSource
from clipmill.pipelines.plan.labels import unmet_labels
from clipmill.pipelines.plan.likely_mistakes import divided_texts, likely_mistakes
from clipmill.pipelines.plan.listing import Listing
from clipmill.pipelines.plan.recording_list import Recording
from clipmill.pipelines.plan.split_rule import SplitRule, Survey
from clipmill.pipelines.plan.taking_in import Intake, reject, rejection
from clipmill.pipelines.plan.transcripts import check_text_field
from clipmill.schemas.config import Config
from clipmill.schemas.findings import Finding
from clipmill.schemas.keys import digest
from clipmill.schemas.layout import Retries

Members = Iterator[tuple[Recording, Rows | Unusable | None]]


class Sums(Counts, Protocol):
    """What a source adds to a plan."""

    annotations_ignored: int
    clips_estimated: int
    clips_estimated_s: float
    rejections: list[dict[str, Any]]
    warnings: list[Finding]


class SourceTaker:
    """Take sources into a plan.

    plan : its counts, rejections and warnings are added to
    collector : takes the items
    kept : what annotation files gave before; None: nothing is kept
    """

    def __init__(
        self,
        chain: Chain,
        plan: Sums,
        collector: ItemCollector,
        rule: SplitRule,
        retries: Retries,
        kept: KeptParts | None,
    ) -> None:
        self._chain, self._plan, self._collector = chain, plan, collector
        self._rule, self._retries, self._kept = rule, retries, kept

    def take_in(self, listing: Listing) -> tuple[list[dict[str, Any]], set[str]]:
        """Take in a source.

        Returns
        -------
        rejections : of single items, which come after those of all listings and tables in the plan
        names : of the fields of its items
        """
        plan, source, annotated = self._plan, listing.source, listing.annotated
        source_digest = source_fingerprint(self._chain, source)
        kept = self._kept_source(listing, source_digest)
        self._take_refused(listing)
        intake = Intake(self._chain.config, source, self._rule)
        outcomes = _Outcomes(self._rule, annotated if isinstance(annotated, Sidecars) else None)
        for block, members, mark in _blocks(listing, kept, self._collector, outcomes):
            outcome, table, is_lasting = self._made(listing, intake, members, mark, source_digest)
            outcomes.made(block.index, outcome)
            self._collector.add(table, outcome.field_names)
            kept.made(block, table, outcome, is_lasting)
        n_clips = 0.0
        rejections: list[dict[str, Any]] = []
        met: set[str] = set()
        names: set[str] = set()
        n_without_text = 0
        for outcome in outcomes.all():
            n_without_text += outcome.noted["texts_missing"]
            outcome.add_to(plan)
            rejections += outcome.rejections
            n_clips += outcome.clips
            plan.clips_estimated_s += outcome.clips_s
            met.update(outcome.labels_met)
            names.update(outcome.field_names)
            annotated.unnamed_roles = annotated.unnamed_roles or outcome.unnamed_roles
        if n_without_text:
            check_text_field(source, names)
        if unmet := intake.maker.labels.never_met(met):
            plan.warnings.append(unmet_labels(source, unmet))
        listing.check_annotated()
        plan.warnings += likely_mistakes(source, annotated)
        plan.warnings += divided_texts(source, (step.stage for step in self._chain.of_source(source.name)))
        plan.clips_estimated += round(n_clips)
        plan.noted.update({code: n for code, n in annotated.noted.items() if n})
        return rejections, names

    def _kept_source(self, listing: Listing, source_digest: str) -> KeptSource:
        """Return what is kept of a source; of one without sidecars it is nothing."""
        source, annotated = listing.source, listing.annotated
        kept = KeptSource(source.name, listing.sidecar_files, listing.root.uri)
        depends_on_all = self._chain.config.split.needs_survey
        version = (
            annotated.version if self._kept is not None and not listing.n_forgotten and not depends_on_all else None
        )
        if self._kept is not None and version is not None:
            settings = reading_settings(source)
            items = planning_settings(self._chain.config, source, source_digest)
            self._know_tables(self._kept, listing, digest([settings, version]))
            kept.open(
                self._kept, "", digest([items, version, self._rule.lists_digest]), lambda path: None, self._retries
            )
        elif self._kept is not None and isinstance(annotated, Sidecars):
            # With `balance` and `stratify` the side of a recording depends on all others.
            items = "" if depends_on_all else planning_settings(self._chain.config, source, source_digest)
            if items and (lists := self._rule.lists_digest):
                items = digest([items, lists])
            kept.open(self._kept, reading_settings(source), items, annotated.sidecar_of, self._retries)
            annotated.known, annotated.on_read = kept.known, kept.on_read
        else:
            listing.read_annotations()
        return kept

    @staticmethod
    def _know_tables(kept: KeptParts, listing: Listing, settings: str) -> None:
        """Take over what is kept of unchanged tables, or read them and keep it."""
        name, annotated = listing.source.name, listing.annotated
        part = next(iter(kept.parts(name, "table", settings)), None)
        table = kept.read("table", part) if part is not None else None
        if part is not None and table is not None:
            annotated.restore(json.loads(table["facts"][0].as_py()))
            kept.put(name, "table", settings, part)
            return
        listing.read_annotations()
        kept.put(name, "table", settings, Part(""), pa.table({"facts": [json.dumps(annotated.facts())]}))

    def _take_refused(self, listing: Listing) -> None:
        """Count refused recordings, and rows of a table that fit no recording."""
        plan, source, annotated = self._plan, listing.source, listing.annotated
        outcome = Outcome()
        for refusal, result in listing.annotated_each(listing.inventory.refusals):
            rows = None if isinstance(result, Unusable) else result
            outcome.annotations_read += len(rows or ())
            plan.rejections += reject(
                outcome, source, "inventory", refusal.path, refusal.reason, refusal.detail, rows or []
            )
        outcome.noted.update(annotated.take_counts())
        for stray in annotated.strays:
            outcome.annotations_read += 1
            outcome.annotations_rejected += 1
            row = rejection("annotation", str(stray.row.reason), "annotate", source, None, stray.row.detail)
            plan.rejections.append({**row, "file": stray.file, "line": stray.row.line, "start_s": None})
        outcome.annotations_read += annotated.n_ignored
        plan.annotations_ignored += annotated.n_ignored
        outcome.add_to(plan)

    def _made(
        self, listing: Listing, intake: Intake, members: Members, mark: _Mark | None, source_digest: str
    ) -> tuple[Outcome, pa.Table, bool]:
        """Make the items of a block. Return its outcome, its items, and whether it gives the same while its files do not change.

        mark : the counts of sidecars before the block, None without sidecars
        """
        source, annotated, labels = listing.source, listing.annotated, intake.maker.labels
        outcome, tables = Outcome(), []
        n_without = self._rule.n_without
        for batch in batches(intake.items(members, outcome)):
            outcome.clips += clips_of(batch, source)
            outcome.clips_s += sum(item.clips_s for item in batch)
            digests = [item_digest(item, source_digest, self._retries) for item in batch]
            tables.append(items_table(batch, digests, listing.root.uri))
        table, outcome.field_names = joined(tables)
        outcome.noted.update(annotated.take_counts())
        outcome.labels_met = labels.take_met()
        outcome.n_without = self._rule.n_without - n_without
        is_lasting = True
        if isinstance(annotated, Sidecars) and mark is not None:
            outcome.n_annotated = annotated.n_annotated - mark.n_annotated
            outcome.n_with_rows = annotated.n_with_rows - mark.n_with_rows
            outcome.files_noted = dict(annotated.noted - mark.noted)
            outcome.unnamed_roles, annotated.unnamed_roles = annotated.unnamed_roles, mark.unnamed_roles
            is_lasting = annotated.is_lasting
        return outcome, table, is_lasting


def surveyed(config: Config, listings: list[Listing], kept: KeptParts | None) -> SplitRule:
    """Survey all sources for `split.balance` and `split.stratify`, and return the rule for the split.

    The items are made in the same way as later, so that items that will be left out or rejected do not influence the split.
    """
    survey = Survey(config.split)
    for listing in listings:
        again, source = listing.again(), listing.source
        if kept is not None and isinstance(again.annotated, Sidecars):
            rows = KeptSource(source.name, again.sidecar_files, again.root.uri)
            rows.open(kept, reading_settings(source), "", again.annotated.sidecar_of, {})
            rows.skip_refused()
            again.annotated.known = rows.known
        for _ in Intake(config, source, survey).items(again.annotated_each(again.inventory.recordings), Outcome()):
            pass
    return survey.rule()


@dataclass(frozen=True)
class _Mark:
    """What the sidecars before a block gave; see `Sidecars`."""

    n_annotated: int
    n_with_rows: int
    noted: Counter[str]
    unnamed_roles: dict[str, str]

    @classmethod
    def of(cls, sidecars: Sidecars) -> _Mark:
        """Return the counts so far, and have those of a block follow."""
        mark = cls(sidecars.n_annotated, sidecars.n_with_rows, Counter(sidecars.noted), sidecars.unnamed_roles)
        sidecars.is_lasting, sidecars.unnamed_roles = True, {}
        return mark


def _blocks(
    listing: Listing, kept: KeptSource, collector: ItemCollector, outcomes: _Outcomes
) -> Iterator[tuple[Block, Members, _Mark | None]]:
    """Yield the blocks that have to be made, each with its recordings and their rows. Others go to the collector as they were kept."""
    waiting: deque[Block] = deque()
    marks: deque[_Mark] = deque()
    n_left = 0

    def to_make() -> Iterator[Recording]:
        for block, members in kept.blocks(listing.inventory.recordings):
            found = kept.find(block)
            if found is None:
                kept.await_block(block)
                waiting.append(block)
                yield from members
            else:
                collector.add(found[0], found[1].field_names)
                outcomes.found(block.index, found[1])

    def starting() -> None:
        nonlocal n_left
        if n_left == 0:
            n_left = waiting[0].n
            outcomes.begin(waiting[0].index)
            if isinstance(sidecars, Sidecars):
                marks.append(_Mark.of(sidecars))
        n_left -= 1

    sidecars = listing.annotated
    if isinstance(sidecars, Sidecars):
        sidecars.starting = starting
    # The files of blocks to come are read ahead, so several blocks may wait.
    annotated = listing.annotated_each(to_make())
    while (first := next(annotated, None)) is not None:
        block = waiting.popleft()
        yield block, chained([first], islice(annotated, block.n - 1)), marks.popleft() if marks else None


class _Outcomes:
    """The outcomes of a source's blocks, some of which are known before others that come first."""

    def __init__(self, rule: SplitRule, sidecars: Sidecars | None) -> None:
        self._rule, self._sidecars = rule, sidecars
        self._by_index: dict[int, Outcome] = {}
        self._uncounted: deque[int] = deque()

    def found(self, index: int, outcome: Outcome) -> None:
        """Add the outcome of a block that was kept. It is counted when the blocks before it are."""
        self._by_index[index] = outcome
        self._uncounted.append(index)

    def begin(self, index: int) -> None:
        """Count the kept blocks before one that is to be made."""
        while self._uncounted and self._uncounted[0] < index:
            outcome = self._by_index[self._uncounted.popleft()]
            self._rule.n_without += outcome.n_without
            if self._sidecars is not None:
                self._sidecars.noted.update(outcome.files_noted)
                self._sidecars.count(outcome.n_annotated, outcome.n_with_rows)

    def made(self, index: int, outcome: Outcome) -> None:
        """Add the outcome of a block that was made now."""
        self._by_index[index] = outcome

    def all(self) -> Iterator[Outcome]:
        """Yield the outcomes in the order of the recordings, after counting what was found since the last block was made."""
        self.begin(len(self._by_index))
        return (self._by_index[index] for index in sorted(self._by_index))
