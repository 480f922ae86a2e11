"""Check the boxes of MP4 and QuickTime files. ISO 14496-12."""

from __future__ import annotations

import struct
from typing import IO

from clipmill.stages.decode.containers.structure import MAX_CHUNKS, Container, Part, read_at


def check_mp4(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Follow the boxes of a file. A second `ftyp` begins another file."""
    position = start = at
    names: set[bytes] = set()
    files: list[tuple[int, int]] = []
    remarks: list[tuple[str, str]] = []
    for _ in range(MAX_CHUNKS):
        if position + 8 > size:
            break
        box = read_at(stream, size, position, 16)
        length, name = struct.unpack(">I4s", box[:8])
        if length == 1 and len(box) == 16:
            length = struct.unpack(">Q", box[8:])[0]
        elif length == 0:
            length = size - position
        is_whole = not names.isdisjoint((b"moov", b"moof")) and b"mdat" in names
        if length < 8 or not all(32 <= c < 127 or c == 0xA9 for c in name):
            if not is_whole:
                return Container("mp4", f"the {size - position} bytes from byte {position} on are not a box")
            remarks.append(("trailing_bytes", f"{size - position} bytes from byte {position} on are not a box"))
            break
        if name == b"ftyp" and is_whole:
            files.append((start, position))
            start, names = position, set()
        names.add(name)
        if position + length > size:
            return Container(
                "mp4", f"the box {name.decode('latin-1')} needs {length} bytes, but only {size - position} are left"
            )
        position += length
    if names.isdisjoint((b"moov", b"moof")):
        return Container("mp4", "the moov box is missing")
    if not files:
        return Container("mp4", remarks=tuple(remarks))
    files.append((start, position))
    remarks.append(("joined", f"{len(files)} files one after the other"))
    parts = tuple(Part((extent,), 0, 0, whole_stream=False) for extent in files)
    return Container("mp4", parts=parts, remarks=tuple(remarks))
