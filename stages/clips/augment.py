"""Augment: add changed copies of clips, each by a recipe that is drawn from the clip's id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.columns import column
from clipmill.schemas.config import Config
from clipmill.schemas.config.augment_config import Augment
from clipmill.schemas.config.model import did_you_mean
from clipmill.schemas.config.split_config import is_training
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.tables import AUGMENTED_FROM
from clipmill.stages.arrow_rows import replace_column
from clipmill.stages.clip_samples import waveforms, with_waveforms
from clipmill.stages.effects.effect import Effect, effects_of
from clipmill.stages.effects.seeds import rng_of
from clipmill.stages.event_times import with_event_times
from clipmill.stages.noise_library import NoiseLibrary
from clipmill.stages.stage import Stage, with_column

_TABLE_SAMPLES = 4 << 20


@dataclass(frozen=True)
class AugmentClips(Stage):
    """Add copies of the clips of some splits. Yields tables in which the copies of a clip follow it.

    A copy has the id `<clip_id>-a1`, ..., and the values of all columns that its clip has at this place of the list.

    noise_library : noises and impulse responses
    """

    spec: Augment
    noise_library: NoiseLibrary = field(default_factory=lambda: NoiseLibrary({}, 1), compare=False)

    section = "augment"
    scope = "clip"
    settings = Augment
    columns = (
        column(AUGMENTED_FROM, pa.string(), "the clip that this one is a changed copy of; null: it is no copy"),
        column("augmentation", pa.string(), "what was drawn for a copy, as JSON by effect"),
    )
    changes_samples = True

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        if settings is None:
            return None
        stage = cls(settings, NoiseLibrary.of(config))
        known = [noise.name for noise in config.noises]
        for name in stage.noise_names:
            if name not in known:
                there = f"; there are {', '.join(known)}" if known else "; `noises` is empty"
                raise ConfigError(
                    f"no entry of `noises` is named {name!r}{did_you_mean(name, known) or there}", key="clips"
                )
        for split in settings.splits or ():
            if split not in config.split.expected:
                there = ", ".join(config.split.expected)
                raise ConfigError(
                    f"augment.splits: no split is named {split!r}{did_you_mean(split, config.split.expected)}; there are {there}",
                    key="clips",
                )
        return stage

    @property
    def effects(self) -> list[tuple[Effect, Any]]:
        """The effects in their order, with their settings."""
        return effects_of(self.spec)

    @property
    def noise_names(self) -> list[str]:
        """Names of the trees of noises that the effects use."""
        return sorted({name for effect, settings in self.effects for name in effect.noise_names(settings)})

    @property
    def packages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for effect, _ in self.effects for name in effect.libraries))

    @property
    def revisions(self) -> dict[str, int]:
        return {effect.name: effect.version for effect, _ in self.effects if effect.version > 1}

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        rates_hz, splits = table["sample_rate_hz"].to_pylist(), table["split"].to_pylist()
        copied = {row: y for row, y in waveforms(table) if self.is_copied(splits[row])}
        start = n_samples = 0
        for row in range(table.num_rows):
            n_samples += copied[row].size * (1 + self.spec.copies) if row in copied else 0
            if n_samples >= _TABLE_SAMPLES or row + 1 == table.num_rows:
                part = {r - start: y for r, y in copied.items() if start <= r <= row}
                yield self._with_copies(table.slice(start, row + 1 - start), part, rates_hz[start : row + 1])
                start, n_samples = row + 1, 0
        if not table.num_rows:
            yield self._with_copies(table, {}, [])

    def is_copied(self, split: str | None) -> bool:
        """Return whether clips of a split are copied."""
        if self.spec.splits is not None:
            return split in self.spec.splits
        return split is not None and is_training(split)

    def _with_copies(
        self, table: pa.Table, copied: dict[int, npt.NDArray[np.float32]], rates_hz: list[int]
    ) -> pa.Table:
        """Return a table with copies behind the clips that have them. copied : the clips' samples by row"""
        ids = table["clip_id"].to_pylist()
        rows: list[int] = []
        changed: dict[int, npt.NDArray[np.float32]] = {}
        origins: dict[int, str] = {}
        recipes: dict[int, str] = {}
        for row in range(table.num_rows):
            rows.append(row)
            for copy in range(1, self.spec.copies + 1) if row in copied else ():
                at = len(rows)
                rows.append(row)
                changed[at], drawn = self._copy(ids[row], copy, copied[row], rates_hz[row])
                origins[at] = ids[row]
                recipes[at] = json.dumps(drawn, sort_keys=False, separators=(",", ":"), ensure_ascii=False)
        if origins:
            table = table.take(rows)
            names = [f"{origins[i]}-a{i - rows.index(row)}" if i in origins else ids[row] for i, row in enumerate(rows)]
            table = replace_column(table, "clip_id", pa.array(names, pa.string()))
            for name in ("saturated_samples", "n_clipped"):
                values = [0 if i in origins else v for i, v in enumerate(table[name].to_pylist())]
                table = replace_column(table, name, pa.array(values, pa.int64()))
            table = with_waveforms(table, changed)
            table = with_event_times(
                table,
                {
                    i: (partial(self._later, json.loads(recipe)), changed[i].shape[1] / rates_hz[rows[i]])
                    for i, recipe in recipes.items()
                },
            )
        table = with_column(table, self.columns[0], origins)
        return with_column(table, self.columns[1], recipes)

    def _later(self, drawn: dict[str, Any], time_s: float) -> float:
        """Return when something is heard in a copy. drawn : what was drawn for it by effect; time_s : when it is heard in the clip"""
        for effect, _ in self.effects:
            if effect.name in drawn and effect.retime is not None:
                time_s = effect.retime(time_s, drawn[effect.name])
        return time_s

    def _copy(
        self, clip_id: str, copy: int, y: npt.NDArray[np.float32], sample_rate_hz: int
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Return a copy's samples, float32 [channels, samples], and what was drawn for it by effect."""
        drawn: dict[str, Any] = {}
        for effect, settings in self.effects:
            rng = rng_of(clip_id, copy, effect.name)
            if rng.uniform() >= settings.probability:
                continue
            chosen = effect.draw(rng, settings, self.noise_library)
            y = effect.apply(y, sample_rate_hz, chosen, self.noise_library)
            drawn[effect.name] = chosen
        return y, drawn
