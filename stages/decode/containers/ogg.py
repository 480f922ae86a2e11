"""Ogg: pages, each with a checksum, a number, and the time at its end (its granule). RFC 3533; Opus in Ogg: RFC 7845.

A file is one link, or several one behind the other (a chain, as recorders of streams write it); a link has one stream or
several, whose pages are mixed. Decoders drop a damaged page without a word: here each is looked at.
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

    codec : vorbis, opus, flac, speex, or other for a stream that does not hold audio
    rate_hz : of its granules; 0 for a stream that does not hold audio
    longest : samples that a packet can have
    number : of its last page
    blocks : Vorbis: lengths of a short and a long block
    setup : Vorbis: its headers behind the first, as far as they have come
    begun : the first bytes of a packet that goes on on the next page
    headers_left : packets of headers still to come, as far as is known
    start : of its first sample, by the granule of the first page with audio
    entered : that page is not the first of the stream
    hole : the first place at which something is missing, in words
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
    begun: bytes | None = None
    headers_left: int = 0
    start: int = 0
    last_granule: int | None = None
    ends: bool = False
    hole: str | None = None
    has_empty_packets: bool = False

    @property
    def is_audio(self) -> bool:
        return self.rate_hz > 0


@dataclass
class _Link:
    """A part of a chain. streams : by serial number; has_more : other pages came than those by which streams begin;
    lost : the first damage in it, in words"""

    start: int
    streams: dict[int, _Stream] = field(default_factory=dict)
    stop: int = 0
    has_more: bool = False
    lost: str | None = None

    @property
    def audio(self) -> list[_Stream]:
        return [s for s in self.streams.values() if s.is_audio]


@dataclass(frozen=True)
class _Page:
    start: int
    stop: int
    flags: int
    granule: int
    serial: int
    number: int
    lacing: bytes
    body: bytes
    sound: bool


def check_ogg(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Walk over all pages of a file."""
    window = Window(stream, size)
    links: list[_Link] = []
    lost: str | None = None  # between pages, until the next page of a stream tells whether it is its own
    tail: str | None = None
    orphan: int | None = None
    for page in _pages(window, at):
        if isinstance(page, str):
            lost, tail = page, page
            continue
        tail = None
        if not page.sound:
            lost = f"the page at byte {page.start} is damaged"
            if links:
                links[-1].stop = page.stop
                if (one := links[-1].streams.get(page.serial)) is not None and one.hole is None:
                    one.hole = f"{lost}, at {(one.last_granule or 0) / max(1, one.rate_hz):.2f} s"
            continue
        if page.flags & 2 and (not links or links[-1].has_more or page.serial in links[-1].streams):
            links.append(_Link(page.start))
            if len(links) > MAX_PARTS:
                return Container("ogg", fault=("corrupt", f"more than {MAX_PARTS} links"))
        if not links:  # nothing can be decoded of a stream without its headers
            orphan = page.start if orphan is None else orphan
            continue
        link = links[-1]
        link.stop = page.stop
        if page.flags & 2:
            link.streams[page.serial] = _begun(page)
            continue
        one = link.streams.get(page.serial)
        if one is None or one.ends:
            orphan = page.start if orphan is None else orphan
            continue
        link.lost = link.lost or lost
        _take(one, page, link.lost)
        link.has_more = True
        lost = None
    if not links:
        return Container("ogg", fault=("corrupt", lost or "there is no page by which a stream begins"))
    if orphan is not None:
        told = f"the page at byte {orphan} is of a stream whose first page is missing" + (f" ({lost})" if lost else "")
        return Container("ogg", fault=("corrupt", told))
    found = _judged(links, lost, tail)
    behind = skip_tags(window, links[-1].stop)
    if size - behind >= REMARK_BYTES and not is_padding(stream, size, behind):
        rest = ("trailing_bytes", f"{size - behind} bytes from byte {behind} on are no pages")
        found = replace(found, remarks=(*found.remarks, rest))
    return found


