"""Measure: add columns that describe the signal of each clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, RootModel, field_validator

from clipmill.schemas.config.model import did_you_mean
from clipmill.stages.clip_samples import waveforms
from clipmill.stages.measures.declaration import Measure
from clipmill.stages.stage import Stage, with_column

MODULES = {
    "clipping": "clipped_share",
    "peak": "peak",
    "dc": "dc",
    "snr": "snr",
    "bandwidth": "bandwidth",
    "silence": "silence_share",
    "lufs": "lufs",
    "pitch": "pitch",
    "speech": "speech_share",
    "dnsmos": "dnsmos",
}
"""The module of `clipmill.stages.measures` that declares a measure, by the measure's name in a configuration."""


class MeasureNames(RootModel[list[str]]):
    """Name the measures to take."""

    model_config = {"frozen": True}
    root: list[str] = Field(min_length=1)

    @field_validator("root", mode="before")
    @classmethod
    def _known(cls, names: Any) -> Any:
        if not isinstance(names, list) or not names:
            raise ValueError("expected a list of measures, as in [snr, lufs]")
        for i, name in enumerate(names):
            if name not in MODULES:
                hint = did_you_mean(name, MODULES) or f"; there are {', '.join(MODULES)}"
                raise ValueError(f"{name!r} is not a measure{hint}")
            if name in names[:i]:
                raise ValueError(f"names {name!r} twice")
        return names


def find_measure(name: str) -> Measure:
    """Return the declaration of a measure. name : one of `MODULES`"""
    measure = import_module(f"clipmill.stages.measures.{MODULES[name]}").MEASURE
    assert isinstance(measure, Measure)  # noqa: S101 - each module of the package has one
    return measure


@dataclass(frozen=True)
class MeasureClips(Stage):
    """Add the columns of the named measures. Each describes the clip at the stage's place in the list."""

    spec: MeasureNames

    section = "measure"
    scope = "clip"
    settings: ClassVar[Any] = MeasureNames
    suits_stored = True

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The declarations of the measures, in their order."""
        return tuple(map(find_measure, self.spec.root))

    def __getstate__(self) -> dict[str, Any]:
        return {"spec": self.spec}

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "spec", state["spec"])

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        return tuple(field for measure in self.measures for field in measure.columns)

    @property
    def packages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for measure in self.measures for name in measure.libraries))

    @property
    def revisions(self) -> Mapping[str, int]:
        return {measure.name: measure.version for measure in self.measures if measure.version > 1}

    def __call__(self, table: pa.Table) -> pa.Table:
        computed = [(m.columns, m.compute) for m in self.measures if m.compute is not None]
        values: dict[str, dict[int, Any]] = {field.name: {} for columns, _ in computed for field in columns}
        rates_hz = table["sample_rate_hz"].to_pylist()
        for row, y in waveforms(table) if computed else ():
            for columns, compute in computed:
                for field, value in zip(columns, compute(y, rates_hz[row]), strict=True):
                    values[field.name][row] = value
        for columns, _ in computed:
            for field in columns:
                table = with_column(table, field, values[field.name])
        return table
