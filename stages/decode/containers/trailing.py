"""Recognise what follows a file's samples (chunks with or without pad bytes, tags, padding), and lengths that mean "unknown"."""

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
"""Names of chunks that programs write into RIFF and FORM files. Others are accepted if they fit into the file."""
METADATA = tuple(n.encode().ljust(4) for n in "LIST id3 ID3 bext cue smpl iXML _PMX fact PEAK JUNK NAME ANNO".split())
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"3DI")
_SCAN_BYTES = 1 << 20
REMARK_BYTES = 4096
"""From this size on, bytes that are neither samples, chunks, tags nor padding are remarked."""
_UNKNOWN_64 = 1 << 48
# Programs that write to a pipe cannot correct the length that they first wrote: 0x7FFFF000 (sox, espeak),
# 0x7FFF0000 (GStreamer), 0x7FFFFFFE and 0x80000000
# (arecord), 0x7FFFFFFF (LAME, opusdec), 0xFFFFFFFF or that less the header (FFmpeg, mpg123), 0x7F000000 (sox, AIFF).
USUAL_UNKNOWN = frozenset({0x7F000000, 0x7FFF0000, 0x7FFFF000, 0x7FFFFFFE, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF})
_AROUND = ((0x7F000000, 0x1000, 0x1000), (1 << 31, 0x11000, 0x1000), (1 << 32, 0x11000, 0))


def is_placeholder(length: int, available: int) -> bool:
    """Return whether a declared length is a placeholder of a program that could not go back to the header.

    It is if it is far more than the file has and close to the greatest value of its type. Recorders that split files at 2 GB also
    write lengths close to that, which are right; there only the usual constants count.

    Parameters
    ----------
    length, available : bytes of samples that are declared, and that the file has
    """
    if length <= available:
        return False
    if length >= _UNKNOWN_64 or length in USUAL_UNKNOWN:
        return True
    return available < length // 2 and any(top - under <= length <= top + over for top, under, over in _AROUND)


def is_tag(stream: IO[bytes], size: int, position: int) -> bool:
    """Return whether a tag starts at a position. Programs also append MP3 tags to other kinds of files."""
    return read_at(stream, size, position, 16).startswith(_TAGS)


def is_padding(stream: IO[bytes], size: int, position: int) -> bool:
    """Return whether only zeros, or only 0xFF, follow from a position to the end of the file."""
    first = read_at(stream, size, position, 1)
    if first not in (b"\0", b"\xff"):
        return not first
    stream.seek(position)
    while block := stream.read(_SCAN_BYTES):
        if block.count(first) != len(block):
            return False
    return True


def find_samples_end(stream: IO[bytes], size: int, start: int, order: str) -> int:
    """Return the position at which samples of unknown length end: before the file's last chunks and tags, or at its end."""
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
    """The chain of chunks of a RIFF or FORM file. order : byte order, < or >"""

    stream: IO[bytes]
    size: int
    order: str

    def header(self, position: int) -> tuple[bytes, int] | None:
        """Return name and length of the chunk at a position, None if fewer than eight bytes are left."""
        header = read_at(self.stream, self.size, position, 8)
        return (header[:4], struct.unpack(self.order + "I", header[4:])[0]) if len(header) == 8 else None

    def plausibility(self, position: int) -> int:
        """Return how plausible a chunk at a position is: 0 not at all, 1 by its name or its length, 2 by both."""
        header = self.header(position)
        if header is None or not all(32 <= c < 127 for c in header[0]):
            return 0
        fits = position + 8 + header[1] <= self.size
        return (1 if fits else 0) + (1 if header[0] in KNOWN_CHUNKS else 0)

    def next_after(self, end: int, length: int) -> tuple[int, int]:
        """Return where the next chunk begins after one that ends at `end`, and how plausible it is, 0 to 2.

        A chunk of odd length is followed by a pad byte. Some programs leave it out, others write one after even lengths.
        """
        with_pad, other = end + length % 2, end + 1 - length % 2
        by_rule, by_other = self.plausibility(with_pad), self.plausibility(other)
        return (other, by_other) if by_other > by_rule else (with_pad, by_rule)