def _judged(links: list[_Link], lost: str | None, tail: str | None) -> Container:
    parts, remarks = [], []
    sounding = [link for link in links if link.audio]
    if len(sounding) > 1:
        remarks.append(("joined", f"{len(sounding)} links, one behind the other"))
    for k, link in enumerate(sounding):
        where = f"link {k + 1} of {len(sounding)}: " if len(sounding) > 1 else ""
        for one in link.audio:
            if one.last_granule is None and not one.ends:
                return Container("ogg", f"{where}there is no page with audio")
        first = sounding[0].audio[0]
        for one in link.audio[:1]:
            if (one.rate_hz, one.n_channels) != (first.rate_hz, first.n_channels):
                text = (
                    f"{first.rate_hz} Hz, {first.n_channels} channels become {one.rate_hz} Hz, {one.n_channels} channels"
                    f" at byte {link.start}"
                )
                return Container("ogg", fault=("bad_format", text))
        parts.append(_part(link))
    unfinished = [link for link in sounding if not all(s.ends for s in link.audio)]
    unmarked = [link for link in unfinished if link is not sounding[-1]]
    if unmarked:
        # Recorders of streams begin the next link without a word: all pages are there, and more is not to be known.
        remarks.append(
            ("end_unmarked", f"{len(unmarked)} of {len(sounding)} links have no page that says that they end")
        )
        unfinished = [link for link in unfinished if link is sounding[-1]]
    truncated = None
    if unfinished:
        where = f"link {sounding.index(unfinished[0]) + 1} of {len(sounding)}: " if len(sounding) > 1 else ""
        cut = tail is not None and unfinished[0] is sounding[-1]
        truncated = where + ("the last page is not whole" if cut else "no page says that the stream ends")
    elif lost and tail is None:
        truncated = f"{lost}, and nothing follows"
    return Container("ogg", truncated, parts=tuple(parts), remarks=tuple(remarks))


def _part(link: _Link) -> Part:
    """Return how a link is to be decoded, and how much audio it must give by its granules."""
    one = link.audio[0]
    alone = len(link.streams) == 1 and one.codec in ("vorbis", "opus")
    n_frames, tolerance = (0 if one.ends else None), round(one.rate_hz * _TOLERANCE_S)
    entered = trimmed = False
    if one.last_granule is not None:
        # A stream can be entered later than at its start, and its first samples can be marked as none of it.
        entered, trimmed = one.start > tolerance and one.hole is None, one.start < 0
        n_frames = max(0, one.last_granule - (one.start if entered else one.pre_skip))
    return Part(
        extents=((link.start, link.stop),),
        sample_rate_hz=one.rate_hz,
        n_channels=one.n_channels,
        n_frames=n_frames if len(link.audio) == 1 else None,
        tolerance=tolerance,
        whole_stream=alone and one.hole is None and not one.has_empty_packets and not trimmed,
        skip_frames=-one.start if trimmed else 0,
        hole=one.hole,
        has_clock=one.codec in ("vorbis", "opus"),
        is_entered=entered,
    )


def _pages(window: Window, at: int) -> Iterator[_Page | str]:
    """Yield the pages of a file, and between them in words what is none."""
    while at < window.size:
        head = window.get(at, _HEAD + 255)
        if head[:4] == b"OggS" and len(head) >= _HEAD and len(head) >= _HEAD + head[26]:
            lacing = head[_HEAD : _HEAD + head[26]]
            length = _HEAD + len(lacing) + sum(lacing)
            page = window.get(at, length)
            if len(page) == length:
                sound = _checksum(page) == int.from_bytes(head[22:26], "little")
                if sound or window.get(at + length, 4) in (b"OggS", b""):
                    yield _Page(
                        at, at + length, head[5], int.from_bytes(head[6:14], "little", signed=True), int.from_bytes(head[14:18], "little"),
                        int.from_bytes(head[18:22], "little"), lacing, page[_HEAD + len(lacing) :], sound,
                    )  # fmt: skip
                    at += length
                    continue
        following = _find(window, at + 1)
        if following is None:
            if window.get(at, 4) == b"OggS":
                yield f"the page at byte {at} is not whole"
            return
        yield f"{following - at} bytes at byte {at} are no page"
        at = following


