"""Check other containers of uncompressed audio that state a length in the header: AIFF, AU, W64, CAF, NIST, VOC."""

from __future__ import annotations

import math
import re
import struct
from typing import IO

from clipmill.stages.decode.containers.riff import Format, read_format
from clipmill.stages.decode.containers.structure import MAX_CHUNKS, Container, Pcm, describe_shortage, read_at
from clipmill.stages.decode.containers.trailing import (
    REMARK_BYTES,
    Chunks,
    find_samples_end,
    is_padding,
    is_placeholder,
    is_tag,
)

_AIFC = {
    b"sowt": "s16le", b"fl32": "f32be", b"FL32": "f32be", b"fl64": "f64be", b"FL64": "f64be", b"ulaw": "mulaw",
    b"ULAW": "mulaw", b"alaw": "alaw", b"ALAW": "alaw", b"raw ": "u8", b"in24": "s24be", b"in32": "s32be",
}  # fmt: skip
_AU = {1: "mulaw", 2: "s8", 3: "s16", 4: "s24", 5: "s32", 6: "f32", 7: "f64", 27: "alaw"}
_NIST = b"NIST_1A\n"
_VOC_SLACK = 16
_VOC = {0: "u8", 4: "s16le", 6: "alaw", 7: "mulaw"}


def _width(encoding: str) -> int:
    """Return the bytes of a sample, 0 if samples are compressed."""
    bits = re.search(r"\d+", encoding)
    return int(bits.group()) // 8 if bits else 1 if encoding else 0


