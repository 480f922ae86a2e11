"""Make a configuration of what a folder shows, with the evidence for each key."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clipmill.pipelines.proposals.cell_sample import normal
from clipmill.pipelines.proposals.column_guesses import SPEAKERS
from clipmill.pipelines.proposals.commented_yaml import Instead, Part
from clipmill.pipelines.proposals.findings_of_folder import Findings
from clipmill.pipelines.proposals.found_annotations import FoundAnnotations
from clipmill.pipelines.proposals.name_patterns import Names, group_piece, label_pieces
from clipmill.pipelines.proposals.purposes import audio_part, choose_rate, features_part, segment_part
from clipmill.pipelines.proposals.split_choice import (
    Groups,
    split_by_folder,
    split_by_lists,
    split_by_shares,
    split_by_values,
)
from clipmill.schemas.plural import counted
from clipmill.stages.annotations.rows import field_name

_SEPARATORS = (",", ";", "|")
_FEW_SEPARATED = 0.1


@dataclass(frozen=True)
class Way:
    """How far a draft goes. Each step back leaves something out, and says why.

    use : index of the annotations that are used; None: none
    has_labels, has_split : whether labels from names, and a split, are proposed
    rejected_share : share of rows or recordings that may be rejected, None for what headers show
    beyond_share : share of rows that end after their recordings do, of those looked at
    notes : what was left out, and why
    """

    use: int | None = 0
    has_labels: bool = True
    has_own_split: bool = True
    has_split: bool = True
    rejected_share: float | None = None
    beyond_share: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass
class _Labels:
    """The label of a source. part : None without one; of : label by path, from names alone"""

    part: Part | None
    of: dict[str, str]


def draft(seen: Findings, way: Way, output_root: str) -> list[Part]:
    """Return a configuration as parts."""
    used = seen.found[way.use] if way.use is not None and way.use < len(seen.found) else None
    rate_hz = choose_rate(seen.purpose, seen.headers)
    labels = _labels(seen, used, way)
    fields = _fields(seen, labels, used.below if used is not None else "")
    source = _source(seen, used, labels, fields, way)
    parts = [
        Part("name", seen.tree.name),
        Part("sources", [source]),
        audio_part(seen.purpose, seen.headers, rate_hz),
        _clips(seen),
        features_part(seen.purpose, rate_hz),
        _split(seen, used, labels, fields, way),
        _output(seen, output_root),
    ]
    limits = _limits(seen, way)
    return [*parts, *([limits] if limits is not None else [])]


def _source(
    seen: Findings, used: FoundAnnotations | None, labels: _Labels, fields: tuple[str, str] | None, way: Way
) -> list[Part]:
    address = seen.tree.address.rstrip("/") or "/"
    root = f"{address}/{used.below}" if used is not None and used.below else address
    parts = [Part("name", seen.tree.name), Part("root", root, [*seen.tree.text(), *seen.headers.text()])]
    if seen.include is not None:
        copies = ", ".join(f".{extension} {n:,}" for extension, n in seen.copies.most_common())
        parts.append(
            Part(
                "include",
                seen.include,
                [f"the same recordings are there in several encodings ({copies}); one of them is used"],
            )
        )
    parts += _annotations(seen, used, way)
    longest = 0.0
    if used is not None:
        # Rows in samples are longest at the lowest rate, whichever recording the longest one is of.
        lowest = min(seen.headers.lengths.values(), key=lambda length: length.sample_rate_hz or math.inf, default=None)
        longest = used.trial.seconds(used.trial.longest, lowest)
    has_text = used is not None and used.text_field is not None and not used.is_timed
    rows_cut = used is not None and used.is_timed
    parts.append(segment_part(seen.purpose, seen.headers, rows_cut, has_text, longest))
    if labels.part is not None:
        parts.append(labels.part)
    if fields is not None:
        parts.append(Part("fields", fields[0], [fields[1]]))
    if used is not None and used.text_field is not None and seen.purpose.wants_text:
        name = used.text_field
        parts.append(
            Part("text", {"from": name}, ["transcripts are made uniform: Unicode's NFC, single spaces"], [
                Instead("or in small letters and without punctuation", {"from": name, "lower": True, "remove": r"[.,!?;:\"]"}),
            ])
        )  # fmt: skip
    return parts


def _annotations(seen: Findings, used: FoundAnnotations | None, way: Way) -> list[Part]:
    others = [one for one in seen.found if one is not used]
    instead = [
        Instead(f"or {one.key} {one.where!r}: {_why(one)}", one.plain) for one in others[:3] if one.root_below is None
    ]
    because = [*way.notes]
    if used is None:
        if not seen.found and not because:
            because.append("no annotation files were found: labels can only be from names and folders")
        return [Part("annotations", None, because, instead, only_instead=True)]
    address = seen.tree.address.rstrip("/")
    root = f"{address}/{used.root_below}".rstrip("/") if used.root_below is not None else None
    if used.key == "table" and used.covered is None and len(used.trial.recordings) < len(seen.tree.paths):
        because.append("recordings that the table does not name give no clips")
    return [Part("annotations", used.parts(root), because, instead)]


def _why(one: FoundAnnotations) -> str:
    says = [word for word, has in (("times", one.is_timed), ("labels", one.has_label), ("text", one.text_field)) if has]
    return f"{counted(one.trial.n_rows, 'row')} looked at, with {' and '.join(says) or 'fields'}"


def _labels(seen: Findings, used: FoundAnnotations | None, way: Way) -> _Labels:
    """Return where labels come from: rows, a known corpus's pattern, folders, or a part of names."""
    if not way.has_labels:
        return _Labels(None, {})
    names, recipe = seen.names, seen.recipe
    by_folder = names.folder
    if used is not None and used.has_label:
        if used.guessed is None or seen.purpose.wants_text:
            return _Labels(None, {})
        value: dict[str, Any] = {"from": "annotation"}
        separator = _separator(used.trial.n_labels)
        shown = ", ".join(f"{label!r} {count:,}" for label, count in used.trial.n_labels.most_common(8))
        because = [f"{counted(len(used.trial.n_labels), 'label')} in the rows looked at: {shown}"]
        instead = [Instead(f"or the folders, {by_folder.text}", {"from": "folder"})] if by_folder is not None else []
        if separator:
            instead.append(Instead("or each cell as one label", dict(value)))
            value |= {"several": True, **({} if separator == "," else {"separator": separator})}
            because.append(f"cells have several labels, with {separator!r} between them")
        return _Labels(Part("label", value, because, instead), {})
    if recipe is not None and recipe.label is not None:
        because = [f"names are those of the recipe {recipe.name}: {recipe.because}"]
        return _Labels(Part("label", recipe.label, because), _matched(seen, recipe.label["regex"], "label"))
    if seen.purpose.wants_text:
        return _Labels(None, {})
    pieces = _piece_labels(names)
    if by_folder is not None:
        return _Labels(
            Part("label", {"from": "folder"}, [f"the folders look like labels: {by_folder.text}"], pieces[:2]),
            by_folder.of,
        )
    if pieces:
        at = label_pieces(names)[0]
        piece = names.pieces[at]
        because = [
            f"{names.n_alike:,} of {names.n:,} names have {counted(len(names.pieces), 'part')}; part {at + 1} has {piece.text}"
            + ("" if piece.name == "emotion" else "; whether it is the label is a guess")
        ]
        return _Labels(Part("label", pieces[0].value, because, pieces[1:3]), piece.of)
    because = ["nothing shows labels; clips will have none"]
    return _Labels(Part("label", None, because, [Instead("or one label for all", "sound")], only_instead=True), {})


