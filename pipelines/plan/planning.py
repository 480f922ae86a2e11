"""Divide recordings and their annotations into shards, each with the key by which a build knows whether it exists already.

No state is kept between builds. The shard of a recording follows from the hash of its id. A partition of the hash space is split by
the next bit only while it holds more audio than a shard should.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.pipelines.chain import Chain, chain_of
from clipmill.pipelines.dataset.kept_parts import KeptParts
from clipmill.pipelines.dataset.left_out import digest_of_left_out
from clipmill.pipelines.plan.annotations.annotated import drained
from clipmill.pipelines.plan.arrange import ItemCollector, in_chunks
from clipmill.pipelines.plan.excluded import ExcludedClips, read_excluded
from clipmill.pipelines.plan.few_items import Choice
from clipmill.pipelines.plan.fingerprints import audio_fingerprint, clips_fingerprint, files_fingerprint
from clipmill.pipelines.plan.forgetting import leave_out_forgotten
from clipmill.pipelines.plan.inventory import most_first
from clipmill.pipelines.plan.items import configured_fields
from clipmill.pipelines.plan.leaks import check_decides, check_disjoint
from clipmill.pipelines.plan.listing import Listing, list_source
from clipmill.pipelines.plan.listing import source_root as source_root
from clipmill.pipelines.plan.noises import digest_of_noises, list_noises
from clipmill.pipelines.plan.partitions import partition_hashes
from clipmill.pipelines.plan.plan_table import PlanTable
from clipmill.pipelines.plan.source_taking import SourceTaker, surveyed
from clipmill.pipelines.plan.split_lists import ListRule
from clipmill.pipelines.plan.split_rule import SplitRule
from clipmill.schemas.config import Config, Source
from clipmill.schemas.config.split_config import Split
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.findings import Finding
from clipmill.schemas.forgotten import Forgotten
from clipmill.schemas.keys import ConfigDigests, clips_digest_of, digest, shard_key
from clipmill.schemas.layout import Retries
from clipmill.schemas.tables import CHANNEL_COLUMN, IMAGE_COLUMN, PLAN
from clipmill.stages.arrow_rows import replace_column
from clipmill.stages.noise_library import Listed


@dataclass(repr=False)
class Plan:
    """What a build will do.

    table : rows of `clipmill.schemas.tables.PLAN`, sorted by shard; the rows of a shard share its key
    keys, starts, shard_s : for each shard, in the order of the table: its key, its first row, and its estimated seconds of audio
    clips_keys : for each shard its clips key without the number of its generation
    config_digest, clips_digest : digests of the parts of the configuration that decide the content of all shards, and of their clips
    rejections : rows of `clipmill.schemas.tables.REJECTIONS` for what is rejected before any shard
    field_names : the corpus's own fields, sorted
    passed_over : by source and extension, the number of files whose names are not those of recordings
    recordings_forgotten, recordings_dropped, annotations_dropped, annotations_ignored, annotations_merged, noted : as
        in a snapshot
    clips_estimated, clips_estimated_s : estimated number of clips, and their seconds
    warnings : likely mistakes, for people to read
    noises : files of the trees of noises that stages use, by the trees' names
    digests : the two digests, and those of splits for which they are others
    excluded : ids of clips that `exclude_clips` lists and that fit a recording
    limited : as in a snapshot
    """

    table: pa.Table
    keys: list[str]
    starts: list[int]
    config_digest: str
    clips_digest: str
    field_names: list[str]
    shard_s: list[float] = field(default_factory=list)
    clips_keys: list[str] = field(default_factory=list)
    rejections: list[dict[str, Any]] = field(default_factory=list)
    recordings_listed: int = 0
    recordings_without_annotations: int = 0
    recordings_rejected: int = 0
    annotations_read: int = 0
    annotations_rejected: int = 0
    passed_over: dict[str, dict[str, int]] = field(default_factory=dict)
    recordings_forgotten: int = 0
    recordings_dropped: Counter[str] = field(default_factory=Counter)
    annotations_dropped: Counter[str] = field(default_factory=Counter)
    annotations_ignored: int = 0
    annotations_merged: int = 0
    noted: Counter[str] = field(default_factory=Counter)
    clips_estimated: int = 0
    clips_estimated_s: float = 0.0
    warnings: list[Finding] = field(default_factory=list)
    noises: dict[str, list[Listed]] = field(default_factory=dict)
    digests: ConfigDigests = field(default_factory=ConfigDigests)
    excluded: set[str] = field(default_factory=set)
    limited: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Plan({self.recordings_listed} recordings, {len(self.keys)} shards)"

    def shard(self, i: int) -> pa.Table:
        """Return the rows of one shard."""
        stop = self.starts[i + 1] if i + 1 < len(self.starts) else self.table.num_rows
        return self.table.slice(self.starts[i], stop - self.starts[i])

    @property
    def estimated_s(self) -> float:
        """Estimated seconds of audio in all shards."""
        return sum(self.shard_s)

    @property
    def digest(self) -> str:
        """Digest of what no shard's key covers: what the plan left out or rejected."""
        return digest_of_left_out(self, self.rejections)


