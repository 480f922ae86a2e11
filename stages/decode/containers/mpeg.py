"""Streams of frames, each of which says how long it is: MP3, MP2, MP1, ADTS.

No header of such a file says reliably how much there is, so every frame's header is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from clipmill.stages.decode.containers.mpeg_headers import (
    DECODER_DELAY,
    MARK_BYTES,
    PROOF,
    Format,
    Header,
    adts_frame_bytes,
    adts_start,
    format_of,
    frame_bytes_of,
    header_at,
    headers_in,
    mpeg_frame_bytes,
    mpeg_start,
)
from clipmill.stages.decode.containers.structure import MAX_PARTS, Container, Extents, Part, Window
from clipmill.stages.decode.containers.tags import is_cut_tag, skip_tags

_HARMLESS_BYTES = 512
"""Without a header that says where to stop, libmpg123 fails on more than a kilobyte of other things behind the frames."""
_LEAST_PART = 4
_REMARK_BYTES = 1024
_STRAY_BYTES = 24
"""Fewer bytes between two frames than the smallest frame has cannot have been one."""


@dataclass
class _Stretch:
    """Frames of one stream that belong together, and what stands between them.

    header_bytes : length of its header frame, which holds no audio
    modes : how many channels its frames have; none is known of ADTS, where all have the same
    extents : of its frames, tags between them left out
    cut : the last frame is not whole, and is not counted
    damage : the first place at which bytes are no frames although frames follow
    """

    format: Format
    header: Header | None = None
    header_bytes: int = 0
    n_frames: int = 0
    modes: set[int] = field(default_factory=set)
    extents: list[tuple[int, int]] = field(default_factory=list)
    cut: bool = False
    damage: str | None = None
    ends_at: int = 0

    @property
    def n_channels(self) -> int:
        """Of its audio: the header frame's mode can be another."""
        return max(self.modes, default=self.format.n_channels)


