"""Read with libsndfile, through soundfile: WAV and relatives, FLAC, AIFF, AU, Ogg Vorbis, Opus, MP3, NIST, and more."""

from __future__ import annotations

import errno
import os
from typing import IO

import numpy as np
import numpy.typing as npt
import soundfile as sf

from clipmill.stages.decode.readers.base import DecodeError, check_format, one_line

_SYSTEM_ERROR = 2  # SF_ERR_SYSTEM of sndfile.h: an error of the operating system, not of the file
_EXACT_SUBTYPES = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
_EXACT_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"})


class SoundFileReader:
    """Reads with libsndfile.

    path : of the file, None when it is read from a stream
    container : libsndfile's name of the format
    declared_frames : the length that libsndfile states or guesses; it does not read beyond that

    Raises
    ------
    DecodeError : undecodable, bad_format
    OSError : the file or stream could not be read
    """

    name = "libsndfile"

    def __init__(self, file: str | IO[bytes]) -> None:
        self.path = file if isinstance(file, str) else None
        self._stream = None if isinstance(file, str) else _ErrorKeeper(file)
        # By its descriptor, whose position shows how far the library has read.
        self._descriptor = os.open(file, os.O_RDONLY) if isinstance(file, str) else -1
        try:
            self._file = sf.SoundFile(self._descriptor if self._stream is None else self._stream, closefd=False)
        except (sf.LibsndfileError, TypeError) as error:  # soundfile raises TypeError for a raw file without a format
            self._close_descriptor()
            self._check_storage()
            raise DecodeError("undecodable", f"libsndfile: {one_line(error)}") from None
        self.sample_rate_hz, self.n_channels = int(self._file.samplerate), int(self._file.channels)
        is_exact = self._file.format in _EXACT_FORMATS and (
            self._file.format == "FLAC" or self._file.subtype.startswith(_EXACT_SUBTYPES)
        )
        if self._file.frames > 1 << 48:
            self.close()
            raise DecodeError("undecodable", "libsndfile: the header states no length")
        self.container = str(self._file.format)
        self.declared_frames = int(self._file.frames)
        self.n_frames = self.declared_frames if is_exact else None
        self.remarks: list[tuple[str, str]] = []
        self.exact_seek = is_exact and self._file.seekable()
        self.problem: str | None = None
        try:
            check_format(self.sample_rate_hz, self.n_channels)
        except DecodeError:
            self.close()
            raise

    def read_into(self, out: npt.NDArray[np.float32]) -> int:
        """Fill float32 [frames, channels] from the current place; return the number of frames, fewer only at the end.

        Raises
        ------
        OSError : the file or stream could not be read
        """
        # Not SoundFile.read: it seeks after every call, which searches a compressed file again and fails on FLAC files
        # whose header states a wrong block size.
        handle, cffi = self._file._file, sf._ffi
        n_read = int(
            sf._snd.sf_readf_float(handle, cffi.cast("float*", cffi.from_buffer(out, require_writable=True)), len(out))
        )
        self._check_storage()
        if n_read < len(out) and (code := sf._snd.sf_error(handle)):
            if code == _SYSTEM_ERROR:
                raise OSError(errno.EIO, "libsndfile: reading failed")
            error = cffi.string(sf._snd.sf_strerror(handle)).decode("utf-8", "replace")
            self.problem = f"libsndfile: {error}"
        return n_read

    def seek(self, frame: int) -> None:
        """Go to a frame, or to the end if there are fewer. Raise DecodeError, corrupt, if libsndfile cannot."""
        try:
            self._file.seek(min(frame, self._file.frames))
        except sf.LibsndfileError as error:
            self._check_storage()
            raise DecodeError("corrupt", f"libsndfile: cannot go to frame {frame}: {one_line(error)}") from None

    @property
    def position_bytes(self) -> int:
        """Return how far into the file the library has read; its buffer may be ahead of the frames that it returned."""
        return os.lseek(self._descriptor, 0, os.SEEK_CUR) if self._stream is None else self._stream.tell()

    def close(self) -> None:
        self._file.close()
        self._close_descriptor()

    def _close_descriptor(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _check_storage(self) -> None:
        """Raise the error that reading the stream raised: libsndfile takes it for the end of the file."""
        if self._stream is not None and self._stream.failure is not None:
            raise self._stream.failure


class _ErrorKeeper:
    """A file for libsndfile that keeps the error of a read, since libsndfile's callbacks cannot report one."""

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
        except (ValueError, OverflowError):  # before the start or beyond any file, as damaged headers ask for
            return -1

    def tell(self) -> int:
        return self._stream.tell()
