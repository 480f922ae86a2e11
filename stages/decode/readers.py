"""Two decoders behind one interface: libsndfile (soundfile) and FFmpeg (PyAV). Both give float32 frames and count them."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import IO, Any, Protocol

import av
import numpy as np
import numpy.typing as npt
import soundfile as sf

MAX_CHANNELS = 1024
_SYSTEM_ERROR = 2  # SF_ERR_SYSTEM of sndfile.h: the operating system's, not the file's
MIN_RATE_HZ, MAX_RATE_HZ = 1000, 1_000_000
_EXACT_SUBTYPES = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
_EXACT_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"})

# The demuxer is named, never probed: FFmpeg would also open playlists that lead to other files.
DEMUXERS = {
    "wav": "wav", "flac": "flac", "ogg": "ogg", "mp3": "mp3", "mp4": "mov", "aiff": "aiff", "au": "au", "caf": "caf", "w64": "w64",
    "matroska": "matroska", "asf": "asf", "amr": "amr", "nist": "nistsphere", "voc": "voc", "aac": "aac", "avi": "avi", "iff": "iff",
}  # fmt: skip
ONLY_FFMPEG = frozenset({"mp4", "matroska", "asf", "amr", "aac", "avi"})


class DecodeError(Exception):
    """A recording that cannot be decoded. reason : a code of schemas.reasons; detail : what happened and where."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class Reader(Protocol):
    """An open recording.

    name : the library that decodes
    n_frames : exact length when the container states it beyond doubt, else None
    exact_seek : `seek` goes to the very frame
    problem : set when decoding broke off, after which nothing more is given
    """

    name: str
    sample_rate_hz: int
    n_channels: int
    n_frames: int | None
    exact_seek: bool
    problem: str | None

    def read_into(self, out: npt.NDArray[np.float32]) -> int:
        """Fill float32 [frames, channels] from the current place; return the frames given, fewer only at the end."""
        ...

    def seek(self, frame: int) -> None: ...

    def close(self) -> None: ...


class SoundFileReader:
    """libsndfile: WAV and relatives, FLAC, AIFF, AU, Ogg Vorbis, Opus, MP3, NIST, and more."""

    name = "libsndfile"

    def __init__(self, file: str | IO[bytes]) -> None:
        self._stream = None if isinstance(file, str) else _Remembering(file)
        try:
            self._file = sf.SoundFile(file if self._stream is None else self._stream)
        except (sf.LibsndfileError, TypeError) as error:  # soundfile takes a raw file without a format for a TypeError
            self._check_storage()
            raise DecodeError("undecodable", f"libsndfile: {_one_line(error)}") from None
        self.sample_rate_hz, self.n_channels = int(self._file.samplerate), int(self._file.channels)
        known = self._file.format in _EXACT_FORMATS and (
            self._file.format == "FLAC" or self._file.subtype.startswith(_EXACT_SUBTYPES)
        )
        if self._file.frames > 1 << 48:
            self._file.close()
            raise DecodeError("undecodable", "libsndfile: the header states no length")
        self.n_frames = int(self._file.frames) if known else None
        self.exact_seek = known and self._file.seekable()
        self.problem: str | None = None
        _check_format(self.sample_rate_hz, self.n_channels)

    def read_into(self, out: npt.NDArray[np.float32]) -> int:
        # Not SoundFile.read: it seeks after every call, which searches a compressed file anew and fails on FLAC files
        # whose header states a wrong block size.
        handle, cffi = self._file._file, sf._ffi
        given = int(
            sf._snd.sf_readf_float(handle, cffi.cast("float*", cffi.from_buffer(out, require_writable=True)), len(out))
        )
        self._check_storage()
        if given < len(out) and (code := sf._snd.sf_error(handle)):
            if code == _SYSTEM_ERROR:
                raise OSError(errno.EIO, "libsndfile: reading failed")
            error = cffi.string(sf._snd.sf_strerror(handle)).decode("utf-8", "replace")
            self.problem = f"libsndfile: {error}"
        return given

    def seek(self, frame: int) -> None:
        try:
            self._file.seek(min(frame, self._file.frames))
        except sf.LibsndfileError as error:
            self._check_storage()
            raise DecodeError("corrupt", f"libsndfile: cannot go to frame {frame}: {_one_line(error)}") from None

    def close(self) -> None:
        self._file.close()

    def _check_storage(self) -> None:
        """Raise what storage raised: libsndfile takes it for the end of the file."""
        if self._stream is not None and self._stream.failure is not None:
            raise self._stream.failure


