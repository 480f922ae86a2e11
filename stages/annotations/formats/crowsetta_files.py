"""Read the CSV files of crowsetta: `generic-seq`, one for many recordings, and `simple-seq`, one for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from clipmill.stages.annotations.sheet_format import SheetFormat

_NEEDED = frozenset({"label", "onset_s", "offset_s"})


class Crowsetta(SheetFormat):
    """Read crowsetta's own CSV formats; the other formats that it converts have names of their own here."""

    name = "crowsetta"
    about = "CSV of crowsetta: generic-seq as a table, simple-seq as sidecars"
    takes = frozenset({"time_unit"})
    roles: ClassVar[Mapping[str, str | int]] = {"start": "onset_s", "end": "offset_s", "label": "label"}
    recording = ("notated_path",)
    settings: ClassVar[Mapping[str, Any]] = {"delimiter": ",", "decimal": "."}
    sidecar = "{stem}.csv"

    def looks_like(self, head: str) -> bool:
        first = head.lstrip().partition("\n")[0].strip().split(",")
        return set(first) >= _NEEDED


FORMAT = Crowsetta()