def _separator(labels: Counter[str]) -> str:
    """Return what stands between labels in cells that have several, or an empty text: their parts occur alone, or again and again."""
    for separator in _SEPARATORS:
        split = [[part.strip() for part in label.split(separator)] for label in labels if separator in label]
        parts = Counter(part for each in split for part in each)
        again = sum(n > 1 or part in labels for part, n in parts.items())
        if len(split) >= _FEW_SEPARATED * len(labels) and again >= len(parts) / 2:
            return separator
    return ""


def _piece_labels(names: Names) -> list[Instead]:
    """Return labels by parts of names, the likeliest first. The other parts with few values are fields."""
    several = []
    for at in label_pieces(names):
        groups = [
            (i, "label" if i == at else piece.name if piece.name != "emotion" else f"part{i + 1}")
            for i, piece in enumerate(names.pieces)
        ]
        groups = [(i, name) for i, name in groups if i == at or len(names.pieces[i].values) > 1]
        several.append(
            Instead(
                f"or part {at + 1} of the names, {names.pieces[at].text}",
                {"from": "path", "regex": names.name_regex(groups)},
            )
        )
    return several


def _matched(seen: Findings, pattern: str, group: str) -> dict[str, str]:
    """Return what a pattern of a recipe finds, by path, of some recordings."""
    import regex

    compiled = regex.compile(pattern)
    paths = seen.tree.paths[:: max(1, len(seen.tree.paths) // 20_000)]
    matches = ((path, compiled.search(path, timeout=1.0)) for path in paths)
    return {path: match[group] for path, match in matches if match is not None and match[group] is not None}


def _fields(seen: Findings, labels: _Labels, below: str) -> tuple[str, str] | None:
    """Return a regular expression for fields of paths, and what it finds: splits and speakers in folders, and parts of names.

    below : folder that the source begins at
    """
    names = seen.names
    n_below = len(below.split("/")) if below else 0
    has_names = (
        labels.part is not None and isinstance(labels.part.value, dict) and labels.part.value.get("from") == "path"
    )
    if names.split_folder is not None:
        piece, depth = names.split_folder
        either = "|".join(sorted(piece.values))
        return f"{_levels(depth - n_below)}(?P<set>{either})/", f"folders are a split: {piece.text}"
    if names.speaker_folder is not None:
        piece, depth = names.speaker_folder
        return f"{_levels(depth - n_below)}(?P<speaker>[^/]+)/", f"folders look like speakers: {piece.text}"
    if seen.recipe is not None and seen.recipe.fields is not None:
        return seen.recipe.fields, f"as in the recipe {seen.recipe.name}"
    at = group_piece(names, labels.of)
    if at is not None and not has_names:
        piece = names.pieces[at]
        name = piece.name if piece.name == "speaker" else "origin"
        what = "speakers" if name == "speaker" else "ids of longer recordings, each of one label"
        return names.name_regex([(at, name)]), f"part {at + 1} of the names looks like {what}: {piece.text}"
    return None


def _levels(depth: int) -> str:
    return f"^(?:[^/]+/){{{depth}}}" if depth > 0 else "^"


def _groups(seen: Findings, used: FoundAnnotations | None, labels: _Labels, fields: tuple[str, str] | None) -> Groups:
    """Return what must be on one side of the split."""
    by, of, because = "recording", {}, ""
    if used is not None:
        found = [name for name in used.trial.fields if normal(name) in SPEAKERS]
        if found:
            by = found[0]
            of = {path: sorted(values)[0] for path, values in used.trial.fields[by].items()}
            because = f"no speaker is on two sides: the field {by!r} of annotations has {counted(len(set(of.values())), 'value')}"
    pattern = fields[0] if fields is not None else ""
    if not of:
        sources = [(pattern, name) for name in ("speaker", "origin") if f"(?P<{name}>" in pattern]
        label = labels.part.value if labels.part is not None and isinstance(labels.part.value, dict) else {}
        recipe_by = seen.recipe.by if seen.recipe is not None else None
        for name in (recipe_by, "speaker"):
            if name is not None and f"(?P<{name}>" in str(label.get("regex", "")):
                sources.append((str(label["regex"]), name))
            elif name is not None and f"(?P<{name}>" in pattern:
                sources.append((pattern, name))
        if sources:
            by = sources[0][1]
            of = _matched(seen, *sources[0])
            because = f"what has the same {by} is on one side: {counted(len(set(of.values())), 'value')} in the names"
    if len(set(of.values())) < 2:
        if of:
            because = f"there is only one {by}, so recordings are divided"
        by, of = "recording", {}
    paths = (
        sorted(used.trial.recordings)
        if used is not None and used.covered is None and used.trial.recordings
        else seen.tree.paths
    )
    n = len(set(of.values())) if of else (used.covered or len(paths)) if used is not None else len(paths)
    return Groups(by, n, _labels_of_groups(used, labels, of, paths), because)


def _labels_of_groups(
    used: FoundAnnotations | None, labels: _Labels, of: dict[str, str], paths: Sequence[str]
) -> Counter[str]:
    """Return the number of groups by label; empty if a group has several labels, or most labels are of one group."""
    by_group: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        found = (
            used.trial.labels.get(path, set())
            if used is not None and used.has_label
            else {labels.of[path]}
            if path in labels.of
            else set()
        )
        by_group[of.get(path, path)] |= found
    if labels.part is not None and isinstance(labels.part.value, dict) and labels.part.value.get("several"):
        return Counter()
    counts = Counter(next(iter(each)) for each in by_group.values() if len(each) == 1)
    if any(len(each) != 1 for each in by_group.values()) or (used is not None and used.is_timed):
        return Counter()
    return counts if len(counts) <= max(2, sum(counts.values()) / 5) else Counter()


def _split(
    seen: Findings, used: FoundAnnotations | None, labels: _Labels, fields: tuple[str, str] | None, way: Way
) -> Part:
    if not way.has_split:
        return Part("split", {"train": 1.0}, ["no split: everything is for training"])
    shares = split_by_shares(_groups(seen, used, labels, fields))
    own: Part | None = None
    if way.has_own_split:
        own = _own_split(seen, used, fields)
    if own is None:
        return shares
    own.instead.append(Instead("or by shares", shares.value))
    return own


def _own_split(seen: Findings, used: FoundAnnotations | None, fields: tuple[str, str] | None) -> Part | None:
    if seen.lists.files:
        return split_by_lists(seen.lists)
    guessed = used.guessed if used is not None else None
    column = guessed.split if guessed is not None else None
    if used is not None and guessed is not None and column is not None:
        stored = next((n for n in (field_name(column.name), "set") if n in used.trial.fields), None)
        if stored is not None:
            found = split_by_values(
                stored,
                column.values,
                f"the column {column.where!r}",
                is_all=guessed.is_whole and used.n_files == 1,
            )
            if found is not None:
                return found
    if fields is not None and "(?P<set>" in fields[0] and seen.names.split_folder is not None:
        return split_by_folder(seen.names.split_folder[0])
    return None


def _clips(seen: Findings) -> Part:
    """Return the clip stages that are usual for a purpose; those that drop clips only as lines to uncomment."""
    if seen.purpose.name == "tts":
        value = [
            {"trim": {"below_dbfs": -45, "pad_s": 0.05}},
            {"level": {"to": "lufs", "target": -23, "true_peak_dbtp": -1}},
        ]
        because = [
            "for synthesis: silence at both ends is trimmed, and all clips get the same loudness; see docs/signals.md"
        ]
        return Part("clips", value, because)
    others = [Instead("to leave out silent clips", [{"silence": {"min_dbfs": -60.0}}])]
    if seen.purpose.wants_text:
        others.append(
            Instead(
                "to measure how noisy clips are, and drop the worst",
                [{"measure": ["snr"]}, {"keep": {"snr_db": {"min": 5}}}],
            )
        )
    return Part(
        "clips",
        None,
        ["no clip is dropped or changed; see docs/signals.md for stages that do"],
        others,
        only_instead=True,
    )


def _output(seen: Findings, root: str) -> Part:
    value: dict[str, Any] = {"root": root, "formats": ["parquet"]}
    if seen.purpose.has_images:
        value["images"] = {"height": 224, "width": 224}
    more = {**value, "formats": ["parquet", "webdataset"]}
    return Part("output", value, ["where the dataset is written"], [Instead("or with WebDataset shards as well", more)])


def _limits(seen: Findings, way: Way) -> Part | None:
    share, because = way.rejected_share, []
    if seen.headers.unread:
        share = max(share or 0.0, math.ceil(100 * min(1.0, 2 * seen.headers.unread_share + 0.02)) / 100)
        because.append(
            f"{seen.headers.unread_share:.1%} of the headers could not be read, so more may be rejected than the usual hundredth; lower it once"
            " `clipmill failures` shows nothing that should not be rejected"
        )
    if way.beyond_share > 0:
        share = max(share or 0.0, math.ceil(100 * min(1.0, 1.5 * way.beyond_share + 0.01)) / 100)
        because.append(
            f"{way.beyond_share:.1%} of the annotation rows looked at end after their recordings do, and will be rejected"
        )
    if share is None:
        return None
    if way.rejected_share is not None:
        because.append(
            "the plan rejects this many rows or recordings already; `clipmill failures` shows them after a build"
        )
    return Part("limits", {"max_rejected_share": share}, because)
