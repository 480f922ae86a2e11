"""What a file's own structure says before anything is decoded: its kind, and whether all of it is there.

A success code of a decoder is no proof that a file is whole: libsndfile reads a cut WAV or Ogg without a word, and stops
at the length that a FLAC header claims. These checks read a few kilobytes from the ends of the file.
"""

from __future__ import annotations

from typing import IO

from stages.decode.containers.boxes import check_matroska, check_mp4
from stages.decode.containers.chunks import check_aiff, check_au, check_caf, check_nist, check_voc, check_w64
from stages.decode.containers.flac import check_flac
from stages.decode.containers.mpeg import check_mp3, mpeg_frame_bytes, mpeg_start
from stages.decode.containers.ogg import check_ogg
from stages.decode.containers.riff import check_wav
from stages.decode.containers.structure import HEAD_BYTES, Container

__all__ = ["Container", "inspect"]


def inspect(stream: IO[bytes], size_bytes: int) -> Container:
    """Look at a file's head and tail. The stream's position is left at 0.

    Parameters
    ----------
    stream : seekable
    size_bytes : of the whole file
    """
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    skipped = _id3_length(head)
    if skipped:
        stream.seek(skipped)
        head = stream.read(HEAD_BYTES)
    kind = _kind(head) or ("mp3" if skipped else "")
    check = CHECKS.get(kind)
    found = check(stream, size_bytes, skipped, head) if check else Container(kind)
    stream.seek(0)
    return found


def _kind(head: bytes) -> str:
    tag, form = head[:4], head[8:12]
    if tag in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return {b"WAVE": "wav", b"AVI ": "avi"}.get(form, "")
    if tag == b"FORM":
        return {b"AIFF": "aiff", b"AIFC": "aiff", b"8SVX": "iff", b"16SV": "iff"}.get(form, "")
    for magic, kind in (
        (b"fLaC", "flac"), (b"OggS", "ogg"), (b".snd", "au"), (b"dns.", "au"), (b"caff", "caf"), (b"riff\x2e\x91\xcf\x11", "w64"),
        (b"\x1a\x45\xdf\xa3", "matroska"), (b"\x30\x26\xb2\x75", "asf"), (b"#!AMR", "amr"), (b"NIST_1A", "nist"),
        (b"Creative Voice File", "voc"), (b"ADIF", "aac"),
    ):  # fmt: skip
        if head.startswith(magic):
            return kind
    if head[4:8] == b"ftyp":
        return "mp4"
    if len(head) > 6 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "aac"
    return "mp3" if mpeg_frame_bytes(head, mpeg_start(head)) else ""


def _id3_length(head: bytes) -> int:
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)


CHECKS = {
    "wav": check_wav, "flac": check_flac, "ogg": check_ogg, "mp3": check_mp3, "mp4": check_mp4, "aiff": check_aiff,
    "au": check_au, "w64": check_w64, "caf": check_caf, "nist": check_nist, "matroska": check_matroska, "voc": check_voc,
}  # fmt: skip