def make_plan(
    config: Config,
    retries: Retries | None = None,
    forgotten: Forgotten | None = None,
    generations: Mapping[str, int] | None = None,
    kept: KeptParts | None = None,
    few: Choice | None = None,
) -> Plan:
    """List the sources, read the annotations and divide the work into shards.

    Parameters
    ----------
    retries : rejected items that were tried again; a shard that holds one has a key of its own
    forgotten : recordings that are counted but not used
    generations : how often damaged shards were rebuilt with different bytes, by clips key; such a shard has a key of its own
    kept : what annotation files gave before, so that only those that changed are read; takes what they give now, for its `save`
    few : chooses the items to plan; None: all

    Raises
    ------
    ConfigError, ClipmillError : a source or a table cannot be read
    """
    plan = Plan(PLAN.empty_table(), [], [], "", "", [])
    chain = chain_of(config)
    with _collector_paused():
        collector = ItemCollector()
        rejected_items: list[dict[str, Any]] = []
        field_names: dict[str, set[str]] = {}
        forgotten = forgotten or Forgotten()
        listings: Iterator[Listing] = (_listed(source, config.split, forgotten, plan) for source in config.sources)
        rule = ListRule(config.split) if config.split.from_files is not None else SplitRule(config.split)
        if config.split.needs_survey:
            # This keeps the listings of all sources in memory; otherwise it is one source at a time.
            every = list(listings)
            listings, rule = drained(every), surveyed(config, every, kept)
        taker = SourceTaker(chain, plan, collector, rule, retries or {}, kept)
        for listing in listings:
            if isinstance(rule, ListRule):
                rule.read_lists(listing, forgotten)
            rejections, names = taker.take_in(listing)
            rejected_items += rejections
            field_names[listing.source.name] = names
        if isinstance(rule, ListRule):
            plan.warnings += rule.findings()
        plan.rejections += rejected_items
        plan.noted |= _shared_trees(config.sources)
        fields_of = {s.name: configured_fields(s) | field_names[s.name] for s in config.sources}
        plan.field_names = sorted(set().union(*fields_of.values()))
        if rule.n_without:
            check_decides(config.split, plan.field_names)
        if config.output.images is not None and IMAGE_COLUMN in plan.field_names:
            raise ConfigError(
                f"the corpus has a field {IMAGE_COLUMN!r}, which is the name of the pictures' column; give the field another name in"
                " annotations.fields or in the regex, or leave it out",
                key="output.images",
            )
        if config.has_channel_column and CHANNEL_COLUMN in plan.field_names:
            in_sources = ", ".join(repr(name) for name, fields in fields_of.items() if CHANNEL_COLUMN in fields)
            raise ConfigError(
                f"the corpus has a field {CHANNEL_COLUMN!r} (in source {in_sources}), which is the name of the column for a clip's channel"
                " (with channels: each, or where rows name their channel); give the field another name in annotations.fields or in the"
                " regex, or leave it out, as extra_columns: drop does with columns that the configuration does not name",
                key=_asks_for_each(config),
            )
        _check_list_names(config, fields_of)
        chain.check_names(plan.field_names)
        plan.noises = list_noises(config, chain.noise_names)
        noises = digest_of_noises(plan.noises) if plan.noises else ""
        plan.clips_digest = digest(clips_fingerprint(chain, plan.field_names, noises))
        plan.config_digest = digest([plan.clips_digest, files_fingerprint(chain)])
        audio = digest(audio_fingerprint(chain)) if config.output.features == "beside" else ""
        plan.digests = ConfigDigests(plan.config_digest, plan.clips_digest, audio=audio)
        excluded = ExcludedClips(config, read_excluded(config)) if config.exclude_clips is not None else None
        if few is not None:
            _take_few(few, collector, plan)
        _divide(chain, collector, plan, generations or {}, excluded)
        if excluded is not None:
            plan.excluded = excluded.joined
            plan.warnings += excluded.findings() if few is None else []
        check_disjoint(config.split, plan.table, plan.field_names)
    return plan


