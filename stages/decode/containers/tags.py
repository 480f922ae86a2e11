"""Recognise and skip tags before, between and after the frames of a stream: ID3, APE, Lyrics3."""

from __future__ import annotations

from clipmill.stages.decode.containers.structure import Window

_ID3V1_BYTES = 128
_MAX_LYRICS_BYTES = 1 << 16


def id3v2_bytes(head: bytes) -> int:
    """Return the length in bytes of the ID3v2 tag whose header `head` begins with, 0 if there is none."""
    if head[:3] != b"ID3" or len(head) < 10 or head[3] == 0xFF or any(byte & 0x80 for byte in head[6:10]):
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte
    return 10 + size + (10 if head[5] & 0x10 else 0)


def tag_bytes(window: Window, at: int) -> int:
    """Return the length in bytes of the tag at a position, 0 if there is none."""
    head = window.get(at, 32)
    if n_bytes := id3v2_bytes(head):
        return n_bytes
    if head[:3] == b"TAG":
        return min(_ID3V1_BYTES, window.size - at)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        # The stated size covers items and footer, but not the header.
        size, flags = int.from_bytes(head[12:16], "little"), int.from_bytes(head[20:24], "little")
        return 32 + size if flags & 1 << 29 else 32
    if head[:11] == b"LYRICSBEGIN":
        body = window.get(at, _MAX_LYRICS_BYTES)
        ends = [body.find(mark) for mark in (b"LYRICS200", b"LYRICSEND")]
        end = min((e for e in ends if e >= 0), default=-1)
        return end + 9 if end >= 0 else 0
    return 0


def skip_tags(window: Window, at: int) -> int:
    """Return the position after all tags that follow each other from `at` on."""
    while at < window.size and (n_bytes := tag_bytes(window, at)):
        at += n_bytes
    return min(at, window.size)


def is_cut_tag(window: Window, at: int) -> bool:
    """Return whether the file ends within the tags that follow each other from `at` on."""
    while at < window.size and (n_bytes := tag_bytes(window, at)):
        at += n_bytes
    return at > window.size
