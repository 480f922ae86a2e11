"""Define the configuration of a source's annotations: where they are and how they are read."""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from clipmill.schemas.config.address import check_address
from clipmill.schemas.config.annotation_roles import ROLES, near_miss
from clipmill.schemas.config.model import Frozen, later


def _text_encoding(names: str) -> str:
    """Check the name of an encoding, or several with commas between them."""
    for name in (each.strip() for each in names.split(",")):
        try:
            is_known = name == "auto" or codecs.lookup(name)._is_text_encoding
        except (LookupError, ValueError):
            is_known = False
        if not is_known:
            raise ValueError(f"Python has no text encoding {name!r}; give one such as utf-8, utf-16 or latin-1")
    return names


def _kind_of(value: Any) -> str:
    """Return the branch of a union that a value is meant for, so that only this branch reports errors."""
    kinds = {dict: "as mapping", list: "as list", int: "as number"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "as text")


_RecordingName = Annotated[
    Annotated[str, Tag("as text")] | Annotated[int, Tag("as number")] | Annotated[list[str], Tag("as list")],
    Discriminator(lambda value: {"as mapping": "as text"}.get(_kind_of(value), _kind_of(value))),
]


def _by_name(value: Any) -> Any:
    """Return fields as a map of names to columns. A list of columns gives each field the name of its column."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        if len(set(value)) < len(value):
            raise ValueError("names a column twice")
        return {name: name for name in value}
    if not isinstance(value, dict):
        raise ValueError(
            "expected a map of fields to columns, as in {salience: 2}, or a list of the header's names, as in [salience]"
        )
    return value


def _tab(value: Any) -> Any:
    """Return a tab for the word tab and for a \\t that single quotes left unescaped."""
    return "\t" if value in ("tab", r"\t") else value


class SamplesAt(Frozen):
    """Configure times in samples at a fixed rate, independent of the recording's."""

    samples_at_hz: Annotated[int, Field(ge=1, le=1_000_000_000)]


_TimeUnit = Annotated[
    Annotated[Literal["s", "ms", "samples", "clock"], Tag("as text")] | Annotated[SamplesAt, Tag("as mapping")],
    Discriminator(lambda value: "as mapping" if isinstance(value, dict | SamplesAt) else "as text"),
]