def _take_few(few: Choice, collector: ItemCollector, plan: Plan) -> None:
    """Leave out of a plan what is not chosen, and count it."""
    left_out = collector.keep(few.by, few.choose(collector.items()))
    plan.limited = {
        "asked": few.asked,
        "recordings": left_out.recordings_kept,
        "recordings_left_out": left_out.recordings,
        "annotations_left_out": left_out.annotations,
    }
    plan.clips_estimated = round(plan.clips_estimated * left_out.kept_share)
    plan.clips_estimated_s *= left_out.kept_share


def _check_list_names(config: Config, fields_of: Mapping[str, set[str]]) -> None:
    """Raise ConfigError if a field of the corpus has the name of a column of several labels."""
    for name in config.label_lists:
        if sources := [source for source, fields in fields_of.items() if name in fields]:
            i = next(i for i, source in enumerate(config.sources) if source.has_label_lists)
            raise ConfigError(
                f"the corpus has a field {name!r} (in source {', '.join(map(repr, sources))}), which is the name of a column of clips that"
                " can have several labels; give the field another name in annotations.fields or in the regex, or leave it out, as"
                " extra_columns: drop does with columns that the configuration does not name",
                key=f"sources[{i}].label",
            )


def _asks_for_each(config: Config) -> str:
    """Return the configuration key that asks for the column `channel`."""
    if config.audio.channels == "each":
        return "audio.channels"
    i, source = next((i, s) for i, s in enumerate(config.sources) if config.channels_of(s) == "each")
    return f"sources[{i}].annotations.columns.channel" if source.channel_by_row else f"sources[{i}].channels"


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector. It would scan millions of objects again and again, for a good part of the planning time, in search
    of cycles that planning does not create."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _listed(source: Source, split: Split, forgotten: Forgotten, plan: Plan) -> Listing:
    """List a source, count its files, and leave out forgotten recordings."""
    listing = list_source(source, split)
    inventory = listing.inventory
    if inventory.passed_over:
        plan.passed_over[source.name] = most_first(inventory.passed_over)
    plan.recordings_listed += len(inventory.recordings) + len(inventory.refusals)
    if forgotten:
        listing.read_annotations()
        listing.n_forgotten = leave_out_forgotten(source, forgotten, inventory, listing.annotated)
        plan.recordings_forgotten += listing.n_forgotten
    return listing


def _shared_trees(sources: Sequence[Source]) -> dict[str, int]:
    """Return the number of sources that list the same recordings, as a note; nothing if there are none."""
    trees = Counter((s.root, tuple(s.include), tuple(s.exclude)) for s in sources)
    n = sum(count for count in trees.values() if count > 1)
    return {"sources_of_one_tree": n} if n else {}


