"""Define the configuration of the split, which decides the side of each clip."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, field_validator, model_validator

from clipmill.schemas.config.model import Frozen, Name, Share, did_you_mean, error_at, later, written_as


class ListFile(Frozen):
    """Configure a file that lists recordings: one name a line, or a table with a column of names."""

    example: ClassVar[str] = "{file: fold1_test.csv, column: filename}"

    file: str = Field(description="relative to the source's root")
    column: Annotated[int, Field(ge=0)] | str | None = Field(
        None, description="of a table: by name, or by index from 0 if there is no header; without it a line is a name"
    )

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        if not file.strip("/.") or file.startswith("/") or ".." in file.split("/") or "://" in file:
            raise ValueError(f"{file!r} leads out of the source's root")
        return file


def _list_files(value: Any) -> Any:
    """Return the lists of a split as a list of mappings: one name, one mapping, or several of these."""
    several = value if isinstance(value, list) else [value]
    return [{"file": one} if isinstance(one, str) else one for one in several]


_ListFiles = Annotated[
    list[ListFile],
    Field(min_length=1),
    BeforeValidator(_list_files, json_schema_input_type=str | ListFile | list[str | ListFile]),
]


class ListFiles(RootModel[dict[Name, _ListFiles]]):
    """Configure for each split the files that list its recordings."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    @model_validator(mode="after")
    def _check(self) -> ListFiles:
        if not self.root:
            raise ValueError("expected a list for at least one split, as in {test: testing_list.txt}")
        return self


class Split(BaseModel):
    """Configure the side of each clip: shares by the hash of a field, a map of a field's values, or lists of recordings.

    The split is part of no fingerprint. Its result, the split's name, is part of a shard's key.
    """

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)
    __pydantic_extra__: dict[str, Share]

    by: str | None = Field(None, description="recording, or a field; its hash decides")
    from_: str | None = Field(None, alias="from", description="a field whose value `map` turns into a split")
    map: Annotated[dict[str, Name], Field(min_length=1)] | None = Field(
        None, description="splits by the values of the field that `from` names"
    )
    default: Name | None = Field(None, description="for values that `map` does not have, or recordings in no list")
    disjoint: Annotated[list[str], written_as(str | list[str])] = Field(
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
    from_files: ListFiles | None = later(
        None, description="for each split the files that list its recordings, in the roots of the sources"
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
        if self.from_files is not None:
            if shares or self.by is not None or self.from_ is not None or self.map is not None:
                raise ValueError(
                    "give `from_files` with `default`, shares with `by`, or `from` with `map`, but only one of them"
                )
        elif self.from_ is not None:
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
            if is_set and self.from_files is not None:
                raise error_at(f"split.{key}", f"`{key}` needs shares; with `from_files` the lists alone decide")
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
        """Return the names of the splits that should have clips, sorted: shares over 0, values of the map, those with lists, and the default."""
        named = self.map.values() if self.map is not None else self.lists
        if named:
            return sorted({*named, *([self.default] if self.default is not None else [])})
        return [name for name, share in self.shares.items() if share > 0]

    @property
    def lists(self) -> dict[str, list[ListFile]]:
        """Return the files that list recordings by split; empty if something else decides."""
        return self.from_files.root if self.from_files is not None else {}

    @property
    def list_paths(self) -> frozenset[str]:
        """Return the paths of all lists of recordings."""
        return frozenset(one.file for files in self.lists.values() for one in files)

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
