"""Find leaks: recordings, speakers or sessions on two sides of a split, which would make scores too good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipmill.schemas.config.model import did_you_mean
from clipmill.schemas.config.split_config import Split
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.stages.annotations.rows import field_name

_SHOWN = 3


def check_disjoint(split: Split, items: pa.Table, field_names: list[str]) -> None:
    """Refuse a plan in which a group is on two sides of the split.

    Parameters
    ----------
    split : `split.disjoint` names the groups: `recording`, or fields
    items : rows of `clipmill.schemas.tables.PLAN`
    field_names : names of the fields in the order of the column `fields`

    Raises
    ------
    ConfigError : `disjoint` names a field that the corpus does not have
    ClipmillError : groups are on two sides; the message names some, with a recording on each side
    """
    for name in split.disjoint:
        if name != "recording" and name not in field_names:
            known = ", ".join(["recording", *field_names])
            raise ConfigError(f"this corpus has no field {name!r}; it has {known}", key="split.disjoint")
        if len(pc.unique(items["split"])) > 1:
            if name == "recording":
                _check("recording", partial(_recordings, items, "source_uri"), split)
                _check("content", partial(_recordings, items, "version", "sha256-"), split)
            else:
                _check(name, partial(_members, name, items, field_names), split)


def check_decides(split: Split, field_names: list[str]) -> None:
    """Refuse a split by a field that no recording has.

    Raises
    ------
    ConfigError : the message lists the existing fields
    """
    if split.field not in (None, "label") and field_name(str(split.field)) not in field_names:
        mapped = split.from_ is not None
        known = ", ".join(["recording", *(["label"] if mapped else []), *field_names])
        key = "split.from" if mapped else "split.by"
        near = did_you_mean(split.field, field_names)
        raise ConfigError(f"this corpus has no field {split.field!r}; it has {known}{near}", key=key)


def _recordings(items: pa.Table, by: str, prefix: str = "") -> Iterator[pa.Table]:
    """Yield group, split and path of every item. by : group by address (two sources can share one) or by content; prefix : of groups"""
    for batch in items.select([by, "split", "path"]).to_batches():
        table = pa.table(batch.columns, ["group", "split", "path"])
        wanted = pc.starts_with(table["group"], prefix) if prefix else table["group"].is_valid()
        yield table.filter(wanted)


def _members(name: str, items: pa.Table, field_names: list[str]) -> Iterator[pa.Table]:
    """Yield group, split and path of every item, and of every usable row of its annotations."""
    place = field_names.index(name)
    for batch in items.select(["split", "path", "fields", "annotations"]).to_batches():
        sides = {n: batch.column(n) for n in ("split", "path")}
        rows, parents = (
            pc.list_flatten(batch.column("annotations")),
            pc.list_parent_indices(batch.column("annotations")),
        )
        usable = pc.is_null(pc.struct_field(rows, "reason"))
        rows, parents = rows.filter(usable), parents.filter(usable)
        own = {n: column.take(parents) for n, column in sides.items()}
        for members in (
            pa.table({"group": _value(batch.column("fields"), place), **sides}),
            pa.table({"group": _value(pc.struct_field(rows, "fields"), place), **own}),
        ):
            yield members.filter(pc.fill_null(pc.not_equal(members["group"], ""), False))


def _value(lists: pa.Array, place: int) -> pa.Array:
    """Return the value at a place of each list; null if the list is shorter or null."""
    long = pc.greater(pc.fill_null(pc.list_value_length(lists), 0), place)
    values = pc.list_element(lists.filter(long), place)
    places = pc.if_else(long, pc.subtract(pc.cumulative_sum(long.cast(pa.int64())), 1), None)
    return values.take(places)


def _on_several_sides(pieces: Iterator[pa.Table]) -> npt.NDArray[np.int64]:
    """Return the hashes, sorted, of groups that seem to be on several sides. Only hashes are in memory, since groups can be millions."""
    hashes, codes, names = [], [], dict[str, int]()
    for piece in pieces:
        hashes.append(np.fromiter(map(hash, piece["group"].to_pylist()), np.int64, piece.num_rows))
        codes.append(
            np.fromiter((names.setdefault(s, len(names)) for s in piece["split"].to_pylist()), np.int16, piece.num_rows)
        )
    if not hashes:
        return np.array([], np.int64)
    every, sides = np.concatenate(hashes), np.concatenate(codes)
    order = np.argsort(every, kind="stable")
    every, sides = every[order], sides[order]
    return np.unique(every[1:][(every[1:] == every[:-1]) & (sides[1:] != sides[:-1])])


def _check(name: str, pieces: Callable[[], Iterator[pa.Table]], split: Split) -> None:
    """Refuse groups on several sides. pieces : returns group, split and path of all members, as often as it is called"""
    suspects = set(_on_several_sides(pieces()).tolist())
    if not suspects:
        return
    members = pa.concat_tables(
        [
            piece.filter(pa.array([hash(g) in suspects for g in piece["group"].to_pylist()], pa.bool_()))
            for piece in pieces()
        ]
    )
    sides = members.group_by("group", use_threads=False).aggregate([("split", "count_distinct")])
    torn = sides.filter(pc.greater(sides["split_count_distinct"], 1))["group"]
    if not len(torn):
        return
    examples = []
    for group in sorted(torn.to_pylist())[:_SHOWN]:
        of_group = members.filter(pc.equal(members["group"], group)).to_pylist()
        where = {row["split"]: row["path"] for row in reversed(of_group)}
        examples.append(f"{group!r} ({', '.join(f'{path} in {side}' for side, path in sorted(where.items()))})")
    decides = split.field or "recording"
    if name in ("recording", "content"):
        raise ClipmillError(
            f"recordings on more than one side of the split, by {'address' if name == 'recording' else 'content'}: {len(torn):,}, such as"
            f" {'; '.join(examples)}{'; ...' if len(torn) > _SHOWN else ''}. Keep each in one source only (include, exclude), or split by a"
            " field that is the same for all of its copies; if this is intended, write split.disjoint: []"
        )
    raise ClipmillError(
        f"{len(torn):,} values of {name!r} are on more than one side of the split, which is decided by {decides!r}:"
        f" {'; '.join(examples)}{'; ...' if len(torn) > _SHOWN else ''}. Split by {name!r}, or correct `map`; if this is intended, remove {name!r}"
        " from split.disjoint"
    )
