"""Define the configuration of files without a header."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clipmill.schemas.config.model import Frozen


class Raw(Frozen):
    """Configure the sample format of files without a header, which do not state it themselves."""

    example: ClassVar[str] = "{sample_rate_hz: 16000, encoding: s16le}"

    sample_rate_hz: Annotated[int, Field(ge=1000, le=1_000_000)] = Field(description="of the files")
    channels: Annotated[int, Field(ge=1, le=1024)] = Field(1, description="samples of so many channels take turns")
    encoding: Literal[
        "s16le",
        "s16be",
        "s24le",
        "s24be",
        "s32le",
        "s32be",
        "f32le",
        "f32be",
        "f64le",
        "f64be",
        "u8",
        "s8",
        "mulaw",
        "alaw",
    ] = Field(
        description="of a sample: signed, unsigned or float, number of bits, least or most significant byte first"
    )

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one sample of every channel."""
        bits = "".join(c for c in self.encoding if c.isdigit())
        return self.channels * (int(bits) // 8 if bits else 1)

    @property
    def bytes_per_second(self) -> int:
        """Return the bytes of one second of all channels."""
        return self.frame_bytes * self.sample_rate_hz


def names_extension(pattern: str) -> bool:
    """Return whether a pattern ends in an explicit extension, and so also selects files that are not known as audio."""
    suffix = PurePosixPath(pattern).suffix
    return len(suffix) > 1 and "*" not in suffix and "?" not in suffix
