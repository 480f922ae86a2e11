"""Find out how evenly labels are spread, and what splits have in common that they should not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.reports.clip_table import ClipTable
from clipmill.schemas.records import Snapshot

_SHOWN = 5
_MOST_VALUES = 0.5
"""A field with more different values than this share of the clips tells clips apart, like a transcript, and groups none."""


@dataclass(frozen=True)
class LabelBalance:
    """How many clips labels have.

    labels : by name, clips and seconds in all, and clips by split; the most frequent first. The empty name: clips without a label
    ratio : clips of the most frequent label for one of the rarest; None with fewer than two labels
    missing : labels that a split with clips lacks, by split
    """

    labels: Mapping[str, Mapping[str, Any]]
    ratio: float | None
    missing: Mapping[str, list[str]]


@dataclass(frozen=True)
class Shared:
    """What is in more than one split.

    recordings : number of recordings with clips in several splits, and examples
    fields : by the corpus's field, the number of values that are in several splits, the number of all values, and examples
    duplicates : numbers of clips with the same samples, as the snapshot has them
    groups : examples of such clips that are in several splits or have several labels, else any: lists of their rows
    """

    recordings: tuple[int, list[str]]
    fields: Mapping[str, tuple[int, int, list[str]]]
    duplicates: Mapping[str, int]
    groups: list[list[dict[str, Any]]] = field(default_factory=list)


def label_balance(snapshot: Snapshot) -> LabelBalance:
    """Return how many clips the labels of a snapshot have, from its sums."""
    seconds = snapshot.seconds
    labels: dict[str, dict[str, Any]] = {
        label: {
            "clips": n,
            "seconds": seconds.by_label.get(label, 0.0),
            "splits": {split: int(own[label]["clips"]) for split, own in snapshot.labels.items() if label in own},
        }
        for label, n in sorted(seconds.clips_by_label.items(), key=lambda item: (-item[1], item[0]))
    }
    named = [about["clips"] for label, about in labels.items() if label]
    ratio = max(named) / min(named) if len(named) > 1 and min(named) else None
    splits = [split for split, sums in sorted(snapshot.by_split.items()) if sums.get("clips")]
    missing = {
        split: [label for label, about in labels.items() if label and not about["splits"].get(split)]
        for split in splits
        if snapshot.labels
    }
    return LabelBalance(labels, ratio, {split: names for split, names in missing.items() if names})


def shared(published: Published, clips: ClipTable) -> Shared:
    """Return what the splits of a snapshot have in common. Where the clips are a sample, so are recordings and values of fields.

    Raises
    ------
    ClipmillError : the table of duplicates is missing or damaged
    """
    table = clips.table
    recordings = _in_several_splits(table, "recording_id")
    fields = {}
    for name in published.snapshot.fields:
        if name not in table.column_names or name in ("text", "raw_text"):
            continue
        n_values = len(pc.unique(table[name]).drop_null())
        if 1 < n_values <= max(2, _MOST_VALUES * table.num_rows):
            found = _in_several_splits(table, name)
            fields[name] = (len(found), n_values, found[:_SHOWN])
    return Shared(
        (len(recordings), recordings[:_SHOWN]), fields, published.snapshot.duplicates, _groups(published.duplicates())
    )


def _in_several_splits(table: pa.Table, name: str) -> list[str]:
    """Return the values of a column that occur in more than one split, sorted."""
    known = table.filter(pc.is_valid(table[name]))
    if not known.num_rows:
        return []
    counts = known.select([name, "split"]).group_by(name, use_threads=False).aggregate([("split", "count_distinct")])
    found: list[str] = counts.filter(pc.greater(counts["split_count_distinct"], 1))[name].to_pylist()
    return sorted(found)


def _groups(duplicates: pa.Table) -> list[list[dict[str, Any]]]:
    """Return a few groups of clips with the same samples: first those that are in several splits or have several labels."""
    if not duplicates.num_rows:
        return []
    names = duplicates["pcm_sha256"].combine_chunks().dictionary_encode()
    codes = names.indices.to_numpy()
    weights = np.zeros(len(names.dictionary), np.int64)
    for column in ("split", "label"):
        kinds = duplicates[column].combine_chunks().fill_null("").dictionary_encode().indices.to_numpy()
        pairs = np.unique(np.stack([codes, kinds]), axis=1)[0]
        weights += (np.bincount(pairs, minlength=len(weights)) > 1) * (2 if column == "split" else 1)
    chosen = np.argsort(-weights, kind="stable")[:_SHOWN]
    return [duplicates.filter(pa.array(codes == code)).slice(0, _SHOWN).to_pylist() for code in chosen]
