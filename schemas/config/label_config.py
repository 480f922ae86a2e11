"""Define the configuration of labels: where a clip's labels come from."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import regex
from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from clipmill.schemas.config.model import Frozen, Positive, later, written_as


def named_groups(pattern: str) -> list[str]:
    """Return the names of a regular expression's groups. Raises ValueError when the pattern is invalid."""
    try:
        return list(regex.compile(pattern).groupindex)
    except regex.error as error:
        raise ValueError(f"not a regular expression: {error}") from None


class ByOverlap(Frozen):
    """Configure how much of a clip the rows of a label must cover. A label that meets either bound belongs to the clip.

    Without bounds, a single sample is enough.
    """

    example: ClassVar[str] = "{min_s: 0.5, min_share: 0.2}"

    min_s: Positive | None = Field(
        None, description="time of the clip that the rows of the label cover together; rows that overlap count once"
    )
    min_share: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="share of a row's own length that lies in the clip; one row of the label is enough"
    )


def _columns(value: Any) -> Any:
    """Return a single column as a list."""
    return [value] if isinstance(value, str) else value


class MapFile(Frozen):
    """Configure a table of labels and their names in the dataset, such as AudioSet's ``class_labels_indices.csv``."""

    example: ClassVar[str] = "{path: labels.csv, key: mid, value: display_name}"

    path: str = Field(description="delimited text, relative to the source's root")
    key: str | int = Field(
        description="column of the corpus's labels: by name, or by index from 0 if there is no header"
    )
    value: str | int = Field(description="column of the names in the dataset, likewise")

    @model_validator(mode="after")
    def _check(self) -> MapFile:
        if self.path.startswith("/") or ".." in self.path.split("/") or "://" in self.path:
            raise ValueError(f"{self.path!r} leads out of the source's root")
        if isinstance(self.key, int) != isinstance(self.value, int):
            raise ValueError("give `key` and `value` both by name, or both by index in a file without a header")
        return self


_Names = Annotated[dict[str, str | int | float], Field(min_length=1)]


class From(Frozen):
    """Configure where labels come from, how they are renamed, and which are left out."""

    example: ClassVar[str] = "{from: folder}"

    from_: Literal["folder", "annotation", "path"] | None = Field(
        None, alias="from", description="the folder's name, the annotation row, or a group named `label` in the path"
    )
    regex: str | None = Field(None, description="on the path, with `from: path`; its group `label` is the label")
    map: Annotated[Annotated[dict[str, str], Field(min_length=1)] | None, written_as(_Names | None)] = Field(
        None, description="names of labels in the dataset, by their names in the corpus"
    )
    map_file: MapFile | None = later(None, description="a table with more entries of `map`")
    default: Annotated[str | None, written_as(str | int | float | None)] = Field(
        None, description="for labels in neither `map` nor `classes`; without it they are rejected"
    )
    drop: Annotated[list[str], written_as(str | int | float | list[str | int | float])] = Field(
        default_factory=list, description="labels to leave out, by their name in the corpus or in `map`"
    )
    several: bool = later(
        False, description="a clip can have several labels; rows with equal times are one clip with the labels of all"
    )
    separator: Annotated[str, Field(min_length=1, max_length=10)] | None = later(
        None, description="what stands between two labels, by default a comma; a JSON array needs none"
    )
    one_hot: Annotated[
        Annotated[list[str], BeforeValidator(_columns), Field(min_length=1)] | None, written_as(str | list[str] | None)
    ] = later(None, description="columns that are labels, by name or by patterns with * and ?")
    threshold: float | None = later(
        None, description="least number in a column of `one_hot` that sets the label, by default 0.5"
    )
    by_overlap: Annotated[ByOverlap | None, written_as(ByOverlap | Literal[True] | None)] = later(
        None, description="rows do not cut: they label the clips that they overlap by so much"
    )
    none: Annotated[Annotated[str, Field(min_length=1)] | None, written_as(str | int | float | None)] = later(
        None, description="with `by_overlap`: label of clips without any label"
    )

    @field_validator("map", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        return {str(k): as_label(v) for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("default", "none", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return as_label(value)

    @field_validator("drop", mode="before")
    @classmethod
    def _list_of_texts(cls, value: Any) -> Any:
        return [as_label(v) for v in (value if isinstance(value, list) else [value])]

    @field_validator("by_overlap", mode="before")
    @classmethod
    def _bare_key(cls, value: Any) -> Any:
        return {} if value is True else value

    @field_validator("separator", mode="before")
    @classmethod
    def _tab(cls, value: Any) -> Any:
        return "\t" if value in ("tab", r"\t") else value

    @property
    def makes_lists(self) -> bool:
        """Return whether clips have lists of labels."""
        return self.several or self.by_overlap is not None

    @model_validator(mode="after")
    def _check(self) -> From:
        if (self.from_ == "path") != (self.regex is not None):
            raise ValueError("`from: path` and `regex` go together")
        if self.regex is not None and "label" not in named_groups(self.regex):
            raise ValueError("the regex needs a group named label: (?P<label>...)")
        if not {"from_", "map", "map_file", "drop", "several", "by_overlap"} & self.model_fields_set:
            raise ValueError("give `from`, `map` or `drop`, as in {from: folder, drop: [noise]}")
        self._check_lists()
        return self

    def _check_lists(self) -> None:
        """Check the keys about several labels against each other."""
        if self.separator is not None and not self.several:
            raise ValueError("`separator` needs `several: true`, as in {several: true, separator: ';'}")
        if self.separator is not None and self.one_hot is not None:
            raise ValueError("`separator` and `one_hot` exclude each other: a label is a column, or a part of a cell")
        if self.one_hot is not None and not self.makes_lists:
            raise ValueError("`one_hot` needs `several: true`, as in {several: true, one_hot: [dog, cat]}")
        if self.one_hot is not None and self.from_ in ("folder", "path"):
            raise ValueError(
                f"`one_hot` and `from: {self.from_}` exclude each other: its columns are those of annotations"
            )
        if self.threshold is not None and self.one_hot is None:
            raise ValueError("`threshold` belongs to `one_hot`: the columns whose numbers it is compared with")
        if self.by_overlap is not None and self.from_ in ("folder", "path"):
            raise ValueError(
                f"`by_overlap` and `from: {self.from_}` exclude each other: the rows of annotations have the labels"
            )
        if self.none is not None and self.by_overlap is None:
            raise ValueError("`none` needs `by_overlap`, as in {by_overlap: {min_s: 0.5}, none: background}")


def as_label(value: Any) -> Any:
    """Return a number as the text of a label. Other values are returned unchanged and checked later."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Label = Annotated[
    Annotated[str, Tag("as text")] | Annotated[From, Tag("as mapping")],
    Discriminator(lambda value: "as mapping" if isinstance(value, dict | From) else "as text"),
]
