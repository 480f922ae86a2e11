"""WAV and its relatives: RIFF, RIFX, RF64."""

from __future__ import annotations

import struct
from typing import IO

from stages.decode.containers.structure import MAX_CHUNKS, Container, missing, read_at


def check_wav(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    order = ">" if head[:4] == b"RIFX" else "<"
    long_size: int | None = None
    position, frame = 12, 1
    for _ in range(MAX_CHUNKS):
        chunk = read_at(stream, size, position, 8)
        if len(chunk) < 8:
            return Container("wav", "there is no data chunk")
        name, length = chunk[:4], struct.unpack(order + "I", chunk[4:])[0]
        if name == b"ds64":
            long_size = struct.unpack("<Q", stream.read(16)[8:].ljust(8, b"\0"))[0]
        elif name == b"fmt ":
            frame = max(1, struct.unpack(order + "H", stream.read(14)[12:].ljust(2, b"\0"))[0])
        elif name == b"data":
            there = size - position - 8
            if length == 0xFFFFFFFF:
                if long_size is None:
                    return Container("wav")  # written to a pipe: lasts until the file ends
                length = long_size
            if length == 0 and there >= frame:
                return Container("wav", understated=True)
            if length // frame > max(there, 0) // frame:
                return Container("wav", missing(length, there))
            after = read_at(stream, size, position + 8 + length + length % 2, 8)
            # What follows must be another chunk, or it is samples that the header leaves out.
            return Container(
                "wav", understated=len(after) == 8 and not all(32 <= c < 127 for c in after[:4]) and any(after)
            )
        position += 8 + length + length % 2
    return Container("wav", "there is no data chunk among the first chunks")
