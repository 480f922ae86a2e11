"""Decode annotation files in any of the usual encodings."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from clipmill.stages.annotations.rows import UnreadableError

_LONGEST_LINE = 1 << 24
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_BLANKS = " \t\r\n\f\v"
_RUN = re.compile(r"[ \t\r\n\f\v]+")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


_FILES = (
    (b"PK\3\4", "an Excel workbook or another ZIP archive; save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls); save it as CSV"),
    (b"\x1f\x8b", "compressed by gzip; unpack it"),
    (b"%PDF-", "a PDF; save its table as CSV"),
)  # fmt: skip


def decode_text(content: bytes, encoding: str, is_whole: bool = True) -> str:
    """Return the text of a file. Raises UnreadableError if it is not text in this encoding.

    encoding : a name, or `auto`; of several, with commas between them, the first that fits
    is_whole : whether the content is all of the file; the last character of a part may be cut off
    """
    if (other := next((what for magic, what in _FILES if content.startswith(magic)), None)) is not None:
        raise UnreadableError(f"it is not text but {other}")
    wrong = []
    for each in encoding.split(","):
        name = _detected(content) if each.strip() == "auto" else each.strip()
        try:
            return content.decode(name) if is_whole else codecs.getincrementaldecoder(name)().decode(content)
        except (ValueError, LookupError) as error:  # UnicodeError is a ValueError
            wrong.append(f"not {name} text ({error})")
    hint = "; set annotations.encoding" if encoding == "auto" else ""
    raise UnreadableError(f"{', '.join(wrong)}{hint}")


def _detected(content: bytes) -> str:
    """Return the name of the Unicode encoding that a file's beginning shows, UTF-8 if it shows none."""
    name = next((n for bom, n in _BOMS if content.startswith(bom)), "")
    head = content[:400]
    if not name and 4 * head.count(0) >= max(1, len(head)):  # half of the bytes of Latin text; a few are damage
        name = "utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be"
    return name or "utf-8"


def cut_at_blanks(line: str, most: int = 0) -> list[str]:
    """Return the cells of a line, cut at runs of blanks and tabs. The last one takes the rest of the line if there would be more.

    Other white space, as in texts in Chinese and Korean, is no blank.

    most : number of cells; 0 for any
    """
    plain = line.strip(_BLANKS)
    return _RUN.split(plain, maxsplit=max(0, most - 1)) if plain and most != 1 else [plain] if plain else []


def lines(text: str, longest: int | None = _LONGEST_LINE) -> Iterator[str]:
    """Yield lines with their ends, like a file opened with ``newline=""``. StringIO would copy the text at 4 bytes per character.

    Raises
    ------
    UnreadableError : a line has more characters than `longest`, unless that is None
    """
    for number, match in enumerate(_LINE.finditer(text), 1):
        if longest is not None and match.end() - match.start() > longest:
            raise UnreadableError(f"line {number} has more than {longest:,} characters")
        yield match[0]
