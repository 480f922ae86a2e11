"""Find the column of labels in files of a format that has its own, where the files lack it: people add one under a name of theirs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clipmill.pipelines.plan.annotations.join import Join
from clipmill.pipelines.proposals.cell_sample import normal
from clipmill.pipelines.proposals.column_guesses import LABELS, RECORDINGS, SPEAKERS, SPLITS
from clipmill.pipelines.proposals.commented_yaml import Instead
from clipmill.pipelines.proposals.found_annotations import FoundAnnotations
from clipmill.pipelines.proposals.row_trial import File, try_rows
from clipmill.schemas.config.annotation_roles import role_elsewhere
from clipmill.schemas.plural import counted
from clipmill.stages.annotations.registered import find_format

_WORD = re.compile(r"[^\W\d_]")
_MOST_TRIED = 6
_LONGEST_LABEL = 60
_OTHERS = RECORDINGS | SPEAKERS | SPLITS | {"view", "begin_path", "begin_file"}


def name_label(found: FoundAnnotations, files: Sequence[File], join: Join | None, wants_text: bool) -> None:
    """Set the column of labels of a format whose rows have none: by its name, or because it has few values. Offer the others."""
    if found.trial.n_labels or not found.trial.n_rows or "label" not in find_format(found.format).roles:
        return
    values = {name: set().union(*of.values()) for name, of in found.trial.fields.items()}
    named = [name for name in values if normal(name) in LABELS or role_elsewhere(name) == "label"]
    few = [
        name
        for name, own in values.items()
        if name not in named and 1 < len(own) <= max(2, found.trial.n_rows / 2) and normal(name) not in _OTHERS
    ]
    tried: list[tuple[str, str]] = []
    for stored in [*named, *few][:_MOST_TRIED]:
        if not _are_labels(values[stored]):
            continue
        column = stored.removeprefix("annotation_")
        trial = try_rows({**found.plain, "columns": {"label": column}}, files, join)
        if not trial.n_labels:
            continue
        shown = ", ".join(repr(label[:30]) for label, _ in trial.n_labels.most_common(5))
        tried.append((column, f"{counted(len(trial.n_labels), 'value')}, such as {shown}"))
        if len(tried) == 1 and not wants_text:
            found.trial = trial
    if not tried:
        return
    if not wants_text:
        column, text = tried.pop(0)
        found.keys["columns"] = {"label": column}
        own = find_format(found.format).roles["label"]
        found.because["columns"] = [f"the files have no column {own!r}; {column!r} has {text}"]
    found.instead["columns"] = [Instead(f"or another label: {text}", {"label": column}) for column, text in tried]


def _are_labels(values: set[str]) -> bool:
    return sum(_WORD.search(one) is not None and len(one) <= _LONGEST_LABEL for one in values) >= 0.6 * len(values)
