"""Find out of which format an annotation file is, and read it as that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from clipmill.schemas.annotation_notes import READ_AS
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations import registered
from clipmill.stages.annotations.file_text import decode_text
from clipmill.stages.annotations.format import Content, FileRows, Format
from clipmill.stages.annotations.rows import SettingError, UnreadableError

_HEAD = 1 << 16
_OF_MANY_FORMATS = frozenset({"csv", "json", "jsonl", "tsv", "txt"})
_ANY = "sidecar"
"""Stands for the path, which no format reads from its configuration."""


class Auto(Format):
    """Read each file as the format that its name or its beginning shows. What was taken is counted, and told."""

    name = "auto"
    about = "the format that each file's name or beginning shows; the plan says which ones were taken"
    recording = ("recording",)
    roles: ClassVar[Mapping[str, str]] = {"label": "label"}

    def open(self, content: Content, spec: Annotations, path: str = "") -> FileRows:
        if not isinstance(content, bytes):
            raise UnreadableError("format auto reads files, not folders; give the format")
        kind = kind_of(content, spec.encoding, path)
        given: dict[str, Any] = {"format": kind.name, "sidecar": _ANY}
        given |= {k: getattr(spec, k) for k in ("encoding", "extra_columns", "fields", "end_tolerance_s")}
        if spec.columns != self.roles:
            given["columns"] = {role: where for role, where in spec.columns.items() if self.roles.get(role) != where}
        completed, _ = registered.complete(given, "annotations")
        taken = Annotations.model_validate(completed)
        if taken.row_unit != spec.row_unit:
            raise UnreadableError(
                f"it looks like {kind.name}, whose times are in {taken.row_unit}; set annotations.format: {kind.name}"
            )
        if spec.table is not None and not kind.recording:
            raise UnreadableError(
                f"it looks like {kind.name}, which does not name recordings, so it cannot be a table; give `sidecar`"
            )
        try:
            rows = kind.open(content, taken, path)
        except SettingError as error:
            message = f"{error}; it was read as {kind.name}, so write format: {kind.name}, and `{error.under}`"
            raise SettingError(message, "format") from None
        rows.noted[READ_AS + kind.name] += 1
        if spec.recording == list(self.recording):
            rows.named_by = kind.recording
        return rows


def kind_of(content: bytes, encoding: str, path: str) -> Format:
    """Return the format of a file. content : all of it, or at least its first 64 kB

    Raises
    ------
    UnreadableError : neither its name nor its beginning shows one, or it shows several
    """
    kinds = [registered.find_format(name) for name in registered.MODULES if name not in ("auto", "csv")]
    extension = path.rpartition(".")[2].lower()
    named = [kind for kind in kinds if extension in kind.extensions]
    if len(named) == 1 and extension not in _OF_MANY_FORMATS:
        return named[0]
    head = decode_text(content[:_HEAD], encoding, is_whole=len(content) <= _HEAD).lstrip("\ufeff")
    fitting = [kind for kind in kinds if kind.looks_like(head)]
    if len(fitting) > 1:
        fitting = [kind for kind in fitting if kind in named] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " and ".join(kind.name for kind in fitting)
        raise UnreadableError(f"its beginning fits the formats {names}; set annotations.format")
    raise UnreadableError("neither its name nor its beginning shows its format; set annotations.format")


FORMAT = Auto()
