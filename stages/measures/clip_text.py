"""Measure the text of clips: its length, how fast it is spoken, and how much of it is repeated."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex

from clipmill.schemas.columns import column
from clipmill.stages.measures.declaration import Measure

LONGEST_PHRASE = 20
"""Most words of a phrase whose repetitions are found."""

_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_WORD = regex.compile(rf"{_UNSPACED}\p{{M}}*|(?:(?!{_UNSPACED})[\p{{L}}\p{{M}}\p{{N}}'’])+")


def measure_text(text: str, duration_s: float) -> Sequence[float | int | None]:
    """Return how long a text is, how fast it is spoken, and how much of it is repeated.

    Parameters
    ----------
    text : of the clip
    duration_s : of the clip at this place of the list, padding included

    Returns
    -------
    n_characters : code points of the text in NFC, without white space at its ends
    characters_per_s : n_characters / duration_s, as NeMo's character rate; spaces count
    repeated_share : see `repeated_share`
    """
    text = (text if text.isascii() else unicodedata.normalize("NFC", text)).strip()
    return len(text), len(text) / duration_s, repeated_share(text)


def repeated_share(text: str) -> float:
    """Return which share of a text's words repeats what stands right before them, 0 to 1.

    A phrase of 1 to 20 words that occurs m times in a row has m - 1 repetitions, whose words are repeated; a word that is part of several
    counts once. "no no no" has 2/3, "thank you thank you" 1/2, "that is that" 0. Words are compared without case and punctuation. A
    character of a script that is written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) is a word. 0 for a text without
    words.
    """
    words = _WORD.findall(text.casefold())
    if len(words) < 2:
        return 0.0
    codes = pa.array(words, pa.string()).dictionary_encode().indices.to_numpy()
    is_repeated = np.zeros(len(codes), bool)
    for n in range(1, min(LONGEST_PHRASE, len(codes) // 2) + 1):
        is_same = codes[n:] == codes[:-n]
        if np.count_nonzero(is_same) >= n:
            starts, lengths = _runs(is_same)
            # So many words in a row that equal the one n before them are that many repetitions, and perhaps the start of another.
            for start, length in zip(starts, lengths - lengths % n, strict=True):
                is_repeated[n + start : n + start + length] = True
    return float(is_repeated.mean())


def _runs(flags: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where runs of True start, and how long they are: int [n_runs]."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    return edges[::2], edges[1::2] - edges[::2]


MEASURE = Measure(
    name="text",
    columns=(
        column("n_characters", pa.int64(), "characters of the text, null if the clip has none", "characters"),
        column("characters_per_s", pa.float64(), "characters of the text a second of the clip", "1/s"),
        column(
            "repeated_share",
            pa.float64(),
            "share of the text's words that repeat what stands right before them, 0 to 1",
        ),
    ),
    compute=None,
    of_text=measure_text,
    libraries=("regex",),
)
