"""What a file's own structure says before anything is decoded: its kind, and whether all of it is there.

A success code of a decoder is no proof that a file is whole: libsndfile reads a cut WAV or Ogg without a word, and stops
at the length that a FLAC header claims. These checks read a few kilobytes from the ends of the file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import IO

from clipmill.stages.decode.containers.ac3 import check_ac3
from clipmill.stages.decode.containers.boxes import check_mp4
from clipmill.stages.decode.containers.chunks import (
    another,
    check_aiff,
    check_au,
    check_caf,
    check_nist,
    check_voc,
    check_w64,
    follower,
)
from clipmill.stages.decode.containers.flac import check_flac
from clipmill.stages.decode.containers.matroska import check_matroska
from clipmill.stages.decode.containers.mpeg import check_aac, check_mp3
from clipmill.stages.decode.containers.ogg import check_ogg
from clipmill.stages.decode.containers.riff import check_wav
from clipmill.stages.decode.containers.sniff import kind_of, unsupported
from clipmill.stages.decode.containers.streams import (
    check_amr,
    check_asf,
    check_avi,
    check_flv,
    check_tta,
    check_wavpack,
)
from clipmill.stages.decode.containers.structure import HEAD_BYTES, Container, Window
from clipmill.stages.decode.containers.tags import skip_tags

__all__ = ["Container", "inspect"]

_MAX_ZEROS = 1 << 20


def inspect(stream: IO[bytes], size_bytes: int) -> Container:
    """Look at a file's head and tail. The stream's position is left at 0.

    Parameters
    ----------
    stream : seekable
    size_bytes : of the whole file
    """
    window = Window(stream, size_bytes, HEAD_BYTES)
    skipped = skip_tags(window, 0)
    is_tagged = skipped > 0
    head = window.get(skipped, HEAD_BYTES)
    if head and not head.strip(b"\0"):
        skipped = _first_byte(window, skipped)
        head = window.get(skipped, HEAD_BYTES)
    kind = kind_of(head) or ("mp3" if is_tagged else "")
    check = CHECKS.get(kind)
    found = check(stream, size_bytes, skipped, head) if check else Container(kind, unsupported=unsupported(head))
    if found.fault is None and (second := follower(stream, size_bytes, kind, skipped)) is not None:
        found = replace(found, fault=("corrupt", another(second)))
    stream.seek(0)
    return replace(found, start_byte=skipped if kind else 0)


def _first_byte(window: Window, at: int) -> int:
    """Return the first place from another on, and not too far from it, that is not zero: recorders begin files with empty sectors."""
    for place in range(at, min(window.size, at + _MAX_ZEROS), HEAD_BYTES):
        block = window.get(place, HEAD_BYTES)
        if rest := block.lstrip(b"\0"):
            return place + len(block) - len(rest)
    return at


CHECKS = {
    "wav": check_wav, "flac": check_flac, "ogg": check_ogg, "mp3": check_mp3, "aac": check_aac, "ac3": check_ac3,
    "eac3": check_ac3, "asf": check_asf, "flv": check_flv, "avi": check_avi, "tta": check_tta, "wavpack": check_wavpack,
    "mp4": check_mp4, "aiff": check_aiff, "au": check_au, "w64": check_w64, "caf": check_caf, "nist": check_nist,
    "matroska": check_matroska, "voc": check_voc, "amr": check_amr,
}  # fmt: skip
