"""Check ASF, AMR, FLV, AVI, TTA and WavPack: their size, and whether another file follows the first."""

from __future__ import annotations

import struct
import zlib
from typing import IO

from clipmill.stages.decode.containers.structure import Container, Part, Window, describe_shortage, read_at
from clipmill.stages.decode.containers.tags import skip_tags

_BEGINNINGS = {
    "asf": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",
    "flv": b"FLV\x01",
    "tta": b"TTA1",
    "amr": b"#!AMR",
}
_TTA_HEADER_BYTES = 22
_OPEN = frozenset((0, 0xFFFFFFFF))
_MAX_TTA_FRAMES = 1 << 20
_WAVPACK_INITIAL = 1 << 11
_FLV_REST = b"\x00\x00\x00\x09\x00\x00\x00\x00"


def check_asf(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Look for further ASF files after the first."""
    return _split("asf", stream, size, at)


def check_amr(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Look for further AMR files after the first."""
    return _split("amr", stream, size, at)


def check_flv(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Look for further FLV files after the first."""
    return _split("flv", stream, size, at)


def check_tta(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Add up the lengths of the frames of 256 / 245 s each, which are listed after the header."""
    rate, total = struct.unpack("<II", head[10:18]) if len(head) >= 18 else (0, 0)
    frame = 256 * rate // 245
    n = -(-total // frame) if frame else 0
    table = read_at(stream, size, at + _TTA_HEADER_BYTES, 4 * min(n, _MAX_TTA_FRAMES))
    lengths = struct.unpack(f"<{len(table) // 4}I", table[: len(table) // 4 * 4])
    if len(lengths) < n or at + _TTA_HEADER_BYTES + 4 * n + 4 + sum(lengths) > size:
        available = max(0, size - at - _TTA_HEADER_BYTES - 4 * n - 4)
        return Container("tta", describe_shortage(sum(lengths), available))
    return _split("tta", stream, size, at)


def check_wavpack(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Follow the blocks of a file. A block that counts from 0 again begins another file."""
    window = Window(stream, size)
    starts: list[int] = []
    position = at
    while len(h := window.get(position := skip_tags(window, position), 32)) == 32 and h[:4] == b"wvpk":
        index, flags = struct.unpack("<4xI", h[12:20])[0], struct.unpack("<I", h[24:28])[0]
        if (index == 0 and flags & _WAVPACK_INITIAL) or not starts:
            starts.append(position)
        position += 8 + struct.unpack("<I", h[4:8])[0]
    return _parts("wavpack", starts, size) if len(starts) > 1 else Container("wavpack")


def check_avi(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Follow an AVI's chunks, down to those of its streams. Large files have several RIFFs; programs that write to a pipe leave lengths open."""
    window = Window(stream, size)
    position = at
    while position + 8 <= size:
        h = window.get(position, 12)
        name, length = h[:4], struct.unpack("<I", h[4:8])[0]
        if not all(32 <= c < 127 for c in name):
            if not any(h):
                break  # padding with zeros
            return Container("avi", fault=("corrupt", f"the bytes from byte {position} on are not a chunk"))
        if name in (b"RIFF", b"LIST") and h[8:12] in (b"AVI ", b"AVIX", b"movi", b"rec "):
            if length not in _OPEN and position + 8 + length > size:
                return Container("avi", describe_shortage(length, size - position - 8))
            position += 12
            continue
        if position + 8 + length > size:
            return Container("avi", describe_shortage(length, size - position - 8))
        position += 8 + length + length % 2
    return Container("avi")


def _split(kind: str, stream: IO[bytes], size: int, at: int) -> Container:
    """Look for the beginnings of further files, and return each file as a part."""
    mark = _BEGINNINGS[kind]
    window = Window(stream, size)
    starts, place = [at], at + len(mark)
    while place < size:
        window.load(place)
        match = window.data.find(mark)
        while match >= 0:
            if _is_beginning(kind, window.get(place + match, _TTA_HEADER_BYTES)):
                starts.append(place + match)
            if window.base != place:
                window.load(place)
            match = window.data.find(mark, match + 1)
        place += max(1, len(window.data) - len(mark) + 1)
    starts = sorted(set(starts))
    if len(starts) == 1:
        return Container(kind)
    return _parts(kind, starts, size)


def _parts(kind: str, starts: list[int], size: int) -> Container:
    ends = [*starts[1:], size]
    parts = tuple(Part((extent,), 0, 0, whole_stream=False) for extent in zip(starts, ends, strict=True))
    return Container(kind, parts=parts, remarks=(("joined", f"{len(parts)} files one after the other"),))


def _is_beginning(kind: str, header: bytes) -> bool:
    """Return whether a mark is followed by the rest of a header. Four letters alone occur by chance."""
    if kind == "flv":
        return header[5:13] == _FLV_REST
    if kind == "tta":
        return len(header) == _TTA_HEADER_BYTES and zlib.crc32(header[:18]) == struct.unpack("<I", header[18:])[0]
    return True
