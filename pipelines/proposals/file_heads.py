"""Take the beginnings of files."""

from __future__ import annotations

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def whole_lines(content: bytes, most_bytes: int) -> tuple[bytes, bool]:
    """Return what was read of a file without a last line that may be cut off, and whether that is all of the file.

    most_bytes : how much was read at most. Lines of UTF-16 are not looked for.
    """
    if len(content) < most_bytes:
        return content, True
    end = content.rfind(b"\n") + 1
    return (content[:end] if end and content[:2] not in _UTF_16 else content), False
