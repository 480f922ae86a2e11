"""MP4 and QuickTime, Matroska and WebM: boxes in boxes."""

from __future__ import annotations

import struct
from typing import IO

from stages.decode.containers.structure import MAX_CHUNKS, Container, missing, read_at


def check_mp4(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    position = 0
    names = set()
    for _ in range(MAX_CHUNKS):
        if position + 8 > size:
            break
        box = read_at(stream, size, position, 16)
        length, name = struct.unpack(">I4s", box[:8])
        if length == 1 and len(box) == 16:
            length = struct.unpack(">Q", box[8:])[0]
        elif length == 0:
            length = size - position
        names.add(name)
        if length < 8:
            break
        if position + length > size:
            return Container(
                "mp4", f"the box {name.decode('latin-1')} needs {length} bytes and {size - position} are there"
            )
        position += length
    return Container("mp4", None if b"moov" in names or b"moof" in names else "there is no moov box")


def check_matroska(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    position = 0
    for _ in range(8):
        element = read_at(stream, size, position, 12)
        id_width = _vint_width(element[:1])
        width = _vint_width(element[id_width : id_width + 1])
        if not id_width or not width or len(element) < id_width + width:
            return Container("matroska", "an element is not whole")
        length = int.from_bytes(element[id_width : id_width + width], "big") & ((1 << 7 * width) - 1)
        start = position + id_width + width
        if element[:id_width] == b"\x18\x53\x80\x67":  # Segment
            unknown = length == (1 << 7 * width) - 1
            return Container(
                "matroska", missing(length, size - start) if not unknown and start + length > size else None
            )
        position = start + length
    return Container("matroska")


def _vint_width(first: bytes) -> int:
    return 9 - first[0].bit_length() if first and first[0] else 0
