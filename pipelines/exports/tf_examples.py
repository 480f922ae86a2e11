"""TFRecord files and the tf.train.Example messages in them, written without TensorFlow.

A record is its length (8 bytes, little-endian), a checksum of that, its bytes, and a checksum of those; see
tensorflow.org/tutorials/load_data/tfrecord. The message is that of tensorflow/core/example/example.proto; its encoding is protobuf's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import IO

import numpy as np
import numpy.typing as npt

Values = Sequence[bytes] | npt.NDArray[np.float32] | npt.NDArray[np.int64]
"""Of a feature: texts and files as bytes, numbers as arrays [n] of float32 or int64."""
MAX_RECORD_BYTES = 2**31 - 1
"""Protobuf reads no message that is larger."""

_MASK = 0xA282EAD8
_FIRST, _SECOND, _THIRD = (field << 3 | 2 for field in (1, 2, 3))
"""Tags of the fields 1 to 3 with a length and bytes, which is how messages, bytes and packed numbers are written."""


def write_record(stream: IO[bytes], content: bytes) -> int:
    """Write a record; return the number of bytes written."""
    length = struct.pack("<Q", len(content))
    for part in (length, _masked(length), content, _masked(content)):
        stream.write(part)
    return len(content) + 16


def encode_example(features: Mapping[str, Values]) -> bytes:
    """Return the bytes of a tf.train.Example. The same features give the same bytes, whatever their order."""
    entries = b"".join(
        _field(_FIRST, _field(_FIRST, name.encode()) + _field(_SECOND, _feature(features[name])))
        for name in sorted(features)
    )
    return _field(_FIRST, entries)


def _feature(values: Values) -> bytes:
    if not isinstance(values, np.ndarray):
        return _field(_FIRST, b"".join(_field(_FIRST, value) for value in values))
    if values.dtype == np.float32:
        packed = np.ascontiguousarray(values, "<f4").tobytes()
        return _field(_SECOND, _field(_FIRST, packed) if packed else b"")
    packed = b"".join(_varint(int(value) & 0xFFFFFFFFFFFFFFFF) for value in values)
    return _field(_THIRD, _field(_FIRST, packed) if packed else b"")


def _field(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Return a whole number in groups of 7 bits, the lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _masked(content: bytes) -> bytes:
    """Return a checksum as TFRecord files have it: CRC-32C, turned by 15 bits, plus a constant."""
    import google_crc32c

    crc: int = google_crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)
