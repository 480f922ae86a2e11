"""Count what became of every recording, annotation and candidate clip of a shard, and check that the sums add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.schemas.account import Account
from clipmill.schemas.errors import ClipmillError, InputChangedError
from clipmill.schemas.label_columns import LABELS_COLUMN, labels_of
from clipmill.schemas.reasons import INPUT_CHANGED
from clipmill.schemas.records import Counts, Seconds
from clipmill.schemas.statistics import Saturation
from clipmill.schemas.tables import AUGMENTED_FROM


class Ledger:
    """Counts the rows of a shard as they arrive.

    plan : rows of `clipmill.schemas.tables.PLAN`, all of one shard
    stage_of_reason : the section of the stage that rejects for a reason, by reason
    counts, seconds, saturation : sums over the items that have ended; saturation by source
    rejections : rows for the commit
    dropped_clips : of the items that have ended, tables of the clips that were dropped by their measured columns
    recordings : rows of `clipmill.schemas.tables.RECORDINGS`
    """

    def __init__(self, plan: pa.Table, stage_of_reason: Mapping[str, str]) -> None:
        self._stage_of_reason = stage_of_reason
        items = plan["item_id"].to_pylist()
        self._primary = dict(zip(items, plan["primary"].to_pylist(), strict=True))
        n_annotations = pc.fill_null(pc.list_value_length(plan["annotations"]), 0).to_pylist()
        self._annotations = dict(zip(items, n_annotations, strict=True))
        known = [plan[name].to_pylist() for name in ("recording_id", "version", "item_digest")]
        self._planned = dict(zip(items, zip(*known, strict=True), strict=True))
        self._sources = dict(zip(items, plan["source"].to_pylist(), strict=True))
        self._rejected_in_plan = {
            item for item, reason in zip(items, plan["reason"].to_pylist(), strict=True) if reason is not None
        }
        self.counts = Counts()
        self.seconds = Seconds()
        self.saturation: dict[str, Saturation] = {}
        self._clear_item()
        self._n_ends: Counter[str] = Counter()
        self._problems: list[str] = []
        self._ids: set[str] = set()
        self._changed_inputs: dict[str, tuple[str, str]] = {}
        self.rejections: list[dict[str, Any]] = []
        self.dropped_clips: list[pa.Table] = []
        self.recordings: list[dict[str, Any]] = []
        self._first_remarks: dict[tuple[str, str], dict[str, Any]] = {}
        self._more_remarks: Counter[tuple[str, str]] = Counter()

    def voided_until(self, rows: pa.Table) -> int | None:
        """Return the index of the first row that counts if earlier rows of the item are void, None if they count.

        That is the row that rejects the whole item, or the one after a row that announces that the item is repeated.
        """
        kinds, states = rows["kind"].to_pylist(), rows["status"].to_pylist()
        place = next((i for i, kind in enumerate(kinds) if kind in ("recording", "span")), None)
        if "void" in states:
            place = len(states) - states[::-1].index("void")
        if place is not None:
            self._clear_item()
        return place

    def _clear_item(self) -> None:
        self._item, self._item_seconds = Counts(), Seconds()
        self._item_kept_s, self._item_by_label = 0.0, dict[str, float]()
        self._item_saturation, self._item_saturated = Saturation(), dict[str, int]()
        self._item_rejections: list[dict[str, Any]] = []
        self._item_remarks: list[dict[str, Any]] = []
        self._item_ids: list[str] = []
        self._item_dropped: list[pa.Table] = []

    def count(self, item: str, rows: pa.Table, clips: pa.Table) -> None:
        """Add rows of one item to the sums. clips : those of the rows that are clips"""
        light = rows.select([n for n in rows.column_names if n in _COUNTED_COLUMNS])
        for row in light.to_pylist():
            status = row["status"]
            if status == "account":
                self._item += Counts(clips_candidates=row["n_candidates"], annotations_used=row["n_annotations"])
                self._item_seconds += Seconds(decoded_s=row["decoded_s"] or 0.0)
            elif status == "dropped":
                self._item += Counts(dropped={row["rule"]: row["count"]})
            elif status == "rejected":
                self._reject(item, row)
        self._item_ids.extend(clips["clip_id"].to_pylist())
        n_stored, clips = clips.num_rows, originals(clips)
        self._item += Counts(clips_kept=clips.num_rows, clips_augmented=n_stored - clips.num_rows)
        labels = list(map(labels_of, clips[LABELS_COLUMN].to_pylist(), clips["label"].to_pylist()))
        # One after the other, so that the sums do not depend on how clips are divided among tables.
        for own, duration in zip(labels, clips["duration_s"].to_pylist(), strict=True):
            self._item_kept_s += duration
            for label in own:
                self._item_by_label[label] = self._item_by_label.get(label, 0.0) + duration
        self._item_seconds += Seconds(clips_by_label=dict(Counter(label for own in labels for label in own)))
        if rows["remarks"].null_count < rows.num_rows:
            self._item_remarks += rows.select(_REMARK_COLUMNS).filter(pc.is_valid(rows["remarks"])).to_pylist()
        n_samples = sum(
            n * k for n, k in zip(clips["n_samples"].to_pylist(), clips["n_channels"].to_pylist(), strict=True)
        )
        saturated = clips["saturated_samples"].to_pylist()
        self._item_saturation += Saturation(clips.num_rows, n_samples, sum(saturated))
        if any(saturated):
            ids = clips["clip_id"].to_pylist()
            self._item_saturated |= {clip: n for clip, n in zip(ids, saturated, strict=True) if n}

    def list_dropped(self, clips: pa.Table) -> None:
        """Keep the rows of clips that were dropped by their measured columns. clips : see `StoredClips.dropped_clips`"""
        self._item_dropped.append(clips)

    def _reject(self, item: str, row: dict[str, Any]) -> None:
        kind, reason = row["kind"], row["reason"]
        names = {"recording": "recordings_rejected", "span": "spans_rejected", "annotation": "annotations_rejected"}
        one: dict[str, Any] = {names.get(kind, "clips_rejected"): 1, "rejected": {reason: 1}}
        self._item += Counts(**one)
        self._item_rejections.append(
            {
                "kind": kind,
                "reason": reason,
                "stage": "annotate"
                if kind == "annotation"
                else self._stage_of_reason.get(reason, _STAGES.get(kind, "segment")),
                **{k: row[k] for k in ("source", "recording_id", "source_uri", "file", "line", "start_s", "detail")},
            }
        )
        if reason in INPUT_CHANGED and item not in self._rejected_in_plan:
            self._changed_inputs[item] = (reason, row["detail"])

    def end(self, item: str) -> None:
        """Check the sums of an item that has ended, and add them to those of the shard."""
        c = self._item
        self._item_seconds += Seconds(kept_s=self._item_kept_s, by_label=self._item_by_label)
        if self._primary.get(item) and not c.recordings_rejected:
            self._item += Counts(recordings_used=1)
        if c.annotations_used + c.annotations_rejected != self._annotations.get(item):
            self._problems.append(
                f"{item}: {self._annotations.get(item)} annotations planned, but {c.annotations_used} used"
                f" + {c.annotations_rejected} rejected"
            )
        self._problems.extend(f"{item}: {problem}" for problem in c.problems())
        n_before = len(self._ids)
        self._ids.update(self._item_ids)
        if len(self._ids) - n_before != len(self._item_ids):
            self._problems.append(f"{item}: a clip id occurs twice")
        self.counts += self._item
        self.seconds += self._item_seconds
        if self._item_saturation.clips:
            source = self._sources[item]
            self.saturation[source] = self.saturation.get(source, Saturation()) + self._item_saturation
        self.rejections.extend(self._item_rejections)
        if self._item_dropped:  # in an order that does not depend on which of them were dropped before
            clips = pa.concat_tables(self._item_dropped)
            self.dropped_clips.append(clips.sort_by([("start_s", "ascending"), ("clip_id", "ascending")]))
        self._n_ends[item] += 1
        recording_id, version, item_digest = self._planned.get(item, (None, None, None))
        whole = [r["reason"] for r in self._item_rejections if r["kind"] in ("recording", "span")]
        self.recordings.append(
            {
                "item_id": item,
                "recording_id": recording_id,
                "version": version,
                "clips": self._item.clips_kept,
                "reason": whole[0] if whole else None,
                "item_digest": item_digest,
                "account": Account(
                    self._item, self._item_seconds, self._item_saturation, self._item_saturated
                ).to_json(),
            }
        )
        if not whole:
            self._remark()
        self._clear_item()

    def _remark(self) -> None:
        """Add the remarks on an item that was used. Parts of one recording count as one recording."""
        for row in self._item_remarks:
            of = {name: row[name] for name in ("source", "recording_id", "source_uri")}
            for remark in row["remarks"]:
                place = (remark["code"], row["recording_id"])
                if place not in self._first_remarks:
                    self._first_remarks[place] = {"code": remark["code"], **of, "detail": remark["detail"]}
                    self.counts += Counts(remarked={remark["code"]: 1})
                elif self._first_remarks[place]["detail"] != remark["detail"]:
                    self._more_remarks[place] += 1

    @property
    def remarks(self) -> list[dict[str, Any]]:
        """Return rows for the commit, one per code and recording, with the first detail and the number of others."""
        return [
            {**row, "detail": f"{row['detail']} (and {n:,} more)"} if (n := self._more_remarks[place]) else row
            for place, row in self._first_remarks.items()
        ]

    def check(self) -> None:
        """Raise an error if the sums are wrong or inputs changed.

        Raises
        ------
        ClipmillError : something was lost or counted twice
        InputChangedError : recordings changed after they were planned
        """
        if self._changed_inputs:
            raise InputChangedError(self._changed_inputs)
        wrong = [item for item in self._primary if self._n_ends[item] != 1]
        if wrong or self._n_ends.keys() - self._primary.keys():
            self._problems.append(f"{len(wrong)} planned recordings did not end exactly once, e.g. {wrong[:1]}")
        if self._problems:
            raise ClipmillError(
                "the accounting of a shard does not add up, so it is not committed: " + "; ".join(self._problems[:5])
            )


def originals(clips: pa.Table) -> pa.Table:
    """Return clips without the copies that `augment` made of them, which sums and statistics leave out."""
    if AUGMENTED_FROM not in clips.column_names:
        return clips
    return clips.filter(pc.is_null(clips[AUGMENTED_FROM]))


_STAGES = {"recording": "decode", "span": "decode"}
_COUNTED_COLUMNS = frozenset(
    "status n_candidates n_annotations decoded_s rule count kind reason detail file line start_s last source recording_id "
    "source_uri".split()
)
_REMARK_COLUMNS = ["source", "recording_id", "source_uri", "remarks"]
