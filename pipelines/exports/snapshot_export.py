"""Export a snapshot: the steps that all formats share."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from clipmill.pipelines.dataset.notes import refuse_while_collecting
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.dataset.records_io import read_snapshot
from clipmill.pipelines.exports import ClipCount, Export, exporter, format_of
from clipmill.pipelines.exports.export_format import Format
from clipmill.pipelines.exports.target import check_made, claimed, target_root
from clipmill.pipelines.read.selection import thresholds_for
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.layout import snapshot_name, snapshot_path
from clipmill.stages.storage.root import Root


@dataclass(frozen=True)
class Exported:
    """What was written.

    published : the snapshot
    to : the folder or address where the files are
    written : their addresses
    notes : what readers of the files will not do
    planned : what would be done, where nothing was
    """

    published: Published
    format: str
    to: str
    written: list[str]
    notes: list[str]
    planned: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `clipmill export --json` prints it."""
        return {
            "snapshot": self.published.snapshot.number,
            "format": self.format,
            "to": self.to,
            "written": self.written,
            "without_clips": self.published.splits_without_clips,
            "notes": self.notes,
            **({"planned": self.planned} if self.planned else {}),
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
    options: Mapping[str, Any] | None = None,
    count: ClipCount | None = None,
) -> Exported:
    """Write what other libraries need to read a snapshot.

    Parameters
    ----------
    root : of the dataset
    format : one of `clipmill.pipelines.exports.FORMATS`
    number : of the snapshot; None: the newest
    target : folder or URL for the files, None: under the dataset's root; for some formats what they name instead of a folder
    text : field with the transcripts; None: the usual one
    where : only clips within thresholds on their columns, as in `{"snr_db": {"min": 15}}`; not for formats that name whole shards
    replace : remove what an earlier export has left in the folder
    options : those that only this format has, by name
    count : counts the clips while they are written

    Raises
    ------
    ConfigError : the target, the field or an option is not one that the format can have
    ClipmillError : the snapshot has no clips or cannot be read, or the files cannot be written
    """
    about = format_of(format)
    chosen = about.read_options(format, options or {})
    refuse_while_collecting(root, "nothing was exported")
    published = Published(root, read_snapshot(root, number))
    if where is not None and about.whole_shards:
        raise ConfigError(f"{format} names whole shards, so --where cannot apply to it; leave it out", code="usage")
    is_service = about.place == "service"
    asked = Export(
        published,
        root if is_service else _target(published, format, about, target),
        text,
        thresholds_for(published, where),
        options=chosen,
        address=(target or "") if is_service else "",
        count=count or ClipCount(),
    )
    asked.count.total = published.snapshot.counts.clips_stored
    _check_not_empty(published, asked)
    if is_service and not target:
        raise ConfigError(f"{format} needs --to {about.address}", code="usage")
    to = asked.address if is_service else asked.target.url
    if about.place in ("folder", "versions"):
        taken: AbstractContextManager[None] = claimed(asked, format, about, replace)
    else:
        check_made(asked, format, about)
        taken = nullcontext()
    with taken:
        written = exporter(format)(asked)
        _check_not_removed(published, asked, to, written)
    return Exported(published, format, to, written, asked.notes, asked.planned)


def _target(published: Published, format: str, about: Format, target: str | None) -> Root:
    root = published.root
    if about.place == "root":
        if target is not None:
            raise ConfigError(
                f"{format} goes into the dataset's root, where its readers look for it; leave --to out", code="usage"
            )
        return root
    if target is not None:
        return target_root(target, root)
    folder = f"exports/{format}" + ("" if about.place == "versions" else f"-{snapshot_name(published.snapshot.number)}")
    return Root(root.full(folder) if root.is_local else root.uri(folder), root.storage_options)


def _check_not_empty(published: Published, asked: Export) -> None:
    if not asked.splits:
        url = published.root.url
        which = " within --where" if asked.where is not None else ""
        raise ClipmillError(
            f"{url}: snapshot {published.snapshot.number} has no clips{which}, so there is nothing to export; see `clipmill failures {url}`"
        )


def _check_not_removed(published: Published, asked: Export, to: str, written: list[str]) -> None:
    """Raise a ClipmillError where the snapshot was removed while it was exported: what is to be forgotten may be in the files."""
    refuse_while_collecting(published.root, f"what was just written to {to} can hold what it removes, so remove it")
    if not published.root.exists(snapshot_path(published.snapshot.number)):
        what = ", ".join(written[:3]) if asked.target == published.root and not asked.address else to
        raise ClipmillError(
            f"{published.root.url}: snapshot {published.snapshot.number} was removed by `gc` or `forget` while it was exported: remove"
            f" {what}, and export again"
        )
