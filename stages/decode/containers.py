"""What a file's own structure says before anything is decoded: its kind, and whether all of it is there.

A success code of a decoder is no proof that a file is whole: libsndfile reads a cut WAV or Ogg without a word, and stops
at the length that a FLAC header claims. These checks read a few kilobytes from the ends of the file.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import IO

HEAD_BYTES = 4096
TAIL_BYTES = 128 * 1024
_MAX_CHUNKS = 10_000


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


def inspect(stream: IO[bytes], size_bytes: int) -> Container:
    """Look at a file's head and tail. The stream's position is left at 0.

    Parameters
    ----------
    stream : seekable
    size_bytes : of the whole file
    """
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    skipped = _id3_length(head)
    if skipped:
        stream.seek(skipped)
        head = stream.read(HEAD_BYTES)
    kind = _kind(head) or ("mp3" if skipped else "")
    check = _CHECKS.get(kind)
    found = check(stream, size_bytes, skipped, head) if check else Container(kind)
    stream.seek(0)
    return found


def _kind(head: bytes) -> str:
    tag, form = head[:4], head[8:12]
    if tag in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return {b"WAVE": "wav", b"AVI ": "avi"}.get(form, "")
    if tag == b"FORM":
        return {b"AIFF": "aiff", b"AIFC": "aiff", b"8SVX": "iff", b"16SV": "iff"}.get(form, "")
    for magic, kind in (
        (b"fLaC", "flac"), (b"OggS", "ogg"), (b".snd", "au"), (b"dns.", "au"), (b"caff", "caf"), (b"riff\x2e\x91\xcf\x11", "w64"),
        (b"\x1a\x45\xdf\xa3", "matroska"), (b"\x30\x26\xb2\x75", "asf"), (b"#!AMR", "amr"), (b"NIST_1A", "nist"),
        (b"Creative Voice File", "voc"), (b"ADIF", "aac"),
    ):  # fmt: skip
        if head.startswith(magic):
            return kind
    if head[4:8] == b"ftyp":
        return "mp4"
    if len(head) > 6 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "aac"
    return "mp3" if _mpeg_frame_bytes(head, _mpeg_start(head)) else ""


def _id3_length(head: bytes) -> int:
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)


def _wav(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    order = ">" if head[:4] == b"RIFX" else "<"
    long_size: int | None = None
    position, frame = 12, 1
    for _ in range(_MAX_CHUNKS):
        chunk = _read_at(stream, size, position, 8)
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
                return Container("wav", _missing(length, there))
            after = _read_at(stream, size, position + 8 + length + length % 2, 8)
            # What follows must be another chunk, or it is samples that the header leaves out.
            return Container(
                "wav", understated=len(after) == 8 and not all(32 <= c < 127 for c in after[:4]) and any(after)
            )
        position += 8 + length + length % 2
    return Container("wav", "there is no data chunk among the first chunks")


def _aiff(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    position = 12
    for _ in range(_MAX_CHUNKS):
        chunk = _read_at(stream, size, position, 8)
        if len(chunk) < 8:
            return Container("aiff", "there is no SSND chunk")
        length = struct.unpack(">I", chunk[4:])[0]
        if chunk[:4] == b"SSND":
            there = size - position - 8
            return Container("aiff", _missing(length, there) if length > there else None)
        position += 8 + length + length % 2
    return Container("aiff", "there is no SSND chunk among the first chunks")


def _au(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    if len(head) < 12:
        return Container("au", "the header is not whole")
    offset, length = struct.unpack(">II" if head[:4] == b".snd" else "<II", head[4:12])
    if length != 0xFFFFFFFF and offset + length > size:
        return Container("au", _missing(length, size - offset))
    return Container("au")


def _w64(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    position = 40  # riff GUID, size, wave GUID
    for _ in range(_MAX_CHUNKS):
        chunk = _read_at(stream, size, position, 24)
        if len(chunk) < 24:
            return Container("w64", "there is no data chunk")
        length = struct.unpack("<Q", chunk[16:])[0]
        if chunk[:4] == b"data":
            return Container("w64", _missing(length - 24, size - position - 24) if length > size - position else None)
        if length < 24:
            return Container("w64", "a chunk has no size")
        position += length + -length % 8
    return Container("w64", "there is no data chunk among the first chunks")


def _caf(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    position = 8
    for _ in range(_MAX_CHUNKS):
        chunk = _read_at(stream, size, position, 12)
        if len(chunk) < 12:
            return Container("caf", "there is no data chunk")
        length = struct.unpack(">q", chunk[4:])[0]
        there = size - position - 12
        if chunk[:4] == b"data":
            return Container("caf", _missing(length, there) if length > there else None)
        if length < 0:
            return Container("caf", "a chunk has no size")
        position += 12 + length
    return Container("caf", "there is no data chunk among the first chunks")


def _nist(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    words = dict(re.findall(rb"^(\w+) -\w+ (\S+)", head, re.MULTILINE))
    try:
        offset = int(head.split(b"\n")[1])
        length = int(words[b"sample_count"]) * int(words[b"channel_count"]) * int(words[b"sample_n_bytes"])
    except (IndexError, KeyError, ValueError):
        return Container("nist")
    if b"embedded" in words.get(b"sample_coding", b""):
        return Container("nist")  # compressed: the count says nothing about bytes
    return Container("nist", _missing(length, size - offset) if offset + length > size else None)


def _matroska(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    position = 0
    for _ in range(8):
        element = _read_at(stream, size, position, 12)
        id_width = _vint_width(element[:1])
        width = _vint_width(element[id_width : id_width + 1])
        if not id_width or not width or len(element) < id_width + width:
            return Container("matroska", "an element is not whole")
        length = int.from_bytes(element[id_width : id_width + width], "big") & ((1 << 7 * width) - 1)
        start = position + id_width + width
        if element[:id_width] == b"\x18\x53\x80\x67":  # Segment
            unknown = length == (1 << 7 * width) - 1
            return Container(
                "matroska", _missing(length, size - start) if not unknown and start + length > size else None
            )
        position = start + length
    return Container("matroska")


def _read_at(stream: IO[bytes], size: int, position: int, n: int) -> bytes:
    """Read from a place that a file's own header names, which may lie anywhere."""
    if not 0 <= position <= size:
        return b""
    stream.seek(position)
    return stream.read(n)


