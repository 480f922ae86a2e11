"""Ogg pages."""

from __future__ import annotations

from typing import IO

from stages.decode.containers.structure import TAIL_BYTES, Container


def check_ogg(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    stream.seek(max(0, size - TAIL_BYTES))
    tail = stream.read(TAIL_BYTES)
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return Container("ogg", "the last page is not whole")
    n_segments = tail[page + 26]
    lacing = tail[page + 27 : page + 27 + n_segments]
    if page + 27 + n_segments + sum(lacing) > len(tail):
        return Container("ogg", "the last page is not whole")
    if not tail[page + 5] & 4:
        return Container("ogg", "no page says that the stream ends")
    return Container("ogg")
