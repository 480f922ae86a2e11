"""Inspect a file's structure before anything is decoded: its kind, and whether it is complete.

A decoder that reports no error has not shown that the file is whole: libsndfile reads a cut WAV or Ogg without an error, and stops at
the length that a FLAC header states. Streams of frames or pages are scanned completely; of other files the headers and the end are read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import IO

from clipmill.stages.decode.containers.ac3 import check_ac3
from clipmill.stages.decode.containers.boxes import check_mp4
from clipmill.stages.decode.containers.chunks import (
    check_aiff,
    check_au,
    check_caf,
    check_nist,
    check_voc,
    check_w64,
    describe_follower,
    find_follower,
)
from clipmill.stages.decode.containers.flac import check_flac
from clipmill.stages.decode.containers.matroska import check_matroska
from clipmill.stages.decode.containers.mpeg import check_aac, check_mp3
from clipmill.stages.decode.containers.ogg import check_ogg
from clipmill.stages.decode.containers.riff import check_wav
from clipmill.stages.decode.containers.sniff import kind_of, stand_in, unsupported
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
    """Return the structure of a file. The stream's position is then 0.

    Parameters
    ----------
    stream : seekable
    size_bytes : size of the whole file

    Returns
    -------
    container : kind "" if the format is not recognised; `fault` and `truncated` say what is wrong
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
    container = check(stream, size_bytes, skipped, head) if check else Container(kind, unsupported=unsupported(head))
    if not kind and (what := stand_in(head)) is not None:
        container = replace(container, fault=("not_audio", what))
    if container.fault is None and (second := find_follower(stream, size_bytes, kind, skipped)) is not None:
        container = replace(container, fault=("corrupt", describe_follower(second)))
    stream.seek(0)
    return replace(container, start_byte=skipped if kind else 0)


def _first_byte(window: Window, at: int) -> int:
    """Return the position of the first byte at or after `at` that is not zero, or `at` if it is too far: some recorders begin with empty sectors."""
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
