"""Read how long a recording is from its header, without decoding it and without reading all of it.

The numbers are for estimates. Headers can be wrong, and some formats only allow a guess from the bit rate; a build looks closer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

from clipmill.schemas.config.raw_config import Raw
from clipmill.stages.storage.seeking import SeekableReader

MOST_BYTES = 1 << 20
"""Most bytes that are read of a file: what FFmpeg needs of an Ogg's beginning and end, or of a large table of an MP4."""


@dataclass(frozen=True)
class HeaderLength:
    """What a header says. seconds : length; n_channels, sample_rate_hz : as in the file"""

    seconds: float
    n_channels: int
    sample_rate_hz: int


class TooMuchError(OSError):
    """More would have to be read than a header should have."""


class _Frugal(SeekableReader):
    """A stream of which only so many bytes can be read."""

    def __init__(self, stream: IO[bytes], size: int, most_bytes: int) -> None:
        self._stream, self._size, self._left = stream, size, most_bytes
        self.n_read = 0

    @property
    def size(self) -> int:
        return self._size

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._size - self._at if size is None or size < 0 else min(size, self._size - self._at)
        if wanted > self._left:
            raise TooMuchError("its header is larger than a header should be")
        self._stream.seek(self._at)
        content = self._stream.read(max(0, wanted))
        self._at += len(content)
        self._left -= len(content)
        self.n_read += len(content)
        return content


def header_length(
    stream: IO[bytes], size_bytes: int, raw: Raw | None = None, most_bytes: int = MOST_BYTES
) -> HeaderLength | None:
    """Return what a recording's header says about its length, None if it says nothing or cannot be read.

    Parameters
    ----------
    stream : seekable
    raw : sample format of a file without a header
    most_bytes : that are read of it
    """
    if raw is not None:
        return HeaderLength(size_bytes / raw.bytes_per_second, raw.channels, raw.sample_rate_hz)
    return _of_libsndfile(_Frugal(stream, size_bytes, most_bytes)) or _of_ffmpeg(
        _Frugal(stream, size_bytes, most_bytes)
    )


def _of_libsndfile(stream: _Frugal) -> HeaderLength | None:
    """Return what libsndfile says of a container that states its length. It would read all of an MP3 or an Ogg."""
    import soundfile as sf

    if stream.read(4) not in (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"FORM", b".snd", b"caff", b"riff"):
        return None
    stream.seek(0)
    try:
        with sf.SoundFile(stream) as file:
            if 0 < file.frames < 1 << 62:
                return HeaderLength(file.frames / file.samplerate, file.channels, file.samplerate)
    except (sf.LibsndfileError, OSError, RuntimeError):
        pass
    return None


def _of_ffmpeg(stream: _Frugal) -> HeaderLength | None:
    """Return what FFmpeg says of the first track: from the header, from the last page, or guessed from the bit rate."""
    import av

    try:
        with av.open(stream, mode="r", options={"probesize": "131072", "analyzeduration": "1000000"}) as container:
            track = next(iter(container.streams.audio), None)
            if track is None:
                return None
            seconds = 0.0
            if track.duration is not None and track.time_base is not None:
                seconds = float(track.duration * track.time_base)
            elif container.duration is not None:
                seconds = container.duration / av.time_base
            if seconds > 0:
                codec = track.codec_context  # None: FFmpeg has no decoder for it
                return HeaderLength(seconds, getattr(codec, "channels", 0) or 1, getattr(codec, "sample_rate", 0) or 0)
    except (av.FFmpegError, OSError, ValueError):  # ValueError: names that are not text in the file's metadata
        pass
    return None
