"""WAV and its relatives: odd, unknown or wrong lengths, data after the samples, and samples without a header."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from odd_mpeg import id3v1, id3v2, junk
from odd_signal import Cases, Part, Track, mux, pcm8, pcm16, pcm24, signal, soundfile

WAV = Cases("wav")
RAW = Cases("raw")
R = 8000
Y = signal(3, R)
BODY = pcm16(Y)
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf59.27.100\0"
FACT = b"fact" + struct.pack("<II", 4, len(BODY) // 2)


def fmt(rate: int = R, channels: int = 1, bits: int = 16, tag: int = 1) -> bytes:
    block = channels * bits // 8
    return b"fmt " + struct.pack("<IHHIIHH", 16, tag, channels, rate, rate * block, block, bits)


def chunk(name: bytes, body: bytes, size: int | None = None, pad: bool = True) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (pad and len(body) % 2)


def riff(*chunks: bytes, size: int | None = None, tail: bytes = b"") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body + tail


def piped(data: int, size: int | None = None, before: bytes = b"") -> bytes:
    return riff(fmt(), before, chunk(b"data", BODY, data), size=size)


def rf64(ds64: tuple[int, int, int] | None, data: int = 0xFFFFFFFF, body: bytes = BODY, tag: bytes = b"RF64") -> bytes:
    first = b"" if ds64 is None else b"ds64" + struct.pack("<IQQQI", 28, *ds64, 0)
    inside = b"WAVE" + first + fmt() + b"data" + struct.pack("<I", data) + body
    return tag + b"\xff\xff\xff\xff" + inside


def with_fact(content: bytes, n: int | None) -> bytes:
    """Return a WAV with another count of frames in its fact chunk. n : None removes the chunk"""
    at = content.find(b"fact")
    if n is None:
        shorter = content[:at] + content[at + 12 :]
        return shorter[:4] + struct.pack("<I", len(shorter) - 8) + shorter[8:]
    if at < 0:
        at = content.find(b"data")
        longer = content[:at] + b"fact" + struct.pack("<II", 4, n) + content[at:]
        return longer[:4] + struct.pack("<I", len(longer) - 8) + longer[8:]
    return content[:at] + b"fact" + struct.pack("<II", 4, n) + content[at + 12 :]


def gsm(blocks: int, n: int | None) -> bytes:
    """Return WAV of GSM 6.10 with some blocks of 65 bytes, a pad byte if their size is odd, and a fact chunk."""
    content = soundfile(signal(4, R), R, "WAV", "GSM610")
    at = content.find(b"data")
    body = content[at + 8 : at + 8 + 65 * blocks]
    head = content[12:at]
    return with_fact(riff(head, chunk(b"data", body)), n)


def adpcm(subtype: str, n: int, by_ffmpeg: str = "") -> bytes:
    """Return ADPCM of n frames, with a partial last block and the true count in its fact chunk."""
    y = signal(n / R, R)[:n]
    content = mux("wav", Track(by_ffmpeg, y, R)) if by_ffmpeg else soundfile(y, R, "WAV", subtype)
    return with_fact(content, n)


def cut(make: Callable[[], bytes], share: float) -> Callable[[], bytes]:
    return lambda: make()[: int(len(make()) * share)]


B8, B24 = pcm8(signal(3, R))[:23999], pcm24(signal(3, R))[: 3 * 23999]
EXACT = 0.0005
_N8 = 23999 / R

WAV.used("pcm.wav", lambda: riff(fmt(), chunk(b"data", BODY)), 3, "plain", EXACT)
WAV.used(
    "odd_8_pad_LIST.wav", lambda: riff(fmt(bits=8), chunk(b"data", B8), LIST), _N8, "8 bit, odd, padded, LIST", EXACT
)
WAV.used(
    "odd_8_LIST.wav",
    lambda: riff(fmt(bits=8), chunk(b"data", B8, pad=False), LIST),
    _N8,
    "8 bit, odd, no pad byte, LIST",
    EXACT,
)
WAV.used(
    "odd_8_end.wav",
    lambda: riff(fmt(bits=8), chunk(b"data", B8, pad=False)),
    _N8,
    "8 bit, odd, no pad byte, end",
    EXACT,
)
WAV.used("odd_8_pad_end.wav", lambda: riff(fmt(bits=8), chunk(b"data", B8)), _N8, "8 bit, odd, padded, end", EXACT)
WAV.used(
    "odd_24_pad_LIST.wav",
    lambda: riff(fmt(bits=24), chunk(b"data", B24), LIST),
    _N8,
    "24 bit, odd, padded, LIST",
    EXACT,
)
WAV.used(
    "odd_24_LIST.wav",
    lambda: riff(fmt(bits=24), chunk(b"data", B24, pad=False), LIST),
    _N8,
    "24 bit, odd, no pad, LIST",
    EXACT,
)
WAV.used(
    "odd_24_end.wav", lambda: riff(fmt(bits=24), chunk(b"data", B24, pad=False)), _N8, "24 bit, odd, no pad, end", EXACT
)
WAV.used("odd_24_pad_not_counted.wav", lambda: riff(fmt(bits=24), chunk(b"data", B24), size=36 + len(B24)), _N8,
         "24 bit, odd, padded, the pad is not in the RIFF's length", EXACT)  # fmt: skip
WAV.used(
    "even_pad_LIST.wav",
    lambda: riff(fmt(), chunk(b"data", BODY), b"\0", LIST),
    3,
    "a pad byte behind an even length",
    EXACT,
)
WAV.either("odd_LIST_before.wav", lambda: riff(fmt(), chunk(b"LIST", LIST[8:33], pad=False), chunk(b"data", BODY)), 3,
           "corrupt truncated undecodable",
         "an odd LIST without its pad byte before data", EXACT, debatable="FFmpeg and libsndfile differ on such files")  # fmt: skip
WAV.used("LIST_before.wav", lambda: riff(fmt(), LIST, chunk(b"data", BODY)), 3, "LIST before data", EXACT)
WAV.used("LIST_behind.wav", lambda: riff(fmt(), chunk(b"data", BODY), LIST), 3, "LIST behind data", EXACT)
WAV.used(
    "LIST_outside.wav", lambda: riff(fmt(), chunk(b"data", BODY), tail=LIST), 3, "LIST behind what RIFF counts", EXACT
)
WAV.used("LIST_too_long.wav", lambda: riff(fmt(), chunk(b"data", BODY), chunk(b"LIST", LIST[8:], 5000)), 3,
         "LIST that goes beyond the file", EXACT)  # fmt: skip
WAV.used("many_chunks.wav", lambda: riff(chunk(b"JUNK", b"\0" * 92), chunk(b"bext", b"\0" * 602), fmt(), FACT, chunk(b"PEAK", b"\0" * 16),
         chunk(b"data", BODY), chunk(b"id3 ", id3v2(40)), chunk(b"iXML", b"<x/>"), LIST), 3, "broadcast WAV with many chunks", EXACT)  # fmt: skip
for _name, _tail in {
    "id3v1": id3v1(), "id3v2": id3v2(300), "ff": b"\xff" * 1001, "zeros": b"\0" * 5000, "text": b"Recorded by X\r\n" * 20, "junk": junk(777),
}.items():  # fmt: skip
    WAV.used(
        f"behind_{_name}.wav",
        lambda t=_tail: riff(fmt(), chunk(b"data", BODY), tail=t),
        3,
        f"{_name} behind the data",
        EXACT,
    )  # type: ignore[misc]
WAV.used(
    "behind_ff_counted.wav",
    lambda: riff(fmt(), chunk(b"data", BODY), b"\xff" * 1000),
    3,
    "0xFF behind data, counted by RIFF",
    EXACT,
)
WAV.rejected("empty_LIST.wav", lambda: riff(fmt(44100, 2), chunk(b"data", b""), LIST), "empty", "empty data, LIST")
WAV.rejected(
    "empty_fact_LIST.wav", lambda: riff(fmt(), chunk(b"data", b""), FACT, LIST), "empty", "empty data, two chunks"
)
WAV.rejected(
    "empty_id3.wav",
    lambda: riff(fmt(), chunk(b"data", b""), chunk(b"id3 ", id3v2(40))),
    "empty",
    "empty data, an id3 chunk",
)
WAV.rejected("empty_end.wav", lambda: riff(fmt(), chunk(b"data", b"")), "empty", "empty data, end")
WAV.rejected(
    "empty_float.wav", lambda: riff(fmt(bits=32, tag=3), chunk(b"data", b""), LIST), "empty", "empty float data, LIST"
)
_STRANGE = "the tests of today call it truncated"
for _data, _why in {
    0: "", 0xFFFFFFFF: "", 0x7FFFF000: "", 0x7FFFFFFE: "", 0xFFFFFFDB: "", 0x7FFFFFFF: _STRANGE, 0x80000000: _STRANGE, 0xFFFFFFFE: _STRANGE,
    0xFFFFF000: "like 0x7FFFF000", 0x7FFFFFDB: "0x7FFFFFFF less the header", 0xFFFFFFD8: "nobody is known to write it",
}.items():  # fmt: skip
    WAV.used(f"piped_{_data:08x}.wav", lambda d=_data: piped(d, min(d + 36, 0xFFFFFFFF)), 3, f"streamed: data length 0x{_data:X}", EXACT,
             debatable=_why)  # type: ignore[misc]  # fmt: skip
WAV.used("piped_riff_0.wav", lambda: piped(0, 0), 3, "streamed: both lengths 0", EXACT)
WAV.used("piped_riff_right.wav", lambda: piped(0xFFFFFFFF), 3, "streamed: only the data's length is unknown", EXACT)
WAV.used(
    "piped_LIST.wav", lambda: piped(0xFFFFFFFF, 0xFFFFFFFF, LIST), 3, "streamed by FFmpeg: LIST before data", EXACT
)
WAV.used(
    "piped_24.wav",
    lambda: riff(fmt(bits=24), chunk(b"data", B24, 0x7FFFF000, False), size=0x7FFFF024),
    _N8,
    "streamed 24 bit",
    EXACT,
)
WAV.used(
    "piped_odd_byte.wav", lambda: piped(0xFFFFFFFF, 0xFFFFFFFF) + b"\1", 3, "streamed, half a sample at the end", EXACT
)
WAV.rejected("truncated.wav", lambda: riff(fmt(), chunk(b"data", BODY))[:30_000], "truncated", "cut")
WAV.rejected(
    "truncated_hours.wav", lambda: piped(5 * 3600 * 16000, 5 * 3600 * 16000 + 36), "truncated", "5 h stated, 3 s there"
)
WAV.rejected("truncated_2_gib.wav", lambda: piped(2_000_000_000, 2_000_000_036), "truncated", "2 GB stated, 3 s there")
WAV.rejected("truncated_24.wav", lambda: riff(fmt(bits=24), chunk(b"data", B24))[:30_001], "truncated", "24 bit, cut")
WAV.either("understated.wav", lambda: riff(fmt(), chunk(b"data", BODY, 20_000)), 3, "corrupt truncated", "RIFF counts all, data too few", EXACT,
           enough=frozenset({"header_wrong"}))  # fmt: skip
WAV.either("understated_both.wav", lambda: riff(fmt(), chunk(b"data", BODY, 20_000), size=20_036), 3, "corrupt truncated",
           "both lengths too short, samples behind", EXACT, enough=frozenset({"header_wrong", "trailing_bytes"}),
           debatable="the header may be right and what is behind it no audio; but not a word is not enough")  # fmt: skip
WAV.either("joined.wav", lambda: riff(fmt(), chunk(b"data", BODY)) + riff(fmt(), chunk(b"data", pcm16(signal(2, R, from_s=3)))), 5,
           "corrupt truncated bad_format", "two WAVs joined", 0.02, parts=(Part(0, 3), Part(3, 2, 3)), loose_s=0.06,
           enough=frozenset({"joined", "header_wrong"}), debatable="the first header is right, and another recording follows")  # fmt: skip
WAV.either("data_twice.wav", lambda: riff(fmt(), chunk(b"data", BODY), chunk(b"data", pcm16(signal(2, R, from_s=3)))), 5,
           "corrupt bad_format undecodable", "two data chunks", EXACT, enough=frozenset({"joined", "header_wrong"}),
           debatable="not allowed in WAV, but written by recorders that were interrupted")  # fmt: skip
WAV.used("rf64.wav", lambda: rf64((len(BODY) + 72, len(BODY), len(BODY) // 2)), 3, "RF64", EXACT)
WAV.used("bw64.wav", lambda: rf64((len(BODY) + 72, len(BODY), len(BODY) // 2), tag=b"BW64"), 3, "BW64", EXACT)
WAV.used("rf64_0.wav", lambda: rf64((0, 0, 0)), 3, "RF64 whose ds64 was never filled in", EXACT)
WAV.used("rf64_minus_1.wav", lambda: rf64((2**64 - 1, 2**64 - 1, 2**64 - 1)), 3, "RF64 whose ds64 says -1", EXACT)
WAV.rejected(
    "rf64_cut.wav", lambda: rf64((len(BODY) + 72, len(BODY), len(BODY) // 2))[:30_000], "truncated", "RF64, cut"
)
WAV.either("rf64_no_ds64.wav", lambda: rf64(None), 3, "corrupt undecodable truncated", "RF64 without ds64", EXACT)
WAV.used(
    "rf64_small.wav",
    lambda: rf64((len(BODY) + 72, len(BODY), len(BODY) // 2), data=len(BODY)),
    3,
    "RF64, the length in data itself",
    EXACT,
)
WAV.used("gsm_even.wav", lambda: gsm(50, 50 * 320), 2, "GSM 6.10, even", 0.021)
WAV.used("gsm_odd.wav", lambda: gsm(51, 51 * 320), 2.04, "GSM 6.10, odd number of blocks", 0.021)
WAV.used("gsm_fact.wav", lambda: gsm(51, 51 * 320 - 200), 2.015, "GSM 6.10, the last block is not full", EXACT)
WAV.used("gsm_no_fact.wav", lambda: gsm(51, None), 2.04, "GSM 6.10 without fact: a pad byte is no block", 0.021)
WAV.used("ima.wav", lambda: adpcm("IMA_ADPCM", 20_100), 20_100 / R, "IMA ADPCM, fact has the count", EXACT)
WAV.used("ms.wav", lambda: adpcm("MS_ADPCM", 20_100), 20_100 / R, "MS ADPCM, fact has the count", EXACT)
WAV.used("ima_ffmpeg.wav", lambda: adpcm("", 20_100, "adpcm_ima_wav"), 20_100 / R, "IMA ADPCM by FFmpeg", EXACT)
WAV.used("ms_ffmpeg.wav", lambda: adpcm("", 20_100, "adpcm_ms"), 20_100 / R, "MS ADPCM by FFmpeg", EXACT)
WAV.used(
    "ima_fact_0.wav",
    lambda: with_fact(adpcm("IMA_ADPCM", 20_100), 0),
    20_100 / R,
    "IMA ADPCM, fact is 0 as from a pipe",
    0.07,
)
WAV.used(
    "ima_no_fact.wav", lambda: with_fact(adpcm("IMA_ADPCM", 20_100), None), 20_100 / R, "IMA ADPCM without fact", 0.07
)
WAV.either("ima_fact_more.wav", lambda: with_fact(adpcm("IMA_ADPCM", 20_100), 40_000), 20_100 / R, "truncated corrupt",
           "IMA ADPCM, fact states twice the frames", 0.07)  # fmt: skip
WAV.used("pcm_fact_wrong.wav", lambda: riff(fmt(), b"fact" + struct.pack("<II", 4, 99), chunk(b"data", BODY)), 3,
         "PCM with a fact that is wrong: it counts only where blocks are compressed", EXACT)  # fmt: skip
WAV.used("mulaw.wav", lambda: soundfile(Y, R, "WAV", "ULAW"), 3, "µ-law", EXACT)
WAV.used("float.wav", lambda: soundfile(Y, R, "WAV", "FLOAT"), 3, "float", EXACT)
WAV.used("id3.wav", lambda: id3v2(800) + riff(fmt(), chunk(b"data", BODY)), 3, "ID3 before RIFF", EXACT)
WAV.used(
    "id3_twice.wav",
    lambda: id3v2(90_000) + id3v2(10) + riff(fmt(), chunk(b"data", BODY), LIST),
    3,
    "two ID3 tags before RIFF",
    EXACT,
)
WAV.used("id3_piped.wav", lambda: id3v2(800) + piped(0xFFFFFFFF, 0xFFFFFFFF), 3, "ID3 before a streamed RIFF", EXACT)
WAV.rejected(
    "id3_cut.wav",
    lambda: id3v2(800) + riff(fmt(), chunk(b"data", BODY))[:30_000],
    "truncated",
    "ID3 before a RIFF that is cut",
)
WAV.either("junk_before.wav", lambda: b"\0\0\0\0" + riff(fmt(), chunk(b"data", BODY)), 3, "corrupt undecodable unsupported_format not_audio",
           "4 bytes before RIFF", EXACT, debatable="not_audio is hardly true, but no library reads it")  # fmt: skip
WAV.used("rifx.wav", lambda: soundfile(Y, R, "WAV", "PCM_16", endian="BIG"), 3, "RIFX", EXACT)
WAV.rejected("text.wav", lambda: b"This is a readme.\r\n" * 90, "not_audio", "text that is called .wav")
WAV.rejected(
    "html.mp3",
    lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 9,
    "not_audio",
    "an error page called .mp3",
)
for _name, _text in {
    "git_lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 73026\n",
    "git_annex": b"/annex/objects/SHA256E-s73026--4d7a.wav\n",
    "xml": b"\xef\xbb\xbf<?xml version='1.0'?>\n<Error><Code>NoSuchKey</Code></Error>",
}.items():
    WAV.rejected(f"{_name}.wav", lambda text=_text: text, "not_audio", f"what {_name} leaves in place of a file")  # type: ignore[misc]
WAV.rejected("nothing.wav", lambda: b"", "empty", "no bytes")
WAV.rejected("nothing.mp3", lambda: b"", "empty", "no bytes")
WAV.rejected("id3_only.mp3", lambda: id3v2(5000), "empty not_audio undecodable", "a tag and nothing behind it")
WAV.rejected("zeros.wav", lambda: b"\0" * 40_000, "not_audio", "zeros, as disks leave behind")
WAV.rejected(
    "pointer.flac",
    lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "not_audio",
    "a Git LFS pointer",
)
WAV.rejected("header_only.wav", lambda: riff(fmt())[:20], "truncated not_audio undecodable", "a RIFF cut in its header")


def _raw(name: str, body: bytes, seconds: float, what: str, encoding: str, channels: int = 1, **more: object) -> None:
    source = {"raw": {"sample_rate_hz": R, "channels": channels, "encoding": encoding}, "include": ["**/*.pcm"]}
    RAW.used(name, lambda: body, seconds, what, EXACT, source=source, **more)


def _law(kind: str) -> bytes:
    content = soundfile(Y, R, "WAV", kind)
    at = content.find(b"data")
    return content[at + 8 : at + 8 + len(Y)]


_KEYS = {"raw": {"sample_rate_hz": R, "channels": 1, "encoding": "s16le"}, "include": ["**/*.pcm"]}
_raw("s16le.pcm", BODY, 3, "headerless 16 bit, as KsponSpeech", "s16le")
_raw("s16be.pcm", np.frombuffer(BODY, "<i2").astype(">i2").tobytes(), 3, "headerless big-endian", "s16be")
_raw("s24le.pcm", pcm24(Y), 3, "headerless 24 bit", "s24le")
_raw("f32le.pcm", Y.astype("<f4").tobytes(), 3, "headerless float", "f32le")
_raw("u8.pcm", pcm8(Y), 3, "headerless 8 bit", "u8")
_raw("mulaw.pcm", _law("ULAW"), 3, "headerless µ-law", "mulaw")
_raw("alaw.pcm", _law("ALAW"), 3, "headerless A-law", "alaw")
_raw("stereo.pcm", pcm16(signal(3, R, 2)), 3, "headerless stereo", "s16le", 2)
_raw(
    "like_mp3.pcm",
    b"\xff\xfb\x90\x00" * 4 + BODY[16:],
    3,
    "headerless, the first samples look like an MP3 header",
    "s16le",
)
_raw("like_id3.pcm", b"ID3\3\0\0\0\0\1\1" + BODY[10:], 3, "headerless, the first samples look like ID3", "s16le")
RAW.rejected(
    "odd_byte.pcm",
    lambda: BODY + b"\1",
    "truncated corrupt bad_format undecodable",
    "an odd number of bytes of 16 bit",
    source=_KEYS,
)
RAW.rejected("odd_24.pcm", lambda: pcm24(Y) + b"\1", "truncated corrupt bad_format undecodable", "one byte over, 24 bit",
             source={**_KEYS, "raw": {"sample_rate_hz": R, "channels": 1, "encoding": "s24le"}})  # fmt: skip
RAW.rejected("odd_frame.pcm", lambda: BODY + b"\1\2", "truncated corrupt bad_format undecodable", "a frame of two channels is not whole",
             source={**_KEYS, "raw": {"sample_rate_hz": R, "channels": 2, "encoding": "s16le"}})  # fmt: skip
RAW.rejected("nothing.pcm", lambda: b"", "empty", "no bytes", source=_KEYS)
RAW.rejected("no_key.pcm", lambda: BODY, "not_audio", "headerless, and the source does not say so", says="raw",
             source={"include": ["**/*.pcm"]})  # fmt: skip
