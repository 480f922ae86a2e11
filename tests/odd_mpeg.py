"""MP3, MP2, MP1 and ADTS: joined, cut, damaged, tagged, and with wrong headers."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from odd_signal import Cases, Part, Track, mux, signal, soundfile

MP3 = Cases("mp3")
ADTS = Cases("adts")
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBPS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def mp3_frames(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield position and length of each Layer III frame after an ID3v2 tag."""
    at = 10 + synchsafe(content[6:10]) if content[:3] == b"ID3" else 0
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] & 0xE6 == 0xE2:
        version, third = content[at + 1] >> 3 & 3, content[at + 2]
        rate = _RATES[version][third >> 2 & 3]
        kbps = _KBPS[3 if version == 3 else 2][third >> 4]
        length = (144 if version == 3 else 72) * kbps * 1000 // rate + (third >> 1 & 1)
        yield at, length
        at += length


def synchsafe(four: bytes) -> int:
    return four[0] << 21 | four[1] << 14 | four[2] << 7 | four[3]


def id3v2(n: int, fill: bytes = b"\0") -> bytes:
    """Return an ID3v2.3 tag with n bytes in a private frame, as pictures are stored."""
    body = b"PRIV" + struct.pack(">I", n) + b"\0\0" + (fill * (n // len(fill) + 1))[:n]
    size = len(body)
    return b"ID3\3\0\0" + bytes(size >> s & 127 for s in (21, 14, 7, 0)) + body


def id3v1() -> bytes:
    return (b"TAG" + b"A title" + b"\0" * 118)[:128]


def apev2() -> bytes:
    item = struct.pack("<II", 5, 0) + b"Title\0Noise"
    size = len(item) + 32
    head = b"APETAGEX" + struct.pack("<IIII", 2000, size, 1, 0xA0000000) + b"\0" * 8
    foot = b"APETAGEX" + struct.pack("<IIII", 2000, size, 1, 0x80000000) + b"\0" * 8
    return head + item + foot


def lyrics3() -> bytes:
    body = b"LYRICSBEGININD0000200LYR00011[00:01]la la"
    return body + f"{len(body):06d}LYRICS200".encode() + id3v1()


def junk(n: int, seed: int = 3) -> bytes:
    """Return bytes of which none can begin a frame."""
    return np.random.default_rng(seed).integers(0, 0xF0, n).astype(np.uint8).tobytes()


def mp3(
    seconds: float, from_s: float = 0.0, rate: int = 44100, channels: int = 1, xing: bool = True, kbps: int = 64
) -> bytes:
    """Return a constant-rate MP3 by LAME, with or without an Info header, and without ID3."""
    track = Track("libmp3lame", signal(seconds, rate, channels, from_s), rate, bit_rate=kbps * 1000)
    return mux("mp3", track, {"write_xing": str(int(xing)), "id3v2_version": "0"})


def stereo(seconds: float, from_s: float, joint: str) -> bytes:
    track = Track(
        "libmp3lame", signal(seconds, 44100, 2, from_s), 44100, bit_rate=128_000, options={"joint_stereo": joint}
    )
    return mux("mp3", track, {"write_xing": "0", "id3v2_version": "0"})


def vbr(seconds: float, rate: int = 44100, xing: bool = True) -> bytes:
    """Return a variable-rate MP3, with or without a Xing header."""
    content = soundfile(signal(seconds, rate), rate, "MP3", bitrate_mode="VARIABLE", compression_level=0.2)
    return content if xing else without_first(content)


def without_first(content: bytes) -> bytes:
    at, length = next(mp3_frames(content))
    return content[at + length :]


def xing_says(content: bytes, change: float | None = None, plus: int = 0, flags: int | None = None) -> bytes:
    """Return an MP3 whose Xing or Info header states other numbers of frames and bytes."""
    at = max(content.find(b"Xing", 0, 300), content.find(b"Info", 0, 300))
    result = bytearray(content)
    frames = struct.unpack_from(">I", result, at + 8)[0]
    if change is not None:
        struct.pack_into(">I", result, at + 8, round(frames * change))
        if result[at + 7] & 2:
            struct.pack_into(">I", result, at + 12, round(struct.unpack_from(">I", result, at + 12)[0] * change))
    if plus:
        struct.pack_into(">I", result, at + 8, frames + plus)
    if flags is not None:
        # Without their flags the fields do not exist, so their bytes are cleared.
        struct.pack_into(">I", result, at + 4, flags)
        result[at + 8 : at + 140] = b"\0" * 132
    return bytes(result)


def vbri(content: bytes, states: float) -> bytes:
    """Return frames with a Fraunhofer VBRI header before them. states : factor on the true number of frames"""
    frames = list(mp3_frames(content))
    head = bytearray(content[:4])
    head[2] = head[2] & 0x0F | 0x90  # 128 kbit/s
    length = next(mp3_frames(bytes(head)))[1]
    table = struct.pack(">HHHIIHHHH", 1, 0x0200, 50, round((len(content) + length) * states), round(len(frames) * states), 0, 1, 2, 1)  # fmt: skip
    return (bytes(head) + b"\0" * 32 + b"VBRI" + table).ljust(length, b"\0") + content


def zeroed(content: bytes, at: int, n: int) -> bytes:
    return content[:at] + b"\0" * n + content[at + n :]


def layer_one_silence(seconds: float) -> bytes:
    """Return MPEG-1 Layer I frames of 32 kHz and 128 kbit/s in which no subband has any bits."""
    return (b"\xff\xff\x48\xc0".ljust(12 * 128000 // 32000 * 4, b"\0")) * round(seconds * 32000 / 384)


def _seams(*seconds: float) -> tuple[Part, ...]:
    at, parts = 0.0, []
    for s in seconds:
        parts.append(Part(at, s, at))
        at += s
    return tuple(parts)


_JOINED = {"tolerance_s": 0.15, "parts": _seams(4, 3), "shift_s": 0.1, "loose_s": 0.1}
_OTHER = "bad_format corrupt undecodable"

MP3.used("vbr_bare.mp3", lambda: vbr(8, xing=False), 8, "VBR without any header: its length is an estimate", 0.08)
MP3.used("vbr_bare_16k.mp3", lambda: vbr(9, 16000, xing=False), 9, "MPEG-2 VBR without a header", 0.15, shift_s=0.09)
MP3.used(
    "vbr_bare_long.mp3",
    lambda: vbr(37, 22050, xing=False),
    37,
    "VBR without any header, longer than a span",
    0.1,
    shift_s=0.09,
)
MP3.used("vbr_xing.mp3", lambda: vbr(6), 6, "VBR with a right Xing header", 0.03)
MP3.used("cbr_bare.mp3", lambda: mp3(6, xing=False), 6, "CBR without a header", 0.08)
MP3.used("cbr_info.mp3", lambda: mp3(6), 6, "CBR with an Info header: LAME's delay and padding are cut off", 0.002)
MP3.used("xing_0.mp3", lambda: xing_says(vbr(6), 0.0), 6, "Xing states 0 frames and 0 bytes", 0.08)
MP3.used("xing_half.mp3", lambda: xing_says(vbr(6), 0.5), 6, "Xing states half of the frames that follow", 0.1)
MP3.used("xing_one.mp3", lambda: xing_says(mp3(5), 1 / 300), 5, "Info states a single frame", 0.1)
MP3.rejected("xing_double.mp3", lambda: xing_says(vbr(4), 2.0), "truncated", "Xing states twice the frames: cut in half",
             enough=frozenset({"header_wrong"}))  # fmt: skip
MP3.either("xing_one_more.mp3", lambda: xing_says(mp3(5), plus=1), 5, "truncated", "Info counts itself as a frame", 0.06,
           debatable="some encoders count the header's own frame; a file cut by its last frame looks the same")  # fmt: skip
MP3.used("xing_no_count.mp3", lambda: xing_says(vbr(5), flags=0), 5, "Xing header without a count", 0.1, shift_s=0.09)
MP3.used("vbri.mp3", lambda: vbri(mp3(5, xing=False), 1.0), 5, "VBRI header, right", 0.08)
MP3.used("vbri_0.mp3", lambda: vbri(mp3(5, xing=False), 0.0), 5, "VBRI header that states 0 frames", 0.1, shift_s=0.09)
MP3.rejected("vbri_double.mp3", lambda: vbri(mp3(4, xing=False), 2.0), "truncated", "VBRI states twice the frames",
             enough=frozenset({"header_wrong"}))  # fmt: skip
MP3.used(
    "three_tags.mp3", lambda: id3v2(70_000) + id3v2(9000) + id3v2(20) + mp3(4), 4, "three ID3 tags, one large", 0.03
)
MP3.rejected("three_tags_cut.mp3", lambda: id3v2(70_000) + id3v2(9000) + id3v2(20) + mp3(6)[:24000], "truncated",
             "Info behind three ID3 tags, half of the bytes")  # fmt: skip
MP3.used(
    "tag_with_frames.mp3",
    lambda: id3v2(30_000, mp3(1, xing=False)[:417]) + mp3(4),
    4,
    "a picture that holds frames",
    0.03,
)
MP3.rejected("cut_info.mp3", lambda: mp3(6)[:30000], "truncated", "Info states 6 s, most of the bytes")
MP3.used("joined_info.mp3", lambda: mp3(4) + mp3(3, 4), 7, "two with Info, joined", **_JOINED)
MP3.used(
    "joined_v1.mp3", lambda: mp3(4) + id3v1() + mp3(3, 4) + id3v1(), 7, "joined, ID3v1 between and behind", **_JOINED
)
MP3.used("joined_v2.mp3", lambda: id3v2(99) + mp3(4) + id3v2(99) + mp3(3, 4), 7, "joined, an ID3v2 each", **_JOINED)
MP3.used(
    "joined_picture.mp3",
    lambda: mp3(4) + id3v2(90_000, b"\x11\x22") + mp3(3, 4),
    7,
    "joined, 90 kB of ID3 between",
    **_JOINED,
)
MP3.used(
    "joined_ape.mp3", lambda: mp3(4) + apev2() + id3v1() + mp3(3, 4) + apev2(), 7, "joined, APEv2 between", **_JOINED
)
MP3.used("joined_bare.mp3", lambda: mp3(4, xing=False) + mp3(3, 4, xing=False), 7, "joined, no headers", **_JOINED)
MP3.used(
    "joined_late_info.mp3", lambda: mp3(4, xing=False) + mp3(3, 4), 7, "joined, only the second has Info", **_JOINED
)
MP3.used("joined_three.mp3", lambda: mp3(2) + mp3(2, 2) + mp3(3, 4), 7, "three, joined", 0.2, parts=_seams(2, 2, 3),
         shift_s=0.15, loose_s=0.15)  # fmt: skip
MP3.used("joined_bit_rates.mp3", lambda: mp3(4) + mp3(3, 4, kbps=128), 7, "joined, other bit rate", **_JOINED)
MP3.used(
    "joined_modes.mp3",
    lambda: stereo(4, 0, "0") + stereo(3, 4, "1"),
    7,
    "joined, stereo and joint stereo: both two channels",
    **_JOINED,
)
MP3.rejected("joined_rates.mp3", lambda: mp3(4) + mp3(3, 4, 22050), _OTHER, "joined with one of another rate")
MP3.rejected(
    "joined_channels.mp3", lambda: mp3(4) + mp3(3, 4, channels=2, kbps=128), _OTHER, "joined with one of two channels"
)
MP3.hole("zeroed.mp3", lambda: zeroed(mp3(10), 40_000, 20_000), 10, (Part(0, 5), Part(7.5, 2.5, 7.5)),
         "20 kB zeroed in the middle of CBR with Info", shift_s=0.1)  # fmt: skip
MP3.hole("zeroed_bare.mp3", lambda: zeroed(mp3(10, xing=False), 40_000, 20_000), 10, (Part(0, 5), Part(7.5, 2.5, 7.5)),
         "20 kB zeroed in the middle, no header", shift_s=0.1, debatable="how long the hole is, only CBR tells")  # fmt: skip
MP3.hole("block_lost.mp3", lambda: mp3(10)[:40_000] + mp3(10)[60_000:], 10, (Part(0, 5), Part(7.5, 2.5, 7.5)),
         "20 kB missing in the middle, Info says how many frames", reasons=frozenset({"truncated", "corrupt", "timeline_gap"}),
         enough=frozenset({"header_wrong"}), shift_s=0.1)  # fmt: skip
MP3.either("header_damaged.mp3", lambda: zeroed(mp3(6), [a for a, _ in mp3_frames(mp3(6))][120], 2), 6, "corrupt timeline_gap",
           "one frame's header damaged", 0.06, loose_s=0.1, enough=frozenset({"timeline_gap"}))  # fmt: skip
for _name, _tail in {
    "junk": junk(3000), "zeros": b"\0" * 5000, "ff": b"\xff" * 5000, "id3v1": id3v1(), "ape": apev2(), "lyrics": lyrics3(),
    "id3v2": id3v2(500), "many": apev2() + lyrics3() + b"\0" * 300, "text": b"HTTP/1.1 200 OK\r\n" * 200,
}.items():  # fmt: skip
    MP3.used(f"behind_{_name}.mp3", lambda t=_tail: mp3(4) + t, 4, f"{_name} behind the last frame", 0.03)  # type: ignore[misc]
MP3.used("behind_zeros_bare.mp3", lambda: mp3(4, xing=False) + b"\0" * 9000, 4, "zeros behind, no header", 0.08)
MP3.used("before_zeros.mp3", lambda: b"\0" * 12_000 + mp3(4), 4, "zeros before the first frame", 0.06, shift_s=0.06)
MP3.used("before_junk.mp3", lambda: junk(700) + mp3(4, xing=False), 4, "junk before the first frame", 0.08)
MP3.used("before_ape.mp3", lambda: apev2() + mp3(4), 4, "APEv2 before the first frame", 0.06, shift_s=0.06)
MP3.used("mid_frame.mp3", lambda: mp3(5, xing=False)[101:], 5, "starts in the middle of a frame", 0.1, shift_s=0.09)
MP3.either(
    "cut_bare.mp3", lambda: mp3(5, xing=False)[:24_100], 3, "truncated", "cut in a frame, nothing says how long", 0.08
)
MP3.used("layer2.mp2", lambda: mux("mp2", Track("mp2", signal(4, 44100), 44100, bit_rate=96000)), 4, "MP2", 0.06)
MP3.used("layer2_joined.mp2", lambda: mux("mp2", Track("mp2", signal(4, 44100), 44100, bit_rate=96000))
         + mux("mp2", Track("mp2", signal(3, 44100, from_s=4), 44100, bit_rate=96000)), 7, "MP2, joined", **_JOINED)  # fmt: skip
MP3.used("layer1.mp1", lambda: layer_one_silence(3), 3, "MP1: silence", 0.02, parts=())
MP3.used(
    "in_wav.wav",
    lambda: mux("wav", Track("libmp3lame", signal(4, 44100), 44100, bit_rate=64000)),
    4,
    "MP3 in WAV",
    0.08,
)


def adts(seconds: float, from_s: float = 0.0, rate: int = 44100, channels: int = 1) -> bytes:
    return mux("adts", Track("aac", signal(seconds, rate, channels, from_s), rate, bit_rate=64000))


def _frame_at(content: bytes, share: float) -> int:
    """Return the position of the ADTS frame at a share of the content, 0 to 1."""
    at = 0
    while at < len(content) * share:
        at += (content[at + 3] & 3) << 11 | content[at + 4] << 3 | content[at + 5] >> 5
    return at


ADTS.used("whole.aac", lambda: adts(4), 4, "ADTS", 0.08, shift_s=0.07)
ADTS.used("id3.aac", lambda: id3v2(3000) + adts(4), 4, "ID3 before ADTS, as HLS has it", 0.08, shift_s=0.07)
ADTS.used("id3v1.aac", lambda: adts(4) + id3v1(), 4, "ID3v1 behind ADTS", 0.08, shift_s=0.07)
ADTS.used("zeros.aac", lambda: adts(4) + b"\0" * 4000, 4, "zeros behind ADTS", 0.08, shift_s=0.07)
ADTS.used("joined.aac", lambda: adts(4) + adts(3, 4), 7, "ADTS, joined", **_JOINED)
ADTS.used(
    "joined_id3.aac", lambda: id3v2(60) + adts(4) + id3v2(60) + adts(3, 4), 7, "ADTS, joined, ID3 each", **_JOINED
)
ADTS.rejected("joined_rates.aac", lambda: adts(4) + adts(3, 4, 22050), _OTHER, "joined with one of another rate")
ADTS.rejected(
    "joined_channels.aac", lambda: adts(4) + adts(3, 4, channels=2), _OTHER, "joined with one of two channels"
)
ADTS.used("mid_frame.aac", lambda: adts(5)[57:], 5, "starts in the middle of a frame", 0.12, shift_s=0.09)
ADTS.either(
    "cut.aac",
    lambda: adts(5)[: _frame_at(adts(5), 0.6) + 40],
    5 * 0.6,
    "truncated corrupt",
    "cut in a frame",
    0.25,
    shift_s=0.07,
)
ADTS.either("zeroed.aac", lambda: zeroed(adts(10), 30_000, 16_000), 10, "corrupt timeline_gap", "16 kB zeroed in the middle", 0.1,
            parts=(), enough=frozenset({"timeline_gap"}))  # fmt: skip
ADTS.either("latm.loas", lambda: mux("latm", Track("aac", signal(4, 44100), 44100, bit_rate=64000)), 4, "unsupported_format",
            "AAC in LOAS/LATM", 0.1, shift_s=0.07, debatable="only some broadcast tools write it")  # fmt: skip
MP3.used(
    "before_sectors.mp3", lambda: bytes(50_000) + mp3(4), 4, "empty sectors before the first frame", 0.06, shift_s=0.06
)
