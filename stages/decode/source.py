"""What Decode must know of a source."""

from __future__ import annotations

from dataclasses import dataclass

from clipmill.schemas.config import Segment
from clipmill.schemas.config.audio_config import Track
from clipmill.schemas.config.raw_config import Raw
from clipmill.stages.storage.root import Root


@dataclass(frozen=True)
class DecodeSource:
    """What Decode must know of a source.

    time_unit : s | ms | samples, of the annotations
    version : auto | sha256
    track : which audio track of a file that has several
    raw : what the samples of files without a header are, None where files have one
    tolerance_s : how far an annotation may reach beyond the recording's end
    """

    root: Root
    segment: Segment
    time_unit: str = "s"
    version: str = "auto"
    track: Track = "default"
    raw: Raw | None = None
    tolerance_s: float = 0.0
