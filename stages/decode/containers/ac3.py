"""AC-3 and E-AC-3 as streams of frames: ATSC A/52, 5.3 and E.2."""

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
    """Walk over the frames of a file."""
    window = Window(stream, size)
    kind = "eac3" if head[5] >> 3 > 10 else "ac3"
    first = _frame(window.get(at, 8))
    if first is None:
        return Container(kind)
    samples, place, cut = 0, at, False
    while (found := _frame(window.get(place, 8))) is not None:
        length, n, rate = found
        if rate != first[2]:
            return Container(kind, fault=("bad_format", f"{first[2]} Hz become {rate} Hz at byte {place}"))
        if place + length > size:
            cut = True
            break
        samples += n
        place += length
    end = skip_tags(window, place)
    if not cut and (following := _next_run(window, end)) is not None and following > end:
        at_s = samples / first[2]
        detail = f"{following - end} bytes at byte {end} ({at_s:.2f} s) are no frames, and frames follow"
        return Container(kind, fault=("corrupt", detail))
    remarks: tuple[tuple[str, str], ...] = ()
    if cut:
        remarks = (("last_frame_cut", "the last frame is not whole"),)
    elif size - end >= REMARK_BYTES:
        remarks = (("trailing_bytes", f"{size - end} bytes from byte {end} on are no frames"),)
    part = Part(((at, place),), first[2], 0, samples, 2 * 6 * _BLOCK_SAMPLES, whole_stream=False)
    return Container(kind, parts=(part,), remarks=remarks)


def ac3_frames_at(data: bytes) -> bool:
    """Return whether frames follow each other from the start of some bytes, as far as these go."""
    at = n = 0
    while n < _PROOF and at + 8 <= len(data):
        found = _frame(data[at : at + 8])
        if found is None:
            return False
        at, n = at + found[0], n + 1
    return n > 0


def _frame(h: bytes) -> tuple[int, int, int] | None:
    """Return a frame's bytes, the samples that it adds to the stream, and the rate; None when no frame's header is given."""
    if len(h) < 8 or h[:2] != _SYNC:
        return None
    code = h[4] >> 6
    if h[5] >> 3 > 10:
        length = 2 * ((h[2] & 7) << 8 | h[3]) + 2
        half = h[4] >> 4 & 3
        rate = _RATES[code] if code < 3 else _RATES[half] // 2 if half < 3 else 0
        blocks = 6 if code == 3 else _BLOCKS[half]
        is_own = h[2] >> 6 != 1 and h[2] >> 3 & 7 == 0  # others go with it at the same time
        return (length, blocks * _BLOCK_SAMPLES if is_own else 0, rate) if rate and h[5] >> 3 <= 16 else None
    size = h[4] & 63
    if code == 3 or size >= 2 * len(_KBPS):
        return None
    kbps = _KBPS[size >> 1]
    words = {0: 2 * kbps, 1: 320 * kbps // 147 + (size & 1), 2: 3 * kbps}[code]
    shift = max(0, (h[5] >> 3) - 8)
    return 2 * words, 6 * _BLOCK_SAMPLES, _RATES[code] >> shift


def _next_run(window: Window, at: int) -> int | None:
    place = at
    while place < window.size:
        window.hold(place)
        data = window.data
        i = data.find(_SYNC)
        while i >= 0:
            if _proven(window, place + i):
                return place + i
            if window.base != place:
                window.hold(place)
            i = data.find(_SYNC, i + 1)
        place += max(1, len(data) - 1)
    return None


def _proven(window: Window, at: int) -> bool:
    for _ in range(_PROOF):
        found = _frame(window.get(at, 8))
        if found is None:
            return False
        at += found[0]
    return True
