"""MPEG audio frames: MP3, MP2, MP1."""

from __future__ import annotations

import struct
from typing import IO

from stages.decode.containers.structure import Container

_BITRATES = {
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (2, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
}  # kbit/s by (version 3 = MPEG-1, layer bits 1 = III); ISO 11172-3 and 13818-3
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def mpeg_frame_bytes(data: bytes, at: int) -> int:
    """Return the length of the MPEG audio frame whose header is at a place, 0 when there is none."""
    header = data[at : at + 4]
    if at < 0 or len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer, rate, bits = header[1] >> 3 & 3, header[1] >> 1 & 3, header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or layer == 0 or rate == 3 or bits in (0, 15):
        return 0
    table = _BITRATES.get((3 if version == 3 else 2, layer)) or _BITRATES[2, 1]
    kbps, hz, padding = table[bits - 1], _RATES[version][rate], header[2] >> 1 & 1
    if layer == 3:
        return (12000 * kbps // hz + padding) * 4
    return (72000 if layer == 1 and version != 3 else 144000) * kbps // hz + padding


def mpeg_start(data: bytes) -> int:
    """Return where a run of MPEG frames starts, -1 when there is none: two headers a frame's length apart."""
    at = data.find(b"\xff")
    while 0 <= at < len(data) - 4:
        length = mpeg_frame_bytes(data, at)
        if length and (at + length + 4 > len(data) or mpeg_frame_bytes(data, at + length)):
            return at
        at = data.find(b"\xff", at + 1)
    return -1


def check_mp3(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    start = mpeg_start(head)
    if start < 0:
        return Container("mp3")
    for offset in (36, 21, 13):  # after the side information of MPEG-1 stereo, mono or MPEG-2 stereo, MPEG-2 mono
        tag = head[start + offset : start + offset + 16]
        if tag[:4] in (b"Xing", b"Info") and len(tag) == 16:
            flags = struct.unpack(">I", tag[4:8])[0]
            if flags & 2:
                declared = struct.unpack(">I", tag[12:16] if flags & 1 else tag[8:12])[0]
                there = size - at - start
                if there < declared:
                    return Container("mp3", f"the header declares {declared} bytes of frames and {there} are there")
    return Container("mp3")
