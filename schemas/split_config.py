"""The configuration of the split: on which side each clip stands."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.model import Name, Share


class Split(BaseModel):
    """Which side each clip stands on: shares by hash of a field, or a map of a field's values."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)
    __pydantic_extra__: dict[str, Share]

    by: str | None = Field(None, description="recording, or a field; its hash decides")
    from_: str | None = Field(None, alias="from", description="a field whose value `map` turns into a split")
    map: Annotated[dict[str, Name], Field(min_length=1)] | None = None
    default: Name | None = Field(None, description="for values that `map` does not have")
    disjoint: list[str] = Field(
        default_factory=lambda: ["recording"],
        description="recording, or fields, such as a speaker's, no value of which may stand on two sides; [] to check nothing",
    )

    @field_validator("map", mode="before")
    @classmethod
    def _text_keys(cls, value: Any) -> Any:
        return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("disjoint", mode="before")
    @classmethod
    def _one_field(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Split:
        shares = self.shares
        if self.from_ is not None:
            if self.map is None:
                raise ValueError("`from` needs `map`: {value: split}")
            if shares or self.by is not None:
                raise ValueError("give shares with `by`, or `from` with `map`, not both")
        else:
            if self.map is not None or self.default is not None:
                raise ValueError("`map` and `default` need `from`: the field that is mapped")
            if not shares:
                raise ValueError("give at least one share, as in {train: 0.9, test: 0.1}")
            if abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(f"the shares add up to {sum(shares.values()):g}, not to 1")
            for name in shares:
                if not name.isidentifier():
                    raise ValueError(f"{name!r} is no name for a split: letters, digits and _")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Split names with their shares, in the order of the names: the order in a file must not move a clip."""
        return dict(sorted((self.__pydantic_extra__ or {}).items()))

    @property
    def field(self) -> str | None:
        """The field that decides, None for the recording itself."""
        name = self.from_ if self.from_ is not None else self.by
        return None if name in (None, "recording") else name
