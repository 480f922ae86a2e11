"""The stage `deltas`: how fast log-mels and MFCCs change from frame to frame, and how fast that changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from clipmill.schemas.columns import describe_columns, feature, feature_fields
from clipmill.schemas.config.model import Frozen
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.reasons import Reason
from clipmill.stages.arrow_rows import list_values
from clipmill.stages.features import NOT_FINITE
from clipmill.stages.features_by_clip import Values, alone, stacked, with_features, with_librosa
from clipmill.stages.stage import Stage, is_clip, rejected

if TYPE_CHECKING:
    from clipmill.schemas.config import Config

Base = Literal["log_mel", "mfcc"]
Order = Literal[1, 2]
_SUFFIXES: dict[int, str] = {1: "_delta", 2: "_delta2"}
_MEANINGS: dict[int, str] = {1: "change of {} a frame", 2: "change of the change of {} a frame"}
_NOT_OF_SLOPES = ("preset", "pad_value")
"""Settings of a feature that say nothing of its slopes: what silence is in it, of which the slope is 0."""
TOO_FEW_FRAMES = Reason(
    "clip_too_short_for_deltas",
    "the clip has fewer frames than deltas.width, and mode is interp",
    "set deltas.mode: nearest, a smaller width, or drop such clips",
)


class DeltaSettings(Frozen):
    """Configure the slopes of features, as `librosa.feature.delta`."""

    of: Base | Annotated[list[Base], Field(min_length=1)] = Field(
        "mfcc", description="features that are computed as well; one or a list"
    )
    orders: Order | Annotated[list[Order], Field(min_length=1)] = Field(
        [1, 2], description="1: the change (`mfcc_delta`), 2: the change of the change (`mfcc_delta2`)"
    )
    width: Annotated[int, Field(ge=3, le=1001)] = Field(
        9, description="frames over which a slope is computed; an odd number"
    )
    mode: Literal["interp", "nearest", "mirror", "constant", "wrap"] = Field(
        "interp",
        description="what is done at both ends; interp needs as many frames as width, and clips with fewer are rejected",
    )

    @field_validator("of", "orders")
    @classmethod
    def _each_once(cls, value: Any) -> Any:
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError("an entry occurs twice")
        return value

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.width % 2 == 0:
            raise ValueError(f"width {self.width} is even; the frame itself is in the middle, so set {self.width + 1}")
        return self

    @property
    def bases(self) -> list[str]:
        """Return the names of the features, in the order of the columns."""
        return sorted([self.of] if isinstance(self.of, str) else self.of)

    @property
    def each_order(self) -> list[int]:
        """Return the orders, in the order of the columns."""
        return sorted([self.orders] if isinstance(self.orders, int) else self.orders)


@dataclass(frozen=True)
class Deltas(Stage):
    """Compute slopes of the stored log-mel or MFCC, as librosa's `feature.delta`.

    Takes a table of `clipmill.schemas.tables.CLIPS` with the columns of these features, and adds `<feature>_delta` and `<feature>_delta2`,
    each with its shape, which is that of the feature.

    spec : `DeltaSettings`
    base_fields : columns of the features
    dtype : in which the values are stored, float32 | float16
    """

    spec: DeltaSettings
    base_fields: tuple[pa.Field, ...]
    dtype: str = "float32"

    section = "deltas"
    scope = "derived"
    settings = DeltaSettings
    rejects = (TOO_FEW_FRAMES, NOT_FINITE)
    libraries = ("librosa", "numpy", "scipy")

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        if settings is None:
            return None
        missing = [name for name in settings.bases if name not in config.features.names]
        if missing:
            raise ConfigError(
                f"needs features.{missing[0]}, which is not computed; add it, as in {missing[0]}: true, or leave it out here",
                key="features.deltas.of",
            )
        fields = tuple(
            f for f in feature_fields(config.features, config.audio.sample_rate_hz) if f.name in settings.bases
        )
        return cls(settings, fields, config.features.dtype)

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        found: list[pa.Field] = []
        for about in sorted(describe_columns(self.base_fields), key=lambda about: str(about["name"])):
            name, unit = about["name"], about.get("unit")
            of_base = {key: value for key, value in about["settings"].items() if key not in _NOT_OF_SLOPES}
            for order in self.spec.each_order:
                own = {"of": name, "order": order, "width": self.spec.width, "mode": self.spec.mode}
                found += feature(
                    name + _SUFFIXES[order],
                    _MEANINGS[order].format(name),
                    f"{unit}/frame" + "²" * (order - 1) if unit else "",
                    shape=about["shape"],
                    settings={**of_base, **own},
                    dtype=self.dtype,
                )
        return tuple(found)

    @property
    def packages(self) -> tuple[str, ...]:
        return with_librosa(self.section, self.libraries)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = np.flatnonzero(is_clip(table)).tolist()
        computed: dict[str, dict[int, Values]] = {}
        too_short: dict[int, str] = {}
        for base in self.spec.bases:
            values, shapes = list_values(table[base]) if rows else [], table[f"{base}_shape"].to_pylist()
            found = {order: computed.setdefault(base + _SUFFIXES[order], {}) for order in self.spec.each_order}
            for row in rows:
                *_, n_frames = shapes[row]
                if self.spec.mode == "interp" and n_frames < self.spec.width:
                    too_short[row] = f"{base}: {n_frames} frames, at least {self.spec.width} are needed"
                    continue
                channels = values[row].astype(np.float32).reshape(-1, *shapes[row][-2:])
                for order in self.spec.each_order:
                    found[order][row] = stacked([self._delta(channel, order) for channel in channels])
        table = rejected(table, too_short, TOO_FEW_FRAMES.code)
        kept = {name: {row: v for row, v in own.items() if row not in too_short} for name, own in computed.items()}
        return with_features(table, kept, self.dtype)

    def _delta(self, values: Values, order: int) -> Values:
        with alone() as librosa:
            delta: Values = librosa.feature.delta(values, width=self.spec.width, order=order, mode=self.spec.mode)
        return delta
