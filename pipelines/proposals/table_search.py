"""Find tables that name recordings, and the column in which they do."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from clipmill.pipelines.plan.annotations.table_paths import TablePaths
from clipmill.pipelines.proposals.cell_sample import HEAD_BYTES, CellSample, Column, normal, sample_cells
from clipmill.pipelines.proposals.column_guesses import ALL, RECORDINGS
from clipmill.pipelines.proposals.commented_yaml import Instead
from clipmill.pipelines.proposals.file_heads import whole_lines
from clipmill.pipelines.proposals.format_labels import name_label
from clipmill.pipelines.proposals.found_annotations import TREE_BYTES, FoundAnnotations
from clipmill.pipelines.proposals.header_facts import Headers
from clipmill.pipelines.proposals.layouts import lay_out
from clipmill.pipelines.proposals.row_trial import File, Trial, completed, try_rows
from clipmill.pipelines.proposals.tree_survey import Tree
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.plural import counted
from clipmill.stages.annotations.formats.auto_files import kind_of
from clipmill.stages.annotations.registered import find_format
from clipmill.stages.annotations.rows import UnreadableError
from clipmill.stages.storage.root import split_name

_MOST_TABLES = 60
_LARGEST_BESIDE = 32 << 20
_ENOUGH = 0.5
_FEW = 0.02
_NEARLY_ALL = 0.95
_JOIN_ROWS = 400
_TOKENS = re.compile(r"[^_.\- ]+")
_FOLDER_FORMATS = {"wav.scp": "kaldi", "utt2spk": "kaldi", "segments": "kaldi"}
_TABLE_EXTENSIONS = frozenset(
    "csv tsv txt json jsonl rttm ctm stm uem lst list scp tab psv meta dat gz ndjson map".split()
)


def find_tables(tree: Tree, headers: Headers, beside: set[str], wants_text: bool) -> list[FoundAnnotations]:
    """Return the annotations that tables give, without those of which nearly no row fits a recording.

    beside : paths of files that belong to single recordings
    """
    found: list[FoundAnnotations] = []
    known: dict[tuple[str, str], list[str]] = defaultdict(list)
    plain: list[str] = []
    for path in _candidates(tree, beside):
        kind = _kind(tree, path)
        if kind is None:
            plain.append(path)
        elif find_format(kind).recording:
            known[kind, _ending(path)].append(path)
    for folder in sorted(
        {path.rpartition("/")[0] for path in tree.others if path.rpartition("/")[2] in _FOLDER_FORMATS}
    ):
        known["kaldi", folder].append(folder or ".")
    for (kind, _), paths in known.items():
        one = _of_format(tree, headers, kind, paths, wants_text)
        found += [one] if one is not None else []
    for path in plain:
        table = _of_cells(tree, headers, path, wants_text)
        found += [table] if table is not None else []
    return [*_joined_tables(tree, found), *found]


def _joined_tables(tree: Tree, tables: Sequence[FoundAnnotations]) -> list[FoundAnnotations]:
    """Return tables that are parts of one, such as those of train and test: laid out alike, and about different recordings."""
    alike: dict[str, list[FoundAnnotations]] = defaultdict(list)
    for one in tables:
        if one.format == "csv":
            keys = {key: value for key, value in one.keys.items() if key != "missing_recordings"}
            alike[f"{posixpath.dirname(one.where)} {_ending(one.where)} {keys}"].append(one)
    whole = []
    for parts in alike.values():
        n_each = [len(one.trial.recordings) for one in parts]
        everything = set().union(*(one.trial.recordings for one in parts))
        if len(parts) < 2 or len(everything) < _NEARLY_ALL * sum(n_each):
            continue
        pattern = _pattern_of([one.where for one in parts], tree.others)
        if pattern is not None:
            whole.append(_as_one(tree, pattern, parts))
    return whole


def _pattern_of(paths: list[str], others: Sequence[str]) -> str | None:
    """Return a pattern that fits these files of a folder, and no others."""
    folder, names = posixpath.dirname(paths[0]), [posixpath.basename(path) for path in paths]
    start = posixpath.commonprefix(names)
    end = posixpath.commonprefix([name[len(start) :][::-1] for name in names])[::-1]
    prefix = f"{folder}/" if folder else ""
    for pattern in (f"{start}*{end}", f"*.{_ending(paths[0])}"):
        fitting = TablePaths(Annotations.model_validate({"table": prefix + pattern, "recording": 0})).tables(others)
        if sorted(fitting) == sorted(paths):
            return prefix + pattern
    return None


def _as_one(tree: Tree, pattern: str, parts: list[FoundAnnotations]) -> FoundAnnotations:
    keys = dict(parts[0].keys)
    keys.pop("missing_recordings", None)
    files = [
        File(one.where, one.where, whole_lines(tree.root.read_bytes(one.where, HEAD_BYTES), HEAD_BYTES)[0])
        for one in parts
    ]
    trial = try_rows({"table": pattern, **keys}, files, tree.join)
    found = FoundAnnotations("table", pattern, keys, trial, guessed=parts[0].guessed, n_files=len(parts))
    found.because = {
        **parts[0].because,
        "table": [_joined(trial), f"tables with the same columns: {', '.join(repr(one.where) for one in parts)}"],
    }
    found.because.pop("missing_recordings", None)
    found.instead = dict(parts[0].instead)
    found.instead.pop("missing_recordings", None)
    _allow_missing(found)
    return found


def _candidates(tree: Tree, beside: set[str]) -> list[str]:
    """Return paths of files that may be tables, those near the root first."""
    paths = [
        path
        for path in tree.others
        if path not in beside
        and split_name(path)[2] in _TABLE_EXTENSIONS
        and (split_name(path)[2] != "gz" or path.endswith((".jsonl.gz", ".json.gz")))
        and path.rpartition("/")[2].partition(".")[0].lower()
        not in ("readme", "license", "licence", "licences", "source")
    ]
    return sorted(paths, key=lambda path: (path.count("/"), path))[:_MOST_TABLES]


def _kind(tree: Tree, path: str) -> str | None:
    if path.endswith((".jsonl.gz", ".json.gz")):
        return "lhotse"
    try:
        content = tree.root.read_bytes(path, HEAD_BYTES)
    except tree.root.errors:
        return None
    try:
        return kind_of(content, "auto", path).name
    except UnreadableError:
        return None


def _ending(path: str) -> str:
    """Return what follows the first dot of a file's name."""
    return path.rpartition("/")[2].partition(".")[2]