def with_donor(shard: pa.Table, donor: str) -> pa.Table:
    """Return a shard's plan that takes its clips from a committed shard. donor : key of that shard"""
    return replace_column(shard, "donor", pa.array([donor] * shard.num_rows, pa.string()))


def with_expected(shard: pa.Table, content: str) -> pa.Table:
    """Return a shard's plan that must give the bytes of a record. content : see `Commit.content`"""
    return replace_column(shard, "expected", pa.array([content, *[None] * (shard.num_rows - 1)], pa.string()))


def _divide(
    chain: Chain, collector: ItemCollector, plan: Plan, generations: Mapping[str, int], excluded: ExcludedClips | None
) -> None:
    """Fill in the plan's table, keys, starts and estimates, and the digests of splits. excluded : clips to leave out; None: none"""
    budget = round(chain.config.output.shard_seconds * 1000)
    order: list[npt.NDArray[np.intp]] = []
    places: list[tuple[str, str]] = []
    sizes: list[int] = []
    for split, members, hashes, weights in collector.by_split():
        order.append(members)
        for partition, start, stop in partition_hashes(hashes, weights, budget):
            places.append((split, partition))
            sizes.append(stop - start)
            plan.shard_s.append(float(weights[start:stop].sum()) / 1000)
    if not places:
        return
    plan.digests = replace(plan.digests, of_splits=_digests_without_copies(chain, plan, {split for split, _ in places}))
    plan.starts = [0, *np.cumsum(sizes[:-1]).tolist()]
    rows = in_chunks(np.concatenate(order), sizes)
    del order
    shards = iter(zip(places, sizes, strict=True))
    tables = PlanTable()
    for items in collector.chunks(rows, plan.field_names):
        items = excluded.attach(items) if excluded is not None else items
        start, of_shards = 0, []
        while start < items.num_rows:
            (split, partition), size = next(shards)
            digests = sorted(items["item_digest"].slice(start, size).to_pylist())
            config_digest, clips_digest = plan.digests.of(split)
            key = shard_key(digests, config_digest, split, partition)
            clips_key = shard_key(map(clips_digest_of, digests), clips_digest, split, partition)
            plan.clips_keys.append(clips_key)
            if generation := generations.get(clips_key):
                key, clips_key = digest([key, generation]), digest([clips_key, generation])
            plan.keys.append(key)
            of_shards.append((size, partition, plan.keys[-1], clips_key))
            start += size
        tables.add(items, of_shards)
    plan.table = tables.finish()


def _digests_without_copies(chain: Chain, plan: Plan, splits: set[str]) -> dict[str, tuple[str, str]]:
    """Return the digests of splits whose clips `augment` does not copy: another recipe does not change their shards."""
    plain = {split for split in splits if chain.makes_no_copies(split)}
    if not plain:
        return {}
    clips = digest(clips_fingerprint(chain, plan.field_names, copies=False))
    return dict.fromkeys(sorted(plain), (digest([clips, files_fingerprint(chain)]), clips))


def without(shard: pa.Table, changed: dict[str, tuple[str, str]], config_digest: str) -> pa.Table:
    """Return a shard's plan in which some recordings are rejected without being read, with the key of such a shard.

    changed : reason and detail by item id
    """
    ids = shard["item_id"].to_pylist()
    reasons, details = shard["reason"].to_pylist(), shard["detail"].to_pylist()
    digests = shard["item_digest"].to_pylist()
    for i, item in enumerate(ids):
        if item in changed:
            reasons[i], details[i] = changed[item]
            digests[i] = digest([digests[i], reasons[i]])
    key = shard_key(digests, config_digest, shard["split"][0].as_py(), shard["bucket"][0].as_py())
    # No other shard has these clips, since they are not a function of what was planned.
    columns = {
        "reason": reasons,
        "detail": details,
        "item_digest": digests,
        "key": [key] * len(ids),
        "clips_key": [""] * len(ids),
    }
    for name, values in columns.items():
        shard = replace_column(shard, name, pa.array(values, pa.string()))
    return shard
