"""What the look at a container gives, and reading at places that a file's own header names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

HEAD_BYTES = 4096
TAIL_BYTES = 128 * 1024
MAX_CHUNKS = 10_000


@dataclass(frozen=True)
class Pcm:
    """Uncompressed samples that are to be read by their place in the file.

    start_byte, size_bytes : of the samples, whole frames
    encoding : one of stages.decode.pcm.ENCODINGS, such as s16le
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

    kind : wav, flac, ogg, mp3, ... or "" when the content is no audio that we know
    truncated : what is missing at the end, None when nothing is known to be
    understated : the header declares less than there is, so that its length must not be believed
    n_frames : exact count that the container states and nothing speaks against: what a decoder gives beyond it is none
        of the recording's, and less is a truncation
    pcm : uncompressed samples that are to be read by place, since a library would read something else
    start_byte : where the container begins when something stands before it, such as ID3v2 before RIFF
    empty : there is a header and no sample
    remarks : (code of schemas.remarks, detail)
    """

    kind: str
    truncated: str | None = None
    understated: bool = False
    n_frames: int | None = None
    pcm: Pcm | None = None
    start_byte: int = 0
    empty: bool = False
    remarks: tuple[tuple[str, str], ...] = ()


def read_at(stream: IO[bytes], size: int, position: int, n: int) -> bytes:
    """Read from a place that a file's own header names, which may lie anywhere."""
    if not 0 <= position <= size:
        return b""
    stream.seek(position)
    return stream.read(n)


def missing(declared: int, there: int) -> str:
    return f"the header declares {declared} bytes of samples and {max(there, 0)} are there"
