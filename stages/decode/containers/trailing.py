"""What stands behind a file's samples: chunks with or without pad bytes, tags, padding. And lengths that stand for "unknown"."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO

from clipmill.stages.decode.containers.structure import TAIL_BYTES, read_at
from clipmill.stages.decode.containers.tags import id3v2_bytes

KNOWN_CHUNKS = frozenset(
    name.encode().ljust(4)
    for name in (
        "LIST INFO bext cue smpl inst fact PEAK JUNK junk PAD FLLR iXML axml chna id3 ID3 afsp acid strc DISP levl cart umid plst "
        "labl ltxt note wavl slnt ds64 minf elm1 regn _PMX aXML cset MD5 data fmt COMM SSND FVER MARK INST COMT APPL AUTH NAME "
        "ANNO (c) AESD MIDI CHAN"
    ).split()
)
"""Names of chunks that programs write into RIFF and FORM files. Others are believed when they fit into the file."""
METADATA = tuple(n.encode().ljust(4) for n in "LIST id3 ID3 bext cue smpl iXML _PMX fact PEAK JUNK NAME ANNO".split())
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"3DI")
_SCAN_BYTES = 1 << 20
REMARK_BYTES = 4096
"""So many bytes that are neither samples, chunks, tags nor padding are worth a remark."""
_UNKNOWN_64 = 1 << 48
# Writers to a pipe leave what they began with: 0x7FFFF000 (sox, espeak), 0x7FFF0000 (GStreamer), 0x7FFFFFFE and 0x80000000
# (arecord), 0x7FFFFFFF (LAME, opusdec), 0xFFFFFFFF or that less the header (FFmpeg, mpg123), 0x7F000000 (sox, AIFF).
USUAL_UNKNOWN = frozenset({0x7F000000, 0x7FFF0000, 0x7FFFF000, 0x7FFFFFFE, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF})
_AROUND = ((0x7F000000, 0x1000, 0x1000), (1 << 31, 0x11000, 0x1000), (1 << 32, 0x11000, 0))


def stands_for_unknown(length: int, there: int) -> bool:
    """Return whether a declared length is what a program writes that cannot come back to the header.

    It is when it is over what is there by far and close to the greatest value of its type. A recorder that splits its
    files at 2 GB writes such lengths too, and they are right: of these, only the usual constants count.

    Parameters
    ----------
    length, there : bytes of samples, declared and left in the file
    """
    if length <= there:
        return False
    if length >= _UNKNOWN_64 or length in USUAL_UNKNOWN:
        return True
    return there < length // 2 and any(top - under <= length <= top + over for top, under, over in _AROUND)


def is_tag(stream: IO[bytes], size: int, position: int) -> bool:
    """Return whether a tag of an MP3 or another file starts at a place, as programs append them to all that they tag."""
    return read_at(stream, size, position, 16).startswith(_TAGS)


def is_padding(stream: IO[bytes], size: int, position: int) -> bool:
    """Return whether nothing but zeros, or nothing but 0xFF, stands from a place to the file's end."""
    first = read_at(stream, size, position, 1)
    if first not in (b"\0", b"\xff"):
        return not first
    stream.seek(position)
    while block := stream.read(_SCAN_BYTES):
        if block.count(first) != len(block):
            return False
    return True


def samples_end(stream: IO[bytes], size: int, start: int, order: str) -> int:
    """Return where samples of unknown length end: before the tags and the last chunk of the file, else at its end."""
    end = size
    for _ in range(8):
        before = end
        if end - 128 >= start and read_at(stream, size, end - 128, 3) == b"TAG":
            end -= 128
        footer = read_at(stream, size, end - 32, 32) if end - 32 >= start else b""
        if footer[:8] == b"APETAGEX":
            length, _, flags = struct.unpack("<III", footer[12:24])
            length += 32 if flags >> 31 else 0
            if 32 <= length <= end - start:
                end -= length
        tail_start = max(start, end - TAIL_BYTES)
        tail = read_at(stream, size, tail_start, end - tail_start)
        for name in METADATA:
            place = tail.rfind(name)
            if 0 <= place <= len(tail) - 8:
                stop = place + 8 + struct.unpack(order + "I", tail[place + 4 : place + 8])[0]
                if stop <= len(tail) <= stop + stop % 2 + 1:
                    end = tail_start + place
                    break
        else:
            place = tail.rfind(b"ID3")
            if 0 <= place <= len(tail) - 10 and place + id3v2_bytes(tail[place : place + 10]) == len(tail):
                end = tail_start + place
        if end == before:
            return end
    return end


@dataclass(frozen=True)
class Chunks:
    """The chain of chunks of a RIFF or FORM file. order : "<" or ">"."""

    stream: IO[bytes]
    size: int
    order: str

    def header(self, position: int) -> tuple[bytes, int] | None:
        """Return name and length of the chunk at a place, None where the file has no eight bytes more."""
        found = read_at(self.stream, self.size, position, 8)
        return (found[:4], struct.unpack(self.order + "I", found[4:])[0]) if len(found) == 8 else None

    def likely(self, position: int) -> int:
        """Return how much speaks for a chunk at a place: 0 nothing, 1 its name or its extent, 2 both."""
        found = self.header(position)
        if found is None or not all(32 <= c < 127 for c in found[0]):
            return 0
        fits = position + 8 + found[1] <= self.size
        return (1 if fits else 0) + (1 if found[0] in KNOWN_CHUNKS else 0)

    def behind(self, end: int, length: int) -> tuple[int, int]:
        """Return where the next chunk begins behind one that ends at a place, and how much speaks for it.

        A chunk of odd length is followed by a pad byte. Some writers leave it out, others write one behind even lengths.
        """
        with_pad, other = end + length % 2, end + 1 - length % 2
        by_rule, by_other = self.likely(with_pad), self.likely(other)
        return (other, by_other) if by_other > by_rule else (with_pad, by_rule)
