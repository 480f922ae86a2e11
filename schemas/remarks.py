"""Define the remarks on recordings that were used but have something unusual. Commits count them; a build's report lists them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

REMARK = pa.struct([("code", pa.string()), ("detail", pa.string())])
"""One remark on a recording. detail : text that says what was found and where."""


@dataclass(frozen=True)
class Remark:
    """Describe one kind of remark.

    code : its name in commits, snapshots and reports
    meaning : what is unusual
    remedy : what the owner of the corpus can do
    """

    code: str
    meaning: str
    remedy: str


REMARKS: dict[str, Remark] = {
    r.code: r
    for r in (
        Remark(
            "speech_cut",
            "speech without a pause is longer than segment.max_s, and was cut where it is least likely to be speech",
            "nothing, if that is acceptable; otherwise raise segment.max_s",
        ),
        Remark(
            "speech_left_out",
            "speech is too short for a clip, and there is no room around it",
            "nothing, if that is acceptable; otherwise lower segment.min_s",
        ),
        Remark(
            "timeline_gap",
            "the recording's timeline has a gap",
            "nothing, if silence is right for the gap; otherwise copy the file again, or set audio.gaps: reject or ignore",
        ),
        Remark(
            "late_start",
            "the audio starts later than the container's first stream",
            "nothing, if times count from the container's start; otherwise set audio.gaps: ignore",
        ),
        Remark(
            "several_tracks",
            "the file has several audio tracks",
            "nothing, if the right track was used; otherwise choose another with audio.track or sources[].track",
        ),
        Remark(
            "antiphase",
            "the mix of the channels is more than 20 dB under the loudest of them",
            "set channels: left, right or each, in audio or in the source, so that the channels are not mixed",
        ),
        Remark(
            "truncated_kept",
            "the file ends early, and its audio was used up to there (audio.truncated: keep)",
            "copy it again if you need the rest",
        ),
        Remark(
            "last_frame_cut",
            "the last frame is incomplete and was left out; the file may have been longer",
            "copy it again if the recording should be longer",
        ),
        Remark(
            "end_unmarked",
            "a part has no end mark before the next part begins; it may have been longer",
            "copy it again if the recording should be longer",
        ),
        Remark(
            "header_wrong",
            "the header states a length that the file does not have; the file's length was used",
            "nothing, unless the recording should have the length in the header; then copy it again",
        ),
        Remark(
            "joined",
            "the file contains several recordings in a row, and all were used",
            "nothing, unless they should be separate recordings; then split the file",
        ),
        Remark(
            "spare_bytes",
            "bytes after the last whole frame of a file without a header were ignored (audio.truncated: keep)",
            "nothing, unless raw.encoding or raw.channels is wrong",
        ),
        Remark(
            "trailing_bytes",
            "bytes after the samples belong to no known chunk or tag and were ignored",
            "nothing, unless they are samples; then correct the length in the file's header",
        ),
    )
}
