"""Find labels, speakers and splits in the paths of recordings: in folders, and in the parts of names."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from clipmill.schemas.plural import counted

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "cv"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluate", "evaluation"), "test"),
}
_NO_LABELS = frozenset(
    "wav wavs wave audio audios clip clips recording recordings sound sounds data flac mp3 ogg raw files speech samples".split()
)
_SPEAKER = re.compile(
    r"(?i)(?:spk|speaker|actor|actress|subject|subj|reader|singer|user|client|person|participant)[-_ ]?[0-9a-z]+"
)
_EMOTIONS = frozenset(
    "angry anger happy happiness sad sadness neutral fear fearful disgust disgusted surprise surprised calm bored boredom joy"
    " ang hap neu fea dis sur cal contempt excited frustrated".split()
)
_IDENTIFIER = re.compile(r"[0-9a-f]{6,}|[0-9-]+", re.IGNORECASE)
_TOKEN = re.compile(r"[^_.\- ]+")
_LOOKED_AT = 20_000
_MOST_LABELS = 1000
_SHOWN = 6
_NEARLY_ALL = 0.95


@dataclass
class Piece:
    """A part of each path that could mean something.

    name : as a field
    pattern : regular expression of the part alone
    values : how often each occurs
    of : value by path
    """

    name: str
    pattern: str
    values: Counter[str]
    of: dict[str, str] = field(repr=False)

    @property
    def is_digits(self) -> bool:
        return all(value.isdigit() for value in self.values)

    @property
    def text(self) -> str:
        shown = ", ".join(repr(value[:40]) for value, _ in self.values.most_common(_SHOWN))
        return f"{counted(len(self.values), 'value')}: {shown}{', ...' if len(self.values) > _SHOWN else ''}"


@dataclass
class Names:
    """What paths show.

    folder : the folder of each recording, if it looks like a label
    speaker_folder : a level of folders that looks like speakers, and its depth from the root
    split_folder : a level of folders that is a split
    pieces : parts of names that are all made alike, in order; separators : what is between them
    """

    folder: Piece | None = None
    speaker_folder: tuple[Piece, int] | None = None
    split_folder: tuple[Piece, int] | None = None
    pieces: list[Piece] = field(default_factory=list)
    separators: tuple[str, ...] = ()
    n: int = 0
    n_alike: int = 0

    def name_regex(self, groups: Sequence[tuple[int, str]]) -> str:
        """Return a regular expression of names. groups : indexes of pieces, and the names of their groups"""
        named = dict(groups)
        out = "(?:^|/)" + re.escape(self.separators[0])
        for at, (piece, between) in enumerate(zip(self.pieces, self.separators[1:], strict=True)):
            out += f"(?P<{named[at]}>{piece.pattern})" if at in named else piece.pattern
            out += re.escape(between) if at + 1 < len(self.pieces) else ""
        return out + re.escape(self.separators[-1]) + r"\.[^./]+$"


def look_at_names(paths: Sequence[str]) -> Names:
    """Return what paths show. Of very many, every nth is looked at."""
    step = max(1, len(paths) // _LOOKED_AT)
    looked_at = list(paths[::step])
    names = Names(n=len(looked_at))
    _folders(names, looked_at)
    _pieces(names, looked_at)
    return names


def _folders(names: Names, paths: Sequence[str]) -> None:
    levels: dict[int, dict[str, str]] = defaultdict(dict)
    for path in paths:
        for depth, part in enumerate(path.split("/")[:-1]):
            levels[depth][path] = part
    for depth, of in sorted(levels.items()):
        values = Counter(of.values())
        if len(of) < _NEARLY_ALL * len(paths):
            continue
        piece = Piece("set", "", values, of)
        if len(values) > 1 and all(value.lower() in SPLIT_WORDS for value in values):
            names.split_folder = names.split_folder or (piece, depth)
        elif len(values) > 1 and sum(n for v, n in values.items() if _SPEAKER.fullmatch(v)) >= _NEARLY_ALL * len(of):
            names.speaker_folder = names.speaker_folder or (Piece("speaker", "[^/]+", values, of), depth)
    last = {path: path.split("/")[-2] for path in paths if "/" in path}
    values = Counter(last.values())
    if len(last) < _NEARLY_ALL * len(paths) or not 2 <= len(values) <= min(_MOST_LABELS, len(paths) / 2):
        return
    words = [value for value in values if not _IDENTIFIER.fullmatch(value)]
    if (
        len(words) < 0.8 * len(values)
        or all(value.lower() in SPLIT_WORDS or value.lower() in _NO_LABELS for value in values)
        or sum(_SPEAKER.fullmatch(value) is not None for value in values) > 0.8 * len(values)
    ):
        return
    names.folder = Piece("label", "[^/]+", values, last)


def _pieces(names: Names, paths: Sequence[str]) -> None:
    shapes: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in paths:
        stem = path.rpartition("/")[2].rpartition(".")[0]
        shapes[tuple(_TOKEN.split(stem))].append(path)
    if not shapes:
        return
    shape, alike = max(shapes.items(), key=lambda pair: len(pair[1]))
    names.n_alike = len(alike)
    if len(alike) < _NEARLY_ALL * len(paths) or not 3 <= len(shape) <= 10:
        return
    tokens = {path: _TOKEN.findall(path.rpartition("/")[2].rpartition(".")[0]) for path in alike}
    for at in range(len(shape) - 1):
        of = {path: found[at] for path, found in tokens.items()}
        values = Counter(of.values())
        digits = all(value.isascii() and value.isdigit() for value in values)
        names.pieces.append(Piece(f"part{at + 1}", r"\d+" if digits else r"[^_.\- /]+", values, of))
    names.separators = shape
    _name_pieces(names)


def _name_pieces(names: Names) -> None:
    """Name the pieces whose values say what they are."""
    for piece in names.pieces:
        values = piece.values
        if len(values) < 2:
            continue
        if sum(n for value, n in values.items() if _SPEAKER.fullmatch(value)) >= _NEARLY_ALL * sum(values.values()):
            piece.name = "speaker"
        elif sum(value.lower() in _EMOTIONS for value in values) >= 0.6 * len(values):
            piece.name = "emotion"
        elif all(value.lower() in SPLIT_WORDS for value in values):
            piece.name = "set"
    taken: set[str] = set()
    for at, piece in enumerate(names.pieces):
        if piece.name in taken:
            piece.name = f"part{at + 1}"
        taken.add(piece.name)


def label_pieces(names: Names) -> list[int]:
    """Return the indexes of the pieces of names that could be labels, the likeliest first."""
    n = names.n_alike
    could = [
        at
        for at, piece in enumerate(names.pieces)
        if 2 <= len(piece.values) <= min(200, n / 3) and piece.name not in ("speaker", "set")
        and min(piece.values.values()) > 1
    ]  # fmt: skip
    return sorted(
        could,
        key=lambda at: (names.pieces[at].name != "emotion", names.pieces[at].is_digits, len(names.pieces[at].values)),
    )


def group_piece(names: Names, label_of: dict[str, str]) -> int | None:
    """Return the index of the piece that tells which recordings belong together: speakers by their form, or the ids of longer recordings.

    An id of a longer recording occurs several times, and with one label alone. label_of : labels by path
    """
    for at, piece in enumerate(names.pieces):
        if piece.name == "speaker":
            return at
    for at, piece in sorted(enumerate(names.pieces), key=lambda pair: -len(pair[1].values)):
        n = len(piece.of)
        if not (10 <= len(piece.values) <= 0.95 * n) or at == len(names.pieces) - 1 or not label_of:
            continue
        labels: dict[str, set[str]] = defaultdict(set)
        for path, value in piece.of.items():
            labels[value].add(label_of.get(path, ""))
        if sum(len(each) == 1 for each in labels.values()) >= _NEARLY_ALL * len(labels):
            return at
    return None
