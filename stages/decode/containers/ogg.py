"""Check the pages of Ogg files, each with a checksum, a number, and the time at its end (granule). RFC 3533; Opus in Ogg: RFC 7845.

A file is one link, or several one after the other (a chain, as stream recorders write it). A link has one stream or several, whose pages
are mixed. Decoders drop damaged pages silently, so each page is checked here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import IO

from clipmill.stages.decode.containers.ogg_packets import (
    flac_samples,
    heads_of,
    opus_samples,
    vorbis_modes,
    vorbis_samples,
)
from clipmill.stages.decode.containers.structure import MAX_PARTS, Container, Part, Window
from clipmill.stages.decode.containers.tags import skip_tags
from clipmill.stages.decode.containers.trailing import REMARK_BYTES, is_padding

_HEAD = 27
_UNSET = -1
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_TOLERANCE_S = 0.05
_OPUS_RATE_HZ = 48000
_MAX_SETUP_BYTES = 1 << 22


@dataclass
class _Stream:
    """One logical stream of a link.

    codec : vorbis, opus, flac, speex, or other for a stream without audio
    rate_hz : unit of its granules; 0 for a stream without audio
    longest : samples that a packet has at most
    number : of its last page so far
    blocks : Vorbis: lengths of a short and a long block in samples
    setup : Vorbis: its headers after the first, as far as they were read
    partial_packet : first bytes of a packet that continues on the next page
    headers_left : header packets that are still expected, as far as is known
    start : granule of the first sample, derived from the first page with audio
    has_ended : its last page so far has the end flag
    hole : message about the first missing data, None if nothing is missing
    """

    serial: int
    codec: str
    rate_hz: int = 0
    n_channels: int = 0
    pre_skip: int = 0
    longest: int = 0
    number: int = -1
    blocks: tuple[int, int] = (0, 0)
    setup: bytes = b""
    partial_packet: bytes | None = None
    headers_left: int = 0
    start: int = 0
    last_granule: int | None = None
    has_ended: bool = False
    hole: str | None = None
    has_empty_packets: bool = False

    @property
    def is_audio(self) -> bool:
        return self.rate_hz > 0


@dataclass
class _Link:
    """A part of a chain.

    start, stop : position in the file in bytes
    streams : by serial number
    has_more : it has pages besides the first ones of its streams
    damage : message about the first damage in it, None if there is none
    """

    start: int
    streams: dict[int, _Stream] = field(default_factory=dict)
    stop: int = 0
    has_more: bool = False
    damage: str | None = None

    @property
    def audio(self) -> list[_Stream]:
        return [s for s in self.streams.values() if s.is_audio]


@dataclass(frozen=True)
class _Page:
    """One page. start, stop : position in bytes; number : in its stream; is_intact : its checksum is right"""

    start: int
    stop: int
    flags: int
    granule: int
    serial: int
    number: int
    lacing: bytes
    body: bytes
    is_intact: bool


def check_ogg(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Follow all pages of a file."""
    window = Window(stream, size)
    links: list[_Link] = []
    lost: str | None = None  # message about damage between pages, until the next page shows which stream lost data
    tail: str | None = None
    orphan: int | None = None
    for page in _pages(window, at):
        if isinstance(page, str):
            lost, tail = page, page
            continue
        tail = None
        if not page.is_intact:
            lost = f"the page at byte {page.start} is damaged"
            if links:
                links[-1].stop = page.stop
                if (logical := links[-1].streams.get(page.serial)) is not None and logical.hole is None:
                    logical.hole = f"{lost}, at {(logical.last_granule or 0) / max(1, logical.rate_hz):.2f} s"
            continue
        if page.flags & 2 and (not links or links[-1].has_more or page.serial in links[-1].streams):
            links.append(_Link(page.start))
            if len(links) > MAX_PARTS:
                return Container("ogg", fault=("corrupt", f"more than {MAX_PARTS} links"))
        if not links:  # a stream without its headers cannot be decoded
            orphan = page.start if orphan is None else orphan
            continue
        link = links[-1]
        link.stop = page.stop
        if page.flags & 2:
            link.streams[page.serial] = _new_stream(page)
            continue
        logical = link.streams.get(page.serial)
        if logical is None or logical.has_ended:
            orphan = page.start if orphan is None else orphan
            continue
        link.damage = link.damage or lost
        _add_page(logical, page, link.damage)
        link.has_more = True
        lost = None
    if not links:
        return Container("ogg", fault=("corrupt", lost or "the first page of the stream is missing"))
    if orphan is not None:
        detail = f"the page at byte {orphan} belongs to a stream whose first page is missing" + (
            f" ({lost})" if lost else ""
        )
        return Container("ogg", fault=("corrupt", detail))
    container = _combine(links, lost, tail)
    after_tags = skip_tags(window, links[-1].stop)
    if size - after_tags >= REMARK_BYTES and not is_padding(stream, size, after_tags):
        rest = ("trailing_bytes", f"{size - after_tags} bytes from byte {after_tags} on are not pages")
        container = replace(container, remarks=(*container.remarks, rest))
    return container


