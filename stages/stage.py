"""Define Stage, the base class of all work on recordings and clips. Each stage is one module.

A stage declares its properties. Its part of the keys, its columns in shards, manifests and exports, its rules and reasons in the counts and
the libraries that commits record all follow from this declaration. docs/stages.md explains how to write one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.schemas.reasons import Reason
from clipmill.stages.arrow_rows import replace_column

if TYPE_CHECKING:
    from clipmill.schemas.config import Config
    from clipmill.schemas.config.model import Frozen

Scope = Literal["chunk", "clip", "derived"]


class Stage(ABC):
    """Define one step of the pipeline. Subclasses are frozen dataclasses; calling a stage processes an Arrow table.

    section : its name in a configuration: in the list `clips`, under `features`, or a section of its own
    identity : its name in keys, which never changes, even if the class is renamed; default: the section
    version : to be raised when equal input and settings give different output
    scope : "chunk" works on pieces of recordings, "clip" changes, measures or drops clips, "derived" computes from stored clips
    settings : model of its settings under `section`, None for a stage without settings
    columns : columns that it adds to each clip, made by `clipmill.schemas.columns.column`, which sets unit and meaning
    drops : meaning of each rule by which it drops clips
    rejects : reasons for which it rejects clips or recordings. A clip that a derived stage rejects is in no shard
    libraries : packages that its output depends on; commits record their versions
    on_gpu : whether it uses a GPU where there is one
    changes_samples : whether it changes the samples of clips; it then gets float32 samples that were never rounded
    keeps_lengths : whether all clips that remain have the length that they had
    suits_stored : whether it can also work on stored clips. Where no other clip stage follows it does, and needs no recording
    """

    section: ClassVar[str]
    identity: ClassVar[str] = ""
    version: ClassVar[int] = 1
    scope: ClassVar[Scope]
    settings: ClassVar[type[Frozen] | None] = None
    columns: ClassVar[tuple[pa.Field, ...]] = ()
    drops: ClassVar[Mapping[str, str]] = {}
    rejects: ClassVar[tuple[Reason, ...]] = ()
    libraries: ClassVar[tuple[str, ...]] = ()
    on_gpu: ClassVar[bool] = False
    changes_samples: ClassVar[bool] = False
    keeps_lengths: ClassVar[bool] = False
    suits_stored: ClassVar[bool] = False

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        """Return the stage as configured, None when the configuration does not use it.

        Parameters
        ----------
        settings : instance of `cls.settings`, for a stage of the list `clips` or of `features`
        """
        return None if settings is None else cls(settings)  # type: ignore[call-arg]

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        """Return the columns that the stage adds with these settings."""
        return self.columns

    @property
    def rules(self) -> Mapping[str, str]:
        """Return the rules by which the stage drops clips with these settings, and their meanings."""
        return self.drops

    @property
    def packages(self) -> tuple[str, ...]:
        """Return the packages that the stage's output depends on with these settings."""
        return self.libraries

    @property
    def revisions(self) -> Mapping[str, int]:
        """Return the versions of parts that these settings use, without those of version 1. They enter keys."""
        return {}

    @property
    def wants_gpu(self) -> bool:
        """Return whether the stage uses a GPU where there is one, with these settings."""
        return self.on_gpu

    def in_keys(self, settings: Any) -> Any:
        """Return what of the settings, and of the files that they name, stands in keys. settings : instance of `settings`"""
        from clipmill.schemas.config.model import fingerprint  # pydantic, which the arithmetic of features does without

        return fingerprint(settings, by_alias=True)

    @abstractmethod
    def __call__(self, table: pa.Table) -> pa.Table | Iterator[pa.Table]:
        """Process a table, which can be empty, and return one table or yield several.

        Clip stages and derived stages take `clipmill.schemas.tables.CLIPS`. Only rows with the status "clip" are clips; the others must
        pass unchanged.
        """


class ShardStage(Stage):
    """Define a derived stage that gets all tables of a shard, since which clips follow each other makes a difference to it."""

    @abstractmethod
    def over(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Process the tables of a shard. The result must not depend on how its rows are divided among them."""

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        return self.over([table])


def is_clip(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which rows of a table of clips are clips: bool [n_rows]."""
    mask: npt.NDArray[np.bool_] = pc.fill_null(pc.equal(table["status"], "clip"), False).to_numpy()
    return mask


def dropped(table: pa.Table, mask: Sequence[bool] | npt.NDArray[np.bool_], rule: str) -> pa.Table:
    """Return a table in which some clips are dropped. mask : bool [n_rows], True for these clips; rule : one of the stage's `drops`."""
    chosen = np.asarray(mask, bool) & is_clip(table)
    if not chosen.any():
        return table
    return _set_values(table, chosen, {"status": "dropped", "rule": rule, "count": 1, "pcm": None, "samples": None})


def rejected(table: pa.Table, details: Mapping[int, str], reason: str) -> pa.Table:
    """Return a table in which some clips are rejected. details : what is wrong with them, by row; reason : a code of `rejects`."""
    chosen = np.zeros(table.num_rows, bool)
    chosen[list(details)] = True
    chosen &= is_clip(table)
    if not chosen.any():
        return table
    texts = pa.array([details.get(i) for i in range(table.num_rows)], pa.string())
    table = replace_column(table, "detail", pc.if_else(pa.array(chosen), texts, table["detail"].combine_chunks()))
    return _set_values(
        table, chosen, {"status": "rejected", "kind": "clip", "reason": reason, "pcm": None, "samples": None}
    )


def with_column(table: pa.Table, field: pa.Field, values: Mapping[int, Any]) -> pa.Table:
    """Return a table with a column added or replaced. values : by row; clips without a value are null, other rows keep what they have."""
    column = pa.array([values.get(i) for i in range(table.num_rows)], field.type)
    at = table.schema.get_field_index(field.name)
    if at >= 0 and table[field.name].null_count < table.num_rows:
        column = pc.if_else(pa.array(is_clip(table)), column, table[field.name].combine_chunks().cast(field.type))
    plain = field.remove_metadata()
    return table.append_column(plain, column) if at < 0 else table.set_column(at, plain, column)


def _set_values(table: pa.Table, chosen: npt.NDArray[np.bool_], values: Mapping[str, Any]) -> pa.Table:
    mask = pa.array(chosen)
    for name, value in values.items():
        if (at := table.schema.get_field_index(name)) >= 0 and not (
            value is None and table[name].null_count == table.num_rows
        ):
            kind = table.schema.field(at).type
            column = pc.if_else(mask, pa.scalar(value, kind), table[name].combine_chunks())
            table = table.set_column(at, table.schema.field(at), column)
    return table
