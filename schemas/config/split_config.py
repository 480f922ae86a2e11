"""Define the configuration of the split, which decides the side of each clip."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from clipmill.schemas.config.model import Name, Share, did_you_mean, error_at, later


class Split(BaseModel):
    """Configure the side of each clip: shares by the hash of a field, or a map of a field's values.

    The split is part of no fingerprint. Its result, the split's name, is part of a shard's key.
    """

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)
    __pydantic_extra__: dict[str, Share]

    by: str | None = Field(None, description="recording, or a field; its hash decides")
    from_: str | None = Field(None, alias="from", description="a field whose value `map` turns into a split")
    map: Annotated[dict[str, Name], Field(min_length=1)] | None = None
    default: Name | None = Field(None, description="for values that `map` does not have")
    disjoint: list[str] = Field(
        default_factory=lambda: ["recording"],
        description="recording, or fields, such as a speaker's, no value of which may be on two sides; [] to check nothing",
    )

    balance: bool = later(
        False,
        description="sort the groups by hash and cut the list at the shares, which are then exact up to one group",
    )
    stratify: Literal["label"] | None = later(None, description="balance the groups of each label separately")
    method: Literal["intervals", "rendezvous"] = later(
        "intervals", description="how a hash selects a side; rendezvous moves few groups when shares change"
    )

    @model_validator(mode="before")
    @classmethod
    def _shares_are_numbers(cls, data: Any) -> Any:
        """Refuse a misspelt key with a message: every unknown key is the name of a split, whose value must be a share."""
        if not isinstance(data, dict):
            return data
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for name, value in data.items():
            if name not in known and (isinstance(value, bool | list | dict | None) or _is_word(value)):
                raise error_at(
                    f"split.{name}", f"expected a share of the split {name!r}, from 0 to 1{did_you_mean(name, known)}"
                )
        return data

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
                    raise ValueError(f"{name!r} cannot be the name of a split; use letters, digits and _")
        self._check_way()
        return self

    def _check_way(self) -> None:
        if self.by == "label":
            raise error_at(
                "split.by",
                "`by: label` puts all clips of a label on one side, so a label is trained or evaluated but never both; write"
                " `stratify: label` instead, which divides the clips of each label by the shares",
            )
        for key, is_set in (
            ("balance", self.balance),
            ("stratify", self.stratify),
            ("method", self.method != "intervals"),
        ):
            if is_set and self.from_ is not None:
                raise error_at(f"split.{key}", f"`{key}` needs shares; with `from` the map alone decides")
        if self.method == "rendezvous" and self.needs_survey:
            key = "stratify" if self.stratify else "balance"
            raise error_at(
                "split.method",
                f"`method: rendezvous` and `{key}` exclude each other: the first uses only a group's own hash, the second its place"
                " among all groups; remove one of them",
            )

    @property
    def shares(self) -> dict[str, float]:
        """Return the shares by split, sorted by name, so that the order in the file does not move clips."""
        return dict(sorted((self.__pydantic_extra__ or {}).items()))

    @property
    def expected(self) -> list[str]:
        """Return the names of the splits that should have clips, sorted: shares over 0, values of the map, and the default."""
        if self.map is not None:
            return sorted({*self.map.values(), *([self.default] if self.default is not None else [])})
        return [name for name, share in self.shares.items() if share > 0]

    @property
    def needs_survey(self) -> bool:
        """Return whether a clip's side depends on the whole corpus."""
        return self.balance or self.stratify is not None

    @property
    def field(self) -> str | None:
        """Return the field that decides, None for the recording itself."""
        name = self.from_ if self.from_ is not None else self.by
        return None if name in (None, "recording") else name


def _is_word(value: Any) -> bool:
    """Return whether a value is a text that is not a number."""
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False


_TRAINING = "train"


def is_training(split: str) -> bool:
    """Return whether a split is for training, judged by its name."""
    return split.lower().startswith(_TRAINING)
