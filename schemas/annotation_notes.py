"""What is noted of a plan: how annotations were understood where there was something to understand, and how often."""

from __future__ import annotations

ANNOTATION_NOTES = {
    "rows_to_the_end": ("row runs to the end of its recording, having no end", "rows run to the end of their recording, having no end"),
    "starts_cut": ("row began a little before its recording and was cut at 0", "rows began a little before their recording and were cut at 0"),
    "rows_too_wide": (
        "row has more cells than the header has columns, and what is beyond is not read; quote cells that hold the delimiter",
        "rows have more cells than the header has columns, and what is beyond is not read; quote cells that hold the delimiter",
    ),
    "empty_sidecars": ("recording has an annotation file without a row", "recordings have an annotation file without a row"),
    "files_read_unquoted": (
        "annotation file was read with its quotes as text, since they do not pair up (annotations.quote)",
        "annotation files were read with their quotes as text, since they do not pair up (annotations.quote)",
    ),
    "frequency_ranges": ("frequency range of an Audacity label was left out", "frequency ranges of Audacity labels were left out"),
    "headers_like_rows": (
        "annotation file has a label for a header; if its first row is data, write annotations.header: false",
        "annotation files have a label for a header; if their first rows are data, write annotations.header: false",
    ),
    "rows_like_headers": (
        "annotation file has a first row that looks like a header; if it is one, write annotations.header: true",
        "annotation files have a first row that looks like a header; if it is one, write annotations.header: true",
    ),
    "headers_with_numbers": (
        "annotation file has numbers in its header; if its first row is data, write annotations.header: false and give columns by index",
        "annotation files have numbers in their headers; if their first rows are data, write annotations.header: false and give columns"
        " by index",
    ),
    "roles_not_named": (
        "annotation file has a column that is called as a role is, and annotations.columns does not name it",
        "annotation files have columns that are called as roles are, and annotations.columns does not name them",
    ),
    "rows_of_one_channel": ("row takes one channel of its recording", "rows take one channel of their recording"),
}  # fmt: skip
"""By code: what is said of one, and of several."""


def annotation_note(code: str, n: int) -> str:
    """Return a sentence such as ``3 rows run to the end of their recording, having no end``."""
    one, several = ANNOTATION_NOTES[code]
    return f"{n:,} {one if n == 1 else several}"
