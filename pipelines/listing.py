"""Listing: what a source holds and what its annotations say, read before anything is planned."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.annotations.annotate import Annotated, annotate
from pipelines.inventory import Inventory, passed_over_text, take_inventory
from pipelines.plural import counted
from schemas.config import Source
from schemas.errors import ClipmillError
from schemas.failures import describe_os_error
from schemas.storage import Root


@dataclass
class Listing:
    """What a source holds, and its annotations."""

    source: Source
    root: Root
    inventory: Inventory
    annotated: Annotated


def list_source(source: Source) -> Listing:
    """List a source and read its annotations.

    Raises
    ------
    ConfigError, ClipmillError : it cannot be listed, a table cannot be read, or there is nothing in it
    """
    root = source_root(source)
    inventory = take_inventory(source, root)
    try:
        annotated = annotate(source, root, inventory)
    except OSError as error:
        raise describe_os_error(error, root, f"read the annotations of source {source.name!r} at") from None
    _check_found(source, inventory, annotated)
    return Listing(source, root, inventory, annotated)


def source_root(source: Source) -> Root:
    return Root(source.root, source.storage_options)


def _check_found(source: Source, inventory: Inventory, annotated: Annotated) -> None:
    """A source that gives nothing is a mistake in its configuration."""
    if source.annotations is not None and inventory.recordings and not annotated.by_path:
        where = source.annotations.sidecar or source.annotations.table
        n_empty = annotated.noted["empty_sidecars"]
        header = " (header: true takes the first row for a header)" if source.annotations.header else ""
        empty = f", and of {n_empty:,} that file is there without a row{header}" if n_empty else ""
        raise ClipmillError(
            f"source {source.name!r}: of {counted(len(inventory.recordings), 'recording')} under {source.root} none has an annotation"
            f" in {where!r}{empty}; check annotations"
        )
    if not inventory.recordings and not inventory.refusals:
        there = ""
        if inventory.passed_over:
            there = f"; {passed_over_text(inventory.passed_over)}; name the extension in include; files without a header need `raw`"
        raise ClipmillError(
            f"source {source.name!r}: no recording under {source.root} matches include and exclude{there}"
        )
