"""Kaldi: a data directory a split. Utterances are clips; speakers are the field `speaker`, or the recordings where there is none."""

from __future__ import annotations

import re

from pipelines.clip_source import clips
from pipelines.exports import Export
from pipelines.exports.wav_files import write_wav

_SPEAKERS = ("speaker", "spk", "speaker_id")
_UNSAFE = re.compile(r"[^\w.]+")
"""No "-" either, which ends the speaker in an utterance's name: all of what may stand in one sorts behind it."""


def export(asked: Export) -> list[str]:
    """Write wav.scp, utt2spk, spk2utt, utt2dur and text to <split>/, and the clips as WAV files.

    An utterance's name begins with its speaker's, and all files are sorted as by LC_ALL=C, which Kaldi's validate_data_dir.sh demands.
    """
    fields = asked.published.snapshot.fields
    by = next((name for name in _SPEAKERS if name in fields), "recording_id")
    written = []
    for split in asked.published.splits:
        columns: dict[str, dict[str, str]] = {name: {} for name in ("wav.scp", "utt2spk", "utt2dur", "text")}
        for row in clips(asked.published, split):
            speaker = _UNSAFE.sub("_", str(row[by] or "unknown")).strip("_") or "unknown"
            utterance = f"{speaker}-{row['clip_id']}"
            columns["wav.scp"][utterance] = write_wav(asked, split, row)
            columns["utt2spk"][utterance] = speaker
            columns["utt2dur"][utterance] = f"{row['duration_s']:.6f}"
            words = " ".join(asked.text_of(row).split())
            if words:
                columns["text"][utterance] = words
        utterances: dict[str, list[str]] = {}
        for utterance, speaker in sorted(columns["utt2spk"].items(), key=_bytewise):
            utterances.setdefault(speaker, []).append(utterance)
        columns["spk2utt"] = {speaker: " ".join(of) for speaker, of in utterances.items()}
        for name, values in columns.items():
            if values:
                lines = [f"{key} {value}" for key, value in sorted(values.items(), key=_bytewise)]
                written.append(asked.write(f"{split}/{name}", lines))
    return written


def _bytewise(item: tuple[str, str]) -> bytes:
    return item[0].encode()
