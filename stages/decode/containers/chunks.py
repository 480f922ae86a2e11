"""Other containers of uncompressed audio with a length in the header: AIFF, AU, W64, CAF, NIST, VOC."""

from __future__ import annotations

import re
import struct
from typing import IO

from stages.decode.containers.structure import MAX_CHUNKS, Container, missing, read_at


def check_aiff(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    position = 12
    for _ in range(MAX_CHUNKS):
        chunk = read_at(stream, size, position, 8)
        if len(chunk) < 8:
            return Container("aiff", "there is no SSND chunk")
        length = struct.unpack(">I", chunk[4:])[0]
        if chunk[:4] == b"SSND":
            there = size - position - 8
            return Container("aiff", missing(length, there) if length > there else None)
        position += 8 + length + length % 2
    return Container("aiff", "there is no SSND chunk among the first chunks")


def check_au(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    if len(head) < 12:
        return Container("au", "the header is not whole")
    offset, length = struct.unpack(">II" if head[:4] == b".snd" else "<II", head[4:12])
    if length != 0xFFFFFFFF and offset + length > size:
        return Container("au", missing(length, size - offset))
    return Container("au")


def check_w64(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    position = 40  # riff GUID, size, wave GUID
    for _ in range(MAX_CHUNKS):
        chunk = read_at(stream, size, position, 24)
        if len(chunk) < 24:
            return Container("w64", "there is no data chunk")
        length = struct.unpack("<Q", chunk[16:])[0]
        if chunk[:4] == b"data":
            return Container("w64", missing(length - 24, size - position - 24) if length > size - position else None)
        if length < 24:
            return Container("w64", "a chunk has no size")
        position += length + -length % 8
    return Container("w64", "there is no data chunk among the first chunks")


def check_caf(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    position = 8
    for _ in range(MAX_CHUNKS):
        chunk = read_at(stream, size, position, 12)
        if len(chunk) < 12:
            return Container("caf", "there is no data chunk")
        length = struct.unpack(">q", chunk[4:])[0]
        there = size - position - 12
        if chunk[:4] == b"data":
            return Container("caf", missing(length, there) if length > there else None)
        if length < 0:
            return Container("caf", "a chunk has no size")
        position += 12 + length
    return Container("caf", "there is no data chunk among the first chunks")


def check_nist(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    words = dict(re.findall(rb"^(\w+) -\w+ (\S+)", head, re.MULTILINE))
    try:
        offset = int(head.split(b"\n")[1])
        length = int(words[b"sample_count"]) * int(words[b"channel_count"]) * int(words[b"sample_n_bytes"])
    except (IndexError, KeyError, ValueError):
        return Container("nist")
    if b"embedded" in words.get(b"sample_coding", b""):
        return Container("nist")  # compressed: the count says nothing about bytes
    return Container("nist", missing(length, size - offset) if offset + length > size else None)


def check_voc(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    position = int.from_bytes(head[20:22], "little")
    for _ in range(MAX_CHUNKS):
        block = read_at(stream, size, position, 4)
        if block[:1] in (b"\0", b"") and position <= size:
            return Container("voc")
        length = int.from_bytes(block[1:4], "little")
        if position + 4 + length > size:
            return Container("voc", missing(length, size - position - 4))
        position += 4 + length
    return Container("voc")
