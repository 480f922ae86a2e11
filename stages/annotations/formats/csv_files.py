"""Read delimited text with the columns that the configuration names: CSV, TSV and their relatives."""

from __future__ import annotations

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.format import COMMON_KEYS
from clipmill.stages.annotations.sheet_format import SheetFormat


class Csv(SheetFormat):
    """Read delimited text."""

    name = "csv"
    about = "delimited text: CSV, TSV, and tables cut at `;`, `|` or blanks"
    takes = frozenset(Annotations.model_fields) - COMMON_KEYS - {"options"}
    extensions = ("csv", "tsv")


FORMAT = Csv()
