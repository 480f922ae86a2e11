"""Exclude: drop the clips that a person has listed, by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.schemas.tables import AUGMENTED_FROM
from clipmill.stages.stage import Stage, dropped, is_clip

EXCLUDED = "excluded"


@dataclass(frozen=True)
class ExcludeClips(Stage):
    """Drop clips by their ids. It works on stored clips, behind all stages that measure them, so an excluded clip needs no recording.

    ids : of the clips
    """

    ids: frozenset[str]

    section = "exclude_clips"
    scope = "clip"
    drops: ClassVar[Mapping[str, str]] = {EXCLUDED: "the list of exclude_clips names the clip"}
    suits_stored = True

    def __call__(self, table: pa.Table) -> pa.Table:
        listed = pc.fill_null(pc.is_in(table["clip_id"], pa.array(sorted(self.ids), pa.string())), False)
        return dropped(table, listed.to_numpy(), EXCLUDED)

    def without_copies(self, table: pa.Table) -> pa.Table:
        """Return a table without the copies that `augment` made of excluded clips, which are no candidates and are not counted."""
        if AUGMENTED_FROM not in table.column_names:
            return table
        copied = pc.is_in(table[AUGMENTED_FROM], pa.array(sorted(self.ids), pa.string()))
        is_copy = pc.fill_null(copied, False).to_numpy() & is_clip(table)
        return table.filter(pa.array(~is_copy)) if np.any(is_copy) else table
