"""Define the configuration of labels: where a clip's label comes from."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import regex
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from clipmill.schemas.config.model import Frozen


def named_groups(pattern: str) -> list[str]:
    """Return the names of a regular expression's groups. Raises ValueError when the pattern is invalid."""
    try:
        return list(regex.compile(pattern).groupindex)
    except regex.error as error:
        raise ValueError(f"not a regular expression: {error}") from None


class From(Frozen):
    """Configure where labels come from, how they are renamed, and which are left out."""

    example: ClassVar[str] = "{from: folder}"

    from_: Literal["folder", "annotation", "path"] | None = Field(
        None, alias="from", description="the folder's name, the annotation row, or a group named `label` in the path"
    )
    regex: str | None = None
    map: Annotated[dict[str, str], Field(min_length=1)] | None = Field(
        None, description="names of labels in the dataset, by their names in the corpus"
    )
    default: str | None = Field(
        None, description="for labels in neither `map` nor `classes`; without it they are rejected"
    )
    drop: list[str] = Field(
        default_factory=list, description="labels to leave out, by their name in the corpus or in `map`"
    )

    @field_validator("map", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        return {str(k): as_label(v) for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("default", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return as_label(value)

    @field_validator("drop", mode="before")
    @classmethod
    def _list_of_texts(cls, value: Any) -> Any:
        return [as_label(v) for v in (value if isinstance(value, list) else [value])]

    @model_validator(mode="after")
    def _check(self) -> From:
        if (self.from_ == "path") != (self.regex is not None):
            raise ValueError("`from: path` and `regex` go together")
        if self.regex is not None and "label" not in named_groups(self.regex):
            raise ValueError("the regex needs a group named label: (?P<label>...)")
        if not {"from_", "map", "drop"} & self.model_fields_set:
            raise ValueError("give `from`, `map` or `drop`, as in {from: folder, drop: [noise]}")
        return self


def as_label(value: Any) -> Any:
    """Return a number as the text of a label. Other values are returned unchanged and checked later."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Label = Annotated[
    Annotated[str, Tag("as text")] | Annotated[From, Tag("as mapping")],
    Discriminator(lambda value: "as mapping" if isinstance(value, dict | From) else "as text"),
]
