"""Kaldi: a data directory a split. Utterances are clips; speakers are the field `speaker`, or the recordings where there is none."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.export_format import Format
from clipmill.pipelines.exports.wav_files import write_wav
from clipmill.pipelines.read.clip_source import clip_rows
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.keys import digest

FORMAT = Format("one Kaldi data directory per split, with WAV files", copies_audio=True)

_UNSAFE = re.compile(r"[^A-Za-z0-9_.]+")
"""No "-" either, which ends the speaker in an utterance's name: all of what may stand in one sorts behind it."""
_KALDIS_OWN = re.compile(r"</?s>|#0")


class _Utterance(NamedTuple):
    name: str
    speaker: str
    path: str
    duration_s: str
    words: str


def check(asked: Export) -> None:
    """Raise a ClipmillError where the target is no folder on this machine, or a transcript holds a word that Kaldi keeps for itself."""
    if not asked.target.is_local:
        raise ClipmillError(f"{asked.target.url}: Kaldi reads files of this machine; give a folder by --to")
    for split in asked.splits:
        for row in clip_rows(asked.published, split, asked.where):
            _words(asked, row)


def export(asked: Export) -> list[str]:
    """Write wav.scp, utt2spk, spk2utt, utt2dur and text to <split>/, and the clips as WAV files.

    An utterance's name begins with its speaker's, and all files are sorted as by LC_ALL=C, which Kaldi's validate_data_dir.sh demands.
    Where a split has transcripts, clips without are left out, since Kaldi wants one for each or none at all. Kaldi itself reads mono
    16-bit WAV; more channels, and float samples, are written as they are.
    """
    written = []
    for split in asked.splits:
        all_of_them = []
        for row in asked.clips(split):
            speaker, path = _speaker(asked, row), write_wav(asked, split, row)
            name, length = f"{speaker}-{row['clip_id']}", f"{row['duration_s']:.6f}"
            all_of_them.append(_Utterance(name, speaker, path, length, _words(asked, row)))
        spoken = [u for u in all_of_them if u.words] or all_of_them
        columns = {
            "wav.scp": {u.name: u.path for u in spoken},
            "utt2spk": {u.name: u.speaker for u in spoken},
            "utt2dur": {u.name: u.duration_s for u in spoken},
            "text": {u.name: u.words for u in spoken if u.words},
        }
        utterances: dict[str, list[str]] = {}
        for utterance, speaker in sorted(columns["utt2spk"].items(), key=_bytewise):
            utterances.setdefault(speaker, []).append(utterance)
        columns["spk2utt"] = {speaker: " ".join(of) for speaker, of in utterances.items()}
        for name, values in columns.items():
            if values:
                lines = [f"{key} {value}" for key, value in sorted(values.items(), key=_bytewise)]
                written.append(asked.write(f"{split}/{name}", lines))
    return written


def _speaker(asked: Export, row: dict[str, Any]) -> str:
    """Return a name that Kaldi takes; different speakers' stay different, and nobody is the one that is called "unknown"."""
    given = str(row[asked.speaker_field or "recording_id"] or "")
    safe = _UNSAFE.sub("_", given)
    return given if safe == given and given else f"{safe or 'unknown'}_{digest(given)[:8]}"


def _words(asked: Export, row: dict[str, Any]) -> str:
    words = asked.text_of(row).split()
    if taken := next((w for w in words if _KALDIS_OWN.fullmatch(w)), None):
        raise ClipmillError(
            f"clip {row['clip_id']}: its {asked.text_field} holds the word {taken!r}, which Kaldi keeps for itself; give another field by --text"
        )
    return " ".join(words)


def _bytewise(item: tuple[str, str]) -> bytes:
    return item[0].encode()
