"""Define the configuration of pictures. Names of colour maps are matplotlib's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from clipmill.schemas.config.model import Frozen, did_you_mean, error_at

Pixels = Annotated[int, Field(ge=1, le=4096)]


def _known_colormap(name: str) -> str:
    import matplotlib  # takes 0.2 s, so only configurations with pictures import it

    if name not in matplotlib.colormaps:
        hint = did_you_mean(name, matplotlib.colormaps) or "; examples are magma, viridis and gray"
        raise ValueError(f"matplotlib has no colour map of this name{hint}")
    return name


class Images(Frozen):
    """Configure how each clip's log-mel is drawn."""

    height: Pixels | None = Field(224, description="in pixels; null: one for each band (of each channel)")
    width: Pixels | None = Field(224, description="in pixels; null: one for each frame")
    resize: Literal["bilinear", "nearest"] = Field("bilinear", description="how the size is changed")
    mode: Literal["rgb", "indexed", "gray"] = Field(
        "indexed", description="three bytes per pixel, one and a palette, or one without colours"
    )
    colormap: Annotated[str, AfterValidator(_known_colormap)] = Field("magma", description="one of matplotlib's")
    range_db: tuple[float, float] | None = Field(
        None, description="dB drawn in the first and the last colour; null: each clip's own least and greatest value"
    )
    reference: Literal["max", "absolute"] = Field(
        "max", description="what range_db counts from: the clip's greatest value, or the log-mel's own 0 dB"
    )

    @model_validator(mode="before")
    @classmethod
    def _shape(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, dict | cls):
            raise ValueError("expected keys and values, as in {height: 224, width: 224}, or {} for the defaults")
        return value

    @field_validator("range_db", mode="before")
    @classmethod
    def _two_numbers(cls, value: Any) -> Any:
        is_pair = isinstance(value, list | tuple) and len(value) == 2 and not any(isinstance(v, bool) for v in value)
        if value is not None and not is_pair:
            raise ValueError("expected two numbers, the dB of the first and of the last colour, as in [-80, 0]")
        return value

    @model_validator(mode="after")
    def _check(self) -> Images:
        if self.range_db is not None and not self.range_db[0] < self.range_db[1]:
            raise error_at("output.images.range_db", "the first number must be the lower one, as in [-80, 0]")
        if self.range_db is None and "reference" in self.model_fields_set:
            raise error_at("output.images.reference", "needs range_db; without it each clip's own range is drawn")
        if self.mode == "gray" and self.model_fields_set & {"colormap"} and self.colormap != "gray":
            raise error_at("output.images.colormap", "mode gray has no colours; use mode rgb or indexed")
        return self

    @property
    def appearance(self) -> dict[str, Any]:
        """Return the settings that affect the pictures: equal for two configurations that draw the same."""
        unused = {"colormap"} if self.mode == "gray" else set()
        return self.model_dump(exclude=unused | ({"reference"} if self.range_db is None else set()))
