"""Define where a dataset is written, and in which formats."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from clipmill.schemas.config.address import check_address
from clipmill.schemas.config.image_config import Images
from clipmill.schemas.config.model import Frozen, later, written_as
from clipmill.schemas.keys import OLD_CLIP_ID_BITS


def _parquet() -> list[Literal["parquet", "webdataset"]]:
    return ["parquet"]


class Output(Frozen):
    """Configure where the dataset is written, and in which formats."""

    root: str = Field(description="folder or address of the dataset")
    storage_options: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="endpoint and credentials of a store; see docs/s3.md"
    )
    formats: Annotated[list[Literal["parquet", "webdataset"]], Field(min_length=1)] = Field(
        default_factory=_parquet, description="of shards"
    )
    audio_codec: Literal["flac", "wav"] = Field("flac", description="of clips; both lose nothing")
    shard_seconds: Annotated[float, Field(ge=1, le=86400)] = Field(
        1800.0, description="audio of clips in a shard, roughly"
    )
    images: Annotated[Images | None, written_as(Images | bool | None)] = Field(
        None, description="a PNG of each clip's log-mel"
    )
    clip_id_bits: Literal[48, 128] | None = later(
        None,
        description="width of the hash in clips' ids: 128 in new datasets, 48 to compare one with a dataset of an older clipmill",
    )
    features: Literal["inside", "beside"] = later(
        "inside",
        description="where features and pictures lie: in the shards, or in files of their own beside these, so that a change of them"
        " neither rewrites nor uploads audio",
    )

    @field_validator("images", mode="before")
    @classmethod
    def _bare_key(cls, value: Any) -> Any:
        return {} if value is True else None if value is False else value

    @field_validator("formats")
    @classmethod
    def _each_once(cls, formats: list[str]) -> list[str]:
        if len(set(formats)) < len(formats):
            raise ValueError("names a format twice")
        return formats

    @property
    def has_wide_clip_ids(self) -> bool:
        """Whether the ids of clips have more bits than those of datasets that an older clipmill began."""
        return self.clip_id_bits not in (None, OLD_CLIP_ID_BITS)

    @field_validator("root")
    @classmethod
    def _no_credentials(cls, root: str) -> str:
        return check_address(root)
