"""Define the configuration of transcripts: where a clip's text comes from, and how it is made uniform."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import regex
from pydantic import Field, field_validator, model_validator

from clipmill.schemas.config.model import Frozen, written_as

TEXT, RAW_TEXT = "text", "text_raw"
"""Fields of a clip: its text, and the text as the corpus has it."""
MAX_REPLACEMENT = 100
"""Most characters that replace one place in a text, so that a text cannot grow without bounds."""


def _pattern(pattern: str) -> str:
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


class Dual(Frozen):
    r"""Configure transcripts that are written twice in one place, as in ``(70%)/(seventy percent)``.

    pattern : matches such a place; its groups are the ways of writing
    use : number of the group that is kept, from 1
    """

    example: ClassVar[str] = "{use: 1}"

    pattern: str = Field(
        r"\(([^()]*)\)/\(([^()]*)\)", description="matches such a place; its groups are the ways of writing"
    )
    use: Annotated[int, Field(ge=1, le=99)] = Field(description="number of the group that is kept, from 1")

    @model_validator(mode="after")
    def _check(self) -> Dual:
        n_groups = regex.compile(_pattern(self.pattern)).groups
        if self.use > n_groups:
            raise ValueError(f"use: {self.use} is not a group of the pattern, which has {n_groups}")
        return self


class Rewrite(Frozen):
    """Configure what takes the place of each match of a pattern. `with_` may refer to groups, as in ``\\1``."""

    example: ClassVar[str] = r"{pattern: '(\d+) ?kg', with: '\1 kilograms'}"

    pattern: str = Field(description="regular expression")
    with_: str = Field(
        alias="with", max_length=MAX_REPLACEMENT, description=r"what takes the place of a match; \1 is a group"
    )

    @model_validator(mode="after")
    def _check(self) -> Rewrite:
        compiled = regex.compile(_pattern(self.pattern))
        # A group that does not exist is only found when there is a match, so one is tried that has all of them.
        groups = "".join(f"(?P<{name}>)" if name else "()" for name in _group_names(compiled))
        try:
            regex.compile(groups).sub(self.with_, "")
        except (regex.error, IndexError) as error:
            raise ValueError(
                f"with: {self.with_!r} does not fit the pattern, which has {compiled.groups} groups: {error}"
            ) from None
        return self


def _group_names(compiled: Any) -> list[str]:
    names = [""] * compiled.groups
    for name, number in compiled.groupindex.items():
        names[number - 1] = name
    return names


class Text(Frozen):
    """Configure a clip's field `text`. The keys are applied in the order in which they stand here."""

    example: ClassVar[str] = "{from: transcript, lower: true}"

    from_: str = Field(
        TEXT, alias="from", min_length=1, description="a field of the row or of the path, or `label`, the row's label"
    )
    keep_raw: Annotated[bool, written_as(bool | None)] = Field(
        False, description="also store what the corpus has, as the field text_raw"
    )
    normalise: Literal["nfc", "nfd", "nfkc", "nfkd", "none"] = Field("nfc", description="form of Unicode")
    dual: Dual | None = Field(None, description="places that are written twice")
    remove: Annotated[list[str], written_as(str | list[str])] = Field(
        default_factory=list, description="patterns of what is removed"
    )
    rewrite: list[Rewrite] = Field(default_factory=list, description="patterns, and what takes their place")
    replace: dict[str, Annotated[str, Field(max_length=MAX_REPLACEMENT)]] = Field(
        default_factory=dict, description="texts, and what takes their place, all at once"
    )
    lower: Annotated[bool, written_as(bool | None)] = Field(False, description="to small letters")
    upper: Annotated[bool, written_as(bool | None)] = Field(False, description="to capital letters")
    collapse_spaces: Annotated[bool, written_as(bool | None)] = Field(
        True, description="white space, line breaks too, becomes one space"
    )
    strip: Annotated[bool, written_as(bool | None)] = Field(True, description="no white space at either end")

    @field_validator("lower", "upper", "collapse_spaces", "strip", "keep_raw", mode="before")
    @classmethod
    def _bare_key(cls, value: Any) -> Any:
        """Take a key without a value for yes, as in {strip, lower}."""
        return True if value is None else value

    @field_validator("remove", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("remove")
    @classmethod
    def _patterns(cls, patterns: list[str]) -> list[str]:
        return [_pattern(pattern) for pattern in patterns]

    @field_validator("replace")
    @classmethod
    def _no_empty_key(cls, replace: dict[str, str]) -> dict[str, str]:
        if "" in replace:
            raise ValueError("an empty text stands everywhere, so nothing can take its place; leave it out")
        return replace

    @model_validator(mode="after")
    def _check(self) -> Text:
        if self.lower and self.upper:
            raise ValueError("`lower` and `upper` exclude each other; leave one of them out")
        return self