def _of_format(tree: Tree, headers: Headers, kind: str, paths: list[str], wants_text: bool) -> FoundAnnotations | None:
    """Return the annotations of tables of one format: of one, or of a pattern for several."""
    where = paths[0]
    if len(paths) > 1 and kind not in ("kaldi", "lhotse"):
        where = f"**/*.{_ending(paths[0])}"
    keys: dict[str, Any] = {"format": kind}
    files = _files(tree, kind, where, paths)
    trial = try_rows({"format": kind, "table": where}, files, tree.join)
    headers.add(sorted(trial.recordings))
    if trial.joined_share < _FEW or not trial.n_joined:
        return None
    found = FoundAnnotations("table", where, keys, trial, n_files=len(paths))
    found.because["format"] = [f"{paths[0]!r} begins like this format: {find_format(kind).about}"]
    found.because["table"] = [_joined(found.trial)]
    if len(paths) > 1:
        found.because["table"].append(f"{len(paths):,} files, such as {', '.join(map(repr, paths[:3]))}")
        if where in paths:
            found.instead["table"] = [Instead("or", path) for path in paths[1:4]]
    name_label(found, files, tree.join, wants_text)
    _allow_missing(found)
    return found


def _files(tree: Tree, kind: str, where: str, paths: list[str]) -> list[File]:
    """Return the tables of a format with what belongs to them; none if they cannot be configured without more keys."""
    spec = completed({"format": kind, "table": where})
    if spec is None:
        return []
    files = []
    others = set(tree.others)
    for path in paths[:20]:
        one = completed({"format": kind, "table": path})
        parts = TablePaths(one or spec).parts(path, others)
        try:
            if parts:
                content = {name: tree.root.read_bytes(part, _LARGEST_BESIDE) for name, part in parts.items()}
                files.append(File(path, path, content))
            elif path in others:
                files.append(File(path, path, whole_lines(tree.root.read_bytes(path, TREE_BYTES), TREE_BYTES)[0]))
        except tree.root.errors:
            continue
    return files


def _of_cells(tree: Tree, headers: Headers, path: str, wants_text: bool) -> FoundAnnotations | None:
    """Return the annotations of a table of delimited text, None if no column names recordings."""
    try:
        content = tree.root.read_bytes(path, HEAD_BYTES)
    except tree.root.errors:
        return None
    content, is_whole = whole_lines(content, HEAD_BYTES)
    sample = sample_cells([(path, content, is_whole)], ALL)
    if sample is None or not sample.rows:
        return None
    if sample.header is None and len(sample.rows) > 1 and _names_nothing(tree, sample):
        sample = CellSample(
            sample.rows[0],
            sample.rows[1:],
            sample.owners[1:],
            sample.delimiter,
            sample.encoding,
            sample.is_whole,
            sample.notes,
        )
    column, share = _recording_column(tree, sample)
    recording: str | int | None = None
    if column is not None and share >= _ENOUGH:
        recording = column.name if sample.header is not None and column.name else column.at
    template = None
    if recording is None and sample.header is not None:
        template = _template(tree, sample)
    if template is not None:
        recording = template
    elif recording is None and column is not None and share >= _FEW:
        recording = column.name if sample.header is not None and column.name else column.at
    if recording is None:
        return None
    found = FoundAnnotations("table", path, {"recording": recording}, Trial())
    if template is not None:
        found.because["recording"] = ["no column names the files; these columns together do"]
        if column is not None:
            found.keys["recording"] = [template, column.where]
    files = [File(path, path, content)]
    named = [
        tree.join.find(row[column.at])[0]
        for row in sample.rows[:_JOIN_ROWS]
        if column is not None and column.at < len(row)
    ]
    headers.add(sorted({name for name in named if name is not None}))
    if not lay_out(found, sample, files, headers.lengths, wants_text, column, tree.join):
        return None
    if not found.trial.n_joined:
        return None
    found.because["table"] = [_joined(found.trial), *found.because.get("table", [])]
    if not sample.is_whole:
        found.because["table"].append("only the beginning of the table was looked at")
    _allow_missing(found)
    return found