def _vint_width(first: bytes) -> int:
    return 9 - first[0].bit_length() if first and first[0] else 0


def _voc(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    position = int.from_bytes(head[20:22], "little")
    for _ in range(_MAX_CHUNKS):
        block = _read_at(stream, size, position, 4)
        if block[:1] in (b"\0", b"") and position <= size:
            return Container("voc")
        length = int.from_bytes(block[1:4], "little")
        if position + 4 + length > size:
            return Container("voc", _missing(length, size - position - 4))
        position += 4 + length
    return Container("voc")


def _missing(declared: int, there: int) -> str:
    return f"the header declares {declared} bytes of samples and {max(there, 0)} are there"


def _ogg(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
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


def _mp4(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    position = 0
    names = set()
    for _ in range(_MAX_CHUNKS):
        if position + 8 > size:
            break
        box = _read_at(stream, size, position, 16)
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


_BITRATES = {
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (2, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
}  # kbit/s by (version 3 = MPEG-1, layer bits 1 = III); ISO 11172-3 and 13818-3
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def _mpeg_frame_bytes(data: bytes, at: int) -> int:
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


def _mpeg_start(data: bytes) -> int:
    """Return where a run of MPEG frames starts, -1 when there is none: two headers a frame's length apart."""
    at = data.find(b"\xff")
    while 0 <= at < len(data) - 4:
        length = _mpeg_frame_bytes(data, at)
        if length and (at + length + 4 > len(data) or _mpeg_frame_bytes(data, at + length)):
            return at
        at = data.find(b"\xff", at + 1)
    return -1


def _mp3(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    start = _mpeg_start(head)
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


def _flac(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    # STREAMINFO is the first block, 34 bytes after "fLaC" and a block header: RFC 9639, 8.2.
    info = head[8:42]
    if len(info) < 34 or head[4] & 0x7F != 0:
        return Container("flac", "the header is not whole")
    total = int.from_bytes(info[13:18], "big") & 0xFFFFFFFFF
    if total == 0:
        return Container("flac")
    stream.seek(max(at, size - TAIL_BYTES))
    frames = _flac_frames(stream.read(TAIL_BYTES))
    ends = {end for _, end in frames}
    # Sync codes occur in compressed data too: believe a frame only when another one ends where it starts.
    last = max((end for start, end in frames if start in ends), default=0)
    if 0 < last < total:
        return Container("flac", f"the header declares {total} samples and the frames end at {last}")
    alone = max((end for start, end in frames if start == 0), default=0)
    understated = max(last, alone) > total
    return Container("flac", understated=understated, n_frames=None if understated else total)


def _flac_frames(data: bytes) -> list[tuple[int, int]]:
    """Return the first and end sample of every FLAC frame header in some bytes: RFC 9639, 9.1."""
    headers = []
    data += bytes(16)  # the last frame can be shorter than the longest header
    at = data.find(b"\xff")
    while 0 <= at < len(data) - 16:
        if data[at + 1] in (0xF8, 0xF9):
            header = _flac_header(data[at : at + 16])
            if header is not None:
                headers.append(header)
        at = data.find(b"\xff", at + 1)
    # Frames of a fixed size are numbered, and only the last is shorter. The size that STREAMINFO states can be wrong.
    blocks = [block for _, counts_samples, block in headers if not counts_samples]
    usual = max(set(blocks), key=blocks.count, default=0)
    starts = [(number if counts_samples else number * usual, block) for number, counts_samples, block in headers]
    return [(start, start + block) for start, block in starts]


def _flac_header(h: bytes) -> tuple[int, bool, int] | None:
    """Return the coded number of a frame header, whether it counts samples (or frames), and the block size."""
    size_bits, rate_bits = h[2] >> 4, h[2] & 15
    if size_bits == 0 or rate_bits == 15 or h[3] >> 4 > 10 or h[3] & 1:
        return None
    lead = h[4]
    n_more = 0 if lead < 0x80 else next((n for n in range(1, 7) if lead >> (6 - n) == (1 << (n + 2)) - 2), -1)
    if n_more < 0:
        return None
    number = lead if n_more == 0 else lead & ((1 << (6 - n_more)) - 1)
    for byte in h[5 : 5 + n_more]:
        if byte >> 6 != 2:
            return None
        number = number << 6 | byte & 0x3F
    end = 5 + n_more
    if size_bits in (6, 7):
        width = size_bits - 5
        block = int.from_bytes(h[end : end + width], "big") + 1
        end += width
    else:
        block = {1: 192}.get(size_bits) or (576 << size_bits - 2 if size_bits < 6 else 256 << size_bits - 8)
    end += {12: 1, 13: 2, 14: 2}.get(rate_bits, 0)
    if end >= len(h) or _crc8(h[:end]) != h[end]:
        return None
    return number, bool(h[1] & 1), block


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc


_CHECKS = {
    "wav": _wav, "flac": _flac, "ogg": _ogg, "mp3": _mp3, "mp4": _mp4, "aiff": _aiff, "au": _au, "w64": _w64, "caf": _caf,
    "nist": _nist, "matroska": _matroska, "voc": _voc,
}  # fmt: skip
