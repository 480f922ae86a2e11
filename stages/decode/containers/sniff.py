"""Recognise the kind of a file by its first bytes."""

from __future__ import annotations

import struct

from clipmill.stages.decode.containers.ac3 import ac3_frames_at
from clipmill.stages.decode.containers.flac import flac_frame_at, flac_start
from clipmill.stages.decode.containers.mpeg_headers import adts_start, mpeg_start

_MAGIC = (
    (b"fLaC", "flac"), (b"OggS", "ogg"), (b".snd", "au"), (b"dns.", "au"), (b"caff", "caf"), (b"riff\x2e\x91\xcf\x11", "w64"),
    (b"\x1a\x45\xdf\xa3", "matroska"), (b"\x30\x26\xb2\x75", "asf"), (b"#!AMR", "amr"), (b"NIST_1A", "nist"),
    (b"Creative Voice File", "voc"), (b"ADIF", "aac"), (b"wvpk", "wavpack"), (b"TTA1", "tta"), (b"TTA2", "tta"), (b"MAC ", "ape"),
    (b"MPCK", "musepack8"), (b"MP+", "musepack7"), (b"tBaK", "tak"), (b"DSD ", "dsf"), (b"FRM8", "dsdiff"), (b".RMF", "realmedia"),
    (b".ra\xfd", "realmedia"),
    (b"ajkg", "shorten"), (b"FLV\x01", "flv"), (b"\x00\x00\x01\xba", "mpegps"), (b"\x7f\xfe\x80\x01", "dts"),
    (b"\xfe\x7f\x01\x80", "dts"), (b"\x1f\xff\xe8\x00", "dts"), (b"\xff\x1f\x00\xe8", "dts"), (b"ea3\x03", "oma"), (b"EA3\x01", "oma"),
    (b"RSTM", "brstm"), (b"nut/multimedia container\x00", "nut"), (b"HCA\x00", "hca"), (b"\x02dss", "dss"), (b"\x03ds2", "dss"),
)  # fmt: skip
_UNSUPPORTED = (
    (b"OFR ", "OptimFROG"), (b"#!SILK", "SILK"), (b"\x02#!SILK", "SILK"), (b"LA0", "Lossless Audio (LA)"), (b"RKA7", "RK Audio"),
    (b"MThd", "MIDI, which holds notes and no audio"), (b"Extended Module: ", "a tracker module (XM)"), (b"IMPM", "a tracker module (IT)"),
    (b"PSID", "SID"), (b"RSID", "SID"), (b"SNES-SPC700", "SPC"), (b"NESM\x1a", "NSF"), (b"Vgm ", "VGM"), (b"FSB5", "an FMOD sound bank"),
    (b"BKHD", "a Wwise sound bank"),
)  # fmt: skip
_STAND_INS = (
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS in place of the file: `git lfs pull` fetches the files"),
    (b"/annex/objects/", "a pointer of git-annex in place of the file: `git annex get` fetches the files"),
    (b"<!doctype html", "a web page in place of the file, such as a server's message: download it again"),
    (b"<html", "a web page in place of the file, such as a server's message: download it again"),
    (b"<?xml", "XML in place of the file, such as a store's message: download it again"),
)  # fmt: skip
_RIFF_FORMS = {b"sfbk": "a SoundFont", b"RMID": "MIDI, which holds notes and no audio", b"DLS ": "a DLS sound bank"}
_BOXES = frozenset((b"ftyp", b"wide", b"free", b"skip", b"moov", b"mdat", b"pnot", b"styp", b"moof", b"sidx", b"uuid"))
_GSM_PROOF = 30
_TS_BYTES, _M2TS_BYTES = 188, 192


def kind_of(head: bytes) -> str:
    """Return the kind of a container by a file's first kilobytes, "" if it is not recognised."""
    tag, form = head[:4], head[8:12]
    if tag in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return {b"WAVE": "wav", b"AVI ": "avi", b"QLCM": "qcp", b"XWMA": "xwma"}.get(form, "")
    if tag == b"FORM":
        return {b"AIFF": "aiff", b"AIFC": "aiff", b"8SVX": "iff", b"16SV": "iff", b"MAUD": "iff"}.get(form, "")
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[4:8] in _BOXES and _is_box(head):
        return "mp4"
    if ac3_frames_at(head):
        return "eac3" if head[5] >> 3 > 10 else "ac3"
    if head[4:8] in (b"\xf8\x72\x6f\xba", b"\xf8\x72\x6f\xbb"):
        return "truehd" if head[7] == 0xBA else "mlp"
    if _is_adx(head):
        return "adx"
    if _is_transport_stream(head):
        return "mpegts"
    if flac_frame_at(head, 0):
        return "flac"  # the stream's header is missing
    if _is_gsm(head):
        return "gsm"
    if _is_loas(head):
        return "loas"
    mpeg = mpeg_start(head)
    adts = adts_start(head) if mpeg != 0 else -1
    if adts >= 0 and not 0 <= mpeg < adts:
        return "aac"
    if mpeg >= 0:
        return "mp3"
    return "flac" if flac_start(head) >= 0 else ""


def unsupported(head: bytes) -> str | None:
    """Return the name of a known format that neither library decodes, None for all others."""
    if head[:4] == b"RIFF" and head[8:12] in _RIFF_FORMS:
        return _RIFF_FORMS[head[8:12]]
    return next((name for magic, name in _UNSUPPORTED if head.startswith(magic)), None)


def stand_in(head: bytes) -> str | None:
    """Return what a file is that stands where audio should be, and what to do; None for all others."""
    text = head[:100].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((what for beginning, what in _STAND_INS if text.startswith(beginning)), None)


def _is_box(head: bytes) -> bool:
    """Return whether the first box can be one: its length is possible, and a box with a printable name follows, as far as `head` shows."""
    length = struct.unpack(">I", head[:4])[0]
    if length in (0, 1):
        return True
    if length < 8:
        return False
    following = head[length + 4 : length + 8]
    return len(following) < 4 or all(32 <= c < 127 or c == 0xA9 for c in following)


def _is_adx(head: bytes) -> bool:
    """Return whether the file is CRI's ADX, whose mark is at the end of its header."""
    end = 4 + int.from_bytes(head[2:4], "big")
    return head[:2] == b"\x80\x00" and head[max(0, end - 6) : end] == b"(c)CRI"


def _is_loas(head: bytes) -> bool:
    """Return whether the file is AAC in LOAS: three sync words, each at the distance that the one before states."""
    at = 0
    for _ in range(3):
        if at + 3 > len(head) or head[at] != 0x56 or head[at + 1] & 0xE0 != 0xE0:
            return False
        at += 3 + ((head[at + 1] & 0x1F) << 8 | head[at + 2])
    return True


def _is_transport_stream(head: bytes) -> bool:
    """Return whether the file is MPEG-TS: sync bytes a packet's length apart, three from the start, or ten from within the first packet."""
    for length, first in ((_TS_BYTES, 0), (_M2TS_BYTES, 4)):
        for shift in range(length):
            if head[first + shift : first + shift + 1] != b"\x47":
                continue
            n = 3 if shift == 0 else 10
            places = range(first + shift, len(head), length)[:n]
            if len(places) == n and all(head[p] == 0x47 for p in places):
                return True
    return False


def _is_gsm(head: bytes) -> bool:
    """Return whether the file is GSM 06.10 without a header: frames of 33 bytes that begin with the bits 1101."""
    places = range(0, len(head) - 32, 33)[:_GSM_PROOF]
    return len(places) == _GSM_PROOF and all(head[p] >> 4 == 0xD for p in places)
