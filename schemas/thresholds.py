"""Define thresholds on columns of clips: for the stage `keep`, for `ClipDataset(where=...)`, and for commands.

`{snr_db: {min: 15}, clipped_share: {max: 0.001}}` keeps a clip when every column is within its bounds, which count as within.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, RootModel, ValidationError, field_validator, model_validator

from clipmill.schemas.config.model import Frozen, did_you_mean
from clipmill.schemas.config.problems import describe_problem

EXAMPLE = "{snr_db: {min: 15}}"
_ENDINGS = {"min": "_below_min", "max": "_above_max", "unknown": "_unknown"}


class Bounds(Frozen):
    """Bound the values of a column. min, max : the least and the greatest value that are kept; at least one is set"""

    min: float | None = Field(None, description="least value that is kept")
    max: float | None = Field(None, description="greatest value that is kept")

    @model_validator(mode="after")
    def _check(self) -> Bounds:
        if self.min is None and self.max is None:
            raise ValueError("needs min, max or both, as in {min: 15}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}, so no clip would be kept")
        return self


class Thresholds(RootModel[dict[str, Bounds]]):
    """Bound columns of clips, by the columns' names."""

    model_config = {"frozen": True}
    root: dict[str, Bounds] = Field(min_length=1)

    @field_validator("root", mode="before")
    @classmethod
    def _is_map(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) for name in value):
            raise ValueError(f"expected columns with their bounds, as in {EXAMPLE}")
        for name, bounds in value.items():
            if not isinstance(bounds, Mapping | Bounds):
                raise ValueError(f"{name} is {bounds!r}; expected min, max or both, as in {EXAMPLE}")
        return value

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in the order in which they are looked at."""
        return list(self.root)

    @property
    def rules(self) -> dict[str, str]:
        """The rules by which clips are dropped, and their meanings."""
        rules: dict[str, str] = {}
        for name, bounds in self.root.items():
            rules[name + _ENDINGS["unknown"]] = f"{name} is not known for the clip"
            if bounds.min is not None:
                rules[name + _ENDINGS["min"]] = f"{name} below {bounds.min:g}"
            if bounds.max is not None:
                rules[name + _ENDINGS["max"]] = f"{name} above {bounds.max:g}"
        return rules

    def rule_of(self, table: pa.Table) -> pa.Array:
        """Return the rule by which each clip is dropped, null for a clip that is kept: string [n_rows].

        The first column that is out of bounds decides. A value that is null or NaN is unknown.

        table : has the columns that are bounded, all of them numbers
        """
        rules = pa.nulls(table.num_rows, pa.string())
        for name, bounds in reversed(self.root.items()):
            values = table[name].to_numpy().astype(np.float64)  # null becomes NaN
            checks = {"unknown": np.isnan(values)}
            with np.errstate(invalid="ignore"):
                if bounds.min is not None:
                    checks["min"] = values < bounds.min
                if bounds.max is not None:
                    checks["max"] = values > bounds.max
            for check, failed in checks.items():
                if failed.any():
                    rules = pc.if_else(pa.array(failed), name + _ENDINGS[check], rules)
        return rules

    def check_columns(self, known: Collection[str]) -> None:
        """Raise ValueError if a column is not among those that exist. known : their names"""
        for name in self.root:
            if name not in known:
                near = did_you_mean(name, known)
                raise ValueError(f"there is no column {name!r}{near or '; there are ' + ', '.join(sorted(known))}")


def as_thresholds(value: Any) -> Thresholds:
    """Return thresholds that are given as plain data.

    Raises
    ------
    ValueError : the data does not have the form of thresholds; names the column
    """
    if isinstance(value, Thresholds):
        return value
    try:
        return Thresholds.model_validate(value)
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            raise ValueError(f"{place}: unknown; a column has min, max or both, as in {EXAMPLE}") from None
        raise ValueError(": ".join(filter(None, (place, describe_problem(item))))) from None


def is_number(kind: pa.DataType) -> bool:
    """Return whether values of an Arrow type can be bounded."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
