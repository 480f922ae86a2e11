"""Ogg with Vorbis, Opus and FLAC: chained, multiplexed, with lost or damaged pages, or without an end."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import av
import numpy as np
from odd_mpeg import id3v1, id3v2, junk, zeroed
from odd_signal import Cases, Part, Track, mux, signal, soundfile

OGG = Cases("ogg")


def _table() -> list[int]:
    table = []
    for i in range(256):
        r = i << 24
        for _ in range(8):
            r = (r << 1) ^ 0x04C11DB7 if r & 0x80000000 else r << 1
        table.append(r & 0xFFFFFFFF)
    return table


_CRC = _table()
BOS, EOS = 2, 4


@dataclass(frozen=True)
class Page:
    flags: int
    granule: int
    serial: int
    sequence: int
    lacing: bytes
    body: bytes

    def pack(self) -> bytes:
        head = struct.pack("<4sBBqIII", b"OggS", 0, self.flags, self.granule, self.serial, self.sequence, 0)
        page = bytearray(head + bytes([len(self.lacing)]) + self.lacing + self.body)
        crc = 0
        for byte in page:
            crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC[crc >> 24 ^ byte]
        struct.pack_into("<I", page, 22, crc)
        return bytes(page)


def pages(content: bytes) -> list[Page]:
    result, at = [], 0
    while at < len(content):
        _, _, flags, granule, serial, sequence, _ = struct.unpack_from("<4sBBqIII", content, at)
        n = content[at + 26]
        lacing = content[at + 27 : at + 27 + n]
        body = content[at + 27 + n : at + 27 + n + sum(lacing)]
        result.append(Page(flags, granule, serial, sequence, lacing, body))
        at += 27 + n + len(body)
    return result


def pack(some: Iterable[Page]) -> bytes:
    return b"".join(page.pack() for page in some)


def places(content: bytes) -> list[int]:
    """Return the position of each page."""
    positions, at = [], 0
    for page in pages(content):
        positions.append(at)
        at += 27 + len(page.lacing) + len(page.body)
    return positions


def one_packet(flags: int, granule: int, serial: int, sequence: int, packet: bytes) -> Page:
    return Page(flags, granule, serial, sequence, bytes([255] * (len(packet) // 255) + [len(packet) % 255]), packet)


@lru_cache(64)
def vorbis(
    seconds: float, from_s: float = 0.0, rate: int = 16000, channels: int = 1, serial: int = 1, first_tone: int = 0
) -> bytes:
    content = soundfile(signal(seconds, rate, channels, from_s, first_tone), rate, "OGG", "VORBIS")
    return repaged(content, serial)


def repaged(content: bytes, serial: int) -> bytes:
    """Return Vorbis in pages of half a second, as recorders write them. Those of libsndfile are longer."""
    all_ = pages(content)
    first = next(i for i, p in enumerate(all_) if p.granule > 0)
    result = [replace(p, serial=serial) for p in all_[:first]]
    with av.open(io.BytesIO(content)) as container:
        rate = container.streams.audio[0].rate
        packets = [(int(p.pts or 0) + int(p.duration or 0), bytes(p)) for p in container.demux(audio=0) if p.size]
    lacing, body, begun = b"", b"", 0
    for i, (granule, packet) in enumerate(packets):
        lacing += bytes([255] * (len(packet) // 255) + [len(packet) % 255])
        body += packet
        end = i == len(packets) - 1
        if end or granule - begun >= rate // 2:
            granule = all_[-1].granule if end else granule
            result.append(Page(EOS if end else 0, granule, serial, len(result), lacing, body))
            lacing, body, begun = b"", b"", granule
    return pack(result)


@lru_cache(64)
def by_ffmpeg(
    codec: str, seconds: float, from_s: float = 0.0, rate: int = 48000, channels: int = 1, serial: int = 1
) -> bytes:
    """Return Ogg by FFmpeg, with pages of half a second."""
    track = Track(
        codec,
        signal(seconds, rate, channels, from_s),
        rate,
        bit_rate=64000 if codec == "libopus" else None,
        options={"strict": "experimental"} if codec == "vorbis" else {},
    )
    content = mux("ogg", track, {"page_duration": "500000"})
    return pack(replace(page, serial=serial) for page in pages(content))


def changed(content: bytes, change: Callable[[list[Page]], Sequence[Page]]) -> bytes:
    return pack(change(pages(content)))


def later(content: bytes, by: int) -> bytes:
    """Return a stream that begins at a later granule, like one that was recorded from the middle."""
    return changed(content, lambda all_: [replace(p, granule=p.granule + by) if p.granule > 0 else p for p in all_])


def without(content: bytes, first: int, last: int) -> bytes:
    """Return a stream without the pages [first, last), which are counted from the first header page."""
    return changed(content, lambda all_: [*all_[:first], *all_[last:]])


def hole_of(content: bytes, first: int, last: int, rate: int, skip: int = 0) -> tuple[float, float]:
    """Return start and end in seconds of the pages [first, last)."""
    all_ = pages(content)
    return max(0, all_[first - 1].granule - skip) / rate, (all_[last - 1].granule - skip) / rate


def around(content: bytes, first: int, last: int, seconds: float, rate: int, skip: int = 0) -> tuple[Part, Part]:
    a, b = hole_of(content, first, last, rate, skip)
    return Part(0, a), Part(b, seconds - b, b)


def no_samples(content: bytes, serial: int) -> bytes:
    """Return the header pages of a stream and a last page at granule 0."""
    heads = [replace(p, serial=serial) for p in pages(content) if p.granule == 0]
    return pack([*heads, Page(EOS, 0, serial, len(heads), b"", b"")])


def skeleton(content: bytes) -> bytes:
    """Return Ogg with an additional Ogg Skeleton stream."""
    first, *rest = pages(content)
    head = b"fishead\0" + struct.pack("<HHqqqq", 3, 0, 0, 1000, 0, 1000) + b"\0" * 20
    bone = b"fisbone\0" + struct.pack("<IIIqqqIB3x", 44, 1, 3, 16000, 1, 0, 0, 0) + b"Content-Type: audio/vorbis\r\n"
    heading = [one_packet(BOS, 0, 77, 0, head), first, one_packet(0, 0, 77, 1, bone)]
    heads = [p for p in rest if p.granule == 0]
    return pack([*heading, *heads, one_packet(EOS, 0, 77, 2, b""), *[p for p in rest if p.granule != 0]])


def beside_unknown(content: bytes) -> bytes:
    """Return Ogg with an additional stream of an unknown codec, a page of it between all pages."""
    first, *rest = pages(content)
    result = [one_packet(BOS, 0, 88, 0, b"\x80nocodec" + b"\1" * 40), first]
    for i, page in enumerate(rest, 1):
        result += [one_packet(EOS if i == len(rest) else 0, i, 88, i, junk(200, i)), page]
    return pack(result)


def interleaved(a: bytes, b: bytes) -> bytes:
    """Return two streams multiplexed: both first pages, then pages in turn."""
    left, right = pages(a), pages(b)
    result = [left[0], right[0]]
    for i in range(1, max(len(left), len(right))):
        result += [*left[i : i + 1], *right[i : i + 1]]
    return pack(result)


def opus_with_silence(drop: bool) -> bytes:
    """Return 7 s of Opus with digital silence from 2.5 to 4.5 s, as DTX. drop : leave out the packets of the silence"""
    y = signal(7, 48000)
    y[round(2.5 * 48000) : round(4.5 * 48000)] = 0
    track = Track("libopus", y, 48000, bit_rate=24000, options={"dtx": "1", "application": "voip"})
    all_ = pages(mux("ogg", track, {"page_duration": "20000"}))
    if not drop:
        return pack(all_)
    kept = [p for p in all_ if p.granule <= 0 or p.flags & EOS or not 2.7 * 48000 < p.granule < 4.3 * 48000]
    return pack(replace(p, sequence=i) for i, p in enumerate(kept))


def empty_last_packet(content: bytes) -> bytes:
    """Return a stream that ends with a separate page that holds an empty packet."""

    def change(all_: list[Page]) -> list[Page]:
        *rest, last = all_
        empty = Page(EOS, last.granule, last.serial, last.sequence + 1, b"\0", b"")
        return [*rest, replace(last, flags=last.flags & ~EOS), empty]

    return changed(content, change)


def flipped(content: bytes, page: int) -> bytes:
    """Return Ogg with a changed byte in the body of a page, so that its checksum is wrong."""
    at = places(content)[page] + 27 + len(pages(content)[page].lacing) + 20
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


def _noise() -> bytes:
    """Return a Vorbis stream whose pages have many bytes, so that damage covers part of a page."""
    y = signal(8, 16000) + 0.02 * np.random.default_rng(1).standard_normal((8 * 16000, 1)).astype(np.float32)
    return pack(replace(p, serial=1) for p in pages(soundfile(y, 16000, "OGG", "VORBIS", compression_level=0.1)))


def speex(seconds: float, serial: int = 1, rate: int = 8000, tail: bytes | None = None) -> bytes:
    """Return narrowband Speex of frames without bits (submode 0, then the terminator), half a second per page. tail : a last packet"""
    head = b"Speex   " + b"1.2".ljust(20, b"\0")
    head += struct.pack("<13i", 1, 80, rate, 0, 4, 1, -1, 160, 0, 1, 0, 0, 0)
    comment = struct.pack("<I", 4) + b"none" + struct.pack("<I", 0)
    result = [one_packet(BOS, 0, serial, 0, head), one_packet(0, 0, serial, 1, comment)]
    n = round(seconds * rate / 160)
    for k in range(0, n, 25):
        m = min(25, n - k)
        end = EOS if k + m == n and tail is None else 0
        result.append(Page(end, (k + m) * 160, serial, len(result), bytes([2] * m), b"\x03\xff" * m))
    if tail is not None:
        result.append(Page(EOS, n * 160, serial, len(result), bytes([len(tail)]), tail))
    return pack(result)


_SEAM = {"parts": (Part(0, 4), Part(4, 3, 4)), "loose_s": 0.06}
_OTHER = "bad_format corrupt undecodable"
_END = "truncated corrupt"
V8, O8 = vorbis(8), by_ffmpeg("libopus", 8)
_A, _B, _C = (hole_of(V8, first, last, 16000) for first, last in ((5, 9), (4, 6), (10, 13)))
_EMPTY_LINK = no_samples(vorbis(1), 9)

OGG.used("vorbis.ogg", lambda: vorbis(4), 4, "Vorbis, whole", 0.0005)
OGG.used("chained_2.ogg", lambda: vorbis(4) + vorbis(3, 4, serial=2), 7, "chained Vorbis", 0.1, **_SEAM)
OGG.used("chained_3.ogg", lambda: vorbis(2) + vorbis(2, 2, serial=2) + vorbis(3, 4, serial=3), 7, "three links", 0.1,
         parts=(Part(0, 2), Part(2, 2, 2), Part(4, 3, 4)), loose_s=0.06)  # fmt: skip
OGG.used(
    "chained_long.ogg",
    lambda: vorbis(19) + vorbis(19, 19, serial=2),
    38,
    "chained, longer than a span",
    0.1,
    parts=(Part(0, 19), Part(19, 19, 19)),
    loose_s=0.06,
)
OGG.used("chained_ffmpeg.ogg", lambda: by_ffmpeg("vorbis", 4, rate=44100, channels=2) + by_ffmpeg("vorbis", 3, 4, 44100, 2, 2), 7,
         "chained Vorbis by FFmpeg's own encoder", 0.12, **{**_SEAM, "shift_s": 0.08})  # fmt: skip
OGG.either("chained_serial.ogg", lambda: vorbis(4) + vorbis(3, 4, serial=1), 7, "corrupt bad_format timeline_gap",
           "chained, both links of one serial number", 0.1, **_SEAM)  # fmt: skip
OGG.used("chained_short.ogg", lambda: vorbis(4) + vorbis(0.05, serial=2) + vorbis(3, 4, serial=3), 7.05, "a link of 50 ms between", 0.1,
         parts=(Part(0, 4), Part(4.05, 3, 4)), loose_s=0.12, shift_s=0.1)  # fmt: skip
OGG.used(
    "chained_empty.ogg",
    lambda: vorbis(4) + _EMPTY_LINK + vorbis(3, 4, serial=2),
    7,
    "a link of no samples between",
    0.1,
    **_SEAM,
)
OGG.either("chained_empty_first.ogg", lambda: _EMPTY_LINK + vorbis(4), 4, "corrupt undecodable", "a link of no samples first", 0.1,
           debatable="neither library opens it alone; empty is not true")  # fmt: skip
OGG.used("chained_empty_last.ogg", lambda: vorbis(4) + _EMPTY_LINK, 4, "a link of no samples last", 0.1)
OGG.rejected("chained_rates.ogg", lambda: vorbis(4) + vorbis(3, 4, rate=22050, serial=2), _OTHER, "chained, other rate")
OGG.rejected(
    "chained_channels.ogg", lambda: vorbis(4) + vorbis(3, 4, channels=2, serial=2), _OTHER, "chained, two channels"
)
OGG.rejected(
    "chained_cut.ogg", lambda: (vorbis(4) + vorbis(6, 4, serial=2))[:-3000], _END, "chained, the second link is cut"
)
OGG.hole("chained_hole.ogg", lambda: vorbis(4) + without(vorbis(8, 4, serial=2), 5, 9), 12,
         (Part(0, 4 + _A[0]), Part(4 + _A[1], 8 - _A[1], 4 + _A[1])), "chained, pages lost in the second link")  # fmt: skip
OGG.used(
    "chained_junk.ogg", lambda: vorbis(4) + junk(3000) + vorbis(3, 4, serial=2), 7, "junk between links", 0.1, **_SEAM
)
OGG.used(
    "chained.opus",
    lambda: by_ffmpeg("libopus", 4) + by_ffmpeg("libopus", 3, 4, serial=2),
    7,
    "chained Opus",
    0.1,
    **_SEAM,
)
OGG.rejected("chained_channels.opus", lambda: by_ffmpeg("libopus", 4) + by_ffmpeg("libopus", 3, 4, channels=2, serial=2), _OTHER,
             "chained Opus, two channels")  # fmt: skip
OGG.either("chained_codecs.ogg", lambda: vorbis(4, rate=48000) + by_ffmpeg("libopus", 3, 4, serial=2), 7, _OTHER, "Vorbis, then Opus",
           0.1, **_SEAM)  # fmt: skip
OGG.used("flac.oga", lambda: by_ffmpeg("flac", 4, rate=16000), 4, "FLAC in Ogg", 0.0005)
OGG.used(
    "chained_flac.oga",
    lambda: by_ffmpeg("flac", 4, rate=16000) + by_ffmpeg("flac", 3, 4, 16000, serial=2),
    7,
    "chained FLAC",
    0.01,
)
OGG.hole("lost.ogg", lambda: without(V8, 6, 10), 8, around(V8, 6, 10, 8, 16000), "four pages lost")
OGG.hole(
    "lost_long.ogg",
    lambda: without(vorbis(38), 22, 28),
    38,
    around(vorbis(38), 22, 28, 38, 16000),
    "pages lost, longer than a span",
)
OGG.hole("lost_stereo.ogg", lambda: without(vorbis(8, rate=44100, channels=2), 8, 13), 8,
         around(vorbis(8, rate=44100, channels=2), 8, 13, 8, 44100), "pages lost, 44.1 kHz stereo")  # fmt: skip
OGG.hole("lost.opus", lambda: without(O8, 6, 9), 8, around(O8, 6, 9, 8, 48000, 312), "pages of Opus lost")
OGG.hole("lost_flac.oga", lambda: without(by_ffmpeg("flac", 8, rate=16000), 6, 9), 8,
         around(by_ffmpeg("flac", 8, rate=16000), 6, 9, 8, 16000), "pages of Ogg FLAC lost")  # fmt: skip
OGG.hole("lost_twice.ogg", lambda: changed(V8, lambda p: [*p[:4], *p[6:10], *p[13:]]), 8,
         (Part(0, _B[0]), Part(_B[1], _C[0] - _B[1], _B[1]), Part(_C[1], 8 - _C[1], _C[1])), "two holes")  # fmt: skip
OGG.hole("crc.ogg", lambda: flipped(V8, 8), 8, around(V8, 8, 9, 8, 16000), "one page with a wrong checksum",
         also=((8.0, (Part(0, 8),)),))  # fmt: skip
OGG.hole("zeroed.ogg", lambda: zeroed(V8, places(V8)[7] + 100, 2000), 8, around(V8, 7, 12, 8, 16000), "2 kB zeroed in the middle",
         loose_s=0.6)  # fmt: skip
OGG.hole(
    "zeroed_noise.ogg",
    lambda: zeroed(_noise(), len(_noise()) // 2, 3000),
    8,
    (),
    "3 kB zeroed in the middle, pages are long",
)
OGG.either("lost_first.ogg", lambda: without(V8, 2, 5), 8, "timeline_gap corrupt", "the first pages behind the headers lost", 0.1,
           parts=(Part(hole_of(V8, 2, 5, 16000)[1], 8 - hole_of(V8, 2, 5, 16000)[1], hole_of(V8, 2, 5, 16000)[1]),), loose_s=0.12,
           also=((8 - hole_of(V8, 2, 5, 16000)[1], (Part(0, 8 - hole_of(V8, 2, 5, 16000)[1], hole_of(V8, 2, 5, 16000)[1]),)),),
           debatable="sequence numbers tell a loss, but a stream recorded from the middle has no zero")  # fmt: skip
OGG.rejected("lost_last.ogg", lambda: without(V8, 12, 99), _END, "cut between pages: the end flag is missing")
OGG.rejected("cut.ogg", lambda: V8[:-3300], _END, "cut in a page")
OGG.rejected("cut.opus", lambda: O8[: len(O8) * 2 // 3], _END, "Opus cut in a page")
OGG.either("no_end_flag.ogg", lambda: changed(V8, lambda p: [*p[:-1], replace(p[-1], flags=0)]), 8, _END, "no end flag, else whole", 0.1,
           debatable="a recorder that was stopped looks the same as a cut file")  # fmt: skip
OGG.used("from_middle.ogg", lambda: later(vorbis(6), 1_600_000), 6, "recorded from the middle: granules begin at 100 s", 0.1,
         shift_s=0.08)  # fmt: skip
OGG.used("from_middle.opus", lambda: later(by_ffmpeg("libopus", 6), 4_800_000), 6, "Opus whose granules begin at 100 s", 0.1,
         shift_s=0.08)  # fmt: skip
OGG.used("from_middle_chained.ogg", lambda: vorbis(4) + later(vorbis(3, 4, serial=2), 64_000), 7, "the second link's granules go on", 0.1,
         **{**_SEAM, "shift_s": 0.08}, debatable="a hole at the link's start, by its granules")  # fmt: skip
OGG.either("renumbered.ogg", lambda: changed(V8, lambda p: [*p[:8], *(replace(q, sequence=q.sequence + 5) for q in p[8:])]), 8,
           "corrupt timeline_gap",
         "sequence numbers jump, granules do not: nothing is lost", 0.05,
         debatable="numbers say that pages were lost; granules that no time was")  # fmt: skip
OGG.either(
    "junk_between.ogg",
    lambda: V8[: places(V8)[8]] + junk(700) + V8[places(V8)[8] :],
    8,
    "corrupt",
    "junk between pages, nothing lost",
    0.05,
)
OGG.used(
    "two_streams.ogg",
    lambda: interleaved(vorbis(4), vorbis(4, serial=2, first_tone=5)),
    4,
    "two Vorbis streams, multiplexed",
    0.1,
)
OGG.used("skeleton.ogg", lambda: skeleton(vorbis(4)), 4, "an Ogg Skeleton beside it", 0.05)
OGG.used("unknown_beside.ogv", lambda: beside_unknown(vorbis(4)), 4, "a stream of an unknown codec beside it", 0.05)
OGG.used("exact.opus", lambda: by_ffmpeg("libopus", 3.0005), 3.0005, "pre-skip and end trim", 0.0005)
OGG.used("exact_16k.opus", lambda: soundfile(signal(3.01, 16000), 16000, "OGG", "OPUS"), 3.01, "Opus of 16 kHz", 0.001)
OGG.used("dtx.opus", lambda: opus_with_silence(False), 7, "DTX: packets of silence", 0.05, parts=(Part(0, 2.5), Part(4.5, 2.5, 4.5)),
         loose_s=0.15)  # fmt: skip
OGG.used("dtx_dropped.opus", lambda: opus_with_silence(True), 7, "DTX: the packets of silence are left out, numbers go on", 0.05,
         parts=(Part(0, 2.5), Part(4.5, 2.5, 4.5)), loose_s=0.15, quiet=frozenset(),
         debatable="granules jump; silence in its place is right with or without a remark")  # fmt: skip
OGG.used("empty_packet.ogg", lambda: empty_last_packet(vorbis(4)), 4, "an empty last packet", 0.05)
OGG.used(
    "empty_packet.opus", lambda: empty_last_packet(by_ffmpeg("libopus", 4)), 4, "an empty last packet of Opus", 0.05
)
OGG.used("speex.spx", lambda: speex(3), 3, "Speex", 0.03, parts=())
OGG.used("empty_packet.spx", lambda: speex(3, tail=b""), 3, "Speex whose last packet is empty", 0.03, parts=())
OGG.either("chained.spx", lambda: speex(3) + speex(2, 2), 5, "corrupt bad_format", "chained Speex", 0.1, parts=())
OGG.rejected("chained_rates.spx", lambda: speex(3) + speex(2, 2, 16000), _OTHER, "chained Speex, other rate")
OGG.used("id3_before.ogg", lambda: id3v2(500) + vorbis(4), 4, "ID3v2 before Ogg", 0.05)
OGG.used("id3v1_behind.ogg", lambda: vorbis(4) + id3v1(), 4, "ID3v1 behind Ogg", 0.05)
OGG.used("zeros_behind.ogg", lambda: vorbis(4) + b"\0" * 40_000, 4, "zeros behind Ogg", 0.05)
OGG.either("states_more.ogg", lambda: changed(vorbis(4), lambda p: [*p[:-1], replace(p[-1], granule=p[-1].granule + 32000)]), 6,
           "truncated corrupt timeline_gap", "the last granule states 2 s more than there are", 0.1, parts=(Part(0, 4),), loose_s=0.1,
           enough=frozenset({"timeline_gap", "header_wrong"}), debatable="only the last page says so")  # fmt: skip
OGG.either("headers_only.ogg", lambda: no_samples(vorbis(1), 1), 0, "empty", "headers and no sample", parts=())
OGG.either("no_headers.ogg", lambda: pack(pages(V8)[2:]), 8, "corrupt undecodable truncated unsupported_format",
           "the pages with the headers are missing")  # fmt: skip


def earlier(content: bytes, samples: int) -> bytes:
    """Return a stream moved to earlier times, like one that was cut without decoding: samples before 0 are not part of it."""
    return changed(
        content, lambda all_: [replace(p, granule=p.granule - samples) if p.granule > 0 else p for p in all_]
    )


OGG.used(
    "trimmed.ogg",
    lambda: earlier(vorbis(4), 8000),
    3.5,
    "granules that begin before 0",
    0.01,
    parts=(Part(0, 3.5, 0.5),),
)
OGG.used("trimmed.opus", lambda: earlier(by_ffmpeg("libopus", 4), 24_000), 3.5, "Opus whose granules begin before 0", 0.02,
         parts=(Part(0, 3.5, 0.5),))  # fmt: skip