def _names_nothing(tree: Tree, sample: CellSample) -> bool:
    """Return whether the first row names no recording while most others do: a header without numbers below it."""
    column, share = _recording_column(tree, sample)
    if column is None or share < _ENOUGH or column.at >= len(sample.rows[0]):
        return False
    return tree.join.find(sample.rows[0][column.at])[0] is None and all(
        len(cell.split()) <= 3 for cell in sample.rows[0]
    )


def _recording_column(tree: Tree, sample: CellSample) -> tuple[Column | None, float]:
    """Return the column of which most cells name a recording, and their share. Ambiguous names count a little."""
    best: tuple[float, bool, int] = (0.0, False, 0)
    chosen: Column | None = None
    for column in sample.columns:
        cells = column.cells[:_JOIN_ROWS]
        if not cells or column.n_words > 6:
            continue
        results = [tree.join.find(cell) for cell in cells]
        fit = sum(path is not None for path, _ in results) + 0.9 * sum(
            why == "recording_ambiguous" for _, why in results
        )
        score = (fit / len(cells), normal(column.name) in RECORDINGS, -column.at)
        if fit and score > best:
            best, chosen = score, column
    if chosen is None:
        named = [column for column in sample.columns if normal(column.name) in RECORDINGS]
        return (named[0] if named else None), 0.0
    return chosen, best[0]


def _template(tree: Tree, sample: CellSample) -> str | None:
    """Return a template of columns that makes up the names of recordings, such as ``{fold}-{take}.wav``."""
    names = [path.rpartition("/")[2] for path in tree.paths[:2000]]
    shapes: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
    for name in names:
        tokens = _TOKENS.findall(name)
        shapes[tuple(_TOKENS.split(name))].append(tokens)
    shape, several = max(shapes.items(), key=lambda pair: len(pair[1]))
    if len(several) < 0.9 * len(names) or not 2 <= len(several[0]) <= 8:
        return None
    columns: list[str | None] = []
    for at in range(len(several[0])):
        values = {tokens[at] for tokens in several}
        if len(values) == 1:
            columns.append(None)
            continue
        fitting = [
            column for column in sample.columns
            if column.name and len(values & column.values.keys()) >= 0.9 * len(values) and column.name not in columns
        ]  # fmt: skip
        if not fitting:
            return None
        columns.append(min(fitting, key=lambda column: len(column.values)).name)
    made = shape[0]
    for token, column, between in zip(several[0], columns, shape[1:], strict=True):
        made += (token if column is None else f"{{{column}}}") + between
    return made if any(columns) else None


def _joined(trial: Trial) -> str:
    n_recordings = counted(len(trial.recordings), "recording")
    text = (
        f"of {counted(trial.n_rows, 'row')} looked at, {trial.n_joined:,} name a recording, {n_recordings} altogether"
    )
    if trial.missed_names:
        text += f"; others name {', '.join(map(repr, trial.missed_names))}"
    return text


def _allow_missing(found: FoundAnnotations) -> None:
    """Leave out rows whose recordings are not there, and say so."""
    n = found.trial.missed["recording_not_found"]
    if n:
        found.keys["missing_recordings"] = "ignore"
        found.because["missing_recordings"] = [
            f"{counted(n, 'row')} of {found.trial.n_rows:,} looked at name recordings that are not here; they are left out and counted"
        ]
        found.instead["missing_recordings"] = [Instead("or, if they should be here, count them as rejected", "reject")]


def rank(found: Sequence[FoundAnnotations], n_recordings: int, wants_text: bool) -> list[FoundAnnotations]:
    """Return annotations, the most useful first: those that say what is asked for, of most recordings, with times."""

    def score(one: FoundAnnotations) -> tuple[float, ...]:
        trial = one.trial
        covered = (
            one.covered / n_recordings
            if one.covered is not None
            else min(1.0, len(trial.recordings) / min(n_recordings, 2000))
        )
        good = trial.n_rows / max(1, trial.n_rows + sum(trial.rejected.values()))
        says = (one.text_field is not None) if wants_text else one.has_label or one.is_timed
        ambiguous = trial.missed["recording_ambiguous"] / max(1, trial.n_rows)
        return (
            round(covered * good * (1 + bool(says)) - 0.1 * ambiguous, 2),
            bool(one.text_field) == wants_text,
            one.is_timed,
            trial.joined_share if one.key == "table" else 1.0,
            -posixpath.normpath(one.where).count("/"),
            -len(one.where),
        )

    return sorted(found, key=score, reverse=True)
