"""Find the dialect of a CSV file: delimiter, quotes and comments."""

from __future__ import annotations

import csv
from itertools import islice
from typing import Any

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.column_roles import Columns
from clipmill.stages.annotations.file_text import lines
from clipmill.stages.annotations.quoting import pair_up
from clipmill.stages.annotations.rows import HeaderError, MissingColumnError

WHITESPACE = "whitespace"
"""The delimiter that stands for runs of blanks and tabs. Such tables are not read by `csv.reader`."""
_SAMPLE_LINES = 20
_DELIMITERS = (",", "\t", ";", "|")


def sniff_delimiter(text: str, spec: Annotations) -> str:
    """Return the delimiter that gives the first lines the configured columns and the same number of cells."""
    head = "".join(islice(lines(text), 4 * _SAMPLE_LINES)).splitlines()[: 4 * _SAMPLE_LINES]
    kept = [line for line in head if line.strip() and not is_comment(line, spec)][:_SAMPLE_LINES]
    best, best_score = ",", (0.0, 0.0, 0)
    present = [d for d in _DELIMITERS if any(d in line for line in kept)]
    absent = [d for d in _DELIMITERS if d not in present]
    for delimiter in (*present, *absent[:1]):  # all absent ones cut the lines alike
        quote = "none" if delimiter == "\t" and spec.quote == "auto" and not all(map(pair_up, kept)) else spec.quote
        try:
            rows = [
                [c.strip() for c in row] for row in csv.reader(kept, **dialect(delimiter, quote, strict=False)) if row
            ]
        except csv.Error:
            continue
        counts = [len(row) for row in rows]
        usual = max(sorted(set(counts)), key=counts.count, default=1)
        score = (_share_that_fits(rows, spec), counts.count(usual) / len(counts) if usual > 1 else 0.0, usual)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _share_that_fits(rows: list[list[str]], spec: Annotations) -> float:
    """Return the share of rows with a number for each time, 0 if the header lacks a column."""
    try:
        columns = Columns(spec, rows[0] if spec.header and rows else None)
    except (MissingColumnError, HeaderError):
        return 0.0
    data = rows[1:] if spec.header else rows
    fitting = [
        columns.row(cells, 0).reason not in ("annotation_missing_column", "annotation_not_a_number") for cells in data
    ]
    return sum(fitting) / len(fitting) if fitting else 1.0


def is_comment(line: str, spec: Annotations) -> bool:
    """Return whether a line is a comment. Without `annotations.comment` none is."""
    return spec.comment is not None and line.startswith(spec.comment)


def dialect(delimiter: str, quote: str, strict: bool = True) -> dict[str, Any]:
    """Return the arguments of `csv.reader` for a delimiter and a setting of `annotations.quote`."""
    if delimiter == WHITESPACE:
        return {"quoting": csv.QUOTE_NONE}
    if quote == "none" or (quote == "auto" and delimiter == "|"):
        return {"delimiter": delimiter, "quoting": csv.QUOTE_NONE}
    return {
        "delimiter": delimiter,
        "quotechar": '"' if quote == "auto" else quote,
        "skipinitialspace": True,
        "strict": strict,
    }
