"""Define the base of all configuration models, and the types that they share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, ValidationInfo, field_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


def later(default: Any, **about: Any) -> Any:
    """Return the field of a key that was added after datasets existed.

    The key is part of a fingerprint only when its value is not the default, so that datasets that do not use it keep their
    keys. The default must never change. The other arguments are pydantic's.
    """
    return Field(default, json_schema_extra={_LATER: True}, **about)


_LATER = "later"
"""Mark of such fields, in their `json_schema_extra`."""


def written_as(kind: Any) -> BeforeValidator:
    """Return what declares how a field may be written, where its check takes more than the field's own type. Only the JSON Schema uses it.

    It belongs outermost in a field's `Annotated`, not into a branch of a union.
    """
    return BeforeValidator(_unchanged, json_schema_input_type=kind)


def _unchanged(value: Any) -> Any:
    return value


def fingerprint(model: BaseModel, *, by_alias: bool = False, exclude: frozenset[str] = frozenset()) -> Any:
    """Return a configuration's values as plain data for a digest, without `later` keys that have their default.

    exclude : names of fields to leave out, of this model only
    """
    if isinstance(model, RootModel):  # a list or a map whose keys are the user's: it has no keys that came later
        plain = model.model_dump(mode="json")
        return [list(pair) for pair in plain.items()] if isinstance(plain, dict) else plain  # the order counts
    values: dict[str, Any] = {}
    dumped = model.model_dump(by_alias=by_alias, exclude=set(exclude))
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        extra = field.json_schema_extra
        is_later = isinstance(extra, dict) and bool(extra.get(_LATER))
        if name in exclude or (is_later and value == field.get_default(call_default_factory=True)):
            continue
        key = field.alias if by_alias and field.alias else name
        values[key] = fingerprint(value, by_alias=by_alias) if isinstance(value, BaseModel) else dumped[key]
    return values


def error_at(key: str, message: str) -> ValueError:
    """Return an error about one key, for the check of a whole model. `clipmill.pipelines.config_file` adds the key's line."""
    return ValueError(f"@{key}@{message}")


def nearest(given: object, known: Iterable[str]) -> str | None:
    """Return the known word that a text is probably meant as, None when none is close. Case, `-` and `_` do not count.

    Close means one wrong letter (missing, added, replaced, or two swapped), or one in four of a longer word. A word without its
    last parts, as `hop` for `hop_s`, is close when no other word begins with it.
    """
    if not isinstance(given, str) or not 0 < len(given) <= _LONGEST_WORD:
        return None
    words = {word: _plain(word) for word in known}
    text = _plain(given)
    distances = {word: _distance(text, plain) for word, plain in words.items()}
    best = min(distances, key=lambda word: distances[word], default=None)
    if best is not None and distances[best] <= max(1, max(len(text), len(words[best])) // 4):
        return best
    beginnings = [w for w in words if f"{w}_".startswith(f"{given}_") or f"{given}_".startswith(f"{w}_")]
    return beginnings[0] if len(beginnings) == 1 else None


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """Return ``; did you mean 'left'?`` for a text that is close to a known word, otherwise an empty text."""
    near = nearest(given, known)
    return f"; did you mean {near!r}?" if near is not None else ""


_LONGEST_WORD = 100


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def _distance(a: str, b: str) -> int:
    """Return the number of letters to remove, add, replace, or swap with the next one to turn one word into the other."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


class Frozen(BaseModel):
    """Base of all configuration models: unknown keys are errors, and values never change.

    example : how such a part of a configuration is written, for messages; empty where a list of its keys is enough
    """

    example: ClassVar[str] = ""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `yes` and `true` where a number is expected; pydantic would read them as 1."""
        expected = str(cls.model_fields[str(info.field_name)].annotation)
        inside = value.values() if isinstance(value, dict) and expected.startswith("dict[") else [value]
        truths = [v for v in inside if isinstance(v, bool)]
        if truths and "bool" not in expected and ("float" in expected or "int" in expected):
            or_text = ", or text in quotes" if "str]" in expected else ""
            raise ValueError(f"should be a number{or_text}, not {str(truths[0]).lower()}")
        return value
