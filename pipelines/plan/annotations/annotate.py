"""Find the annotations of a source."""

from __future__ import annotations

import re

from clipmill.pipelines.plan.annotations.annotated import Annotated
from clipmill.pipelines.plan.annotations.joined import Joined
from clipmill.pipelines.plan.annotations.sidecars import Sidecars
from clipmill.pipelines.plan.annotations.table_rows import Tables
from clipmill.pipelines.plan.inventory import Inventory, take_inventory
from clipmill.schemas.config import Source
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.errors import ConfigError
from clipmill.stages.storage.root import Root

_UNIT_S = {"s": 1.0, "ms": 1e-3, "samples": 1.0}
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def annotate(source: Source, root: Root, inventory: Inventory) -> Annotated:
    """Return the annotations of a source, which are not read yet: tables by `Annotated.read`, sidecars as their recordings are iterated.

    Raises
    ------
    ConfigError : several recordings share one sidecar
    """
    if source.annotations is None:
        return Annotated()
    key = f"sources.{source.name}.annotations"
    first = _annotate(source, source.annotations, key, root, inventory)
    if not source.joins:
        return first
    others = [
        _annotate(source, spec, f"sources.{source.name}.joins[{k}]", root, inventory)
        for k, spec in enumerate(source.joins)
    ]
    return Joined(
        first=first,
        others=others,
        units_s=_units_s(source),
        have_labels=["label" in spec.columns for spec in source.all_annotations],
    )


def _units_s(source: Source) -> list[float]:
    """Return the seconds per unit of the times of a source's annotations, the first of which may count samples.

    Raises
    ------
    ConfigError : times of some follow each recording's rate, and those of others do not, so that they cannot be compared
    """
    specs = source.all_annotations
    timed = [spec for spec in specs if "start" in spec.columns] or specs[:1]
    if len({spec.row_unit == "samples" for spec in timed}) > 1:
        raise ConfigError(
            "times in samples of each recording's own rate cannot be compared with times in seconds, so these annotations cannot be"
            " joined; with format: csv, time_unit: {samples_at_hz: ...} gives the rate",
            key=f"sources.{source.name}.annotations",
        )
    return [_UNIT_S[spec.row_unit] for spec in specs]


def _annotate(source: Source, spec: Annotations, key: str, root: Root, inventory: Inventory) -> Annotated:
    """Read one of the annotations of a source. key : its place in the configuration"""
    files = inventory
    if spec.root is not None:
        elsewhere = source.model_copy(update={"root": spec.root, "exclude": ["**"], "annotations": spec, "joins": []})
        root = Root(spec.root, source.storage_options if "://" in spec.root else {})
        files = take_inventory(elsewhere, root)
    if spec.sidecar is not None:
        sidecars = Sidecars(
            spec=spec,
            root=root,
            other_files=files.other_files,
            links=files.links,
            listed_at_ns=files.listed_at_ns,
            key=key,
            keeps_empty=source.labels_by_overlap,
        )
        if _PLACEHOLDER.search(spec.sidecar) is None:
            sidecars.check_one_each(inventory.recordings.paths)
        return sidecars
    return Tables(spec=spec, key=key, source=source, root=root, files=files, inventory=inventory)
