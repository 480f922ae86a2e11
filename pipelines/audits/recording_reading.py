"""Find a clip's recording, see that it is the one that was built from, and read it with pydub or librosa."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf

from clipmill.schemas.errors import ClipmillError
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.versions import version_of

MISSING, CHANGED = "the recording is missing", "the recording has changed since it was built from"
NOT_READ = "the recording cannot be opened"
NO_READER = "neither pydub nor librosa reads the recording"
TOO_LONG = "the recording is too long to be read at once"
AWAY = (MISSING, CHANGED, NOT_READ)
"""Reasons that say nothing about the dataset: its recordings are not there any more."""

_MOST_BYTES = 2 << 30
_MOST_24_BIT_BYTES = 16 << 20
"""pydub turns 24 bits into 32 sample by sample, in Python."""
_LOSSLESS = {"WAV", "WAVEX", "FLAC", "AIFF", "AU", "RF64", "W64", "CAF", "NIST", "SVX", "VOC"}
_PCM_WIDTHS = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4}


@dataclass(frozen=True)
class ReadRecording:
    """A recording as another program reads it.

    samples : float64 [frames, channels], full scale 1.0
    reader : pydub | librosa
    is_lossless : whether its codec is
    """

    samples: npt.NDArray[np.float64]
    sample_rate_hz: int
    reader: str
    is_lossless: bool


class NotComparedError(Exception):
    """A clip cannot be compared with its recording, for the reason that is the text."""


def read_recording(uri: str, options: Mapping[str, Any], version: str | None) -> ReadRecording:
    """Return a recording, all of it.

    Parameters
    ----------
    uri : its address, as the clips have it
    options : of its store, for fsspec
    version : that the build recorded; None: unknown

    Raises
    ------
    NotComparedError : it is missing, has changed, or cannot be read by pydub or librosa
    """
    folder, _, name = uri.rpartition("/")
    try:
        root = Root(folder or "/", dict(options))
        with _no_errors(root):
            if version is not None:
                found = version_of(root, name, "sha256" if version.startswith("sha256-") else "auto")
                if found != version:
                    raise NotComparedError(CHANGED)
            with _local(root, name) as path:
                return _read(path)
    except ClipmillError as error:
        raise NotComparedError(f"{NOT_READ}: {error}") from None


@contextlib.contextmanager
def _no_errors(root: Root) -> Iterator[None]:
    """Turn an error of storage into a reason."""
    try:
        yield
    except FileNotFoundError:
        raise NotComparedError(MISSING) from None
    except root.errors as error:
        raise NotComparedError(f"{NOT_READ} ({type(error).__name__})") from None


@contextlib.contextmanager
def _local(root: Root, name: str) -> Iterator[str]:
    """Give the path of a recording on this machine: its own, or that of a copy."""
    if root.is_local:
        yield root.full(name)
        return
    with tempfile.NamedTemporaryFile(prefix="clipmill-", suffix=os.path.splitext(name)[1]) as copy:
        with contextlib.closing(root.open_read(name)) as stream:
            shutil.copyfileobj(stream, copy, 1 << 20)
        copy.flush()
        yield copy.name


def _read(path: str) -> ReadRecording:
    try:
        about = sf.info(path)
    except sf.SoundFileError:
        if not os.path.exists(path):
            raise NotComparedError(MISSING) from None
        raise NotComparedError(NO_READER) from None
    if about.frames * about.channels * 8 > _MOST_BYTES:
        raise NotComparedError(TOO_LONG)
    width = _PCM_WIDTHS.get(about.subtype) if about.format in ("WAV", "WAVEX") else None
    if width is not None and (width != 3 or about.frames * about.channels * 3 <= _MOST_24_BIT_BYTES):
        found = _by_pydub(path)
        if found is not None:
            return found
    return _by_librosa(path, about.format in _LOSSLESS)


def _by_pydub(path: str) -> ReadRecording | None:
    """Return a WAV file; None if pydub does not read it. No program is started for it."""
    audio_segment = pydub_segment()
    from pydub.exceptions import PydubException

    with open(path, "rb") as stream:
        content = stream.read()
    try:
        segment = audio_segment(data=content)
        values = np.array(segment.get_array_of_samples(), np.float64)
        samples = values.reshape(-1, segment.channels) / float(1 << (8 * segment.sample_width - 1))
    except (PydubException, ValueError, IndexError, KeyError, EOFError, struct.error):
        return None
    return ReadRecording(samples, segment.frame_rate, "pydub", True)


def pydub_segment() -> Any:
    """Return pydub's AudioSegment. pydub warns when it is imported that it finds no ffmpeg, which is not needed here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pydub import AudioSegment
    return AudioSegment


def _by_librosa(path: str, is_lossless: bool) -> ReadRecording:
    import librosa

    try:
        # An open file, since for a path librosa would try other programs when libsndfile fails.
        with sf.SoundFile(path) as file:
            y, rate_hz = librosa.load(file, sr=None, mono=False, dtype=np.float64)
    except (sf.SoundFileError, librosa.LibrosaError, ValueError, RuntimeError):
        raise NotComparedError(NO_READER) from None
    return ReadRecording(np.atleast_2d(y).T, int(rate_hz), "librosa", is_lossless)
