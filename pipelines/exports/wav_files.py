"""Clips as WAV files of their own, for formats that know nothing else."""

from __future__ import annotations

import io
from typing import Any

import soundfile as sf

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.exports import Export


def wav_path(split: str, row: dict[str, Any]) -> str:
    """Return where in the export a clip's WAV file is."""
    return f"wav/{split}/{row['clip_id']}.wav"


def write_wav(asked: Export, split: str, row: dict[str, Any]) -> str:
    """Write a clip's samples to wav/<split>/<clip id>.wav, as `write_wav_to` does; return its address."""
    return write_wav_to(asked, wav_path(split, row), row)


def write_wav_to(asked: Export, path: str, row: dict[str, Any]) -> str:
    """Write a clip's samples, as they are stored, to a WAV file; return its address.

    Samples that are float are written as 32-bit float.
    """
    with legible(asked.published.root, row["shard"]):
        content = as_wav(row)
    return asked.write_bytes(path, content)


def as_wav(row: dict[str, Any]) -> bytes:
    """Return the bytes of a WAV file of a clip's samples, as they are stored; float samples are written as 32-bit float.

    Raises
    ------
    RuntimeError : the stored audio cannot be decoded
    """
    content: bytes = row["audio"]
    with sf.SoundFile(io.BytesIO(content)) as file:
        kind = "int16" if file.subtype == "PCM_16" else "float32"
        samples, rate = file.read(dtype=kind), file.samplerate
    if row["audio_name"].endswith(".wav"):
        return content
    sink = io.BytesIO()
    sf.write(sink, samples, rate, subtype="PCM_16" if kind == "int16" else "FLOAT", format="WAV")
    return sink.getvalue()
