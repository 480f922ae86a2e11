"""libsndfile by soundfile: WAV and relatives, FLAC, AIFF, AU, Ogg Vorbis, Opus, MP3, NIST, and more."""

from __future__ import annotations

import errno
import os
from typing import IO

import numpy as np
import numpy.typing as npt
import soundfile as sf

from clipmill.stages.decode.readers.base import DecodeError, check_format, one_line

_SYSTEM_ERROR = 2  # SF_ERR_SYSTEM of sndfile.h: the operating system's, not the file's
_EXACT_SUBTYPES = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
_EXACT_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"})


class SoundFileReader:
    """Reads with libsndfile.

    path : of the file, None when it is read from a stream
    container : libsndfile's name of the format
    declared_frames : the length that libsndfile states or guesses, beyond which it does not read
    """

    name = "libsndfile"

    def __init__(self, file: str | IO[bytes]) -> None:
        self.path = file if isinstance(file, str) else None
        self._stream = None if isinstance(file, str) else _Remembering(file)
        # By its descriptor, which tells how far the library has come.
        self._descriptor = os.open(file, os.O_RDONLY) if isinstance(file, str) else -1
        try:
            self._file = sf.SoundFile(self._descriptor if self._stream is None else self._stream, closefd=False)
        except (sf.LibsndfileError, TypeError) as error:  # soundfile takes a raw file without a format for a TypeError
            self._close_descriptor()
            self._check_storage()
            raise DecodeError("undecodable", f"libsndfile: {one_line(error)}") from None
        self.sample_rate_hz, self.n_channels = int(self._file.samplerate), int(self._file.channels)
        known = self._file.format in _EXACT_FORMATS and (
            self._file.format == "FLAC" or self._file.subtype.startswith(_EXACT_SUBTYPES)
        )
        if self._file.frames > 1 << 48:
            self.close()
            raise DecodeError("undecodable", "libsndfile: the header states no length")
        self.container = str(self._file.format)
        self.declared_frames = int(self._file.frames)
        self.n_frames = self.declared_frames if known else None
        self.remarks: list[tuple[str, str]] = []
        self.exact_seek = known and self._file.seekable()
        self.problem: str | None = None
        try:
            check_format(self.sample_rate_hz, self.n_channels)
        except DecodeError:
            self.close()
            raise

    def read_into(self, out: npt.NDArray[np.float32]) -> int:
        # Not SoundFile.read: it seeks after every call, which searches a compressed file again and fails on FLAC files
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
            raise DecodeError("corrupt", f"libsndfile: cannot go to frame {frame}: {one_line(error)}") from None

    @property
    def position_bytes(self) -> int:
        """How far into the file the library has read; up to its buffer more than what it has given."""
        return os.lseek(self._descriptor, 0, os.SEEK_CUR) if self._stream is None else self._stream.tell()

    def close(self) -> None:
        self._file.close()
        self._close_descriptor()

    def _close_descriptor(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

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
        try:
            return self._stream.seek(offset, whence)
        except (ValueError, OverflowError):  # to before the start, or beyond any file: a damaged header's wish
            return -1

    def tell(self) -> int:
        return self._stream.tell()
