"""What the look at a container gives, and reading at places that a file's own header names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

HEAD_BYTES = 4096
TAIL_BYTES = 128 * 1024
MAX_CHUNKS = 10_000


@dataclass(frozen=True)
class Container:
    """A file's kind and what is wrong with its structure.

    kind : wav, flac, ogg, mp3, ... or "" when the content is no audio that we know
    truncated : what is missing at the end, None when nothing is known to be
    understated : the header declares less than there is, so that its length must not be believed
    n_frames : length that a FLAC header states and nothing speaks against
    """

    kind: str
    truncated: str | None = None
    understated: bool = False
    n_frames: int | None = None


def read_at(stream: IO[bytes], size: int, position: int, n: int) -> bytes:
    """Read from a place that a file's own header names, which may lie anywhere."""
    if not 0 <= position <= size:
        return b""
    stream.seek(position)
    return stream.read(n)


def missing(declared: int, there: int) -> str:
    return f"the header declares {declared} bytes of samples and {max(there, 0)} are there"
