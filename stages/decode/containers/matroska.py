"""Check the EBML elements of Matroska and WebM files, down to the blocks in clusters. RFC 8794 and 9559."""

from __future__ import annotations

from typing import IO

from clipmill.stages.decode.containers.structure import Container, Window, describe_shortage

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_IN_SEGMENT = frozenset(
    (0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469, 0xEC, 0xBF, _CLUSTER, _EBML)
)
_IN_CLUSTER = frozenset((0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF, 0xEC, 0xBF))
_CLUSTER_BYTES = b"\x1f\x43\xb6\x75"


def check_matroska(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Follow the elements of a file down to its blocks. FFmpeg skips damage, sometimes with everything after it."""
    window = Window(stream, size)
    position, end = at, size
    in_cluster = cluster_is_open = is_open = has_segment = False
    cluster_end = 0
    while position < end:
        if in_cluster and position >= cluster_end:
            in_cluster = False
        element = _element(window, position)
        name, start, length = element if element else (0, 0, 0)
        known = name in (_IN_CLUSTER if in_cluster else _IN_SEGMENT) if has_segment else name in (_EBML, _SEGMENT, 0xEC)
        # A cluster of unknown size ends where an element of the segment begins.
        if in_cluster and cluster_is_open and name in _IN_SEGMENT - _IN_CLUSTER:
            in_cluster, known = False, True
        if not known and has_segment and name == _SEGMENT:
            known = True  # another file follows the first
        if not known:
            return _broken(window, position, has_segment, is_open)
        if name == _SEGMENT:
            has_segment, is_open = True, length is None
            if length is not None and start + length > size:
                return Container("matroska", describe_shortage(length, size - start))
            position = start
            continue
        if name == _CLUSTER:
            in_cluster, cluster_is_open = True, length is None
            cluster_end = size if length is None else start + length
            if cluster_end > size:
                return Container(
                    "matroska", f"the cluster at byte {position} needs {length} bytes, but only {size - start} are left"
                )
            position = start
            continue
        if length is None:
            return _broken(window, position, has_segment, is_open)
        if start + length > size:
            return Container(
                "matroska", f"the element at byte {position} needs {length} bytes, but only {size - start} are left"
            )
        position = start + length
    return Container("matroska", None if has_segment else "an element is incomplete")


def _broken(window: Window, position: int, has_segment: bool, is_open: bool) -> Container:
    """Return the result for bytes that are not an element: damage in the middle, a cut, or something after the end."""
    if not has_segment:
        return Container("matroska", "an element is incomplete")
    place = position
    while place < window.size:
        window.load(place)
        if (offset := window.data.find(_CLUSTER_BYTES)) >= 0:
            detail = f"{place + offset - position} bytes at byte {position} are not an element, and clusters follow"
            return Container("matroska", fault=("corrupt", detail))
        place += max(1, len(window.data) - 3)
    rest = window.size - position
    if is_open:
        return Container("matroska", f"the {rest} bytes from byte {position} on are not an element")
    remark = ("trailing_bytes", f"{rest} bytes from byte {position} on are not an element")
    return Container("matroska", remarks=(remark,))


def _element(window: Window, position: int) -> tuple[int, int, int | None] | None:
    """Return an element's id, the position and the length of its content (None: left open); None if there is no element."""
    head = window.get(position, 12)
    id_width = vint_width(head[:1])
    width = vint_width(head[id_width : id_width + 1])
    if not id_width or id_width > 4 or not width or len(head) < id_width + width:
        return None
    length = int.from_bytes(head[id_width : id_width + width], "big") & ((1 << 7 * width) - 1)
    is_open = length == (1 << 7 * width) - 1
    return int.from_bytes(head[:id_width], "big"), position + id_width + width, None if is_open else length


def vint_width(first: bytes) -> int:
    """Return the length in bytes of the variable-size integer that begins with this byte, 0 if none does."""
    return 9 - first[0].bit_length() if first and first[0] else 0
