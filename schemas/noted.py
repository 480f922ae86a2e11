"""What is noted of a plan: how annotations were understood where there was something to understand, and how often."""

from __future__ import annotations

NOTED = {
    "rows_to_the_end": ("row runs to the end of its recording, having no end", "rows run to the end of their recording, having no end"),
    "starts_cut": ("row began a little before its recording and was cut at 0", "rows began a little before their recording and were cut at 0"),
    "empty_sidecars": ("recording has an annotation file without a row", "recordings have an annotation file without a row"),
}  # fmt: skip
"""By code: what is said of one, and of several."""


def noted_line(code: str, n: int) -> str:
    """Return a sentence such as ``3 rows run to the end of their recording, having no end``."""
    one, several = NOTED[code]
    return f"{n:,} {one if n == 1 else several}"
