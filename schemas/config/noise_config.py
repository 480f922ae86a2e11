"""Define the list `noises` of a configuration: trees of noises and impulse responses, of which no clips are made."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from clipmill.schemas.config.address import check_address
from clipmill.schemas.config.model import Frozen, Name


class Noise(Frozen):
    """Configure one tree of noises or impulse responses, which `augment` mixes into copies of clips."""

    name: Name = Field(description="by which `augment` refers to it")
    root: str = Field(description="folder or address")
    storage_options: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="endpoint and credentials of a store; see docs/s3.md"
    )
    include: list[str] = Field(default_factory=lambda: ["**/*"], description="patterns, as in sources")
    exclude: list[str] = Field(default_factory=list, description="patterns of what is left out")

    @field_validator("root")
    @classmethod
    def _no_credentials(cls, root: str) -> str:
        return check_address(root)
