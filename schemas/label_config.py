"""The configuration of labels: where a clip's label comes from."""

from __future__ import annotations

from typing import Annotated, Literal

import regex
from pydantic import Discriminator, Field, Tag, model_validator

from schemas.model import Frozen


def named_groups(pattern: str) -> list[str]:
    """Return the names of a regular expression's groups. Raises ValueError when it is none."""
    try:
        return list(regex.compile(pattern).groupindex)
    except regex.error as error:
        raise ValueError(f"not a regular expression: {error}") from None


class From(Frozen):
    """Where a label comes from: the folder's name, the annotation row, or a group named `label` in the path."""

    from_: Literal["folder", "annotation", "path"] = Field(alias="from")
    regex: str | None = None

    @model_validator(mode="after")
    def _check(self) -> From:
        if (self.from_ == "path") != (self.regex is not None):
            raise ValueError("`from: path` and `regex` go together")
        if self.regex is not None and "label" not in named_groups(self.regex):
            raise ValueError("the regex needs a group named label: (?P<label>...)")
        return self


Label = Annotated[
    Annotated[str, Tag("as text")] | Annotated[From, Tag("as mapping")],
    Discriminator(lambda value: "as mapping" if isinstance(value, dict | From) else "as text"),
]
