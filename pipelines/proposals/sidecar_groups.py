"""Find annotation files that stand beside recordings, or in a tree of their own that is laid out alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from clipmill.pipelines.proposals.cell_sample import HEAD_BYTES, CellSample, sample_cells
from clipmill.pipelines.proposals.column_guesses import ALL
from clipmill.pipelines.proposals.commented_yaml import Instead
from clipmill.pipelines.proposals.file_heads import whole_lines
from clipmill.pipelines.proposals.format_labels import name_label
from clipmill.pipelines.proposals.found_annotations import BINARY, TREE_BYTES, TREES, FoundAnnotations
from clipmill.pipelines.proposals.header_facts import Headers
from clipmill.pipelines.proposals.layouts import lay_out
from clipmill.pipelines.proposals.row_trial import File, Trial, try_rows
from clipmill.pipelines.proposals.tree_survey import Tree
from clipmill.schemas.plural import counted
from clipmill.stages.annotations.formats.auto_files import kind_of
from clipmill.stages.annotations.registered import find_format
from clipmill.stages.annotations.rows import UnreadableError
from clipmill.stages.storage.root import Root, split_name

_MOST_READ = 40
_FEWEST = 0.05
_KINDS = 5
_MOST_TRIED = 4
_MUCH_OF_TEXT = 0.5


@dataclass
class Group:
    """Files whose names follow from those of recordings.

    pattern : as `annotations.sidecar`
    below, root_below : folders of the two trees, "" where files stand beside the recordings
    pairs : path of the file by path of the recording
    """

    pattern: str
    below: str
    root_below: str
    pairs: dict[str, str] = field(default_factory=dict)

    @property
    def is_beside(self) -> bool:
        return self.below == self.root_below


def find_groups(tree: Tree) -> list[Group]:
    """Return the groups of a tree, those of most recordings first."""
    beside = _Index(tree.paths)
    groups: dict[tuple[str, str, str], Group] = {}
    for path in tree.others:
        folder, name = path.rpartition("/")[::2]
        if split_name(path)[2] in BINARY or "{" in name or "}" in name:
            continue
        for pattern, recording in beside.recordings(folder, name):
            below, root_below = _stems_of(recording.rpartition("/")[0], folder)
            group = groups.setdefault((pattern, below, root_below), Group(pattern, below, root_below))
            group.pairs.setdefault(recording, path)
    enough = [group for group in groups.values() if len(group.pairs) >= max(1, _FEWEST * len(tree.paths))]
    return sorted(enough, key=lambda group: (-len(group.pairs), not group.is_beside, group.pattern))


class _Index:
    """Find the recordings that a file's name belongs to."""

    def __init__(self, paths: list[str]) -> None:
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            self._by_stem[split_name(path)[1]].append(path)
            self._by_name[path.rpartition("/")[2]].append(path)

    def recordings(self, folder: str, name: str) -> Iterator[tuple[str, str]]:
        """Yield the pattern and the recording: in the same folder, otherwise the only one of that name whose folders end alike."""
        stem = name
        while "." in stem:
            stem = stem.rpartition(".")[0]
            for index, placeholder in ((self._by_name, "{name}"), (self._by_stem, "{stem}")):
                found = index.get(stem)
                if not found:
                    continue
                same = [path for path in found if path.rpartition("/")[0] == folder]
                chosen = same or [path for path in found[:_KINDS] if _is_alike(path.rpartition("/")[0], folder, found)]
                for path in chosen:
                    yield placeholder + name[len(stem) :], path
                if chosen:
                    return


def _is_alike(folder: str, other: str, found: list[str]) -> bool:
    below, root_below = _stems_of(folder, other)
    return len(found) == 1 or folder[len(below) :].strip("/") != "" or other == root_below


def _stems_of(folder: str, other: str) -> tuple[str, str]:
    """Return two folders without the parts at their ends that they have in common."""
    a, b = folder.split("/") if folder else [], other.split("/") if other else []
    if a == b:
        return "", ""
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return "/".join(a), "/".join(b)


def find_sidecars(tree: Tree, headers: Headers, wants_text: bool) -> list[FoundAnnotations]:
    """Return the annotations that files beside recordings give."""
    return [
        found
        for group in find_groups(tree)[:_MOST_TRIED]
        if (found := _look_at(tree, headers, group, wants_text)) is not None
    ]


def _look_at(tree: Tree, headers: Headers, group: Group, wants_text: bool) -> FoundAnnotations | None:
    known = [path for path in headers.lengths if path in group.pairs]
    chosen = list(dict.fromkeys([*known, *sorted(group.pairs)]))[:_MOST_READ]
    headers.add(chosen)
    heads = {path: _head(tree.root, group.pairs[path], HEAD_BYTES) for path in chosen}
    heads = {path: content for path, content in heads.items() if content.strip()}
    found = FoundAnnotations("sidecar", group.pattern, {}, Trial(), n_files=len(group.pairs), covered=len(group.pairs))
    if not group.is_beside:
        found.below, found.root_below = group.below, group.root_below
    found.because["sidecar"] = [_coverage(tree, group)]
    if not heads:
        return None
    kinds = Counter(_kind(content, group.pairs[path]) for path, content in heads.items())
    kind = kinds.most_common(1)[0][0]
    if kind is not None:
        return _of_format(tree, found, kind, kinds, {path: group.pairs[path] for path in heads}, wants_text)
    cut = {path: whole_lines(content, HEAD_BYTES) for path, content in heads.items()}
    files = [File(path, group.pairs[path], content) for path, (content, _) in cut.items()]
    sample = sample_cells([(path, *of) for path, of in cut.items()], ALL)
    if sample is None:
        return None
    if _is_one_line_each(sample, len(files)):
        _take_lines(found, files, wants_text)
    elif not lay_out(found, sample, files, headers.lengths, wants_text):
        return None
    return found if found.trial.n_rows else None