def _find(window: Window, at: int) -> int | None:
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
    """Return the checksum of a page: a CRC-32 with the bits of zlib's in the other order and without its inversions."""
    mirrored = (page[:22] + b"\0\0\0\0" + page[26:]).translate(_REVERSED)
    crc = zlib.crc32(mirrored, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "big").translate(_REVERSED), "little")


def _begun(page: _Page) -> _Stream:
    """Return the stream that a first page begins."""
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


def _take(one: _Stream, page: _Page, lost: str | None) -> None:
    """Count a page of a stream in. lost : what was damaged or no page just before it"""
    jumped = page.number != (one.number + 1) & 0xFFFFFFFF
    one.ends = bool(page.flags & 4)
    # Recorders that enter a stream write its first pages, with the headers, and go on with those of the moment.
    enters = one.last_granule is None and lost is None
    if jumped and not enters and one.is_audio and one.hole is None:
        gone = (page.number - one.number - 1) & 0xFFFFFFFF
        at_s = (one.last_granule or 0) / one.rate_hz
        one.hole = f"{gone} pages are missing before byte {page.start}, at {at_s:.2f} s" + (
            f" ({lost})" if lost else ""
        )
    one.number = page.number
    # libsndfile takes an Opus packet without a byte for damage.
    lacing = page.lacing[1:] if page.flags & 1 else page.lacing
    one.has_empty_packets |= one.codec == "opus" and b"\0" in lacing.replace(b"\xff\0", b"")
    if not one.is_audio:
        return
    if page.granule == _UNSET:  # no packet ends here
        _, one.begun = heads_of(page.lacing, page.body, one.begun if page.flags & 1 else None)
        if one.last_granule is None and one.codec == "vorbis" and len(one.setup) < _MAX_SETUP_BYTES:
            one.setup += page.body
        return
    heads, one.begun = heads_of(page.lacing, page.body, one.begun if page.flags & 1 else None)
    if page.flags & 1 and one.last_granule is None and one.begun is None and not one.setup:
        heads = heads[1:]
    if one.last_granule is None:
        is_header = one.headers_left > 0 or (one.codec == "flac" and page.granule == 0)
        one.headers_left -= len(heads)
        if is_header and heads:
            if one.codec == "vorbis" and len(one.setup) < _MAX_SETUP_BYTES:
                one.setup += page.body
            return
        samples = _samples(one, heads)
        if samples is not None and not (
            one.ends and page.granule < samples
        ):  # a short stream that is trimmed at its end
            one.start = page.granule - samples
    elif one.hole is None:
        most = len(heads) * one.longest if one.codec != "opus" else sum(opus_samples(h) for h in heads if h)
        if page.granule - one.last_granule > most + one.longest + one.rate_hz * _TOLERANCE_S:
            jump_s, at_s = (page.granule - one.last_granule) / one.rate_hz, one.last_granule / one.rate_hz
            one.hole = f"the granule jumps by {jump_s:.2f} s at {at_s:.2f} s"
    one.last_granule = max(page.granule, one.last_granule if one.last_granule is not None else page.granule)


def _samples(one: _Stream, heads: list[bytes | None]) -> int | None:
    """Return how many samples come out of a stream's first packets, None when that cannot be told."""
    if one.codec == "opus":
        return sum(opus_samples(h) for h in heads if h)
    if one.codec == "flac":
        return flac_samples(heads)
    if one.codec == "speex":
        return len(heads) * one.longest
    modes = vorbis_modes(one.setup)
    return vorbis_samples(heads, modes, one.blocks) if modes else None
