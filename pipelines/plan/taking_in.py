"""Make the items of recordings and their annotations, and count what becomes of the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from clipmill.pipelines.plan.annotations.annotated import Rows, Unusable
from clipmill.pipelines.plan.block_outcome import Outcome
from clipmill.pipelines.plan.items import Item, ItemMaker, PathReader, noted_of
from clipmill.pipelines.plan.listing import source_root
from clipmill.pipelines.plan.recording_list import Recording
from clipmill.pipelines.plan.refused import RefusedError
from clipmill.pipelines.plan.split_rule import SplitRule
from clipmill.schemas.config import Config, Source
from clipmill.schemas.config.label_config import From
from clipmill.stages.annotations.rows import Row


class Intake:
    """Make the items of a source's recordings. The configuration is looked up once, not for each recording."""

    def __init__(self, config: Config, source: Source, rule: SplitRule) -> None:
        self._source, self.rule = source, rule
        self._reader, self.maker = PathReader(source), ItemMaker(config, source, rule)

    def items(self, annotated: Iterable[tuple[Recording, Rows | Unusable | None]], outcome: Outcome) -> Iterator[Item]:
        """Yield the items of recordings, and count everything else in an outcome.

        annotated : recordings, each with its rows, which are used up
        """
        source, maker = self._source, self.maker
        for recording, rows in annotated:
            if isinstance(rows, Unusable):
                detail = f"{rows.file}: {rows.detail}"
                outcome.rejections += reject(outcome, source, "annotate", recording.path, rows.reason, detail, [])
                continue
            outcome.annotations_read += len(rows or ())
            if source.annotations is not None and rows is None:
                outcome.recordings_without_annotations += 1
                continue
            try:
                label, fields = self._reader.read(recording.path)
                labels: list[str] | None = None
                if rows and maker.label_from_rows:
                    first = rows[0][1].label
                    _leave_out_dropped(rows, maker, outcome)
                    if not rows and not source.labels_by_overlap:
                        outcome.recordings_dropped[str(first)] += 1
                        continue
                if maker.labels.makes_lists and not maker.label_from_rows:
                    labels = self._labels_in_path(label)
                    if labels is None:
                        outcome.recordings_dropped[str(label)] += 1
                        outcome.annotations_dropped[str(label)] += len(rows or ())
                        continue
                    label = None
                elif label is not None:
                    if maker.labels.drops(label):
                        outcome.recordings_dropped[label] += 1
                        outcome.annotations_dropped[label] += len(rows or ())
                        continue
                    label = maker.labels.name(label)
                elif isinstance(source.label, From) and source.label.from_ == "path":
                    label = maker.labels.of_unlabelled()
                noted = maker.texts.add_to(fields, None) if maker.texts is not None and rows is None else ()
                items = maker.items(recording, label, fields, rows, labels)
            except RefusedError as error:
                outcome.rejections += reject(
                    outcome, source, "plan", recording.path, error.reason, error.detail, rows or []
                )
                continue
            outcome.annotations_merged += maker.take_merged()
            outcome.noted.update(noted_of(items))
            outcome.noted.update(noted)
            yield from items

    def _labels_in_path(self, text: str | None) -> list[str] | None:
        """Return the labels of a recording by the text in its path, None if all of them are left out. Raises RefusedError as `names` does."""
        rule = self.maker.labels
        texts = rule.texts_of(text) if text is not None else []
        left = rule.left(texts)
        if texts and not left:
            return None
        if not texts:
            default = rule.of_unlabelled()
            return [default] if default is not None else []
        return rule.names(left)


def reject(
    outcome: Outcome, source: Source, stage: str, path: str, reason: str, detail: str, rows: Rows
) -> list[dict[str, Any]]:
    """Count a recording and its annotations as rejected before any shard. Return the rows for the table of rejections."""
    outcome.recordings_rejected += 1
    outcome.annotations_rejected += len(rows)
    rejections = [rejection("recording", reason, stage, source, path, detail)]
    for file, row in rows:
        refused = rejection("annotation", row.reason or "recording_rejected", stage, source, path, row.detail)
        rejections.append({**refused, "file": file, "line": row.line})
    return rejections


def rejection(
    kind: str, reason: str, stage: str, source: Source, path: str | None, detail: str | None
) -> dict[str, Any]:
    """Return a row for the table of rejections. path : of the recording, None if the row belongs to none"""
    return {
        "kind": kind,
        "reason": reason,
        "stage": stage,
        "source": source.name,
        "recording_id": f"{source.name}/{path}" if path is not None else None,
        "source_uri": source_root(source).uri(path) if path is not None else None,
        "file": None,
        "line": None,
        "start_s": None,
        "detail": detail,
    }


def _leave_out_dropped(rows: Rows, maker: ItemMaker, outcome: Outcome) -> None:
    """Remove and count the rows of a recording whose labels the configuration leaves out."""
    kept = []
    for pair in rows:
        _, row = pair
        if (dropped := _dropped_label(row, maker)) is not None and row.reason is None:
            outcome.annotations_dropped[dropped] += 1
        else:
            kept.append(pair)
    rows[:] = kept


def _dropped_label(row: Row, maker: ItemMaker) -> str | None:
    """Return the label for which a row is left out, or all of its labels if it can have several; None if it is not left out."""
    if not maker.labels.makes_lists:
        return str(row.label) if maker.labels.drops(row.label) else None
    try:
        texts = maker.labels.texts_of_row(row)
    except RefusedError:
        return None
    return ", ".join(sorted(texts)) if texts and not maker.labels.left(texts) else None
