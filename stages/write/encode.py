"""Encode clips as FLAC or WAV files in memory, and decode them."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import soundfile as sf

from clipmill.stages.arrow_rows import pcm_samples

FLAC_MAX_CHANNELS = 8


def codec_of(codec: str, n_channels: int) -> str:
    """Return the codec with which a clip is stored: FLAC holds at most eight channels, so more are stored as WAV."""
    return "wav" if n_channels > FLAC_MAX_CHANNELS else codec


def encode(pcm: memoryview | bytes, sample_format: str, n_channels: int, sample_rate_hz: int, codec: str) -> bytes:
    """Return a clip as the bytes of a lossless audio file.

    Parameters
    ----------
    pcm : interleaved little-endian samples
    sample_format : int16 | float32
    codec : flac | wav
    """
    subtype = "PCM_16" if sample_format == "int16" else "FLOAT"
    frames = pcm_samples(pcm, sample_format).reshape(-1, n_channels)
    sink = io.BytesIO()
    sf.write(sink, frames, sample_rate_hz, subtype=subtype, format=codec.upper())
    return sink.getvalue()


def decode_waveform(content: bytes) -> npt.NDArray[np.float32]:
    """Return a stored clip's samples as float32 [frames, channels]; 16-bit samples are divided by 32768."""
    with sf.SoundFile(io.BytesIO(content)) as file:
        samples: npt.NDArray[np.float32] = file.read(dtype="float32", always_2d=True)
        return samples


def decode_clip(content: bytes) -> tuple[npt.NDArray[np.int16] | npt.NDArray[np.float32], int]:
    """Return a stored clip's samples [frames, channels], int16 or float32 as stored, and its sample rate in Hz."""
    with sf.SoundFile(io.BytesIO(content)) as file:
        return file.read(dtype="float32" if file.subtype == "FLOAT" else "int16", always_2d=True), file.samplerate
