"""Measure: add columns that describe the signal of each clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, RootModel, field_validator

from clipmill.schemas.config.model import did_you_mean
from clipmill.stages.clip_samples import waveforms
from clipmill.stages.measures.declaration import Measure, OfText
from clipmill.stages.stage import Stage, is_clip, with_column

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
    "text": "clip_text",
}
"""The module of `clipmill.stages.measures` that declares a measure, by the measure's name in a configuration."""


_MeasureName = Annotated[str, Field(json_schema_extra={"enum": [*MODULES]})]


class MeasureNames(RootModel[list[str]]):
    """Name the measures to take."""

    model_config = {"frozen": True}
    root: list[str] = Field(min_length=1)

    @field_validator("root", mode="before", json_schema_input_type=Annotated[list[_MeasureName], Field(min_length=1)])
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
    """Add the columns of the named measures. Each describes the clip at the stage's place in the list.

    text_at : place of the clips' text among their fields; None: there is none, or no field is known yet
    """

    spec: MeasureNames
    text_at: int | None = None

    section = "measure"
    scope = "clip"
    settings: ClassVar[Any] = MeasureNames
    keeps_lengths = True
    suits_stored = True

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The declarations of the measures, in their order."""
        return tuple(map(find_measure, self.spec.root))

    @property
    def needs_text(self) -> bool:
        """Whether any of the measures is one of the clip's text."""
        return any(measure.of_text is not None for measure in self.measures)

    def __getstate__(self) -> dict[str, Any]:
        return {"spec": self.spec, "text_at": self.text_at}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

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
        for measure in self.measures:
            if measure.of_text is not None:
                values |= self._of_text(table, measure.columns, measure.of_text)
            for field in measure.columns if measure.compute is not None or measure.of_text is not None else ():
                table = with_column(table, field, values[field.name])
        return table

    def _of_text(
        self, table: pa.Table, columns: tuple[pa.Field, ...], of_text: OfText
    ) -> dict[str, dict[int, float | int | None]]:
        """Return the values of a measure of text by row, for each of its columns."""
        values: dict[str, dict[int, float | int | None]] = {field.name: {} for field in columns}
        if self.text_at is None:
            return values
        rows = np.flatnonzero(is_clip(table))
        clips = table.select(["fields", "duration_s"]).take(rows)
        for row, fields, duration_s in zip(rows.tolist(), *(c.to_pylist() for c in clips.columns), strict=True):
            text = fields[self.text_at] if self.text_at < len(fields or ()) else None
            for field, value in zip(columns, of_text(text, duration_s), strict=True) if text is not None else ():
                values[field.name][row] = value
        return values
