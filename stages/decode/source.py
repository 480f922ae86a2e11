"""The settings of a source that decoding needs."""

from __future__ import annotations

from dataclasses import dataclass

from clipmill.schemas.config import Segment
from clipmill.schemas.config.audio_config import Track
from clipmill.schemas.config.raw_config import Raw
from clipmill.stages.decode.first_pass import FirstPass
from clipmill.stages.storage.root import Root


@dataclass(frozen=True)
class DecodeSource:
    """The settings of a source that decoding needs.

    root : the folder or store that holds the recordings
    segment : how clips are cut
    time_unit : unit of the annotations, s | ms | samples
    version : how a recording's version is determined, auto | sha256
    track : which audio track of a file with several to read
    raw : sample format of files without a header, None where files have a header
    tolerance_s : how far an annotation may reach beyond the recording's end
    only_labels : whether annotations label clips, and cut none
    needs_lengths : whether how long an annotation is decides whether it labels a clip
    first_pass : what to find out about a whole recording before clips are cut from it; None: nothing
    """

    root: Root
    segment: Segment
    time_unit: str = "s"
    version: str = "auto"
    track: Track = "default"
    raw: Raw | None = None
    tolerance_s: float = 0.0
    only_labels: bool = False
    needs_lengths: bool = False
    first_pass: FirstPass | None = None
