"""Guess what the columns of a table are: recording, times, label, text, speaker, split. Names count first, then what the cells are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from clipmill.pipelines.proposals.cell_sample import CellSample, Column, normal
from clipmill.pipelines.proposals.time_columns import find_time_pair
from clipmill.schemas.config.annotation_roles import guess_roles, role_elsewhere
from clipmill.schemas.plural import counted
from clipmill.stages.decode.header_length import HeaderLength

LABELS = frozenset(
    "label labels class class_name category event event_label event_type sound scene scene_label species species_code primary_label"
    " common_name scientific_name emotion genre instrument intent command keyword phone phoneme word tag tags call_type".split()
)
TEXTS = frozenset(
    "text transcript transcription sentence normalized_text normalized_transcription normalised_text utterance words wrd".split()
)
SPEAKERS = frozenset(
    "speaker speaker_id speakerid speaker_name spk spk_id client_id actor actor_id subject subject_id participant singer reader".split()
)
SPLITS = frozenset("split subset set partition fold".split())
RECORDINGS = frozenset(
    "filename file file_name path filepath file_path audio audio_file audio_path audio_filename wav wav_file wav_path recording"
    " recording_id slice_file_name fname clip clip_name name begin_file begin_path itemid id".split()
)
ALL = LABELS | TEXTS | SPEAKERS | SPLITS | RECORDINGS | {"start", "end", "onset", "offset", "duration", "begin", "stop"}
_MANY_WORDS = 2.5
_LONGEST_LABEL = 60
_SHOWN = 5


@dataclass
class Guessed:
    """The columns of a table by role.

    start, end, duration, label, text, speaker, split : None if there is none
    labels : other columns that could be the label
    texts : other columns that could be the text
    numbers : columns of numbers without a role
    because : evidence, by role
    is_whole : whether all rows of the table were looked at
    """

    start: Column | None = None
    end: Column | None = None
    duration: Column | None = None
    label: Column | None = None
    text: Column | None = None
    speaker: Column | None = None
    split: Column | None = None
    labels: list[Column] = field(default_factory=list)
    texts: list[Column] = field(default_factory=list)
    numbers: list[Column] = field(default_factory=list)
    because: dict[str, str] = field(default_factory=dict)
    is_whole: bool = True

    @property
    def times(self) -> list[Column]:
        return [column for column in (self.start, self.end, self.duration) if column is not None]


def guess_columns(
    sample: CellSample,
    recording: int | None,
    wants_text: bool,
    owners: Sequence[str | None] = (),
    lengths: Mapping[str, HeaderLength] | None = None,
) -> Guessed:
    """Return the columns of a table by role.

    Parameters
    ----------
    recording : index of the column that names the recording
    wants_text : for speech
    owners, lengths : recording of each row, and the lengths of recordings, by which times are found that no name shows
    """
    columns = [column for column in sample.columns if column.at != recording and column.cells]
    guessed = Guessed(is_whole=sample.is_whole)
    _find_times(guessed, sample, columns)
    if guessed.end is None and guessed.duration is None:
        pair = find_time_pair(sample, columns, owners, lengths or {}, guessed.start)
        if pair is not None:
            guessed.start = pair.start
            setattr(guessed, pair.role, pair.second)
            guessed.because["start"] = pair.because
    used = {column.at for column in guessed.times}
    rest = [column for column in columns if column.at not in used]
    guessed.split = _named(rest, SPLITS)
    guessed.speaker = _named(rest, SPEAKERS)
    taken = {column.at for column in (guessed.split, guessed.speaker) if column is not None}
    rest = [column for column in rest if column.at not in taken]
    _find_text(guessed, rest, wants_text)
    rest = [column for column in rest if column not in (guessed.text, *guessed.texts)]
    _find_label(guessed, rest, len(sample.rows), sample.header is not None)
    if wants_text and guessed.label is not None and guessed.text is not None:
        guessed.labels.insert(0, guessed.label)
        guessed.label = None
        guessed.because["label"] = "transcripts were asked for, so no column is the label"
    roles = (*guessed.times, guessed.split, guessed.speaker, guessed.label, guessed.text)
    guessed.numbers = [column for column in columns if column.is_numeric and column not in roles]
    return guessed


def values_text(column: Column) -> str:
    """Return the number of values of a column, and the most frequent ones."""
    shown = ", ".join(repr(value[:30]) for value, _ in column.values.most_common(_SHOWN))
    return f"{counted(len(column.values), 'value')} in {counted(len(column.cells), 'row')}, such as {shown}"


def _named(columns: Sequence[Column], names: frozenset[str]) -> Column | None:
    found = [column for column in columns if normal(column.name) in names]
    return max(found, key=lambda column: len(column.cells), default=None)


def _find_times(guessed: Guessed, sample: CellSample, columns: Sequence[Column]) -> None:
    numeric = [column for column in columns if column.is_numeric]
    if sample.header is not None:
        by_name = {column.name: column for column in numeric if column.name}
        roles = guess_roles(tuple(by_name), frozenset(), frozenset())
        for role in ("start", "end", "duration"):
            setattr(guessed, role, by_name.get(roles.get(role, "")))
        _find_times_elsewhere(guessed, numeric)
        if guessed.start is not None:
            guessed.because["start"] = "times by the names of the columns"
        return
    if len(numeric) < 2:
        return
    beside = [(a, b) for a, b in pairwise(numeric) if b.at == a.at + 1]
    if not beside:
        return
    first, second = beside[0]
    pairs = list(zip(first.numbers, second.numbers, strict=False))
    n_later, n_positive = sum(b > a for a, b in pairs), sum(b > 0 for _, b in pairs)
    if not pairs or min(a for a, _ in pairs) < 0:
        return
    if n_later == len(pairs):
        guessed.start, guessed.end = first, second
        guessed.because["start"] = (
            f"in all of {len(pairs):,} rows the number in column {second.at} is greater than that in column {first.at}"
        )
    elif n_positive == len(pairs):
        guessed.start, guessed.duration = first, second
        guessed.because["start"] = (
            f"column {second.at} is less than column {first.at} in {len(pairs) - n_later:,} of {len(pairs):,} rows and always above 0, so it"
            " is a duration, not an end"
        )


def _find_times_elsewhere(guessed: Guessed, numeric: Sequence[Column]) -> None:
    """Find times by their names in other languages. As in English, an end or a duration counts only together with a start."""
    found = {role: column for column in reversed(numeric) if (role := role_elsewhere(column.name)) is not None}
    guessed.start = guessed.start or found.get("start")
    if guessed.start is not None and guessed.end is None and guessed.duration is None:
        guessed.end = found.get("end")
        guessed.duration = found.get("duration") if guessed.end is None else None


def _find_text(guessed: Guessed, columns: Sequence[Column], wants_text: bool) -> None:
    named = [column for column in columns if normal(column.name) in TEXTS and column.has_words]
    wordy = [column for column in columns if column.has_words and column.n_words >= _MANY_WORDS and column not in named]
    if named:
        # Of several, the last is usually the one with numbers and abbreviations spelt out.
        guessed.text, guessed.texts = named[-1], [*named[:-1]]
        guessed.because["text"] = f"text by the name of the column {named[-1].name!r}"
    elif wordy and (wants_text or max(column.n_words for column in wordy) > 2 * _MANY_WORDS):
        guessed.text, guessed.texts = wordy[-1], wordy[:-1]
        guessed.because["text"] = (
            f"column {wordy[-1].where!r} has {wordy[-1].n_words:.0f} words in a cell, as sentences have"
        )


def _find_label(guessed: Guessed, columns: Sequence[Column], n_rows: int, has_header: bool) -> None:
    named = [column for column in columns if normal(column.name) in LABELS]
    if not named:
        # A word of another language may be another word as well, so one value is not enough.
        named = [c for c in columns if role_elsewhere(c.name) == "label" and len(c.values) > 1 and _is_short(c)]
    alone = [column for column in columns if len(column.values) == 1 and n_rows > 1 and column not in named]
    columns = [column for column in columns if column not in alone]
    categorical = [
        column
        for column in columns
        if column.has_words
        and 1 <= len(column.values) <= max(2, n_rows / 2)
        and _is_short(column)
        and column not in named
    ]
    ranked = [column for column in named if column.has_words] + [column for column in named if not column.has_words]
    if ranked:
        guessed.label = ranked[0]
        guessed.labels = [*ranked[1:], *categorical]
        guessed.because["label"] = f"label by the name of the column {ranked[0].name!r}: {values_text(ranked[0])}"
    elif categorical:
        # Without names, the label is usually the last column.
        at = 0 if has_header else -1
        guessed.label = categorical[at]
        guessed.labels = [column for column in categorical if column is not guessed.label]
        guessed.because["label"] = f"column {guessed.label.where!r} has few values: {values_text(guessed.label)}"
    elif guessed.start is not None and (
        words := [column for column in columns if column.has_words and _is_short(column)]
    ):
        guessed.label = words[-1]
        guessed.because["label"] = (
            f"column {words[-1].where!r} is the only text beside the times: {values_text(words[-1])}"
        )
    # What is the same in all rows tells nothing apart, so it is only offered.
    guessed.labels += [column for column in alone if column.has_words and _is_short(column)]


def _is_short(column: Column) -> bool:
    return sum(map(len, column.cells)) <= _LONGEST_LABEL * len(column.cells)