class _Remembering:
    """A file for libsndfile, whose callbacks have no way to report an error: what a read raised is kept."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def read(self, size: int) -> bytes:
        try:
            return b"" if self.failure is not None else self._stream.read(size)
        except OSError as error:
            self.failure = error
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


class FfmpegReader:
    """FFmpeg's libraries through PyAV: what libsndfile cannot read. From start to end only."""

    name = "ffmpeg"
    exact_seek = False

    def __init__(
        self, stream: IO[bytes], kind: str, *, n_frames: int | None = None, ignore_length: bool = False
    ) -> None:
        self.n_frames = n_frames
        self.problem: str | None = None
        stream.seek(0)
        options = {"ignore_length": "1"} if ignore_length else {}
        try:
            self._container = av.open(
                _ForwardOnly(stream),
                mode="r",
                format=DEMUXERS[kind],
                metadata_errors="ignore",
                container_options=options,
            )
        except (av.FFmpegError, ValueError) as error:
            raise DecodeError("undecodable", f"FFmpeg: {_one_line(error)}") from None
        if not self._container.streams.audio:
            self._container.close()
            raise DecodeError("not_audio", "FFmpeg: there is no audio stream in the file")
        track = self._container.streams.audio[0]
        try:
            self._first = None
            self._frames = self._decode(track)
            self._first = next(self._frames, None)
        except DecodeError:
            self._container.close()
            raise
        if self._first is None and self.problem is not None:
            self._container.close()
            raise DecodeError("undecodable", self.problem)
        if self._first is None:
            self.sample_rate_hz, self.n_channels = int(track.rate or 0), int(track.channels or 0)
        else:
            self.sample_rate_hz, self.n_channels = self._rate, self._first.shape[1]
        self._rest = self._first if self._first is not None else np.empty((0, max(1, self.n_channels)), np.float32)
        if self._first is not None:
            _check_format(self.sample_rate_hz, self.n_channels)

    def _decode(self, track: Any) -> Iterator[npt.NDArray[np.float32]]:
        self._rate = 0
        channels = 0
        try:
            for frame in self._container.decode(track):
                if self._rate == 0:
                    self._rate, channels = int(frame.sample_rate), int(frame.layout.nb_channels)
                elif (frame.sample_rate, frame.layout.nb_channels) != (self._rate, channels):
                    raise DecodeError(
                        "bad_format",
                        f"{self._rate} Hz, {channels} channels become {frame.sample_rate} Hz, {frame.layout.nb_channels} part way",
                    )
                yield _to_float(frame, channels)
        except (av.FFmpegError, ValueError) as error:
            self.problem = f"FFmpeg: {_one_line(error)}"

    def read_into(self, out: npt.NDArray[np.float32]) -> int:
        done = 0
        while done < len(out):
            if len(self._rest) == 0:
                following = next(self._frames, None)
                if following is None:
                    break
                self._rest = following
            n = min(len(self._rest), len(out) - done)
            out[done : done + n] = self._rest[:n]
            self._rest = self._rest[n:]
            done += n
        return done

    def seek(self, frame: int) -> None:
        raise NotImplementedError("FFmpeg's containers are read from start to end")

    def close(self) -> None:
        self._container.close()


class _ForwardOnly:
    """A file that FFmpeg may read and seek in, and whose refusals are not taken for failures of storage.

    A damaged header makes FFmpeg go to places before the file's start.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, n: int) -> bytes:
        return self._stream.read(n)

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset < 0:
            raise ValueError("the container points to before the file's start")
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _to_float(frame: Any, channels: int) -> npt.NDArray[np.float32]:
    """Return a frame of any sample format as float32 [frames, channels]; whole numbers divided by their full scale."""
    data = frame.to_ndarray()
    interleaved = data.T if frame.format.is_planar else data.reshape(-1, channels)
    if interleaved.dtype == np.uint8:
        interleaved = (interleaved.astype(np.float32) - np.float32(128)) / np.float32(128)
    elif interleaved.dtype.kind == "i":
        interleaved = interleaved.astype(np.float32) * np.float32(2.0 ** (1 - 8 * interleaved.dtype.itemsize))
    found: npt.NDArray[np.float32] = np.asarray(interleaved, dtype=np.float32)
    return found


def _check_format(sample_rate_hz: int, n_channels: int) -> None:
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ or not 1 <= n_channels <= MAX_CHANNELS:
        raise DecodeError(
            "bad_format",
            f"{sample_rate_hz} Hz, {n_channels} channels; read are {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, 1 to {MAX_CHANNELS} channels",
        )


def _one_line(error: BaseException) -> str:
    """Return an error's text without the names of files and objects that libraries put into it."""
    text = " ".join(str(error).split())
    text = re.sub(r"^Error opening .*: (?=[^:]*$)", "", text)
    text = re.sub(r"; last error log: .*$|: '<(?:none|_|stages).*$", "", text)
    # What libsndfile says when it cannot tell what a file holds.
    return text.replace("File does not exist or is not a regular file (possibly a pipe?).", "Format not recognised.")[
        :300
    ]