def _combine(links: list[_Link], lost: str | None, tail: str | None) -> Container:
    """Return the structure of the file.

    lost : message about damage after the last page
    tail : message about bytes after the last page that are not a page
    """
    parts, remarks = [], []
    audio_links = [link for link in links if link.audio]
    if len(audio_links) > 1:
        remarks.append(("joined", f"{len(audio_links)} links, one after the other"))
    for k, link in enumerate(audio_links):
        where = f"link {k + 1} of {len(audio_links)}: " if len(audio_links) > 1 else ""
        for logical in link.audio:
            if logical.last_granule is None and not logical.has_ended:
                return Container("ogg", f"{where}no page has audio")
        first = audio_links[0].audio[0]
        for logical in link.audio[:1]:
            if (logical.rate_hz, logical.n_channels) != (first.rate_hz, first.n_channels):
                text = (
                    f"{first.rate_hz} Hz, {first.n_channels} channels change to {logical.rate_hz} Hz, {logical.n_channels} channels"
                    f" at byte {link.start}"
                )
                return Container("ogg", fault=("bad_format", text))
        parts.append(_part(link))
    unfinished = [link for link in audio_links if not all(s.has_ended for s in link.audio)]
    unmarked = [link for link in unfinished if link is not audio_links[-1]]
    if unmarked:
        # Stream recorders begin the next link without ending the last: no page is missing, and no more can be checked.
        remarks.append(("end_unmarked", f"{len(unmarked)} of {len(audio_links)} links have no page with an end flag"))
        unfinished = [link for link in unfinished if link is audio_links[-1]]
    truncated = None
    if unfinished:
        where = f"link {audio_links.index(unfinished[0]) + 1} of {len(audio_links)}: " if len(audio_links) > 1 else ""
        cut = tail is not None and unfinished[0] is audio_links[-1]
        truncated = where + ("the last page is incomplete" if cut else "no page has an end flag")
    elif lost and tail is None:
        truncated = f"{lost}, and nothing follows"
    return Container("ogg", truncated, parts=tuple(parts), remarks=tuple(remarks))


def _part(link: _Link) -> Part:
    """Return how to decode a link, and the length that must result by its granules."""
    logical = link.audio[0]
    is_simple = len(link.streams) == 1 and logical.codec in ("vorbis", "opus")
    n_frames, tolerance = (0 if logical.has_ended else None), round(logical.rate_hz * _TOLERANCE_S)
    is_entered = is_trimmed = False
    if logical.last_granule is not None:
        # A stream can be recorded from its middle, and its first samples can lie before time 0, which are to be dropped.
        is_entered, is_trimmed = logical.start > tolerance and logical.hole is None, logical.start < 0
        n_frames = max(0, logical.last_granule - (logical.start if is_entered else logical.pre_skip))
    return Part(
        extents=((link.start, link.stop),),
        sample_rate_hz=logical.rate_hz,
        n_channels=logical.n_channels,
        n_frames=n_frames if len(link.audio) == 1 else None,
        tolerance=tolerance,
        whole_stream=is_simple and logical.hole is None and not logical.has_empty_packets and not is_trimmed,
        skip_frames=-logical.start if is_trimmed else 0,
        hole=logical.hole,
        has_clock=logical.codec in ("vorbis", "opus"),
        is_entered=is_entered,
    )


def _pages(window: Window, at: int) -> Iterator[_Page | str]:
    """Yield the pages of a file, and a message for each stretch of bytes that is not a page."""
    while at < window.size:
        head = window.get(at, _HEAD + 255)
        if head[:4] == b"OggS" and len(head) >= _HEAD and len(head) >= _HEAD + head[26]:
            lacing = head[_HEAD : _HEAD + head[26]]
            length = _HEAD + len(lacing) + sum(lacing)
            page = window.get(at, length)
            if len(page) == length:
                is_intact = _checksum(page) == int.from_bytes(head[22:26], "little")
                if is_intact or window.get(at + length, 4) in (b"OggS", b""):
                    yield _Page(
                        at, at + length, head[5], int.from_bytes(head[6:14], "little", signed=True), int.from_bytes(head[14:18], "little"),
                        int.from_bytes(head[18:22], "little"), lacing, page[_HEAD + len(lacing) :], is_intact,
                    )  # fmt: skip
                    at += length
                    continue
        following = _find_page(window, at + 1)
        if following is None:
            if window.get(at, 4) == b"OggS":
                yield f"the page at byte {at} is incomplete"
            return
        yield f"{following - at} bytes at byte {at} are not a page"
        at = following


def _find_page(window: Window, at: int) -> int | None:
    """Return the position of the next mark of a page at or after a position, None if there is none."""
    while at < window.size:
        window.load(at)
        place = window.data.find(b"OggS")
        if place >= 0:
            return at + place
        if at + len(window.data) >= window.size:
            return None
        at += max(1, len(window.data) - 3)
    return None


