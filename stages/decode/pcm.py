"""Read uncompressed samples by position: files without a header, and files in which a library would read the wrong bytes."""

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


def _integer(dtype: str, bits: int) -> Callable[[_Bytes], _Samples]:
    scale = np.float32(2.0 ** (1 - bits))
    return lambda data: data.view(dtype).astype(np.float32) * scale


def _integer_24(dtype: str, first: int) -> Callable[[_Bytes], _Samples]:
    def convert(data: _Bytes) -> _Samples:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, first : first + 3] = data.reshape(-1, 3)
        return wide.reshape(-1).view(dtype).astype(np.float32) * np.float32(2.0**-31)

    return convert


def _floating(dtype: str) -> Callable[[_Bytes], _Samples]:
    def convert(data: _Bytes) -> _Samples:
        # Values beyond float32 become infinite, which is rejected later.
        with np.errstate(over="ignore", invalid="ignore"):
            return data.view(dtype).astype(np.float32)

    return convert


def _lookup(values: _Samples) -> Callable[[_Bytes], _Samples]:
    return lambda data: values[data]


ENCODINGS: dict[str, tuple[int, Callable[[_Bytes], _Samples]]] = {
    "u8": (1, _lookup(((np.arange(256) - 128) / 128).astype(np.float32))),
    "s8": (1, _integer("i1", 8)),
    "s16le": (2, _integer("<i2", 16)),
    "s16be": (2, _integer(">i2", 16)),
    "s24le": (3, _integer_24("<i4", 1)),
    "s24be": (3, _integer_24(">i4", 0)),
    "s32le": (4, _integer("<i4", 32)),
    "s32be": (4, _integer(">i4", 32)),
    "f32le": (4, _floating("<f4")),
    "f32be": (4, _floating(">f4")),
    "f64le": (8, _floating("<f8")),
    "f64be": (8, _floating(">f8")),
    "mulaw": (1, _lookup(_g711("mulaw"))),
    "alaw": (1, _lookup(_g711("alaw"))),
}
"""By name: bytes of a sample, and a function that converts uint8 bytes to float32. Integers are divided by their full scale, as in libsndfile."""


class PcmReader:
    """A `clipmill.stages.decode.readers.Reader` of uncompressed samples. It can seek to any frame.

    Parameters
    ----------
    stream : seekable; `close` leaves it open
    pcm : where the samples are

    Raises
    ------
    DecodeError : bad_format, the sample rate or the number of channels is impossible
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
        """Fill float32 [frames, channels] from the current place; return the number of frames, fewer only at the end."""
        filled = 0
        while filled < len(out) and self._at < self._total:
            part = bisect_right(self._firsts, self._at) - 1
            end = self._firsts[part + 1] if part + 1 < len(self._firsts) else self._total
            wanted = min(len(out) - filled, end - self._at, _BLOCK_FRAMES)
            place = self._places[part] + (self._at - self._firsts[part]) * self._frame_bytes
            data = self._read(place, wanted * self._frame_bytes)
            n_read = len(data) // self._frame_bytes
            samples = self._convert(np.frombuffer(data, np.uint8, n_read * self._frame_bytes))
            out[filled : filled + n_read] = samples.reshape(n_read, self.n_channels)
            filled += n_read
            self._at += n_read
            if n_read < wanted:  # the file shrank
                break
        return filled

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
        """Go to a frame, or to the end if there are fewer."""
        self._at = max(0, min(frame, self._total))

    def close(self) -> None:
        """Do nothing: the stream belongs to the caller."""


def raw_container(size_bytes: int, raw: Raw) -> Container:
    """Return the structure of a file without a header: all of it is samples, in whole frames."""
    rest = size_bytes % raw.frame_bytes
    whole_bytes = size_bytes - rest
    truncated = f"{size_bytes} bytes are not a whole number of frames of {raw.frame_bytes} bytes" if rest else None
    return Container(
        "raw",
        truncated=truncated,
        n_frames=whole_bytes // raw.frame_bytes,
        pcm=Pcm(0, whole_bytes, raw.sample_rate_hz, raw.channels, raw.encoding),
        empty=size_bytes == 0,
    )