def check_mp3(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    return check_frames("mp3", stream, size, at)


def check_aac(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    return Container("aac") if head[:4] == b"ADIF" else check_frames("aac", stream, size, at)


def check_frames(kind: str, stream: IO[bytes], size: int, at: int) -> Container:
    """Walk over all frames from a place in a file up to another, which is its end or that of a chunk.

    at : behind the tags at the start
    """
    window = Window(stream, size)
    first = skip_tags(window, at)
    head = window.get(first, 1 << 16)
    start = mpeg_start(head) if kind == "mp3" else adts_start(head)
    if start < 0:
        return Container(kind)
    found: list[_Stretch] = []
    remarks: list[tuple[str, str]] = []
    truncated = None
    for one in _stretches(window, first + start):
        found.append(one)
        where = f"stream {len(found)}: " if len(found) > 1 else ""
        if (fault := _fault(one, found[0])) is not None:
            return Container(kind, fault=(fault[0], where + fault[1]))
        if len(found) > MAX_PARTS:
            return Container(kind, fault=("corrupt", f"more than {MAX_PARTS} streams one behind the other"))
        if truncated is None and (gone := _missing_frames(one, size)):
            truncated = where + gone
        remarks += [(code, where + told) for code, told in _told(one)] if truncated is None else []
    if len(found) > 1:
        remarks.insert(0, ("joined", f"{len(found)} streams one behind the other"))
    n_bytes = sum(stop - start for one in found for start, stop in one.extents)
    if start and n_bytes * _LEAST_PART < size - first:
        # What begins with something else and goes on with something else is no such stream, whatever looks like frames in it.
        return Container("")
    behind = skip_tags(window, found[-1].ends_at)
    if is_cut_tag(window, found[-1].ends_at):
        remarks.append(("trailing_bytes", "a tag behind the last frame is not whole: the file may have been longer"))
    elif size - behind >= _REMARK_BYTES:
        remarks.append(("trailing_bytes", f"{size - behind} bytes from byte {behind} on are no frames"))
    return Container(kind, truncated, parts=tuple(_part(s, size) for s in found), remarks=tuple(remarks))


def _fault(one: _Stretch, first: _Stretch) -> tuple[str, str] | None:
    """Return why a stream cannot be used, or not behind the first one: reason code and detail."""
    if one.damage:
        return "corrupt", one.damage
    if len(one.modes) > 1:
        return "bad_format", "some frames have one channel, and some have two"
    if one.n_frames and (one.format[:3], one.n_channels) != (first.format[:3], first.n_channels):
        return "bad_format", _change(first, one)
    return None


def _told(one: _Stretch) -> list[tuple[str, str]]:
    """Return what is worth knowing of a stream that is used."""
    remarks = []
    if one.cut:
        remarks.append(("last_frame_cut", "the last frame is not whole"))
    stated = one.header.n_frames if one.header else None
    if stated is not None and stated not in (one.n_frames, one.n_frames + 1):
        remarks.append(("header_wrong", f"the header states {stated} frames and {one.n_frames} are there"))
    return remarks


def _change(before: _Stretch, after: _Stretch) -> str:
    return (
        f"{before.format.sample_rate_hz} Hz, {before.n_channels} channels become {after.format.sample_rate_hz} Hz,"
        f" {after.n_channels} channels at byte {after.extents[0][0]}"
    )


def _missing_frames(one: _Stretch, size: int) -> str | None:
    """Return what a header says is missing at the end of a stretch, None when nothing is."""
    header = one.header
    if header is None:
        return None
    if header.n_frames:
        # Some encoders count the header's own frame.
        short = header.n_frames - one.n_frames
        if short > 1 or (short == 1 and one.cut):
            return f"the header declares {header.n_frames} frames and {one.n_frames} are there"
        return None
    there = (size if one.ends_at >= size else one.ends_at) - one.extents[0][0]
    if header.n_bytes and there < header.n_bytes:
        return f"the header declares {header.n_bytes} bytes of frames and {there} are there"
    return None


def _part(one: _Stretch, size: int) -> Part:
    samples = one.format.frame_samples
    total = one.n_frames * samples
    header = one.header
    believed = header is not None and header.n_frames in (one.n_frames, one.n_frames + 1)
    skip = 0
    if header is not None and header.delay is not None:
        skip = min(total, header.delay + DECODER_DELAY)
        behind = max(0, header.padding - DECODER_DELAY) if believed else 0
        total = max(0, total - skip - behind)
    bare: Extents = ((one.extents[0][0] + one.header_bytes, one.extents[0][1]), *one.extents[1:])
    return Part(
        extents=tuple(one.extents),
        sample_rate_hz=one.format.sample_rate_hz,
        n_channels=one.n_channels,
        n_frames=total if one.format.layer != 4 else None,
        # Of a header that does not state the encoder's delay libmpg123 takes its own off.
        tolerance=DECODER_DELAY if header is not None and header.delay is None else 0,
        # libsndfile takes the header's word and stops there.
        whole_stream=one.format.layer != 4 and (header is None or (header.n_frames or 0) >= one.n_frames),
        is_file=len(one.extents) == 1 and (believed or size - one.ends_at <= _HARMLESS_BYTES),
        bare=bare,
        skip_frames=skip,
    )


def _stretches(window: Window, at: int) -> Iterator[_Stretch]:
    """Yield the streams of a file, from the first frame on."""
    one: _Stretch | None = None
    while True:
        found = format_of(window.get(at, 7))
        if found is None:
            raise AssertionError("a run begins with a frame")
        header, header_bytes = header_at(window, at, found)
        if one is None or header is not None or found[:3] != one.format[:3]:
            if one is not None:
                yield one
            one = _Stretch(found, header, header_bytes)
        one_end = _follow(window, at, one)
        following, joined = _next_run(window, one_end)
        if following is None:
            yield one
            return
        if not joined and _is_new(window, following, one.format):
            # Padding behind one stream and before the header of the next one: nothing was lost between them.
            joined = one.header is not None and one.header.n_frames in (one.n_frames, one.n_frames + 1)
        gap = following - one_end
        if not joined and gap >= _STRAY_BYTES and one.damage is None:
            seconds = one.n_frames * one.format.frame_samples / one.format.sample_rate_hz
            one.damage = f"{gap} bytes at byte {one_end} ({seconds:.2f} s) are no frames, and frames follow"
        at = following


def _is_new(window: Window, at: int, before: Format) -> bool:
    found = format_of(window.get(at, 7))
    return found is not None and (found[:3] != before[:3] or header_at(window, at, found)[0] is not None)


def _follow(window: Window, at: int, one: _Stretch) -> int:
    """Take in the frames of a stream from a place on, up to its end or the header of another; return where that is."""
    follow = _follow_adts if one.format.layer == 4 else _follow_mpeg
    end, last = follow(window, at, one)
    stop = last if end > window.size else end
    if one.extents and one.extents[-1][1] == at:
        one.extents[-1] = (one.extents[-1][0], stop)
    else:
        one.extents.append((at, stop))
    one.ends_at = min(end, window.size)
    if end > window.size:
        one.cut = True
        one.n_frames -= 1
    return one.ends_at


def _follow_mpeg(window: Window, at: int, one: _Stretch) -> tuple[int, int]:
    """Count frames from a place on; return where they end and where the last one begins."""
    lengths: dict[bytes, int] = {}  # by the headers seen so far, which are few
    first = window.get(at, 4)
    n, length = 0, 0
    place = at
    if one.header_bytes and not one.extents:
        place += one.header_bytes
    while place + 4 <= window.size:
        window.hold(place)
        data, i = window.data, 0
        # The mark of a header frame stands some bytes behind the frame's start: it is looked for in one block.
        end = len(data) - (3 if window.base + len(data) >= window.size else MARK_BYTES)
        for stop in (*headers_in(data), end):
            stop = min(stop, end)
            while i < stop:
                found = lengths.get(data[i : i + 4])
                if found is None:
                    header = data[i : i + 4]
                    found = lengths[header] = frame_bytes_of(header, first)
                    if found:
                        one.modes.add(1 if header[3] >= 0xC0 else 2)
                if not found:
                    break
                length = found
                n += 1
                i += length
            else:
                if i == stop < end and header_at(window, place + i, one.format)[0] is not None:
                    break
                continue
            break
        place += i
        if i < end:
            break
    one.n_frames += n
    return place, place - length


def _follow_adts(window: Window, at: int, one: _Stretch) -> tuple[int, int]:
    """As `_follow_mpeg`."""
    first = window.get(at, 7)
    # Of the fixed header: version and protection, then profile, rate and channels.
    b1, b2, b3 = first[1], first[2] & 0xFD, first[3] & 0xC0
    n, place, last = 0, at, at
    while place + 7 <= window.size:
        window.hold(place)
        data, i, end = window.data, 0, len(window.data) - 6
        while i < end:
            if data[i] != 0xFF or data[i + 1] != b1 or data[i + 2] & 0xFD != b2 or data[i + 3] & 0xC0 != b3:
                break
            length = (data[i + 3] & 3) << 11 | data[i + 4] << 3 | data[i + 5] >> 5
            if length < 8:
                break
            n += 1 + (data[i + 6] & 3)
            last = place + i
            i += length
        place += i
        if i < end:
            break
    one.n_frames += n
    return place, last


def _next_run(window: Window, at: int) -> tuple[int | None, bool]:
    """Return where frames go on behind a place, None when they do not, and whether only tags stand between."""
    behind = skip_tags(window, at)
    if _proven(window, behind):
        return behind, True
    place = at
    while place < window.size:
        window.hold(place)
        data = window.data
        i = data.find(b"\xff")
        while i >= 0:
            # Only a second byte that can belong to a header is worth a closer look.
            if i + 1 < len(data) and data[i + 1] >= 0xE0 and data[i + 1] != 0xFF and _proven(window, place + i):
                return place + i, False
            if window.base != place:
                window.hold(place)
            i = data.find(b"\xff", i + 1)
        place += len(data)
        if not data:
            break
    return None, False


def _proven(window: Window, at: int) -> bool:
    """Return whether frames of one stream follow each other from a place on: three, or up to the very end of the file."""
    found = format_of(window.get(at, 7))
    if found is None:
        return False
    for k in range(PROOF):
        head = window.get(at, 7)
        if k and at == window.size:
            return k > 1
        again = format_of(head)
        if again is None or again[:3] != found[:3]:
            return k > 1 and not window.get(skip_tags(window, at), 1)
        at += mpeg_frame_bytes(head, 0) or adts_frame_bytes(head, 0)
    return at <= window.size
