"""AIFF, W64, AU, CAF, NIST and FLAC with unknown or wrong lengths; formats that only FFmpeg reads, or neither library."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

import numpy as np
from odd_mpeg import id3v1, id3v2, junk, zeroed
from odd_signal import Cases, Part, Track, mux, pcm16, signal, soundfile

CHUNKS = Cases("chunks")
FLAC = Cases("flac")
KINDS = Cases("kinds")
R = 8000
Y = signal(3, R)


def by_sf(kind: str, subtype: str = "PCM_16", **more: str) -> Callable[[], bytes]:
    return partial(soundfile, Y, R, kind, subtype, **more)


def at_chunk(content: bytes, name: bytes, offset: int, form: str, *values: int) -> bytes:
    """Return content with numbers written at an offset from the start of a chunk's name."""
    result = bytearray(content)
    struct.pack_into(form, result, content.find(name) + offset, *values)
    return bytes(result)


def aiff(
    ssnd: int | None = None,
    frames: int | None = None,
    form: int | None = None,
    tail: bytes = b"",
    body: bytes | None = None,
) -> bytes:
    """Return an AIFF. ssnd, frames, form : lengths to state instead of the true ones"""
    body = np.frombuffer(pcm16(Y), "<i2").astype(">i2").tobytes() if body is None else body
    n = len(body) // 2
    rate = struct.pack(">HQ", 16383 + 12, R << (63 - 12))
    comm = b"COMM" + struct.pack(">IHIH", 18, 1, n if frames is None else frames, 16) + rate
    sound = b"SSND" + struct.pack(">III", len(body) + 8 if ssnd is None else ssnd, 0, 0) + body + tail
    inside = b"AIFF" + comm + sound
    return b"FORM" + struct.pack(">I", len(inside) if form is None else form) + inside


def w64(data: int | None = None, riff: int | None = None) -> bytes:
    content = by_sf("W64")()
    at = content.find(b"data\xf3\xac")
    result = bytearray(content)
    if data is not None:
        struct.pack_into("<Q", result, at + 16, data)
    if riff is not None:
        struct.pack_into("<Q", result, 16, riff)
    return bytes(result)


def au(size: int, body: bytes | None = None) -> bytes:
    body = np.frombuffer(pcm16(Y), "<i2").astype(">i2").tobytes() if body is None else body
    return b".snd" + struct.pack(">IIIII", 24, size, 3, R, 1) + body


def caf(size: int | None, body_share: float = 1.0) -> bytes:
    content = mux("caf", Track("pcm_s16le", Y, R))
    if size is not None:
        content = at_chunk(content, b"data", 4, ">q", size)
    return content[: int(len(content) * body_share)]


def nist(count: bool) -> bytes:
    head = "NIST_1A\n   1024\nchannel_count -i 1\nsample_rate -i 8000\nsample_n_bytes -i 2\nsample_byte_format -s2 01\n"
    head += (
        "sample_sig_bits -i 16\nsample_coding -s3 pcm\n"
        + (f"sample_count -i {len(Y)}\n" if count else "")
        + "end_head\n"
    )
    return head.encode().ljust(1024, b" ") + pcm16(Y)


def flac(seconds: float = 4, from_s: float = 0.0, rate: int = 16000, channels: int = 1) -> bytes:
    return soundfile(signal(seconds, rate, channels, from_s), rate, "FLAC")


def states(content: bytes, total: int | None = None, rate: int | None = None) -> bytes:
    """Return a FLAC with another total or rate in its STREAMINFO."""
    word = int.from_bytes(content[18:26], "big")
    if total is not None:
        word = word >> 36 << 36 | total
    if rate is not None:
        word = word & (1 << 44) - 1 | rate << 44
    return content[:18] + word.to_bytes(8, "big") + content[26:]


def flac_frames(content: bytes) -> bytes:
    """Return a FLAC's frames without its metadata."""
    at, last = 4, False
    while not last:
        last = bool(content[at] & 0x80)
        at += 4 + int.from_bytes(content[at + 1 : at + 4], "big")
    return content[at:]


def noisy_flac(seconds: float = 12) -> bytes:
    y = signal(seconds, 16000) + 0.02 * np.random.default_rng(1).standard_normal((round(seconds * 16000), 1)).astype(
        np.float32
    )
    return soundfile(y, 16000, "FLAC")


EXACT = 0.0005
_CUT = "truncated corrupt undecodable"
_BODY = len(Y) * 2

