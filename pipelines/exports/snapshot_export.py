"""Export a snapshot: the steps that all formats share."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from clipmill.pipelines.dataset.notes import refuse_while_collecting
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.dataset.records_io import read_snapshot
from clipmill.pipelines.exports import IN_PLACE, WHOLE_SHARDS, Export, exporter
from clipmill.pipelines.exports.target import claimed, target_root
from clipmill.pipelines.read.selection import thresholds_for
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.layout import snapshot_name, snapshot_path
from clipmill.stages.storage.root import Root


@dataclass(frozen=True)
class Exported:
    """What was written.

    published : the snapshot
    target : where the files are
    written : their addresses
    notes : what readers of the files will not do
    """

    published: Published
    format: str
    target: Root
    written: list[str]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `clipmill export --json` prints it."""
        return {
            "snapshot": self.published.snapshot.number,
            "format": self.format,
            "to": self.target.url,
            "written": self.written,
            "without_clips": self.published.splits_without_clips,
            "notes": self.notes,
        }


def export_snapshot(
    root: Root,
    format: str,
    *,
    number: int | None = None,
    target: str | None = None,
    text: str | None = None,
    where: Any = None,
    replace: bool = False,
) -> Exported:
    """Write what other libraries need to read a snapshot.

    Parameters
    ----------
    root : of the dataset
    format : one of `clipmill.pipelines.exports.FORMATS`
    number : of the snapshot; None: the newest
    target : folder or URL for the files; None: under the dataset's root
    text : field with the transcripts; None: the usual one
    where : only clips within thresholds on their columns, as in `{"snr_db": {"min": 15}}`; not for formats that name whole shards
    replace : remove what an earlier export has left in the folder

    Raises
    ------
    ConfigError : the target or the field is not one that the format can have
    ClipmillError : the snapshot has no clips or cannot be read, or the files cannot be written
    """
    refuse_while_collecting(root, "nothing was exported")
    published = Published(root, read_snapshot(root, number))
    if where is not None and format in WHOLE_SHARDS:
        raise ConfigError(f"{format} names whole shards, so --where cannot apply to it; leave it out", code="usage")
    asked = Export(published, _target(published, format, target), text, thresholds_for(published, where))
    _check_not_empty(published, asked)
    with nullcontext() if format in IN_PLACE else claimed(asked, format, replace):
        written = exporter(format)(asked)
        _check_not_removed(published, asked.target, written)
    return Exported(published, format, asked.target, written, asked.notes)


def _target(published: Published, format: str, target: str | None) -> Root:
    root = published.root
    if format in IN_PLACE:
        if target is not None:
            raise ConfigError(
                f"{format} goes into the dataset's root, where its readers look for it; leave --to out", code="usage"
            )
        return root
    if target is not None:
        return target_root(target, root)
    folder = f"exports/{format}-{snapshot_name(published.snapshot.number)}"
    return Root(root.full(folder) if root.is_local else root.uri(folder), root.storage_options)


def _check_not_empty(published: Published, asked: Export) -> None:
    if not asked.splits:
        url = published.root.url
        which = " within --where" if asked.where is not None else ""
        raise ClipmillError(
            f"{url}: snapshot {published.snapshot.number} has no clips{which}, so there is nothing to export; see `clipmill failures {url}`"
        )


def _check_not_removed(published: Published, target: Root, written: list[str]) -> None:
    """Raise a ClipmillError where the snapshot was removed while it was exported: what is to be forgotten may be in the files."""
    refuse_while_collecting(
        published.root, f"what was just written to {target.url} can hold what it removes, so remove it"
    )
    if not published.root.exists(snapshot_path(published.snapshot.number)):
        raise ClipmillError(
            f"{published.root.url}: snapshot {published.snapshot.number} was removed by `gc` or `forget` while it was exported: remove"
            f" {', '.join(written[:3]) if target == published.root else target.url}, and export again"
        )
