"""How many samples the packets of an Ogg stream have, by their first bytes: Vorbis I, 4; RFC 6716, 3; RFC 9639, 9.1."""

from __future__ import annotations

from clipmill.stages.decode.containers.flac import flac_block_samples

HEAD_BYTES = 16
# Samples at 48 kHz of a frame by the configuration in a packet's first byte: RFC 6716, table 2.
_OPUS_FRAMES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
_MODE_BITS = 41
_MAX_MODES = 64


def heads_of(lacing: bytes, body: bytes, begun: bytes | None) -> tuple[list[bytes | None], bytes | None]:
    """Return the first bytes of the packets that end on a page, and of one that goes on behind it.

    begun : the first bytes of the packet that the page goes on with, where they are known
    """
    heads: list[bytes | None] = []
    at = begins = 0
    current = begun
    for length in lacing:
        if at == begins and current is None:
            current = body[at : at + HEAD_BYTES]
        at += length
        if length < 255:
            heads.append(current)
            begins, current = at, None
    return heads, current


def opus_samples(head: bytes) -> int:
    """Return the samples at 48 kHz of an Opus packet."""
    if not head:
        return 0
    count = head[0] & 3
    n = 1 if count == 0 else 2 if count < 3 else head[1] & 63 if len(head) > 1 else 0
    return _OPUS_FRAMES[head[0] >> 3] * n


def vorbis_modes(setup: bytes) -> list[bool] | None:
    """Return of each mode whether its blocks are the long ones, None when the setup header does not tell.

    The modes are the last thing in it, before a bit that is set: read from there, no codebook has to be.
    """
    bits = int.from_bytes(setup, "little")
    end = bits.bit_length() - 1
    found: list[bool] = []
    modes: list[bool] | None = None
    while len(found) < _MAX_MODES and end - _MODE_BITS >= 6:
        mode = bits >> (end - _MODE_BITS) & (1 << _MODE_BITS) - 1
        if mode >> 1 & 0xFFFFFFFF or mode >> 33 >= 64:
            break
        found.append(bool(mode & 1))
        end -= _MODE_BITS
        if bits >> (end - 6) & 63 == len(found) - 1:
            modes = found[::-1]
    return modes


def vorbis_samples(heads: list[bytes | None], modes: list[bool], blocks: tuple[int, int]) -> int:
    """Return how many samples come out of the first audio packets of a stream. blocks : of the short and long ones, in samples"""
    total, before = 0, 0
    width = (len(modes) - 1).bit_length()
    for head in heads:
        if not head or head[0] & 1:
            continue
        mode = head[0] >> 1 & (1 << width) - 1
        block = blocks[modes[mode]] if mode < len(modes) else 0
        total += before // 4 + block // 4 if before else 0
        before = block
    return total


def flac_samples(heads: list[bytes | None]) -> int:
    return sum(flac_block_samples(head) for head in heads if head)