CHUNKS.used("right.aiff", aiff, 3, "AIFF", EXACT)
for _size in (0, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFE, 8):
    CHUNKS.used(f"piped_{_size:x}.aiff", partial(aiff, _size, 0 if _size in (0, 8) else (_size & 0x7FFFFFFF) // 2, _size), 3,
                f"AIFF from a pipe: SSND states 0x{_size:X}", EXACT,
                debatable="SSND and COMM of no sample: an empty recording with junk behind?" if _size in (0, 8) else "")  # fmt: skip
CHUNKS.used(
    "piped_sox.aiff",
    lambda: aiff(0x7F000008, 0x7F000008 // 2, 0x7F000036),
    3,
    "AIFF from a pipe, as sox: 0x7F000008",
    EXACT,
)
CHUNKS.used("piped_frames_0.aiff", lambda: aiff(frames=0), 3, "AIFF: COMM states 0 frames, SSND is right", EXACT,
            debatable="either length may be the wrong one")  # fmt: skip
CHUNKS.rejected("empty.aiff", lambda: aiff(body=b""), "empty", "AIFF without a sample")
CHUNKS.rejected("cut.aiff", lambda: aiff()[:30_000], _CUT, "AIFF, cut")
CHUNKS.used("id3.aiff", lambda: id3v2(700) + aiff(), 3, "ID3 before FORM", EXACT)
CHUNKS.used(
    "id3_behind.aiff",
    lambda: aiff(tail=b"ID3 " + struct.pack(">I", len(id3v2(100))) + id3v2(100)),
    3,
    "an ID3 chunk behind SSND",
    EXACT,
)
CHUNKS.used("ff_behind.aiff", lambda: aiff() + b"\xff" * 500, 3, "0xFF behind AIFF", EXACT)
CHUNKS.used(
    "odd.aiff", lambda: soundfile(signal(3, R)[:23999], R, "AIFF", "PCM_S8"), 23999 / R, "AIFF of 8 bit, odd", EXACT
)
CHUNKS.used("right.w64", w64, 3, "W64", EXACT)
for _size in (0, 24, 2**64 - 1, 2**63 - 1, 2**63 - 1 & ~7):
    CHUNKS.used(f"piped_{_size:x}.w64", partial(w64, _size, _size), 3, f"W64 from a pipe: data states 0x{_size:X}", EXACT,
                debatable="24 is the length of a data chunk of no bytes" if _size == 24 else "")  # fmt: skip
CHUNKS.rejected("cut.w64", lambda: w64()[:30_000], _CUT, "W64, cut")
CHUNKS.used("unknown.au", lambda: au(0xFFFFFFFF), 3, "AU of unknown length", EXACT)
CHUNKS.used(
    "zero.au", lambda: au(0), 3, "AU that states 0 bytes", EXACT, debatable="an empty recording states this too"
)
CHUNKS.either("understated.au", lambda: au(20_000), 3, "corrupt truncated", "AU that states less than is there", EXACT,
              enough=frozenset({"header_wrong", "trailing_bytes"}))  # fmt: skip
CHUNKS.rejected("cut.au", lambda: au(_BODY)[:30_000], _CUT, "AU, cut")
CHUNKS.rejected("empty.au", lambda: au(0, b""), "empty", "AU without a sample")
CHUNKS.used("unknown.caf", lambda: caf(-1), 3, "CAF whose data chunk states -1", EXACT)
CHUNKS.used("right.caf", lambda: caf(None), 3, "CAF", EXACT)
CHUNKS.rejected("cut.caf", lambda: caf(None, 0.6), _CUT, "CAF, cut")
CHUNKS.used("right.sph", lambda: nist(True), 3, "NIST SPHERE", EXACT)
CHUNKS.either(
    "no_count.sph", lambda: nist(False), 3, "corrupt undecodable truncated", "SPHERE without sample_count", EXACT
)
CHUNKS.rejected("cut.sph", lambda: nist(True)[:30_000], _CUT, "SPHERE, cut")
CHUNKS.used("voice.voc", by_sf("VOC"), 3, "VOC", EXACT)

_BAD = "corrupt bad_format truncated undecodable"
FLAC.used("right.flac", flac, 4, "FLAC", EXACT)
FLAC.used("no_total.flac", lambda: states(flac(), 0), 4, "FLAC without a total", EXACT)
FLAC.either("understated.flac", lambda: states(flac(), 20_000), 4, _BAD, "FLAC that states fewer samples", EXACT)
FLAC.rejected(
    "overstated.flac",
    lambda: states(flac(), 100_000),
    _BAD,
    "FLAC that states more samples",
    enough=frozenset({"header_wrong"}),
)
FLAC.either("zero_hz.flac", lambda: states(flac(), rate=0), 4, _BAD, "FLAC that states 0 Hz, with frames", EXACT,
            debatable="its frames have a rate of their own, which is right")  # fmt: skip
FLAC.rejected("cut.flac", lambda: flac()[:25_000], _BAD, "FLAC, cut")
FLAC.rejected("cut_no_total.flac", lambda: states(flac(), 0)[:25_001], _BAD, "FLAC without a total, cut in a frame",
              enough=frozenset({"timeline_gap", "truncated_kept"}))  # fmt: skip
FLAC.hole(
    "zeroed.flac",
    lambda: zeroed(noisy_flac(), 90_000, 20_000),
    12,
    (),
    "20 kB zeroed in FLAC",
    reasons=frozenset({"corrupt", "timeline_gap"}),
)
FLAC.hole("lost.flac", lambda: noisy_flac()[:90_000] + noisy_flac()[110_000:], 12, (), "20 kB of FLAC missing",
          reasons=frozenset({"corrupt", "timeline_gap", "truncated"}))  # fmt: skip
FLAC.used("id3.flac", lambda: id3v2(70_000) + flac(), 4, "ID3 before fLaC", EXACT)
FLAC.used("id3v1.flac", lambda: flac() + id3v1(), 4, "ID3v1 behind FLAC", EXACT)
FLAC.used("zeros.flac", lambda: flac() + b"\0" * 5000, 4, "zeros behind FLAC", EXACT)
FLAC.either(
    "joined.flac", lambda: flac(4) + flac(3, 4), 7, _BAD, "two FLACs joined", EXACT, enough=frozenset({"joined"})
)
FLAC.rejected(
    "joined_rates.flac", lambda: flac(4) + flac(3, 4, 22050), _BAD, "joined, other rate", enough=frozenset({"joined"})
)
FLAC.either("frames_only.flac", lambda: flac_frames(flac()), 4, "unsupported_format undecodable corrupt not_audio",
            "FLAC frames without the header: like ADTS at first sight", EXACT, debatable="FFmpeg reads them; not_audio is hardly true")  # fmt: skip
FLAC.either("frames_only.aac", lambda: flac_frames(flac(4, 0, 44100, 2)), 4, "unsupported_format undecodable corrupt not_audio",
            "FLAC frames called .aac", EXACT)  # fmt: skip
FLAC.used("flac.mp4", lambda: mux("mp4", Track("flac", signal(4, 44100), 44100)), 4, "FLAC in MP4", EXACT)

KINDS.used("pack.wv", lambda: mux("wv", Track("wavpack", signal(4, 44100, 2), 44100)), 4, "WavPack", EXACT)
KINDS.rejected(
    "cut.wv", lambda: mux("wv", Track("wavpack", signal(8, 44100, 2), 44100))[:100_000], _CUT, "WavPack, cut"
)
KINDS.hole(
    "zeroed.wv",
    lambda: zeroed(mux("wv", Track("wavpack", signal(8, 44100, 2), 44100)), 150_000, 20_000),
    8,
    (),
    "WavPack, 20 kB zeroed",
)
KINDS.used(
    "id3v1.wv", lambda: mux("wv", Track("wavpack", signal(4, 44100), 44100)) + id3v1(), 4, "ID3v1 behind WavPack", EXACT
)
KINDS.used("true.tta", lambda: mux("tta", Track("tta", signal(4, 44100), 44100)), 4, "TTA", EXACT)
KINDS.used(
    "id3.tta", lambda: id3v2(200) + mux("tta", Track("tta", signal(4, 44100), 44100)), 4, "ID3 before TTA", EXACT
)
KINDS.rejected("cut.tta", lambda: mux("tta", Track("tta", signal(8, 44100, 2), 44100))[:100_000], _CUT, "TTA, cut")
KINDS.used("dolby_48.ac3", lambda: mux("ac3", Track("ac3", signal(4, 48000, 2), 48000)), 4, "AC-3", 0.06)
KINDS.used(
    "dolby_6.ac3",
    lambda: mux("ac3", Track("ac3", signal(4, 48000, 6), 48000, bit_rate=384000)),
    4,
    "AC-3 of 5.1 channels",
    0.06,
    parts=(),
)
KINDS.used("plus.eac3", lambda: mux("eac3", Track("eac3", signal(4, 48000), 48000)), 4, "E-AC-3", 0.06)
KINDS.used("joined.ac3", lambda: mux("ac3", Track("ac3", signal(4, 48000), 48000)) + mux("ac3", Track("ac3", signal(3, 48000, from_s=4), 48000)), 7,
           "AC-3, joined", 0.15, parts=(Part(0, 4), Part(4, 3, 4)), loose_s=0.1, shift_s=0.1)  # fmt: skip
KINDS.either(
    "cut.ac3",
    lambda: mux("ac3", Track("ac3", signal(8, 48000), 48000))[:50_333],
    4.16,
    "truncated corrupt",
    "AC-3, cut in a frame",
    0.1,
)
KINDS.hole("zeroed.ac3", lambda: zeroed(mux("ac3", Track("ac3", signal(8, 48000), 48000)), 40_000, 10_000), 8, (), "AC-3, 10 kB zeroed",
           enough=frozenset({"timeline_gap"}))  # fmt: skip
KINDS.used(
    "speech.amr",
    lambda: mux("amr", Track("libopencore_amrnb", signal(4, R), R, bit_rate=12200)),
    4,
    "AMR",
    0.06,
    parts=(),
)
KINDS.either(
    "cut.amr",
    lambda: mux("amr", Track("libopencore_amrnb", signal(4, R), R, bit_rate=12200))[:3220],
    2.0,
    "truncated corrupt",
    "AMR, cut in a frame",
    0.06,
)
_NAMES = "unsupported_format corrupt undecodable truncated empty"
for _name, _head in {
    "monkey.ape": b"MAC " + struct.pack("<HHIIIIIII", 3990, 0, 52, 24, 44, 0, 9000, 0, 0), "muse.mpc": b"MPCKSH\x0f" + b"\1" * 12,
    "muse7.mpc": b"MP+\x07" + b"\x10" * 24, "tak.tak": b"tBaK" + b"\1\x0f\0\0" + b"\2" * 20, "optim.ofr": b"OFR " + b"\x0f\0\0\0" * 5,
    "short.shn": b"ajkg\x02" + b"\xfb\xb1\x70" * 8, "real.ra": b".ra\xfd\0\4\0\0.ra4" + b"\1" * 40, "real.rm": b".RMF\0\0\0\x12\0\1" + b"\0" * 40,
    "dsd.dff": b"FRM8" + struct.pack(">Q", 9000) + b"DSD FVER" + struct.pack(">QI", 4, 0x01050000), 
    "dsd.dsf": b"DSD " + struct.pack("<QQQ", 28, 9000, 0),
    "theater.dts": bytes.fromhex("7ffe8001fc3c3ff0b5e0f2") + b"\1" * 40,
}.items():  # fmt: skip
    KINDS.rejected(_name, lambda h=_head: h + junk(8000), _NAMES, f"{_name}: a header, then nothing that can be decoded",  # type: ignore[misc]
                   debatable="DTS has no magic but its sync word" if _name.endswith("dts") else "")  # fmt: skip
KINDS.rejected("song.mid", lambda: b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + struct.pack(">I", 4) + b"\0\xff\x2f\0",
               "not_audio unsupported_format", "MIDI is notes, no audio")  # fmt: skip


def _twice(kind: str, codec: str) -> bytes:
    """Return two files one after the other, as `cat` joins them."""
    return b"".join(
        mux(
            kind,
            Track(codec, signal(2, 44100, from_s=start), 44100, bit_rate=0 if codec in ("tta", "wavpack") else 128_000),
        )
        for start in (0, 2)
    )


for _kind, _codec, _loose in (
    ("asf", "wmav2", 0.2),
    ("flv", "libmp3lame", 0.2),
    ("tta", "tta", 0.03),
    ("wv", "wavpack", 0.03),
):
    KINDS.used(f"twice.{_kind}", lambda kind=_kind, codec=_codec: _twice(kind, codec), 4, "two files joined", _loose,
               parts=(Part(0, 2), Part(2, 2, 2)), loose_s=0.3, shift_s=0.15, quiet=frozenset())  # fmt: skip


def _long_flac(start: float) -> bytes:
    """Return a FLAC that is longer than the part of a file's end that is checked."""
    y = signal(4, 44100, from_s=start)
    return soundfile(y + 0.05 * np.random.default_rng(5).standard_normal(y.shape).astype(np.float32), 44100, "FLAC")


FLAC.rejected("joined_long.flac", lambda: _long_flac(0) + _long_flac(4), _BAD, "two long FLACs of one length joined")
