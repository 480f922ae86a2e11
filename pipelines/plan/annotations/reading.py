"""Read one sidecar, and write down what it gave, so that it need not be read again.

What a sidecar gives follows from its content, from `annotations` in the configuration, and from the code. It is kept as JSON, which gives
every text and every number back as it was.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from clipmill.pipelines.plan.annotations.annotated import Rows, Unusable
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.registered import find_format
from clipmill.stages.annotations.rows import AmbiguousError, Row, SettingError, UnreadableError
from clipmill.stages.annotations.sheet import MAX_SIDECAR_BYTES

Content = bytes | OSError


@dataclass
class Reading:
    """What a sidecar gave.

    rows : its rows; None if it cannot be used
    reason, detail : of the rejection of its recording if it cannot be used
    under : key of `annotations` that is the reason why it cannot be used, which many sidecars have if the configuration is wrong;
        otherwise empty
    noted : counts of notes on how it was read; unnamed_roles : as in `Annotated`
    is_lasting : whether it gives the same as long as it does not change; False if storage refused to read it
    """

    rows: list[Row] | None
    reason: str = ""
    detail: str = ""
    under: str = ""
    noted: dict[str, int] = field(default_factory=dict)
    unnamed_roles: dict[str, str] = field(default_factory=dict)
    is_lasting: bool = True

    def of(self, sidecar: str) -> Rows | Unusable:
        """Return the rows as those of a recording. sidecar : path of the file"""
        if self.rows is None:
            return Unusable(sidecar, self.reason, self.detail)
        return [(sidecar, row) for row in self.rows]

    def to_json(self) -> str:
        """Return the reading as JSON."""
        names = self.rows[0].names if self.rows else ()
        rows: list[list[Any]] | None = None
        if self.rows is not None:
            rows = [
                [r.line, r.start, r.end, r.label, r.values, r.reason, r.detail, r.channel, r.noted]
                + ([] if r.names == names else [r.names])
                for r in self.rows
            ]
        why = [self.under, self.reason, self.detail] if self.rows is None else []
        return json.dumps([rows, names, self.noted, self.unnamed_roles, *why], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Reading:
        """Return the reading that `to_json` wrote."""
        written, names, noted, roles, *why = json.loads(text)
        if written is None:
            under, reason, detail = why
            return cls(None, reason, detail, under, noted, roles)
        shared = tuple(names)
        rows = [
            Row(
                line, start, end, label, tuple(more[0]) if more else shared, tuple(v), reason, detail, channel, tuple(n)
            )
            for line, start, end, label, v, reason, detail, channel, n, *more in written
        ]
        return cls(rows, noted=noted, unnamed_roles=roles)


def read_content(content: Content, spec: Annotations, path: str = "") -> Reading:
    """Read the content of a sidecar. path : of the file

    Raises
    ------
    OSError : the store fails, so that other sidecars cannot be read either
    """
    is_lasting = not isinstance(content, OSError)
    try:
        if isinstance(content, OSError):
            raise content
        if len(content) > MAX_SIDECAR_BYTES:
            raise UnreadableError(f"more than {MAX_SIDECAR_BYTES} bytes")
        sheet = find_format(spec.format).open(content, spec, path)
        read = [row for _, row in sheet]
    except SettingError as error:
        return Reading(None, "annotation_unreadable", str(error), under=error.under)
    except AmbiguousError as error:
        return Reading(None, "annotation_ambiguous_number", str(error))
    except (UnreadableError, PermissionError, FileNotFoundError) as error:
        return Reading(None, "annotation_unreadable", str(error), is_lasting=is_lasting)
    noted: Counter[str] = Counter(sheet.noted)
    rows = [row for row in read if not row.is_blank]
    if len(rows) < len(read):
        noted["rows_without_event"] = len(read) - len(rows)
    if not read:
        noted["empty_sidecars"] += 1
    return Reading(rows, noted=dict(noted), unnamed_roles=sheet.unnamed_roles)
