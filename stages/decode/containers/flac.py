"""Check FLAC files, and parse the headers of their frames."""

from __future__ import annotations

from dataclasses import replace
from typing import IO

from clipmill.stages.decode.containers.structure import TAIL_BYTES, Container, Window

# The mark, and a first block of 34 bytes that is STREAMINFO, the last block or not.
_BEGINNINGS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
_HEADER_BYTES = 16
LATE_BYTES = 1 << 14
"""libFLAC reads ahead by less than this."""


def check_flac(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Compare the length that the header states with the last frames; follow all frames if it states none or too little."""
    if head[:4] != b"fLaC":
        return _follow_frames(stream, size, at)  # frames without a header
    # STREAMINFO is the first block, 34 bytes after "fLaC" and a block header: RFC 9639, 8.2.
    info = head[8:42]
    if len(info) < 34 or head[4] & 0x7F != 0:
        return Container("flac", "the header is incomplete")
    if int.from_bytes(info[10:13], "big") >> 4 == 0:
        return Container("flac", fault=("bad_format", "the header states a sample rate of 0 Hz"))
    total = int.from_bytes(info[13:18], "big") & 0xFFFFFFFFF
    if total == 0:
        return _follow_frames(stream, size, at)
    start = max(at + 8 + len(info), size - TAIL_BYTES)
    stream.seek(start)
    tail = stream.read(TAIL_BYTES)
    places = [tail.find(mark) for mark in _BEGINNINGS if mark in tail]
    if places:
        return Container("flac", fault=("corrupt", describe_second_stream(start + min(places))))
    frames = _flac_frames(tail)
    ends = {end for _, end in frames}
    # Sync codes also occur in compressed data: accept a frame only if another one ends where it starts.
    last = max((end for start, end in frames if start in ends), default=0)
    if last not in (0, total) and (second := find_second_stream(stream, at + 8 + len(info), size)) is not None:
        return Container("flac", fault=("corrupt", describe_second_stream(second)))
    if 0 < last < total:
        return Container("flac", f"the header declares {total} samples, but the frames end at {last}")
    alone = max((end for start, end in frames if start == 0), default=0)
    if max(last, alone) > total:
        return replace(_follow_frames(stream, size, at), understated=True)
    return Container("flac", n_frames=total, block_frames=int.from_bytes(info[2:4], "big"))


def _follow_frames(stream: IO[bytes], size: int, at: int) -> Container:
    """Follow all frames of a stream whose length is not stated: libsndfile cannot read it, and FFmpeg skips damage."""
    window = Window(stream, size)
    headers: list[tuple[int, bool, int]] = []
    place = at
    while place < size:
        window.load(place)
        is_end = place + len(window.data) >= size  # the last frame can be shorter than the longest header
        headers += _headers(window.data + bytes(_HEADER_BYTES) if is_end else window.data)
        if is_end:
            break
        place += len(window.data) - _HEADER_BYTES
    frames = _spans_of(headers)
    starts = {start for start, _ in frames}
    ends = dict(frames)
    last = max((end for start, end in frames if start in ends.values() or start == 0), default=0)
    # A stream that was recorded from the middle does not begin at 0.
    begin = 0 if 0 in starts else min((start for start, end in frames if end in starts), default=0)
    reached = begin
    while reached in starts:
        reached = ends[reached]
    if reached < last:
        return Container(
            "flac",
            fault=(
                "corrupt",
                f"the frames from sample {reached} on are missing, but others follow up to sample {last}",
            ),
        )
    return Container("flac", n_frames=reached - begin or None)


def find_second_stream(stream: IO[bytes], start: int, size: int) -> int | None:
    """Return where another FLAC stream begins at or after a position, None if none does."""
    window = Window(stream, size)
    while start < size:
        window.load(start)
        places = [window.data.find(mark) for mark in _BEGINNINGS]
        offset = min((p for p in places if p >= 0), default=None)
        if offset is not None:
            return start + offset
        start += max(1, len(window.data) - 7)
    return None


def describe_second_stream(second: int) -> str:
    """Return the message that another FLAC stream follows. second : its position in bytes"""
    return f"another FLAC stream begins at byte {second}, but the header states only the length of the first: split the file there"


def _flac_frames(data: bytes) -> list[tuple[int, int]]:
    """Return (first sample, end sample) of every FLAC frame whose header is in `data`: RFC 9639, 9.1."""
    return _spans_of(_headers(data + bytes(_HEADER_BYTES)))  # the last frame can be shorter than the longest header


def _headers(data: bytes) -> list[tuple[int, bool, int]]:
    """Return the result of `_flac_header` for each header that begins in `data` before its last sixteen bytes."""
    headers = []
    at = data.find(b"\xff")
    while 0 <= at < len(data) - _HEADER_BYTES:
        if data[at + 1] in (0xF8, 0xF9):
            header = _flac_header(data[at : at + _HEADER_BYTES])
            if header is not None:
                headers.append(header)
        at = data.find(b"\xff", at + 1)
    return headers


def _spans_of(headers: list[tuple[int, bool, int]]) -> list[tuple[int, int]]:
    """Return (first sample, end sample) of frames by their headers."""
    # Frames of a fixed size are numbered, and only the last one may be shorter. STREAMINFO can state a wrong size.
    blocks = [block for _, counts_samples, block in headers if not counts_samples]
    usual = max(set(blocks), key=blocks.count, default=0)
    starts = [(number if counts_samples else number * usual, block) for number, counts_samples, block in headers]
    return [(start, start + block) for start, block in starts]


def _flac_header(h: bytes) -> tuple[int, bool, int] | None:
    """Return a frame header's coded number, whether that counts samples (else frames), and the block size; None if it is not a header."""
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


def flac_start(data: bytes) -> int:
    """Return where the frames of a stream without its start begin, -1 if there are none. Two consecutive headers are enough."""
    at, before, first = data.find(b"\xff"), -1, -1
    while 0 <= at < len(data) - _HEADER_BYTES:
        header = _flac_header(data[at : at + _HEADER_BYTES]) if data[at + 1] in (0xF8, 0xF9) else None
        if header is not None:
            number, counts_samples, block = header
            if before >= 0 and number == before:
                return first
            first, before = at, number + (block if counts_samples else 1)
        at = data.find(b"\xff", at + 1)
    return -1


def flac_block_samples(head: bytes) -> int:
    """Return the number of samples of a frame by its first bytes, 0 if they are not a header."""
    header = _flac_header(head.ljust(_HEADER_BYTES, b"\0")) if head[:1] == b"\xff" else None
    return header[2] if header is not None else 0


def flac_frame_at(data: bytes, at: int) -> bool:
    """Return whether a FLAC frame's header with a correct checksum is at a position."""
    header = data[at : at + 16]
    return len(header) == 16 and header[0] == 0xFF and header[1] in (0xF8, 0xF9) and _flac_header(header) is not None
