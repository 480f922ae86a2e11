"""Keep: drop clips whose columns are out of bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.schemas.thresholds import Thresholds
from clipmill.stages.stage import Stage, dropped


@dataclass(frozen=True)
class Keep(Stage):
    """Drop clips by columns that were measured before. Each bound is a rule, and so is a value that is not known."""

    spec: Thresholds

    section = "keep"
    scope = "clip"
    settings: ClassVar[Any] = Thresholds
    keeps_lengths = True
    suits_stored = True

    @property
    def rules(self) -> Mapping[str, str]:
        return self.spec.rules

    def __call__(self, table: pa.Table) -> pa.Table:
        rules = self.spec.rule_of(table)
        for rule in rules.unique().drop_null().to_pylist():
            table = dropped(table, pc.fill_null(pc.equal(rules, rule), False).to_numpy(zero_copy_only=False), rule)
        return table