def check_aiff(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Follow the chunks of an AIFF or AIFC, and find the samples by SSND and COMM."""
    chunks, position, likely = Chunks(stream, size, ">"), at + 12, 1
    comm, sound, odd = b"", (0, -1), at > 0
    for _ in range(MAX_CHUNKS):
        header = chunks.header(position)
        if header is None or (sound[1] >= 0 and not likely):
            break
        name, length = header
        if name == b"COMM" and not comm:
            comm = read_at(stream, size, position + 8, min(length, 64))
            odd |= sound[1] >= 0
        elif name == b"SSND" and sound[1] < 0:
            sound = (position + 8, length)
        end = position + 8 + length
        position, likely = chunks.next_after(end, length)
        odd |= position != end + length % 2
    if sound[1] < 0:
        return Container("aiff", "the SSND chunk is missing", start_byte=at)
    if len(comm) < 18:
        return Container("aiff", "the COMM chunk is missing", start_byte=at)
    channels, n_frames, bits, exponent, mantissa = struct.unpack(">HIHHQ", comm[:18])
    kind = comm[18:22] if head[8:12] == b"AIFC" else b"NONE"
    width = (bits + 7) // 8
    encoding = _AIFC.get(kind, "")
    if kind in (b"NONE", b"twos") and 1 <= width <= 4:
        encoding = "s8" if width == 1 else f"s{8 * width}be"
    rate = 0 if exponent < 0x3FFF or exponent > 0x403E else round(mantissa * 2.0 ** (exponent - 0x403E))
    offset = int.from_bytes(read_at(stream, size, sound[0], 4), "big")
    offset = offset if offset < size - sound[0] - 8 else 0
    start, declared = sound[0] + 8 + offset, max(0, sound[1] - 8 - offset)
    frame = _width(encoding) * channels
    available = max(0, size - start)
    if not frame:
        is_short = sound[1] and not is_placeholder(sound[1], available) and declared > available
        return Container("aiff", describe_shortage(declared, available) if is_short else None, start_byte=at)
    counted = n_frames * frame if not is_placeholder(n_frames * frame, available) else 0
    ends = likely or position >= size or is_tag(stream, size, position) or is_padding(stream, size, position)
    remarks: tuple[tuple[str, str], ...] = ()
    if is_placeholder(sound[1], available) or (sound[1] in (0, 8 + offset) and not (ends and position > start)):
        odd = True
        declared = counted if 0 < counted <= available else find_samples_end(stream, size, start, ">") - start
    elif declared < counted <= available and not ends:
        odd = True
        remarks = (
            (
                "header_wrong",
                f"SSND declares {declared} bytes of samples, but COMM declares {counted}, which the file has",
            ),
        )
        declared = counted
    elif 0 < counted < declared:
        odd |= declared - counted >= frame
        declared = counted
    if declared // frame > available // frame:
        return Container("aiff", describe_shortage(declared, available), start_byte=at)
    n_bytes = min(declared, available) // frame * frame
    pcm = Pcm(start, n_bytes, rate, channels, encoding) if odd and n_bytes else None
    return Container("aiff", n_frames=n_bytes // frame, pcm=pcm, start_byte=at, empty=n_bytes == 0, remarks=remarks)


def check_au(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Read the header of an AU file, and find the end of its samples."""
    if len(head) < 24:
        return Container("au", "the header is incomplete", start_byte=at)
    order = ">" if head[:4] == b".snd" else "<"
    offset, length, code, rate, channels = struct.unpack(order + "5I", head[4:24])
    start = at + offset
    available = max(0, size - start)
    encoding = _AU.get(code, "")
    if _width(encoding) > 1:
        encoding += "be" if order == ">" else "le"
    frame = _width(encoding) * channels
    endless = is_placeholder(length, available) or (
        length == 0 and available >= max(1, frame) and not is_padding(stream, size, start)
    )
    if endless:
        length = find_samples_end(stream, size, start, order) - start if frame else available
    elif length // max(1, frame) > available // max(1, frame):
        return Container("au", describe_shortage(length, available), start_byte=at)
    if not frame:
        return Container("au", start_byte=at, empty=length == 0)
    n_bytes = min(length, available) // frame * frame
    pcm = Pcm(start, n_bytes, rate, channels, encoding) if n_bytes and (endless or at) else None
    rest = available - length
    remarks = []
    if rest >= REMARK_BYTES and not is_padding(stream, size, start + length):
        remarks.append(("trailing_bytes", f"{rest} bytes from byte {start + length} on"))
    return Container(
        "au", n_frames=n_bytes // frame, pcm=pcm, start_byte=at, empty=n_bytes == 0, remarks=tuple(remarks)
    )


def check_w64(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Follow the chunks of a W64 file to its samples."""
    position = at + 40  # riff GUID, size, wave GUID
    form: Format | None = None
    for _ in range(MAX_CHUNKS):
        chunk = read_at(stream, size, position, 24)
        if len(chunk) < 24:
            return Container("w64", "the data chunk is missing", start_byte=at)
        length = struct.unpack("<Q", chunk[16:])[0]
        if chunk[:4] == b"fmt ":
            form = read_format(read_at(stream, size, position + 24, min(length, 64) - 24 if length >= 24 else 0), "<")
        if chunk[:4] == b"data":
            return _w64_data(stream, size, at, position + 24, length - 24, form)
        if length < 24:
            return Container("w64", "a chunk states no size", start_byte=at)
        position += length + -length % 8
    return Container("w64", "the data chunk is missing among the first chunks", start_byte=at)


def _w64_data(stream: IO[bytes], size: int, at: int, start: int, length: int, form: Format | None) -> Container:
    available = size - start
    frame = form.frame_bytes if form else 1
    riff_bytes = int.from_bytes(read_at(stream, size, at + 16, 8), "little")
    is_header_only = at + riff_bytes == start  # the outer length counts the header alone, as in a file without a sample
    endless = is_placeholder(length, available) or (
        length <= 0 and available >= frame and not (is_header_only and is_padding(stream, size, start))
    )
    if length <= 0 and available >= 24 and read_at(stream, size, start, 24)[4:8] == b"\xf3\xac\xd3\x11":
        endless = False  # another chunk follows
    if endless:
        length = available
    elif length // frame > available // frame:
        return Container("w64", describe_shortage(length, available), start_byte=at)
    n_bytes = max(0, min(length, available))
    if form is None or not form.width:
        return Container("w64", start_byte=at, empty=n_bytes == 0)
    n_bytes -= n_bytes % frame
    pcm = None
    if n_bytes and (endless or at):
        pcm = Pcm(start, n_bytes, form.sample_rate_hz, form.n_channels, form.encoding)
    return Container("w64", n_frames=n_bytes // frame, pcm=pcm, start_byte=at, empty=n_bytes == 0)


def check_caf(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Follow the chunks of a CAF file to its samples."""
    position = at + 8
    desc = b""
    for _ in range(MAX_CHUNKS):
        chunk = read_at(stream, size, position, 12)
        if len(chunk) < 12:
            return Container("caf", "the data chunk is missing", start_byte=at)
        length = struct.unpack(">q", chunk[4:])[0]
        available = size - position - 12
        if chunk[:4] == b"desc":
            desc = read_at(stream, size, position + 12, 32)
        if chunk[:4] == b"data":
            return _caf_data(at, position + 16, length - 4 if length >= 0 else -1, available - 4, desc)
        if length < 0:
            return Container("caf", "a chunk states no size", start_byte=at)
        position += 12 + length
    return Container("caf", "the data chunk is missing among the first chunks", start_byte=at)


def _caf_data(at: int, start: int, length: int, available: int, desc: bytes) -> Container:
    """Check the samples, which follow an edit count of four bytes."""
    endless = length < 0 or is_placeholder(length, available) or (length <= 0 and available > 0)
    if not endless and length > available:
        return Container("caf", describe_shortage(length, available), start_byte=at)
    n_bytes = max(0, available if endless else length)
    if len(desc) < 32:
        return Container("caf", start_byte=at, empty=n_bytes == 0)
    rate, kind, flags, _, _, channels, bits = struct.unpack(">d4s5I", desc)
    encoding = {b"ulaw": "mulaw", b"alaw": "alaw"}.get(kind, "")
    if kind == b"lpcm" and bits in ((32, 64) if flags & 1 else (8, 16, 24, 32)):
        ending = "" if bits == 8 else "le" if flags & 2 else "be"
        encoding = f"{'f' if flags & 1 else 's'}{bits}{ending}"
    frame = _width(encoding) * channels
    if not frame or not math.isfinite(rate):
        return Container("caf", start_byte=at, empty=n_bytes == 0)
    n_bytes -= n_bytes % frame
    pcm = Pcm(start, n_bytes, round(rate), channels, encoding) if n_bytes and (endless or at) else None
    return Container("caf", n_frames=n_bytes // frame, pcm=pcm, start_byte=at, empty=n_bytes == 0)


def describe_follower(at: int) -> str:
    """Return the message that another file of the same kind follows."""
    return f"another file of the same kind begins at byte {at} and was not read: split the file there"


def find_follower(stream: IO[bytes], size: int, kind: str, at: int) -> int | None:
    """Return where another AIFF, CAF or W64 begins directly after the first one, None if none does."""
    if kind == "aiff":
        place = at + 8 + int.from_bytes(read_at(stream, size, at + 4, 4), "big")
        places = [(place, b"FORM"), (place + 1, b"FORM")]
    elif kind == "w64":
        place = at + int.from_bytes(read_at(stream, size, at + 16, 8), "little")
        places = [(place, b"riff\x2e\x91"), (place + -place % 8, b"riff\x2e\x91")]
    elif kind == "caf":
        position = at + 8
        for _ in range(MAX_CHUNKS):
            chunk = read_at(stream, size, position, 12)
            length = struct.unpack(">q", chunk[4:])[0] if len(chunk) == 12 else -1
            if chunk[:4] == b"caff" or length < 0:
                break
            position += 12 + length
        places = [(position, b"caff")]
    else:
        return None
    return next((p for p, mark in places if at < p and read_at(stream, size, p, len(mark)) == mark), None)


def check_nist(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Compare the length that a NIST SPHERE header states with the file's."""
    words = dict(re.findall(rb"^(\w+) -\w+ (\S+)", head, re.MULTILINE))
    try:
        offset = int(head.split(b"\n")[1])
        length = int(words[b"sample_count"]) * int(words[b"channel_count"]) * int(words[b"sample_n_bytes"])
    except (IndexError, KeyError, ValueError):
        return Container("nist", start_byte=at)
    if b"embedded" in words.get(b"sample_coding", b""):
        return Container("nist", start_byte=at)  # compressed: the count does not state the number of bytes
    available = size - at - offset
    rest = available - length
    if 0 < length <= available - len(_NIST) and read_at(stream, size, size - rest, len(_NIST)) == _NIST:
        return Container("nist", fault=("corrupt", describe_follower(size - rest)), start_byte=at)
    return Container(
        "nist", describe_shortage(length, available) if length > available else None, start_byte=at, empty=length == 0
    )


def check_voc(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Follow the blocks of a VOC file; read its samples by position where blocks of one format follow each other."""
    position = at + int.from_bytes(head[20:22], "little")
    parts: list[tuple[int, int]] = []
    forms: set[tuple[int, int, str]] = set()
    plain = True
    for _ in range(MAX_CHUNKS):
        block = read_at(stream, size, position, 16)
        if block[:1] in (b"\0", b"") and position <= size:
            break
        kind, length = block[0] if block else 0, int.from_bytes(block[1:4], "little")
        if parts and size - position <= _VOC_SLACK:
            break  # sox writes a last block that is some bytes short
        if position + 4 + length > size:
            return Container("voc", describe_shortage(length, size - position - 4), start_byte=at)
        skipped = {1: 2, 2: 0, 9: 12}.get(kind)
        if kind == 1 and len(block) >= 6:
            forms.add((round(1_000_000 / (256 - block[4])), 1, _VOC.get(block[5], "")))
        elif kind == 9 and len(block) >= 12:
            rate, _, channels, codec = struct.unpack("<IBBH", block[4:12])
            forms.add((rate, channels, _VOC.get(codec, "")))
        plain &= kind not in (3, 8)  # silence given by length, old stereo: left to the libraries
        if skipped is not None and length > skipped:
            parts.append((position + 4 + skipped, length - skipped))
        position += 4 + length
    # libsndfile would take the headers of further blocks for samples.
    if len(forms) != 1 or not plain or len(parts) < 2:
        return Container("voc", start_byte=at, empty=plain and not parts)
    rate, channels, encoding = forms.pop()
    frame = _width(encoding) * channels
    if not frame or any(n % frame for _, n in parts):
        return Container("voc", start_byte=at)
    first, *more = parts
    pcm = Pcm(*first, rate, channels, encoding, tuple(more))
    return Container("voc", n_frames=sum(n for _, n in parts) // frame, pcm=pcm, start_byte=at)