def _checksum(page: bytes) -> int:
    """Return the checksum of a page: a CRC-32 like zlib's, but with reversed bits and without its inversions."""
    mirrored = (page[:22] + b"\0\0\0\0" + page[26:]).translate(_REVERSED)
    crc = zlib.crc32(mirrored, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "big").translate(_REVERSED), "little")


def _new_stream(page: _Page) -> _Stream:
    """Return the stream that begins with a page."""
    b, number = page.body, page.number
    if b[:7] == b"\x01vorbis" and len(b) >= 30:
        blocks = (1 << (b[28] & 15), 1 << (b[28] >> 4))
        rate = int.from_bytes(b[12:16], "little")
        return _Stream(page.serial, "vorbis", rate, b[11], 0, blocks[1] // 2, number, blocks, headers_left=2)
    if b[:8] == b"OpusHead" and len(b) >= 19:
        return _Stream(
            page.serial, "opus", _OPUS_RATE_HZ, b[9], int.from_bytes(b[10:12], "little"), 5760, number, headers_left=1
        )
    if b[:5] == b"\x7fFLAC" and len(b) >= 33:
        rate = int.from_bytes(b[27:30], "big") >> 4
        return _Stream(page.serial, "flac", rate, (b[29] >> 1 & 7) + 1, 0, 65535, number)
    if b[:8] == b"Speex   " and len(b) >= 68:
        rate, frame, n = (int.from_bytes(b[i : i + 4], "little") for i in (36, 56, 64))
        channels, extra = int.from_bytes(b[48:52], "little"), min(16, int.from_bytes(b[68:72], "little"))
        return _Stream(
            page.serial, "speex", rate, channels, 0, max(1, frame * max(1, n)), number, headers_left=1 + extra
        )
    return _Stream(page.serial, "other", number=number)


def _add_page(logical: _Stream, page: _Page, lost: str | None) -> None:
    """Add a page to its stream. lost : message about damage before it in the link"""
    has_jumped = page.number != (logical.number + 1) & 0xFFFFFFFF
    logical.has_ended = bool(page.flags & 4)
    # Recorders that join a running stream write its header pages, then the current ones: the jump is no loss.
    is_joining = logical.last_granule is None and lost is None
    if has_jumped and not is_joining and logical.is_audio and logical.hole is None:
        n_missing = (page.number - logical.number - 1) & 0xFFFFFFFF
        at_s = (logical.last_granule or 0) / logical.rate_hz
        logical.hole = f"{n_missing} pages are missing before byte {page.start}, at {at_s:.2f} s" + (
            f" ({lost})" if lost else ""
        )
    logical.number = page.number
    # libsndfile takes an empty Opus packet for damage.
    lacing = page.lacing[1:] if page.flags & 1 else page.lacing
    logical.has_empty_packets |= logical.codec == "opus" and b"\0" in lacing.replace(b"\xff\0", b"")
    if not logical.is_audio:
        return
    if page.granule == _UNSET:  # no packet ends here
        _, logical.partial_packet = heads_of(page.lacing, page.body, logical.partial_packet if page.flags & 1 else None)
        if logical.last_granule is None and logical.codec == "vorbis" and len(logical.setup) < _MAX_SETUP_BYTES:
            logical.setup += page.body
        return
    heads, logical.partial_packet = heads_of(page.lacing, page.body, logical.partial_packet if page.flags & 1 else None)
    if page.flags & 1 and logical.last_granule is None and logical.partial_packet is None and not logical.setup:
        heads = heads[1:]
    if logical.last_granule is None:
        is_header = logical.headers_left > 0 or (logical.codec == "flac" and page.granule == 0)
        logical.headers_left -= len(heads)
        if is_header and heads:
            if logical.codec == "vorbis" and len(logical.setup) < _MAX_SETUP_BYTES:
                logical.setup += page.body
            return
        samples = _samples(logical, heads)
        # A short stream can be trimmed at its end.
        if samples is not None and not (logical.has_ended and page.granule < samples):
            logical.start = page.granule - samples
    elif logical.hole is None:
        most = len(heads) * logical.longest if logical.codec != "opus" else sum(opus_samples(h) for h in heads if h)
        if page.granule - logical.last_granule > most + logical.longest + logical.rate_hz * _TOLERANCE_S:
            jump_s, at_s = (
                (page.granule - logical.last_granule) / logical.rate_hz,
                logical.last_granule / logical.rate_hz,
            )
            logical.hole = f"the granule jumps by {jump_s:.2f} s at {at_s:.2f} s"
    logical.last_granule = max(page.granule, logical.last_granule if logical.last_granule is not None else page.granule)


def _samples(logical: _Stream, heads: list[bytes | None]) -> int | None:
    """Return the number of samples that a stream's first packets decode to, None if it cannot be derived."""
    if logical.codec == "opus":
        return sum(opus_samples(h) for h in heads if h)
    if logical.codec == "flac":
        return flac_samples(heads)
    if logical.codec == "speex":
        return len(heads) * logical.longest
    modes = vorbis_modes(logical.setup)
    return vorbis_samples(heads, modes, logical.blocks) if modes else None
