"""Check the frames of AC-3 and E-AC-3 streams. ATSC A/52, 5.3 and E.2."""

from __future__ import annotations

from typing import IO

from clipmill.stages.decode.containers.structure import Container, Part, Window
from clipmill.stages.decode.containers.tags import skip_tags
from clipmill.stages.decode.containers.trailing import REMARK_BYTES

_SYNC = b"\x0b\x77"
_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_RATES = (48000, 44100, 32000)
_BLOCKS = (1, 2, 3, 6)
_BLOCK_SAMPLES = 256
_PROOF = 3


def check_ac3(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Follow the frames of a file."""
    window = Window(stream, size)
    kind = "eac3" if head[5] >> 3 > 10 else "ac3"
    first = _frame(window.get(at, 8))
    if first is None:
        return Container(kind)
    samples, place, cut = 0, at, False
    while (frame := _frame(window.get(place, 8))) is not None:
        length, n, rate = frame
        if rate != first[2]:
            return Container(kind, fault=("bad_format", f"{first[2]} Hz change to {rate} Hz at byte {place}"))
        if place + length > size:
            cut = True
            break
        samples += n
        place += length
    end = skip_tags(window, place)
    if not cut and (following := _next_run(window, end)) is not None and following > end:
        at_s = samples / first[2]
        detail = f"{following - end} bytes at byte {end} ({at_s:.2f} s) are not frames, and frames follow"
        return Container(kind, fault=("corrupt", detail))
    remarks: tuple[tuple[str, str], ...] = ()
    if cut:
        remarks = (("last_frame_cut", "the last frame is incomplete"),)
    elif size - end >= REMARK_BYTES:
        remarks = (("trailing_bytes", f"{size - end} bytes from byte {end} on are not frames"),)
    part = Part(((at, place),), first[2], 0, samples, 2 * 6 * _BLOCK_SAMPLES, whole_stream=False)
    return Container(kind, parts=(part,), remarks=remarks)


def ac3_frames_at(data: bytes) -> bool:
    """Return whether frames follow each other from the start of `data`: three, or as many as it shows."""
    at = n = 0
    while n < _PROOF and at + 8 <= len(data):
        frame = _frame(data[at : at + 8])
        if frame is None:
            return False
        at, n = at + frame[0], n + 1
    return n > 0


def _frame(h: bytes) -> tuple[int, int, int] | None:
    """Return a frame's length in bytes, the samples that it adds to the stream, and its rate in Hz; None if `h` is not a frame's header."""
    if len(h) < 8 or h[:2] != _SYNC:
        return None
    code = h[4] >> 6
    if h[5] >> 3 > 10:
        length = 2 * ((h[2] & 7) << 8 | h[3]) + 2
        half = h[4] >> 4 & 3
        rate = _RATES[code] if code < 3 else _RATES[half] // 2 if half < 3 else 0
        blocks = 6 if code == 3 else _BLOCKS[half]
        is_own = h[2] >> 6 != 1 and h[2] >> 3 & 7 == 0  # dependent substreams and others play at the same time
        return (length, blocks * _BLOCK_SAMPLES if is_own else 0, rate) if rate and h[5] >> 3 <= 16 else None
    size = h[4] & 63
    if code == 3 or size >= 2 * len(_KBPS):
        return None
    kbps = _KBPS[size >> 1]
    words = {0: 2 * kbps, 1: 320 * kbps // 147 + (size & 1), 2: 3 * kbps}[code]
    shift = max(0, (h[5] >> 3) - 8)
    return 2 * words, 6 * _BLOCK_SAMPLES, _RATES[code] >> shift


def _next_run(window: Window, at: int) -> int | None:
    """Return where frames follow each other again at or after a position, None if nowhere."""
    place = at
    while place < window.size:
        window.load(place)
        data = window.data
        i = data.find(_SYNC)
        while i >= 0:
            if _is_proven(window, place + i):
                return place + i
            if window.base != place:
                window.load(place)
            i = data.find(_SYNC, i + 1)
        place += max(1, len(data) - 1)
    return None


def _is_proven(window: Window, at: int) -> bool:
    """Return whether three frames follow each other from a position on."""
    for _ in range(_PROOF):
        frame = _frame(window.get(at, 8))
        if frame is None:
            return False
        at += frame[0]
    return True
