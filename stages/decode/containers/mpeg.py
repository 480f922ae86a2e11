"""Check streams of frames that state their own length: MP3, MP2, MP1, ADTS.

No header of such a file states its length reliably, so the header of every frame is read.
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
    find_headers,
    format_of,
    frame_bytes_of,
    header_at,
    mpeg_frame_bytes,
    mpeg_start,
)
from clipmill.stages.decode.containers.structure import MAX_PARTS, Container, Extents, Part, Window
from clipmill.stages.decode.containers.tags import is_cut_tag, skip_tags

_HARMLESS_BYTES = 512
"""Without a header that states the length, libmpg123 fails on more than a kilobyte of other data after the frames."""
_LEAST_PART = 4
_REMARK_BYTES = 1024
_STRAY_BYTES = 24
"""The smallest frame has this many bytes: fewer bytes between two frames are not a damaged frame."""


@dataclass
class _Stretch:
    """The frames of one stream.

    header_bytes : length of its header frame, which holds no audio
    modes : numbers of channels of its frames; empty for ADTS, where all frames have the same
    extents : of its frames, without tags between them
    is_cut : the last frame is incomplete, and is not counted
    damage : message about the first bytes that are not frames although frames follow, None if there are none
    ends_at : position after the last frame
    """

    format: Format
    header: Header | None = None
    header_bytes: int = 0
    n_frames: int = 0
    modes: set[int] = field(default_factory=set)
    extents: list[tuple[int, int]] = field(default_factory=list)
    is_cut: bool = False
    damage: str | None = None
    ends_at: int = 0

    @property
    def n_channels(self) -> int:
        """Return the channels of the audio, which can differ from those of the header frame."""
        return max(self.modes, default=self.format.n_channels)


def check_mp3(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Check a file of MPEG audio frames."""
    return check_frames("mp3", stream, size, at)


