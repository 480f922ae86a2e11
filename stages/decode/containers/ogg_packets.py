"""Count the samples of the packets of an Ogg stream by their first bytes. Vorbis I, 4; RFC 6716, 3; RFC 9639, 9.1."""

from __future__ import annotations

from clipmill.stages.decode.containers.flac import flac_block_samples

HEAD_BYTES = 16
# Samples of a frame at 48 kHz, by the configuration in a packet's first byte: RFC 6716, table 2.
_OPUS_FRAMES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
_MODE_BITS = 41
_MAX_MODES = 64


def heads_of(lacing: bytes, body: bytes, partial: bytes | None) -> tuple[list[bytes | None], bytes | None]:
    """Return the first bytes of the packets that end on a page, and those of a packet that continues on the next.

    partial : first bytes of the packet that continues on this page, None if they are not known
    """
    heads: list[bytes | None] = []
    at = packet_start = 0
    current = partial
    for length in lacing:
        if at == packet_start and current is None:
            current = body[at : at + HEAD_BYTES]
        at += length
        if length < 255:
            heads.append(current)
            packet_start, current = at, None
    return heads, current


def opus_samples(head: bytes) -> int:
    """Return the number of samples of an Opus packet at 48 kHz."""
    if not head:
        return 0
    count = head[0] & 3
    n = 1 if count == 0 else 2 if count < 3 else head[1] & 63 if len(head) > 1 else 0
    return _OPUS_FRAMES[head[0] >> 3] * n


def vorbis_modes(setup: bytes) -> list[bool] | None:
    """Return for each mode whether its blocks are long, None if the setup header does not show it.

    The modes come last in the header, before a bit that is set. They are read from the end, so the codebooks need not be parsed.
    """
    bits = int.from_bytes(setup, "little")
    end = bits.bit_length() - 1
    reversed_modes: list[bool] = []
    modes: list[bool] | None = None
    while len(reversed_modes) < _MAX_MODES and end - _MODE_BITS >= 6:
        mode = bits >> (end - _MODE_BITS) & (1 << _MODE_BITS) - 1
        if mode >> 1 & 0xFFFFFFFF or mode >> 33 >= 64:
            break
        reversed_modes.append(bool(mode & 1))
        end -= _MODE_BITS
        if bits >> (end - 6) & 63 == len(reversed_modes) - 1:
            modes = reversed_modes[::-1]
    return modes


def vorbis_samples(heads: list[bytes | None], modes: list[bool], blocks: tuple[int, int]) -> int:
    """Return the number of samples that a stream's first audio packets decode to. blocks : sizes of short and long blocks in samples"""
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
    """Return the number of samples of packets of FLAC."""
    return sum(flac_block_samples(head) for head in heads if head)
