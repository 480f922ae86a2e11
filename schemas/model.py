"""The base of all configuration models, and the types that they share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


def error_at(key: str, message: str) -> ValueError:
    """Return an error about one key that a check of a whole found. `schemas.config_file` gives it the key's line."""
    return ValueError(f"@{key}@{message}")


class Frozen(BaseModel):
    """Base of all configuration: unknown keys are errors, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `yes` and `true` where a number is asked for; pydantic reads them as 1."""
        if isinstance(value, bool) and "bool" not in str(cls.model_fields[str(info.field_name)].annotation):
            wanted = str(cls.model_fields[str(info.field_name)].annotation)
            if "float" in wanted or "int" in wanted:
                raise ValueError(f"should be a number, not {str(value).lower()}")
        return value
