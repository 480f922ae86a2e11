"""Find recordings that sound alike: copies in other encodings, levels and sample rates, and takes that share most of their sound."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.read.clip_source import clips
from clipmill.schemas.tables import AUGMENTED_FROM
from clipmill.stages.fingerprint import N_NUMBERS, is_empty, pairs_of_peaks, signature, similarity
from clipmill.stages.write.encode import decode_waveform

NEAR_DUPLICATES = pa.schema(
    [
        ("similarity", pa.float64()),
        ("recording_a", pa.string()),
        ("split_a", pa.string()),
        ("recording_b", pa.string()),
        ("split_b", pa.string()),
    ]
)
"""One row per pair of recordings, the most similar first."""

_ROWS = 2
_MOST_ALIKE = 1000


@dataclass(frozen=True)
class NearDuplicates:
    """What was found.

    table : rows of `NEAR_DUPLICATES`
    recordings : recordings that were compared
    too_quiet : recordings without peaks, as silent and very short ones, which cannot be compared
    skipped : groups of more than a thousand recordings with the same numbers, which were not compared with each other by these
    """

    table: pa.Table
    recordings: int
    too_quiet: int
    skipped: int


def find_near_duplicates(published: Published, min_similarity: float = 0.15) -> NearDuplicates:
    """Return the pairs of recordings whose clips sound alike. All stored clips are decoded.

    Parameters
    ----------
    min_similarity : estimated share of the peaks that two recordings have in common, of all peaks that either has. Copies as MP3 of
        64 kb/s have 0.13 to 0.9, those at another sample rate over 0.6; different recordings under 0.12
    """
    signatures, splits = _signatures(published)
    compared = {name: of for name, of in signatures.items() if not is_empty(of)}
    pairs, skipped = _candidates(compared)
    rows: list[dict[str, Any]] = []
    for a, b in pairs:
        value = similarity(compared[a], compared[b])
        if value >= min_similarity:
            rows.append(
                {"similarity": value, "recording_a": a, "split_a": splits[a], "recording_b": b, "split_b": splits[b]}
            )
    rows.sort(key=lambda row: (-row["similarity"], row["recording_a"], row["recording_b"]))
    table = pa.Table.from_pylist(rows, schema=NEAR_DUPLICATES)
    return NearDuplicates(table, len(compared), len(signatures) - len(compared), skipped)


def _signatures(published: Published) -> tuple[dict[str, npt.NDArray[np.uint32]], dict[str, str]]:
    """Return the signature of each recording, and the splits that its clips are in."""
    signatures: dict[str, npt.NDArray[np.uint32]] = {}
    splits: dict[str, set[str]] = defaultdict(set)
    for split in published.splits:
        for row in clips(published, split):
            if row.get(AUGMENTED_FROM) is not None:
                continue
            name = row["recording_id"]
            own = signature(pairs_of_peaks(decode_waveform(row["audio"]).T, row["sample_rate_hz"]))
            signatures[name] = np.minimum(signatures[name], own) if name in signatures else own
            splits[name].add(split)
    return signatures, {name: " and ".join(sorted(own)) for name, own in splits.items()}


def _candidates(signatures: dict[str, npt.NDArray[np.uint32]]) -> tuple[list[tuple[str, str]], int]:
    """Return the pairs of recordings with two neighbouring numbers in common, sorted, and the number of groups that were too large."""
    pairs: set[tuple[str, str]] = set()
    skipped = 0
    names = sorted(signatures)
    for first in range(0, N_NUMBERS, _ROWS):
        groups: dict[bytes, list[str]] = defaultdict(list)
        for name in names:
            groups[signatures[name][first : first + _ROWS].tobytes()].append(name)
        for group in groups.values():
            if len(group) > _MOST_ALIKE:
                skipped += 1
            elif len(group) > 1:
                pairs.update(combinations(group, 2))
    return sorted(pairs), skipped