class Annotations(Frozen):
    """Configure where a source's annotation rows are and how to read them."""

    format: str = Field("csv", description="kind of the files; see docs/annotations.md")
    sidecar: str | None = Field(
        None,
        description="file beside each recording; {stem} and {name} stand for the recording's, {stem-_mic1} for the stem without _mic1",
    )
    table: str | None = Field(
        None,
        description="one file for the whole source, relative to its root, or a pattern such as '**/*.trans.txt'; a folder, for formats"
        " that are one",
    )
    root: str | None = later(
        None, description="tree of the annotation files, laid out like the source's; default: the source's root"
    )
    recording: _RecordingName | None = Field(
        None,
        description="table only: column with the recording's path or name, or a template such as '{fold}-{take}.wav'",
    )
    header: bool = True
    delimiter: Annotated[Literal["auto", ",", ";", "\t", "|", "whitespace"], BeforeValidator(_tab)] = "auto"
    rest: bool = later(
        False, description="delimiter whitespace only: the last column takes the rest of the line, with its blanks"
    )
    quote: Literal["auto", "none", '"', "'"] = "auto"
    encoding: Annotated[str, AfterValidator(_text_encoding)] = Field(
        "auto",
        description="auto reads a BOM, then tries UTF-8, then UTF-16 without BOM; of 'auto, cp949' the first that fits",
    )
    comment: str | None = Field(None, description="lines that start with this are skipped")
    columns: dict[str, int | str] = Field(
        default_factory=dict,
        description="start, end or duration, label, channel (counted from 1): by name or by index from 0",
    )
    fields: Annotated[dict[str, int | str], BeforeValidator(_by_name)] = later(
        {}, description="columns to carry: a map of names to columns, or a list of the header's names"
    )
    extra_columns: Literal["carry", "drop"] = Field(
        "carry", description="with a header: columns not named in `columns` or `fields`"
    )
    time_unit: _TimeUnit = "s"
    decimal: Literal["auto", ".", ","] = later(
        "auto", description="sign before the fraction of times; auto refuses a file in which 16,000 can be 16"
    )
    end_tolerance_s: Annotated[float, Field(ge=0, le=10)] = Field(
        0.05,
        description="a range may begin this much before the recording does, and end this much after; it is cut there",
    )

    missing_recordings: Literal["reject", "ignore"] = later(
        "reject", description="table only: rows whose recording is not there are rejected, or left out and counted"
    )

    options: dict[str, Any] = later({}, description="keys that only the format has; they are written beside the others")

    @property
    def samples_at_hz(self) -> int | None:
        """Return the fixed rate of times in samples. None when times are in other units or follow each recording's rate."""
        return self.time_unit.samples_at_hz if isinstance(self.time_unit, SamplesAt) else None

    @property
    def row_unit(self) -> Literal["s", "ms", "samples"]:
        """Return the unit of start and end after reading, which converts clock times and samples at a fixed rate to seconds."""
        return "s" if isinstance(self.time_unit, SamplesAt) or self.time_unit == "clock" else self.time_unit

    @property
    def is_timed(self) -> bool:
        """Return whether rows have times."""
        return "start" in self.columns

    @property
    def roles(self) -> dict[str, int | str]:
        """Return the columns of start, end or duration, label and channel."""
        return {name: where for name, where in self.columns.items() if name in ROLES}

    @property
    def field_columns(self) -> dict[str, int | str]:
        """Return the columns of the configured fields: of `fields`, and those of `columns` that are not roles, an older spelling."""
        return {name: where for name, where in self.columns.items() if name not in ROLES} | self.fields

    @field_validator("columns")
    @classmethod
    def _no_near_miss(cls, columns: dict[str, int | str]) -> dict[str, int | str]:
        for name in columns:
            if (role := near_miss(name, columns)) is not None:
                raise ValueError(
                    f"{name!r} is not one of {', '.join(ROLES)}; did you mean {role!r}?"
                    " (a field of this name goes under annotations.fields)"
                )
        return columns

    @field_validator("columns", "fields")
    @classmethod
    def _role_first(cls, columns: dict[str, int | str]) -> dict[str, int | str]:
        """Refuse a map of columns to roles, as {0: start}, which would make a field named 0 of a column named start."""
        swapped = {}
        for name, where in columns.items():
            role = (near_miss(where, ()) or where.lower()) if isinstance(where, str) else ""
            if name.isdecimal() and role in ROLES:
                swapped[role] = name
        if swapped:
            first = next(name for name in columns if name in swapped.values())
            raise ValueError(
                f"{{{first}: {columns[first]}}} is the wrong way round; under annotations.columns the role comes first, then its column:"
                f" write {{{', '.join(f'{role}: {index}' for role, index in swapped.items())}}}"
            )
        return columns

    @model_validator(mode="after")
    def _check(self) -> Annotations:
        if (self.sidecar is None) == (self.table is None):
            raise ValueError(
                "give either `sidecar` (a file beside each recording) or `table` (one file for the source)"
            )
        if self.table is not None and self.recording is None:
            raise ValueError("`table` needs `recording`: the column that names the recording")
        if self.sidecar is not None and self.recording is not None:
            raise ValueError("`recording` belongs to `table`; a sidecar's recording is the file beside it")
        if self.sidecar is not None and self.missing_recordings != "reject":
            raise ValueError("`missing_recordings` belongs to `table`; a sidecar's recording is the file beside it")
        if self.sidecar is not None:
            names = re.findall(r"\{([^{}]*)\}", self.sidecar)
            if any(name not in ("stem", "name") and re.fullmatch(r"stem-[^/]+", name) is None for name in names):
                raise ValueError(
                    f"sidecar {self.sidecar!r} may contain only the placeholders {{stem}} and {{name}}, or such as {{stem-_mic1}} for the"
                    " stem without an ending"
                )
        if self.rest and self.delimiter != "whitespace":
            raise ValueError("`rest` needs `delimiter: whitespace`; other delimiters are quoted in a text")
        if self.delimiter == "whitespace" and self.quote not in ("auto", "none"):
            raise ValueError(
                "with `delimiter: whitespace`, quotes are part of the text; for a last column of several words, set `rest: true`"
            )
        if self.root is not None:
            check_address(self.root)
        for name in (self.sidecar, self.table):
            if name is not None and (name.startswith("/") or ".." in name.split("/") or "://" in name):
                raise ValueError(f"{name!r} leads out of the source's root")
        if {"end", "duration"} <= self.columns.keys():
            raise ValueError("give `end` or `duration`, not both")
        if "start" not in self.columns and {"end", "duration"} & self.columns.keys():
            raise ValueError("`end` and `duration` need `start`")
        for name in self.fields:
            if name in self.columns and name not in ROLES:
                raise ValueError(f"the field {name!r} is under `columns` and under `fields`; remove one of them")
        if not self.header and any(isinstance(c, str) for c in (*self.columns.values(), *self.fields.values())):
            raise ValueError("without a header, give columns by index, counted from 0")
        if any(isinstance(c, int) and c < 0 for c in (*self.columns.values(), *self.fields.values())):
            raise ValueError("a column's index must be 0 or more")
        return self
