"""Read Kaldi data directories. Nothing in them is run: of `wav.scp` only names are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.file_text import cut_at_blanks, lines
from clipmill.stages.annotations.format import Content, Record, TranscriptFormat
from clipmill.stages.annotations.nist_lines import channel_cell
from clipmill.stages.annotations.rows import UnreadableError

_SEGMENTS, _WAVES, _TEXT = "segments", "wav.scp", "text"
_SPEAKER, _FILE = "utt2spk", "reco2file_and_channel"
_OF_UTTERANCES = {_TEXT: "text", _SPEAKER: "speaker", "utt2lang": "language", "utt2gender": "gender"}
_OF_SPEAKERS = {"spk2gender": "gender"}
_FEWEST, _MOST = 4, 5  # some directories give the channel after start and end
_TO_THE_END = re.compile(r"-1(?:\.0*)?")
_SHOWN = 50


class Kaldi(TranscriptFormat):
    """Read the files of a data directory together.

    Rows are segments, or all recordings of `wav.scp` if there are no segments, or else all utterances of `text`. One that `text` or
    `utt2spk` lacks, if there are these files, is rejected, since its clip would silently lack what the others have. What files say
    about utterances without audio is counted.
    """

    name = "kaldi"
    about = "Kaldi data directory: segments, text, utt2spk and their relatives"
    recording = ("path", "recording", "file")
    table = "."
    folder = (_SEGMENTS, _WAVES, *_OF_UTTERANCES, *_OF_SPEAKERS, _FILE)
    takes_files = False
    header = ("utterance", "speaker", "language", "gender", "channel")

    def decode(self, content: Content, spec: Annotations) -> Any:
        if isinstance(content, bytes):
            raise UnreadableError(
                "format kaldi reads a data directory: let `table` be the folder with segments and text"
            )
        return super().decode(content, spec)

    def read(self, content: Mapping[str, str], spec: Annotations, options: Any) -> Iterator[Record]:
        known = {name: _Map(name, text) for name, text in content.items() if name != _SEGMENTS}
        if _SEGMENTS in content:
            records = _segments(content[_SEGMENTS])
        elif (name := next((n for n in (_WAVES, _TEXT, _SPEAKER) if n in known), None)) is not None:
            records = (
                Record({"utterance": each, "recording": each}, line, f"{name}, line {line}")
                for each, (_, line) in known[name].items()
            )
        else:
            raise UnreadableError(
                f"a Kaldi data directory has {_SEGMENTS}, {_WAVES} or {_TEXT}; this one has none of them"
            )
        used: set[str] = set()
        for record in records:
            utterance = record.cells.get("utterance", "")
            if record.problem is None and utterance in used:
                record.problem = f"utterance {utterance[:_SHOWN]!r} is there twice"
            used.add(utterance)
            _describe(record, known)
            channel_cell(record.cells, spec)
            yield record
        for name in _OF_UTTERANCES:
            for each in known.get(name, {}):
                if each not in used:
                    used.add(each)  # one note per utterance
                    yield Record(is_passed_over=True, notes=("utterances_without_segment",))


class _Map(dict[str, tuple[str, int]]):
    """The lines of a file that maps names to texts: the text and the line's number by name.

    unclear : names with several texts that differ, with the line of another one
    """

    def __init__(self, file: str, text: str) -> None:
        super().__init__()
        self.file = file
        self.unclear: dict[str, int] = {}
        for number, line in enumerate(lines(text), 1):
            name, value = [*cut_at_blanks(line, most=2), "", ""][:2]
            if not name:
                continue
            if self.setdefault(name, (value, number))[0] != value:
                self.unclear[name] = number


def _segments(text: str) -> Iterator[Record]:
    """Yield the segments. A segment that ends at -1 extends to the end of its recording."""
    for number, line in enumerate(lines(text), 1):
        cells = cut_at_blanks(line, most=_MOST + 1)
        if not cells:
            continue
        named = dict(zip(("utterance", "recording", "start", "end", "channel"), cells, strict=False))
        if _TO_THE_END.fullmatch(named.get("end", "")):
            del named["end"]
        found = len(cells) if len(cells) < _FEWEST else f"more than {_MOST}"
        what = f"{found} fields, expected utterance, recording, start and end"
        wrong = not _FEWEST <= len(cells) <= _MOST
        yield Record(named, number, f"{_SEGMENTS}, line {number}", problem=what if wrong else None)


def _describe(record: Record, known: Mapping[str, _Map]) -> None:
    """Add what the other files say about an utterance, its speaker and its recording, or what is wrong with that."""
    cells = record.cells
    utterance, recording = cells.get("utterance", ""), cells.get("recording", "")
    for file, field in _OF_UTTERANCES.items():
        _look_up(record, known.get(file), utterance, field, is_needed=file in (_TEXT, _SPEAKER))
    for file, field in _OF_SPEAKERS.items():
        if "speaker" in cells and field not in cells:
            _look_up(record, known.get(file), cells["speaker"], field)
    if (waves := known.get(_WAVES)) is not None:
        _look_up(record, waves, recording, "path")
        if cells.get("path", "").endswith("|"):
            del cells["path"]
            record.notes += ("commands_not_run",)
    if recording in known.get(_FILE, ()):
        value, _ = known[_FILE][recording]
        cells["file"], *channel = cut_at_blanks(value) or [""]
        if channel:
            cells.setdefault("channel", channel[0])


def _look_up(record: Record, file: _Map | None, name: str, field: str, is_needed: bool = False) -> None:
    if file is None or record.problem is not None:
        return
    if name in file.unclear:
        lines_of = f"lines {file[name][1]} and {file.unclear[name]}"
        record.problem = f"{file.file} says different things about {name[:_SHOWN]!r}, on {lines_of}"
    elif name in file:
        record.cells[field] = file[name][0]
    elif is_needed:
        record.problem = f"{file.file} has no line for {name[:_SHOWN]!r}"


FORMAT = Kaldi()
