"""The structure of a container as the checks return it, and reading at positions that a file's header names."""

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
    """A stretch of a file that can be decoded separately, and the length that must result.

    extents : bytes of the part in the file
    sample_rate_hz, n_channels : as stated by the part's own headers
    n_frames : frames that decoding must return, None if the headers do not state it
    tolerance : frames by which the decoded length may differ
    whole_stream : libsndfile reads the part completely and correctly
    is_file : libsndfile can be given the file itself, which contains nothing that it fails on
    audio_extents : `extents` without the header frame, for FFmpeg, which must not act on it; None: the same as `extents`
    skip_frames : frames decoded from `audio_extents` before the recording's first
    hole : message about data that is missing in the middle by the part's own counts, None if nothing is
    is_entered : the part was recorded from the middle of a stream, so its clock has no zero
    has_clock : FFmpeg knows the time at which the audio after a hole belongs
    """

    extents: Extents
    sample_rate_hz: int
    n_channels: int
    n_frames: int | None = None
    tolerance: int = 0
    whole_stream: bool = True
    is_file: bool = True
    audio_extents: Extents | None = None
    skip_frames: int = 0
    hole: str | None = None
    has_clock: bool = True
    is_entered: bool = False


@dataclass(frozen=True)
class Pcm:
    """Uncompressed samples that are read by their position in the file.

    start_byte, size_bytes : position and length of the samples, in whole frames
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

    kind : wav, flac, ogg, mp3, ... or "" if the format is not recognised
    truncated : message about what is missing at the end, None if nothing is known to be missing
    understated : the header declares less than the file holds, so its length must not be trusted
    n_frames : exact length that the container states and nothing contradicts: frames that a decoder returns beyond it are not
        part of the recording, and fewer mean truncation
    pcm : uncompressed samples to read by position, since a library would read the wrong bytes
    empty : the file has a header but no samples
    fault : reason code and detail if the recording is unusable, whatever a decoder returns
    parts : parts to decode one after the other; empty if a decoder reads the file as it is
    remarks : pairs of a code of clipmill.schemas.remarks and a detail
    unsupported : name of a format that neither library decodes
    start_byte : position of the container, after tags before it
    block_frames : frames that the last block has at most: if no more are missing, the file was cut within that block
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
    """Gives access to the bytes of a file by position and reads it in blocks, for scans from start to end.

    size : of the file in bytes
    block_bytes : least size of a read
    base, data : position and content of the block in memory
    """

    def __init__(self, stream: IO[bytes], size: int, block_bytes: int = _BLOCK_BYTES) -> None:
        self._stream, self.size, self._block_bytes = stream, size, block_bytes
        self.base, self.data = 0, b""

    def load(self, at: int, n_bytes: int = 0) -> None:
        """Load the block that begins at a position, or `n_bytes` if that is more."""
        self._stream.seek(at)
        self.base, self.data = at, self._stream.read(max(n_bytes, self._block_bytes))

    def get(self, at: int, n: int) -> bytes:
        """Return the bytes [at, at + n), fewer at the end of the file."""
        if at >= self.size or at < 0:
            return b""
        inside = at - self.base
        if inside < 0 or inside + n > len(self.data):
            self.load(at, n)
            inside = 0
        return self.data[inside : inside + n]


def read_at(stream: IO[bytes], size: int, position: int, n: int) -> bytes:
    """Return n bytes from a position that a file's header names, fewer or none where the file does not reach."""
    if not 0 <= position <= size:
        return b""
    stream.seek(position)
    return stream.read(n)


def describe_shortage(declared: int, available: int) -> str:
    """Return the message that a file has fewer bytes of samples than its header declares."""
    return f"the header declares {declared} bytes of samples, but the file has only {max(available, 0)}"
