"""TTS: filelists as Tacotron 2, HiFi-GAN and VITS read them, with WAV files, and with mels if the dataset has log-mels."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.export_format import Format
from clipmill.pipelines.exports.wav_files import write_wav_to
from clipmill.pipelines.read.clip_source import clip_rows
from clipmill.schemas.config.text_config import RAW_TEXT
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.names import TRANSCRIPT_FIELDS
from clipmill.schemas.plural import counted

FORMAT = Format("one filelist per split for Tacotron 2, HiFi-GAN and VITS, with WAV files and mels", copies_audio=True)

_MEL = "log_mel"
_RAW_FIELDS = (RAW_TEXT, "raw_text")


def check(asked: Export) -> None:
    """Raise a ClipmillError where no clip has a text."""
    field_name = asked.text_field
    if asked.text is None and field_name == "label":
        raise ClipmillError(
            f"{asked.published.root.url}: clips have no text: none of the fields {', '.join(TRANSCRIPT_FIELDS)}; give the field with the"
            " transcripts by --text"
        )
    if not any(_text(asked, row) for split in asked.splits for row in clip_rows(asked.published, split, asked.where)):
        raise ClipmillError(
            f"{asked.published.root.url}: no clip has a text in the field {field_name!r}; give the field with the transcripts by --text"
        )


def export(asked: Export) -> list[str]:
    """Write wavs/<clip id>.wav, a list of them for each split, and metadata.csv.

    A line of <split>.txt is `path|text`, or `path|speaker id|text` if clips have speakers, whose names are in speakers.txt as `id|name`.
    Ids are those of the sorted names, from 0. metadata.csv has `clip id|raw text|text` for all splits, as LJSpeech has it; the raw text is
    that of the field text_raw or raw_text, if there is one. Paths are relative to the folder.

    Clips without text are left out. With log-mels, mels/<clip id>.npy is a clip's: float32 [n_mels, frames], or [channels, n_mels, frames].
    """
    found = _Survey()
    for split in asked.splits:
        for row in clip_rows(asked.published, split, asked.where):
            found.add(asked, split, row)
    asked.notes.extend(found.notes(asked))
    ids = {name: i for i, name in enumerate(sorted(found.speakers))} if any(found.speakers) else {}
    splits = [split for split in asked.splits if found.n_with_text[split]]
    written = [asked.write(f"{split}.txt", _lines(asked, split, ids)) for split in splits]
    written.append(asked.write("metadata.csv", _metadata(asked, splits)))
    if ids:
        written.append(asked.write("speakers.txt", (f"{i}|{name}" for name, i in ids.items())))
    return written


def _lines(asked: Export, split: str, ids: dict[str, int]) -> Iterator[str]:
    """Yield the lines of a split, and write each clip's files before its line."""
    has_mels = _MEL in asked.published.feature_names
    for row in asked.clips(split, features=has_mels):
        if not (text := _text(asked, row)):
            continue
        path = f"wavs/{row['clip_id']}.wav"
        write_wav_to(asked, path, row)
        if has_mels:
            content = io.BytesIO()
            np.save(content, np.ascontiguousarray(row[_MEL], np.float32), allow_pickle=False)
            asked.write_bytes(f"mels/{row['clip_id']}.npy", content.getvalue())
        yield "|".join([path, *([str(ids[_speaker(asked, row)])] if ids else []), text])


def _metadata(asked: Export, splits: list[str]) -> Iterator[str]:
    raw_field = next((name for name in _RAW_FIELDS if name in asked.published.snapshot.fields), None)
    for split in splits:
        for row in clip_rows(asked.published, split, asked.where):
            if text := _text(asked, row):
                raw = _cell(str(row[raw_field] or "")) if raw_field is not None else ""
                yield f"{row['clip_id']}|{raw or text}|{text}"


@dataclass
class _Survey:
    """What there is in the clips that are exported.

    n_with_text, n_without_text : number of clips by split
    changed : number of texts by what would have broken their lines
    speakers : their names, with an empty one for clips that have none
    """

    n_with_text: Counter[str] = field(default_factory=Counter)
    n_without_text: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    speakers: Counter[str] = field(default_factory=Counter)
    n_of_channels: int = 0

    def add(self, asked: Export, split: str, row: dict[str, Any]) -> None:
        if not _text(asked, row):
            self.n_without_text[split] += 1
            return
        given = asked.text_of(row).strip()
        self.n_with_text[split] += 1
        self.changed["|"] += "|" in given
        self.changed["a line break"] += len(given.splitlines()) > 1
        self.speakers[_speaker(asked, row)] += 1
        self.n_of_channels += row["n_channels"] > 1

    def notes(self, asked: Export) -> list[str]:
        """Return what the user should know of the export."""
        notes = [
            f"{counted(n, 'clip')} of split {split} without text {'is' if n == 1 else 'are'} left out"
            + ("" if self.n_with_text[split] else f", which is all of it, so there is no {split}.txt")
            for split, n in self.n_without_text.items()
        ]
        notes += [
            f"{what} became a space in {counted(n, 'text')}, since it would have ended a column or a line"
            for what, n in self.changed.items()
            if n
        ]
        if any(self.speakers) and (n := self.speakers[""]):
            notes.append(
                f"{counted(n, 'clip')} without a speaker {'has' if n == 1 else 'have'} the id 0, which has no name"
            )
        if self.n_of_channels:
            notes.append(
                f"{counted(self.n_of_channels, 'clip')} of several channels: trainers read mono files; build with audio.channels: mono"
            )
        about = {column["name"]: column for column in asked.published.columns}
        if about.get("audio", {}).get("settings", {}).get("sample_format") == "float32":
            notes.append(
                "samples are 32-bit float: most trainers read 16-bit files; build with audio.sample_format: int16"
            )
        if _MEL in asked.published.feature_names and about.get(_MEL, {}).get("unit") == "dB":
            notes.append(
                "mels are the dataset's log-mels, in dB; models that were trained on natural logarithms expect others, as"
                " features.log_mel: {preset: hifigan-22k} computes them"
            )
        return notes


def _text(asked: Export, row: dict[str, Any]) -> str:
    """Return a clip's text as a column of a line, empty if there is none."""
    return _cell(asked.text_of(row))


def _speaker(asked: Export, row: dict[str, Any]) -> str:
    return _cell(str(row[asked.speaker_field] or "")) if asked.speaker_field is not None else ""


def _cell(text: str) -> str:
    """Return a text without what ends a column or a line: | and white space of all kinds become one space."""
    return " ".join(text.replace("|", " ").split())
