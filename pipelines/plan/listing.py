"""List a source and read its annotations, before anything is planned."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from clipmill.pipelines.plan.annotations.annotate import annotate
from clipmill.pipelines.plan.annotations.annotated import Annotated, M, Rows, Unusable
from clipmill.pipelines.plan.annotations.sidecars import Sidecars
from clipmill.pipelines.plan.inventory import Inventory, passed_over_text, take_inventory
from clipmill.pipelines.plan.label_maps import with_label_map
from clipmill.schemas.annotation_notes import annotation_note
from clipmill.schemas.config import Source
from clipmill.schemas.config.label_config import From
from clipmill.schemas.config.split_config import Split
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.plural import counted
from clipmill.stages.meter import timed, timing
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

_SHOWN = 100
_OF_SPREADSHEET = re.compile(r"[0-9]+\.0+|[0-9](?:\.[0-9]+)?[eE]\+[0-9]+")


@dataclass
class Listing:
    """The recordings of a source, and its annotations.

    n_recordings : number of listed recordings, without refused ones
    first_path : path of the first recording, for examples in messages
    n_forgotten : number of recordings that were left out because they are forgotten
    """

    source: Source
    root: Root
    inventory: Inventory
    annotated: Annotated
    n_recordings: int
    first_path: str = ""
    n_forgotten: int = 0

    def again(self) -> Self:
        """Return a copy that can be iterated independently."""
        self.read_annotations()
        inventory = replace(self.inventory, recordings=self.inventory.recordings.copy())
        return replace(self, inventory=inventory, annotated=self.annotated.again())

    @property
    def sidecar_files(self) -> Inventory:
        """The files among which sidecars are, which can be those of another tree."""
        annotated = self.annotated
        if not isinstance(annotated, Sidecars):
            return self.inventory
        return Inventory(
            self.inventory.recordings,
            other_files=annotated.other_files,
            links=dict(annotated.links),
            listed_at_ns=annotated.listed_at_ns,
        )

    def read_annotations(self) -> None:
        """Read tables, which are otherwise read when a recording's rows are first wanted. Raises ClipmillError if they cannot be."""
        try:
            with timing("annotations"):
                self.annotated.read()
        except OSError as error:
            doing = f"read the annotations of source {self.source.name!r} at"
            raise describe_os_error(error, self.root, doing) from None

    def annotated_each(self, members: Iterable[M]) -> Iterator[tuple[M, Rows | Unusable | None]]:
        """Yield recordings, or refusals, with their annotations; see `Annotated.each`. Raises ClipmillError if they cannot be read."""
        each = timed("annotations", self.annotated.each(members))  # sidecars are read here
        while True:
            try:
                member = next(each, None)
            except OSError as error:
                doing = f"read the annotations of source {self.source.name!r} at"
                raise describe_os_error(error, self.root, doing) from None
            if member is None:
                return
            yield member

    def check_annotated(self) -> None:
        """Raise ClipmillError if no recording had an annotation, since the configuration must be wrong then."""
        self.annotated.check()
        source, annotated, n = self.source, self.annotated, self.n_recordings
        if source.annotations is None or not n or annotated.n_annotated or self.n_forgotten:
            return
        where = source.annotations.sidecar or source.annotations.table
        under = source.annotations.root or source.root
        n_empty, n_blank = annotated.noted["empty_sidecars"], annotated.noted["rows_without_event"]
        if (n_empty or n_blank) and isinstance(source.label, From) and source.label.by_overlap is not None:
            return  # it says that nothing was heard
        if annotated.noted["tables_without_rows"] and not annotated.strays and not annotated.n_ignored and not n_blank:
            return  # such as the list of a split that is empty
        header = (
            " (header: true takes the first row for a header)"
            if source.annotations.format == "csv" and source.annotations.header
            else ""
        )
        empty = f"; for {counted(n_empty, 'recording')} that file has no rows{header}" if n_empty else ""
        if n_blank:
            empty += f"; {annotation_note('rows_without_event', n_blank)}"
        raise ClipmillError(
            f"source {source.name!r}: none of {counted(n, 'recording')} under {under} has an annotation in {where!r}{empty}"
            f"{self._first_stray()}; check annotations"
        )

    def _first_stray(self) -> str:
        """Return an example of a table's rows, none of which fits exactly one recording."""
        stray = next(iter(self.annotated.strays), self.annotated.first_ignored)
        if stray is None or not self.first_path:
            return ""
        names = ", ".join(repr(name[:_SHOWN]) for name in stray.names[:3])
        why = "fits several recordings" if stray.why == "recording_ambiguous" else "fits no recording"
        number = any(_OF_SPREADSHEET.fullmatch(name) for name in stray.names)
        sheet = "; a spreadsheet has turned a name into a number: save names as text" if number else ""
        row = f"line {stray.row.line}" if stray.row.line else "a record"
        return f"; {row} names {names}, which {why} (the first one here is {self.first_path!r}){sheet}"


def list_source(source: Source, split: Split | None = None) -> Listing:
    """List a source and read its annotations. split : whose lists of recordings in the source's tree are no recordings

    Raises
    ------
    ConfigError, ClipmillError : the source cannot be listed or has no recordings, or a table cannot be read
    """
    root = source_root(source)
    source = with_label_map(source, root)
    with timing("inventory"):
        inventory = take_inventory(source, root, split.list_paths if split is not None else ())
    annotated = annotate(source, root, inventory)
    _check_not_empty(source, inventory)
    return Listing(
        source,
        root,
        inventory,
        annotated,
        len(inventory.recordings),
        inventory.recordings[0].path if inventory.recordings else "",
    )


def source_root(source: Source) -> Root:
    """Return the root of a source."""
    return Root(source.root, source.storage_options)


def _check_not_empty(source: Source, inventory: Inventory) -> None:
    """Raise ClipmillError if a source has no recordings: a mistake in its configuration."""
    if not inventory.recordings and not inventory.refusals:
        hint = ""
        if inventory.passed_over:
            hint = f"; {passed_over_text(inventory.passed_over)}; name the extension in include; files without a header need `raw`"
        raise ClipmillError(
            f"source {source.name!r}: no recording under {source.root} matches include and exclude{hint}"
        )