def _is_one_line_each(sample: CellSample, n_files: int) -> bool:
    """Return whether each file is a line of text: without numbers, and with commas at most, as sentences have them."""
    is_cut = sample.delimiter in ("\t", "|", ";")
    return (
        sample.header is None
        and len(sample.rows) == n_files
        and not (is_cut and len(sample.columns) > 1)
        and not any(column.is_numeric for column in sample.columns[:2])
    )


def _take_lines(found: FoundAnnotations, files: list[File], wants_text: bool) -> None:
    """Take the line of each file for its text; a single word is a label, unless texts are wanted."""
    found.keys |= {"header": False, "delimiter": "tab", "quote": "none", "fields": {"text": 0}}
    found.trial = try_rows(found.plain, files, None)
    texts = [text for of in found.trial.fields["text"].values() for text in of]
    role = "fields"
    if not wants_text and texts and max(len(text.split()) for text in texts) == 1:
        role = "columns"
        del found.keys["fields"]
        found.keys["columns"] = {"label": 0}
        found.trial = try_rows(found.plain, files, None)
    else:
        found.has_lines = True
    found.because[role] = [f"each file is one line, such as {texts[0][:60]!r}"] if texts else []


def _of_format(
    tree: Tree,
    found: FoundAnnotations,
    kind: str,
    kinds: Mapping[str | None, int],
    pairs: Mapping[str, str],
    wants_text: bool,
) -> FoundAnnotations | None:
    """Return annotations of a format with a layout of its own."""
    found.keys["format"] = kind
    found.because["format"] = [
        f"{kinds[kind]:,} of {counted(sum(kinds.values()), 'file')} looked at are of this format: {find_format(kind).about}"
    ]
    if len(kinds) > 1:
        found.instead["format"] = [Instead("or each file as what its own beginning shows", "auto")]
    most = TREE_BYTES if kind in TREES else HEAD_BYTES
    files = [File(path, other, _cut_of(kind, _head(tree.root, other, most))) for path, other in pairs.items()]
    found.trial = try_rows(found.plain, files, None)
    if found.trial.setting is not None and not found.trial.n_rows:
        settle(found, files, wants_text)
    name_label(found, files, None, wants_text)
    return found if found.trial.n_rows or found.trial.n_files else None


def settle(found: FoundAnnotations, files: list[File], wants_text: bool) -> None:
    """Set a key that a format asks for: the tier or the namespace with most rows, for transcripts that of longest texts, or a length for
    points."""
    message, key = found.trial.setting or ("", "")
    tried = [(value, try_rows({**found.plain, key: value}, files, None)) for value in _values(message, key)]
    tried = [(value, trial) for value, trial in tried if trial.n_rows or trial.n_files]
    if not tried:
        return
    chosen, trial = max(tried, key=lambda one: (one[1].n_rows, one[1].n_files))
    because = [message]
    most = max(_n_words(each) for _, each in tried)
    if wants_text and most:
        # A tier of remarks can have long texts too, but few.
        whole = [one for one in tried if _n_words(one[1]) >= _MUCH_OF_TEXT * most]
        chosen, trial = max(whole, key=lambda one: (_words_each(one[1]), one[1].n_rows))
        shown = ", ".join(f"{value!r} {_words_each(each):.1f}" for value, each in tried)
        because.append(f"{chosen!r} has the longest texts, as utterances have; words in a row: {shown}")
    found.trial, found.keys[key] = trial, chosen
    found.because[key] = because
    found.instead[key] = [
        Instead("or", value) for value in _values(message, key) if value != chosen and key != "points_s"
    ][:8]


def _n_words(trial: Trial) -> int:
    return sum(len(label.split()) * n for label, n in trial.n_labels.items())


def _words_each(trial: Trial) -> float:
    return _n_words(trial) / max(1, trial.n_labels.total())


def _values(message: str, key: str) -> list[str | float]:
    """Return the values of a key that the message of a format lists, in quotes or before a number in brackets."""
    if key == "points_s":
        return [0.1]
    listed = message.partition(" to one of: ")[2] or message.partition("it has: ")[2]
    names = [part.rpartition(" (")[0] for part in _split_listed(listed)]
    return [name[1:-1] if name[:1] in ("'", '"') and name[-1:] == name[:1] else name for name in names if name]


def _split_listed(listed: str) -> list[str]:
    return [part if part.endswith(")") else f"{part})" for part in listed.split("), ") if part]


def _kind(content: bytes, path: str) -> str | None:
    try:
        return kind_of(content, "auto", path).name
    except UnreadableError:
        return None


def _head(root: Root, path: str, most: int) -> bytes:
    try:
        return root.read_bytes(path, most)
    except root.errors:
        return b""


def _cut_of(kind: str, content: bytes) -> bytes:
    return content if kind in TREES else whole_lines(content, HEAD_BYTES)[0]


def _coverage(tree: Tree, group: Group) -> str:
    n, n_all = len(group.pairs), len(tree.paths)
    text = f"{n:,} of {counted(n_all, 'recording')} {'has' if n == 1 else 'have'} such a file"
    return text + (f"; the other {n_all - n:,} give no clips" if n < n_all else "")
