"""Uncompressed samples read by their place in a file: where a library would read others, and files without a header."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import IO

import numpy as np
import numpy.typing as npt

from clipmill.schemas.config.raw_config import Raw
from clipmill.stages.decode.containers.structure import Container, Pcm
from clipmill.stages.decode.readers.base import check_format

_BLOCK_FRAMES = 1 << 16
_Samples = npt.NDArray[np.float32]
_Bytes = npt.NDArray[np.uint8]


def _g711(law: str) -> _Samples:
    """Return the float32 samples of the 256 codes of G.711."""
    codes = np.arange(256)
    if law == "mulaw":
        code = codes ^ 0xFF
        size = ((((code & 15) << 3) + 132) << (code >> 4 & 7)) - 132
        value = np.where(code & 0x80, -size, size)
    else:
        code = codes ^ 0x55
        segment = code >> 4 & 7
        step = ((code & 15) << 4) + 8
        size = np.where(segment == 0, step, (step + 256) << np.maximum(segment - 1, 0))
        value = np.where(code & 0x80, size, -size)
    return (value / 32768).astype(np.float32)


def _whole(dtype: str, bits: int) -> Callable[[_Bytes], _Samples]:
    scale = np.float32(2.0 ** (1 - bits))
    return lambda data: data.view(dtype).astype(np.float32) * scale


def _whole_24(dtype: str, first: int) -> Callable[[_Bytes], _Samples]:
    def convert(data: _Bytes) -> _Samples:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, first : first + 3] = data.reshape(-1, 3)
        return wide.reshape(-1).view(dtype).astype(np.float32) * np.float32(2.0**-31)

    return convert


def _real(dtype: str) -> Callable[[_Bytes], _Samples]:
    def convert(data: _Bytes) -> _Samples:
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # too much for float32 is infinite, and refused as such later
            return data.view(dtype).astype(np.float32)

    return convert


def _table(values: _Samples) -> Callable[[_Bytes], _Samples]:
    return lambda data: values[data]


ENCODINGS: dict[str, tuple[int, Callable[[_Bytes], _Samples]]] = {
    "u8": (1, _table(((np.arange(256) - 128) / 128).astype(np.float32))),
    "s8": (1, _whole("i1", 8)),
    "s16le": (2, _whole("<i2", 16)),
    "s16be": (2, _whole(">i2", 16)),
    "s24le": (3, _whole_24("<i4", 1)),
    "s24be": (3, _whole_24(">i4", 0)),
    "s32le": (4, _whole("<i4", 32)),
    "s32be": (4, _whole(">i4", 32)),
    "f32le": (4, _real("<f4")),
    "f32be": (4, _real(">f4")),
    "f64le": (8, _real("<f8")),
    "f64be": (8, _real(">f8")),
    "mulaw": (1, _table(_g711("mulaw"))),
    "alaw": (1, _table(_g711("alaw"))),
}
"""Bytes of a sample by name, and what makes float32 of them: whole numbers divided by their full scale, as libsndfile does."""


class PcmReader:
    """A `clipmill.stages.decode.readers.Reader` of uncompressed samples. It goes to any frame.

    Parameters
    ----------
    stream : seekable; it is not closed
    pcm : where the samples are

    Raises
    ------
    DecodeError : bad_format, an impossible sample rate or number of channels
    """

    name = "pcm"
    exact_seek = True

    def __init__(self, stream: IO[bytes], pcm: Pcm) -> None:
        check_format(pcm.sample_rate_hz, pcm.n_channels)
        width, self._convert = ENCODINGS[pcm.encoding]
        self.sample_rate_hz, self.n_channels = pcm.sample_rate_hz, pcm.n_channels
        self.problem: str | None = None
        self.remarks: list[tuple[str, str]] = []
        self._stream = stream
        self._frame_bytes = width * pcm.n_channels
        self._places: list[int] = []
        self._firsts: list[int] = []
        total = 0
        for start, size in ((pcm.start_byte, pcm.size_bytes), *pcm.more):
            self._places.append(start)
            self._firsts.append(total)
            total += size // self._frame_bytes
        self._total = total
        self.n_frames: int | None = total
        self._at = 0

    def read_into(self, out: npt.NDArray[np.float32]) -> int:
        """Fill float32 [frames, channels] from the current place; return the frames given, fewer only at the end."""
        done = 0
        while done < len(out) and self._at < self._total:
            part = bisect_right(self._firsts, self._at) - 1
            end = self._firsts[part + 1] if part + 1 < len(self._firsts) else self._total
            wanted = min(len(out) - done, end - self._at, _BLOCK_FRAMES)
            place = self._places[part] + (self._at - self._firsts[part]) * self._frame_bytes
            data = self._read(place, wanted * self._frame_bytes)
            given = len(data) // self._frame_bytes
            samples = self._convert(np.frombuffer(data, np.uint8, given * self._frame_bytes))
            out[done : done + given] = samples.reshape(given, self.n_channels)
            done += given
            self._at += given
            if given < wanted:  # the file shrank
                break
        return done

    def _read(self, place: int, n_bytes: int) -> bytes | bytearray:
        self._stream.seek(place)
        data = self._stream.read(n_bytes)
        if 0 < len(data) < n_bytes:
            rest = bytearray(data)
            while len(rest) < n_bytes and (more := self._stream.read(n_bytes - len(rest))):
                rest += more
            return rest
        return data

    def seek(self, frame: int) -> None:
        """Go to a frame, or to the end when there are fewer."""
        self._at = max(0, min(frame, self._total))

    def close(self) -> None:
        """Leave the stream to whom it belongs."""


def raw_container(size_bytes: int, raw: Raw) -> Container:
    """Return what is known of a file without a header: all of it is samples, in whole frames."""
    rest = size_bytes % raw.frame_bytes
    whole = size_bytes - rest
    cut = f"{size_bytes} bytes are no whole number of frames of {raw.frame_bytes} bytes" if rest else None
    return Container(
        "raw",
        truncated=cut,
        n_frames=whole // raw.frame_bytes,
        pcm=Pcm(0, whole, raw.sample_rate_hz, raw.channels, raw.encoding),
        empty=size_bytes == 0,
    )
