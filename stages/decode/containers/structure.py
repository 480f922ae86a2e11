"""What the look at a container gives, and reading at places that a file's own header names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

HEAD_BYTES = 16384
TAIL_BYTES = 128 * 1024
MAX_CHUNKS = 10_000
MAX_PARTS = 10_000
_BLOCK_BYTES = 1 << 20

Extents = tuple[tuple[int, int], ...]
"""Stretches [start, stop) of a file in bytes, in ascending order."""


@dataclass(frozen=True)
class Part:
    """A stretch of a file that can be decoded by itself, and how much must come out of it.

    extents : its bytes
    sample_rate_hz, n_channels : as its own headers say
    n_frames : that it must give, None when its headers do not tell
    tolerance : how many frames may be missing or too many
    whole_stream : libsndfile reads it as it should be read, from the first byte
    is_file : libsndfile may be given the file itself, in which there is nothing that it stumbles over
    bare : extents without the header frame, for a decoder that is to be told nothing; None: as `extents`
    skip_frames : of what comes out of `bare`, how many stand before the recording's first
    hole : what is missing in the middle by its own counts, None when nothing is
    is_entered : it begins in the middle of a longer one, so its clock has no zero
    has_clock : FFmpeg knows where what follows a hole belongs
    """

    extents: Extents
    sample_rate_hz: int
    n_channels: int
    n_frames: int | None = None
    tolerance: int = 0
    whole_stream: bool = True
    is_file: bool = True
    bare: Extents | None = None
    skip_frames: int = 0
    hole: str | None = None
    has_clock: bool = True
    is_entered: bool = False


@dataclass(frozen=True)
class Pcm:
    """Uncompressed samples that are to be read by their place in the file.

    start_byte, size_bytes : of the samples, whole frames
    encoding : one of clipmill.stages.decode.pcm.ENCODINGS, such as s16le
    more : (start_byte, size_bytes) of further samples of the same recording, in their order
    """

    start_byte: int
    size_bytes: int
    sample_rate_hz: int
    n_channels: int
    encoding: str
    more: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Container:
    """A file's kind and what is wrong with its structure.

    kind : wav, flac, ogg, mp3, ... or "" when the format is not recognised
    truncated : what is missing at the end, None when nothing is known to be
    understated : the header declares less than there is, so that its length must not be believed
    n_frames : exact count that the container states and nothing speaks against: what a decoder gives beyond it is none
        of the recording's, and less is a truncation
    pcm : uncompressed samples that are to be read by place, since a library would read something else
    empty : there is a header and no sample
    fault : reason code and detail of what makes the recording unusable, whatever a decoder makes of it
    parts : to be decoded one after the other; none when a decoder is to read the file as it is
    remarks : code of clipmill.schemas.remarks and detail of what is worth knowing
    unsupported : name of a format that nothing here decodes
    start_byte : where the container begins, behind tags that stand before it
    block_frames : samples of the last block, at most: where only these are missing, the file was cut within it
    """

    kind: str
    truncated: str | None = None
    understated: bool = False
    n_frames: int | None = None
    pcm: Pcm | None = None
    empty: bool = False
    fault: tuple[str, str] | None = None
    parts: tuple[Part, ...] = ()
    remarks: tuple[tuple[str, str], ...] = ()
    unsupported: str | None = None
    start_byte: int = 0
    block_frames: int = 0


class Window:
    """Bytes of a file by their place, read in blocks: for walks from its start to its end.

    size : of the file in bytes
    block_bytes : how much is read at once, at least
    base, data : place and content of the block that is held
    """

    def __init__(self, stream: IO[bytes], size: int, block_bytes: int = _BLOCK_BYTES) -> None:
        self._stream, self.size, self._block_bytes = stream, size, block_bytes
        self.base, self.data = 0, b""

    def hold(self, at: int, n_bytes: int = 0) -> None:
        """Have the block that begins at a place in memory, or more if more is asked for."""
        self._stream.seek(at)
        self.base, self.data = at, self._stream.read(max(n_bytes, self._block_bytes))

    def get(self, at: int, n: int) -> bytes:
        """Return [at, at + n), less where the file ends."""
        if at >= self.size or at < 0:
            return b""
        inside = at - self.base
        if inside < 0 or inside + n > len(self.data):
            self.hold(at, n)
            inside = 0
        return self.data[inside : inside + n]


def read_at(stream: IO[bytes], size: int, position: int, n: int) -> bytes:
    """Read from a place that a file's own header names, which may lie anywhere."""
    if not 0 <= position <= size:
        return b""
    stream.seek(position)
    return stream.read(n)


def missing(declared: int, there: int) -> str:
    return f"the header declares {declared} bytes of samples and {max(there, 0)} are there"
