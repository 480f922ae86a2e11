"""Parse headers of MPEG audio frames (MP3, MP2, MP1) and ADTS frames, and the header frames that state the length of a stream.

Layouts: ISO 11172-3 and 13818-3 (MPEG), ISO 13818-7 (ADTS); Xing, Info, LAME and VBRI headers as LAME and Fraunhofer's
encoder write them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from clipmill.stages.decode.containers.structure import Window

_BITRATES = {
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (2, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
}  # kbit/s by (version 3 = MPEG-1, layer bits 1 = III)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_ADTS_CHANNELS = (0, 1, 2, 3, 4, 5, 6, 8)
DECODER_DELAY = 529
"""Delay in samples of every MPEG layer III decoder. The delay that encoders state does not include it."""
PROOF = 3
"""This many headers, each where the one before it states, do not occur by chance."""
MARK_BYTES = 64
_PROOF_WITHIN = 8


class Format(NamedTuple):
    """The properties that all frames of a stream share. layer : 1 to 3 for MPEG audio, 4 for ADTS"""

    version: int
    layer: int
    sample_rate_hz: int
    n_channels: int

    @property
    def frame_samples(self) -> int:
        """Return the samples of a frame per channel."""
        if self.layer == 4:
            return 1024
        return 384 if self.layer == 1 else 576 if self.layer == 3 and self.version != 3 else 1152


def mpeg_frame_bytes(data: bytes, at: int) -> int:
    """Return the length in bytes of the MPEG audio frame whose header is at a position, 0 if there is none."""
    header = data[at : at + 4]
    if at < 0 or len(header) < 4 or header[0] != 0xFF:
        return 0
    return _frame_bytes(header[1], header[2])


@cache
def _frame_bytes(second: int, third: int) -> int:
    version, layer, rate, bits = second >> 3 & 3, second >> 1 & 3, third >> 2 & 3, third >> 4
    if second & 0xE0 != 0xE0 or version == 1 or layer == 0 or rate == 3 or bits in (0, 15):
        return 0
    table = _BITRATES.get((3 if version == 3 else 2, layer)) or _BITRATES[2, 1]
    kbps, hz, padding = table[bits - 1], _RATES[version][rate], third >> 1 & 1
    if layer == 3:
        return (12000 * kbps // hz + padding) * 4
    return (72000 if layer == 1 and version != 3 else 144000) * kbps // hz + padding


def frame_bytes_of(header: bytes, first: bytes) -> int:
    """Return the length of a frame in bytes by its header of four bytes, 0 if it does not belong to the stream that begins with `first`."""
    # The last bit of the second byte, which may differ, says whether the frame has a checksum.
    if len(header) < 4 or header[0] != 0xFF or (header[1] ^ first[1]) & 0xFE or (header[2] ^ first[2]) & 0x0C:
        return 0
    return _frame_bytes(header[1], header[2])


def mpeg_start(data: bytes) -> int:
    """Return where a run of MPEG frames starts, -1 if there is none. See `_start`."""
    return _start(data, mpeg_frame_bytes, 4)


def adts_start(data: bytes) -> int:
    """Return where a run of ADTS frames starts, -1 if there is none. One header proves nothing: frames of FLAC begin alike."""
    return _start(data, adts_frame_bytes, 7)


def _start(data: bytes, frame_bytes: Callable[[bytes, int], int], header_bytes: int) -> int:
    """Return where headers of one stream begin, each where the one before states: three at the very start, eight elsewhere.

    Fewer are enough where `data` ends: two at the start, five elsewhere. Raw samples contain bytes that look like a header.
    """
    at = data.find(b"\xff")
    while 0 <= at < len(data) - header_bytes:
        place, n_required = at, PROOF if at == 0 else _PROOF_WITHIN
        for k in range(n_required):
            length = frame_bytes(data, place)
            is_same_stream = (
                (data[place + 1] ^ data[at + 1]) & 0xFE == 0 and (data[place + 2] ^ data[at + 2]) & 0x0C == 0
                if length
                else False
            )
            if not is_same_stream:
                break
            place += length
            if place + header_bytes > len(data) and k >= (1 if at == 0 else 4):
                return at
        else:
            return at
        at = data.find(b"\xff", at + 1)
    return -1


def format_of(header: bytes) -> Format | None:
    """Return the format of a frame by its first bytes, None if they are not a header."""
    if mpeg_frame_bytes(header, 0):
        version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
        return Format(version, layer, _RATES[version][header[2] >> 2 & 3], 1 if header[3] >= 0xC0 else 2)
    if adts_frame_bytes(header, 0):
        code = (header[2] & 1) << 2 | header[3] >> 6
        return Format(header[1] >> 3 & 1, 4, _ADTS_RATES[header[2] >> 2 & 15], _ADTS_CHANNELS[code])
    return None


def adts_frame_bytes(data: bytes, at: int) -> int:
    """Return the length in bytes of the ADTS frame whose header is at a position, 0 if there is none."""
    h = data[at : at + 7]
    if at < 0 or len(h) < 7 or h[0] != 0xFF or h[1] & 0xF6 != 0xF0 or h[2] >> 2 & 15 >= len(_ADTS_RATES):
        return 0
    length = (h[3] & 3) << 11 | h[4] << 3 | h[5] >> 5
    return length if length > (7 if h[1] & 1 else 9) else 0


@dataclass
class Header:
    """The content of a Xing, Info or VBRI header, None where it states nothing.

    n_frames : frames of the codec, not samples
    delay, padding : of the encoder, in samples
    """

    n_frames: int | None = None
    n_bytes: int | None = None
    delay: int | None = None
    padding: int = 0


def find_headers(data: bytes) -> list[int]:
    """Return the positions in `data` at which a frame with a Xing, Info or VBRI header could begin."""
    positions: set[int] = set()
    for mark in (b"Xing", b"Info", b"VBRI"):
        at = data.find(mark)
        while at >= 0:
            positions.update(at - offset for offset in (36, 21, 13) if at >= offset)
            at = data.find(mark, at + 1)
    return sorted(positions)


def header_at(window: Window, at: int, format: Format) -> tuple[Header | None, int]:
    """Return the header in the frame at a position and the frame's length in bytes, or None and 0 if it has no such header."""
    if format.layer != 3:
        return None, 0
    frame = window.get(at, 512)
    if len(frame) < 48:
        return None, 0
    length = mpeg_frame_bytes(frame, 0)
    side = (36 if format.n_channels == 2 else 21) if format.version == 3 else (21 if format.n_channels == 2 else 13)
    if frame[side : side + 4] in (b"Xing", b"Info"):
        return _parse_xing(frame[side:length]), length
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        n_bytes, n_frames = struct.unpack(">II", frame[46:54])
        return Header(n_frames, n_bytes), length
    return None, 0


def _parse_xing(tag: bytes) -> Header:
    header, at = Header(), 8
    flags = int.from_bytes(tag[4:8], "big")
    if flags & 1 and len(tag) >= at + 4:
        header.n_frames = int.from_bytes(tag[at : at + 4], "big")
        at += 4
    if flags & 2 and len(tag) >= at + 4:
        header.n_bytes = int.from_bytes(tag[at : at + 4], "big")
        at += 4
    at += 100 if flags & 4 else 0
    at += 4 if flags & 8 else 0
    # The encoder's name has nine letters. Delay and padding, twelve bits each, are 21 bytes after its start.
    if tag[at : at + 4] in (b"LAME", b"Lavf", b"Lavc") and len(tag) >= at + 24:
        both = int.from_bytes(tag[at + 21 : at + 24], "big")
        header.delay, header.padding = both >> 12, both & 0xFFF
    return header
