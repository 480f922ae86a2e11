"""The configuration of the split: on which side each clip stands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from clipmill.schemas.config.model import Name, Share, did_you_mean, error_at, later


class Split(BaseModel):
    """Which side each clip stands on: shares by hash of a field, or a map of a field's values.

    It stands in no fingerprint: what it decides stands in a shard's key as the split's name.
    """

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

    balance: bool = later(
        False, description="sort the groups by hash and cut the list at the shares, which then hold within one group"
    )
    stratify: Literal["label"] | None = later(None, description="balance the groups of each label by itself")
    method: Literal["intervals", "rendezvous"] = later(
        "intervals", description="how a hash finds its side; rendezvous moves few groups when shares change"
    )

    @model_validator(mode="before")
    @classmethod
    def _shares_are_numbers(cls, given: Any) -> Any:
        """Say what a misspelt key is taken for: any other key is the name of a split, with its share."""
        if not isinstance(given, dict):
            return given
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for name, value in given.items():
            if name not in known and (isinstance(value, bool | list | dict | None) or _is_word(value)):
                raise error_at(
                    f"split.{name}", f"expected a share of the split {name!r}, from 0 to 1{did_you_mean(name, known)}"
                )
        return given

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
        self._check_way()
        return self

    def _check_way(self) -> None:
        if self.by == "label":
            raise error_at(
                "split.by",
                "`by: label` puts all clips of a label on one side, and what is learned of it is never judged, or the other way"
                " round; write `stratify: label` instead, which divides the clips of each label by the shares",
            )
        for key, given in (
            ("balance", self.balance),
            ("stratify", self.stratify),
            ("method", self.method != "intervals"),
        ):
            if given and self.from_ is not None:
                raise error_at(f"split.{key}", f"`{key}` is for shares; with `from` the map alone decides")
        if self.method == "rendezvous" and self.needs_survey:
            key = "stratify" if self.stratify else "balance"
            raise error_at(
                "split.method",
                f"`method: rendezvous` and `{key}` exclude each other: by the one a group's own hash decides, by the other its place"
                " among all groups; leave one of them out",
            )

    @property
    def shares(self) -> dict[str, float]:
        """Split names with their shares, in the order of the names: the order in a file must not move a clip."""
        return dict(sorted((self.__pydantic_extra__ or {}).items()))

    @property
    def expected(self) -> list[str]:
        """The splits that are to be there, sorted: with a share over 0, a value of the map, or the default."""
        if self.map is not None:
            return sorted({*self.map.values(), *([self.default] if self.default is not None else [])})
        return [name for name, share in self.shares.items() if share > 0]

    @property
    def needs_survey(self) -> bool:
        """Whether a clip's side depends on the whole corpus."""
        return self.balance or self.stratify is not None

    @property
    def field(self) -> str | None:
        """The field that decides, None for the recording itself."""
        name = self.from_ if self.from_ is not None else self.by
        return None if name in (None, "recording") else name


def _is_word(value: Any) -> bool:
    """Return whether a value is a text that holds no number."""
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False