def check_aac(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Check a file of ADTS frames. ADIF, which has no frames, is not checked."""
    return Container("aac") if head[:4] == b"ADIF" else check_frames("aac", stream, size, at)


def check_frames(kind: str, stream: IO[bytes], size: int, at: int) -> Container:
    """Follow all frames from a position up to `size`, the end of the file or of a chunk.

    kind : mp3 | aac
    """
    window = Window(stream, size)
    first = skip_tags(window, at)
    head = window.get(first, 1 << 16)
    start = mpeg_start(head) if kind == "mp3" else adts_start(head)
    if start < 0:
        return Container(kind)
    stretches: list[_Stretch] = []
    remarks: list[tuple[str, str]] = []
    truncated = None
    for stretch in _stretches(window, first + start):
        stretches.append(stretch)
        where = f"stream {len(stretches)}: " if len(stretches) > 1 else ""
        if (fault := _find_fault(stretch, stretches[0])) is not None:
            return Container(kind, fault=(fault[0], where + fault[1]))
        if len(stretches) > MAX_PARTS:
            return Container(kind, fault=("corrupt", f"more than {MAX_PARTS} streams one after the other"))
        if truncated is None and (shortage := _describe_missing(stretch, size)):
            truncated = where + shortage
        remarks += [(code, where + detail) for code, detail in _remarks_on(stretch)] if truncated is None else []
    if len(stretches) > 1:
        remarks.insert(0, ("joined", f"{len(stretches)} streams one after the other"))
    n_bytes = sum(stop - start for stretch in stretches for start, stop in stretch.extents)
    if start and n_bytes * _LEAST_PART < size - first:
        # A file that is mostly something else is not a stream of frames, although some bytes look like frames.
        return Container("")
    after_tags = skip_tags(window, stretches[-1].ends_at)
    if is_cut_tag(window, stretches[-1].ends_at):
        remarks.append(("trailing_bytes", "a tag after the last frame is incomplete: the file may have been longer"))
    elif size - after_tags >= _REMARK_BYTES:
        remarks.append(("trailing_bytes", f"{size - after_tags} bytes from byte {after_tags} on are not frames"))
    return Container(kind, truncated, parts=tuple(_part(s, size) for s in stretches), remarks=tuple(remarks))


def _find_fault(stretch: _Stretch, first: _Stretch) -> tuple[str, str] | None:
    """Return reason code and detail if a stream cannot be used, alone or after the first one; else None."""
    if stretch.damage:
        return "corrupt", stretch.damage
    if len(stretch.modes) > 1:
        return "bad_format", "some frames have one channel and some have two"
    if stretch.n_frames and (stretch.format[:3], stretch.n_channels) != (first.format[:3], first.n_channels):
        return "bad_format", _describe_change(first, stretch)
    return None


def _remarks_on(stretch: _Stretch) -> list[tuple[str, str]]:
    """Return the remarks on a stream that is used."""
    remarks = []
    if stretch.is_cut:
        remarks.append(("last_frame_cut", "the last frame is incomplete"))
    stated = stretch.header.n_frames if stretch.header else None
    if stated is not None and stated not in (stretch.n_frames, stretch.n_frames + 1):
        remarks.append(("header_wrong", f"the header states {stated} frames, but the file has {stretch.n_frames}"))
    return remarks


def _describe_change(before: _Stretch, after: _Stretch) -> str:
    return (
        f"{before.format.sample_rate_hz} Hz, {before.n_channels} channels change to {after.format.sample_rate_hz} Hz,"
        f" {after.n_channels} channels at byte {after.extents[0][0]}"
    )


def _describe_missing(stretch: _Stretch, size: int) -> str | None:
    """Return a message if a stream has fewer frames than its header declares, else None."""
    header = stretch.header
    if header is None:
        return None
    if header.n_frames:
        # Some encoders also count the header's own frame.
        short = header.n_frames - stretch.n_frames
        if short > 1 or (short == 1 and stretch.is_cut):
            return f"the header declares {header.n_frames} frames, but the file has only {stretch.n_frames}"
        return None
    available = (size if stretch.ends_at >= size else stretch.ends_at) - stretch.extents[0][0]
    if header.n_bytes and available < header.n_bytes:
        return f"the header declares {header.n_bytes} bytes of frames, but the file has only {available}"
    return None


def _part(stretch: _Stretch, size: int) -> Part:
    """Return how to decode a stream, and the length that must result."""
    samples = stretch.format.frame_samples
    total = stretch.n_frames * samples
    header = stretch.header
    is_header_right = header is not None and header.n_frames in (stretch.n_frames, stretch.n_frames + 1)
    skip = 0
    if header is not None and header.delay is not None:
        skip = min(total, header.delay + DECODER_DELAY)
        end_padding = max(0, header.padding - DECODER_DELAY) if is_header_right else 0
        total = max(0, total - skip - end_padding)
    audio_extents: Extents = (
        (stretch.extents[0][0] + stretch.header_bytes, stretch.extents[0][1]),
        *stretch.extents[1:],
    )
    return Part(
        extents=tuple(stretch.extents),
        sample_rate_hz=stretch.format.sample_rate_hz,
        n_channels=stretch.n_channels,
        n_frames=total if stretch.format.layer != 4 else None,
        # Where a header does not state the encoder's delay, libmpg123 drops its own.
        tolerance=DECODER_DELAY if header is not None and header.delay is None else 0,
        # libsndfile trusts the header and stops at its length.
        whole_stream=stretch.format.layer != 4 and (header is None or (header.n_frames or 0) >= stretch.n_frames),
        is_file=len(stretch.extents) == 1 and (is_header_right or size - stretch.ends_at <= _HARMLESS_BYTES),
        audio_extents=audio_extents,
        skip_frames=skip,
    )


def _stretches(window: Window, at: int) -> Iterator[_Stretch]:
    """Yield the streams of a file, from the first frame on."""
    stretch: _Stretch | None = None
    while True:
        format = format_of(window.get(at, 7))
        if format is None:
            raise AssertionError("a run begins with a frame")
        header, header_bytes = header_at(window, at, format)
        if stretch is None or header is not None or format[:3] != stretch.format[:3]:
            if stretch is not None:
                yield stretch
            stretch = _Stretch(format, header, header_bytes)
        stretch_end = _follow(window, at, stretch)
        following, is_joined = _next_run(window, stretch_end)
        if following is None:
            yield stretch
            return
        if not is_joined and _is_new(window, following, stretch.format):
            # Padding between one stream and the header of the next: nothing was lost.
            is_joined = stretch.header is not None and stretch.header.n_frames in (
                stretch.n_frames,
                stretch.n_frames + 1,
            )
        gap = following - stretch_end
        if not is_joined and gap >= _STRAY_BYTES and stretch.damage is None:
            seconds = stretch.n_frames * stretch.format.frame_samples / stretch.format.sample_rate_hz
            stretch.damage = f"{gap} bytes at byte {stretch_end} ({seconds:.2f} s) are not frames, and frames follow"
        at = following


def _is_new(window: Window, at: int, before: Format) -> bool:
    """Return whether the frame at a position begins another stream than the one of format `before`."""
    format = format_of(window.get(at, 7))
    return format is not None and (format[:3] != before[:3] or header_at(window, at, format)[0] is not None)


def _follow(window: Window, at: int, stretch: _Stretch) -> int:
    """Add the frames from a position on to a stream, up to its end or the header of another; return that position."""
    follow = _follow_adts if stretch.format.layer == 4 else _follow_mpeg
    end, last = follow(window, at, stretch)
    stop = last if end > window.size else end
    if stretch.extents and stretch.extents[-1][1] == at:
        stretch.extents[-1] = (stretch.extents[-1][0], stop)
    else:
        stretch.extents.append((at, stop))
    stretch.ends_at = min(end, window.size)
    if end > window.size:
        stretch.is_cut = True
        stretch.n_frames -= 1
    return stretch.ends_at


def _follow_mpeg(window: Window, at: int, stretch: _Stretch) -> tuple[int, int]:
    """Count frames from a position on; return where they end and where the last one begins."""
    lengths: dict[bytes, int] = {}  # by the headers seen so far, which are few
    first = window.get(at, 4)
    n, length = 0, 0
    place = at
    if stretch.header_bytes and not stretch.extents:
        place += stretch.header_bytes
    while place + 4 <= window.size:
        window.load(place)
        data, i = window.data, 0
        # The mark of a header frame comes some bytes after the frame's start, and must be in the same block.
        end = len(data) - (3 if window.base + len(data) >= window.size else MARK_BYTES)
        for stop in (*find_headers(data), end):
            stop = min(stop, end)
            while i < stop:
                frame_length = lengths.get(data[i : i + 4])
                if frame_length is None:
                    header = data[i : i + 4]
                    frame_length = lengths[header] = frame_bytes_of(header, first)
                    if frame_length:
                        stretch.modes.add(1 if header[3] >= 0xC0 else 2)
                if not frame_length:
                    break
                length = frame_length
                n += 1
                i += length
            else:
                if i == stop < end and header_at(window, place + i, stretch.format)[0] is not None:
                    break
                continue
            break
        place += i
        if i < end:
            break
    stretch.n_frames += n
    return place, place - length


def _follow_adts(window: Window, at: int, stretch: _Stretch) -> tuple[int, int]:
    """Count frames of ADTS as `_follow_mpeg` does."""
    first = window.get(at, 7)
    # The fixed part of the header: version and protection, then profile, rate and channels.
    b1, b2, b3 = first[1], first[2] & 0xFD, first[3] & 0xC0
    n, place, last = 0, at, at
    while place + 7 <= window.size:
        window.load(place)
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
    stretch.n_frames += n
    return place, last


def _next_run(window: Window, at: int) -> tuple[int | None, bool]:
    """Return where frames continue at or after a position, None if they do not, and whether only tags are between."""
    after_tags = skip_tags(window, at)
    if _is_proven(window, after_tags):
        return after_tags, True
    place = at
    while place < window.size:
        window.load(place)
        data = window.data
        i = data.find(b"\xff")
        while i >= 0:
            # Check only where the second byte can belong to a header.
            if i + 1 < len(data) and data[i + 1] >= 0xE0 and data[i + 1] != 0xFF and _is_proven(window, place + i):
                return place + i, False
            if window.base != place:
                window.load(place)
            i = data.find(b"\xff", i + 1)
        place += len(data)
        if not data:
            break
    return None, False


def _is_proven(window: Window, at: int) -> bool:
    """Return whether frames of one stream follow each other from a position on: three, or up to the very end of the file."""
    format = format_of(window.get(at, 7))
    if format is None:
        return False
    for k in range(PROOF):
        head = window.get(at, 7)
        if k and at == window.size:
            return k > 1
        next_format = format_of(head)
        if next_format is None or next_format[:3] != format[:3]:
            return k > 1 and not window.get(skip_tags(window, at), 1)
        at += mpeg_frame_bytes(head, 0) or adts_frame_bytes(head, 0)
    return at <= window.size
