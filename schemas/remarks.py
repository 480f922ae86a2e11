"""What is worth knowing of a recording that was used: the codes, what they mean, what to do. Counted in commits, told at a build's end."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

REMARK = pa.struct([("code", pa.string()), ("detail", pa.string())])
"""One remark on a recording. detail : what was found and where, in words."""


@dataclass(frozen=True)
class Remark:
    """One way in which a recording that was used is out of the ordinary.

    code : stands in commits, snapshots and reports
    meaning : what was found
    remedy : what the owner of the corpus can do
    """

    code: str
    meaning: str
    remedy: str


REMARKS: dict[str, Remark] = {
    r.code: r
    for r in (
        Remark(
            "timeline_gap",
            "a hole in the recording's timeline",
            "nothing, if silence in its place is right; else copy the file again, or set audio.gaps: reject or ignore",
        ),
        Remark(
            "late_start",
            "the audio starts later than the container's first stream",
            "nothing, if times are to count from the container's start; else set audio.gaps: ignore",
        ),
        Remark(
            "several_tracks",
            "the file has several audio tracks",
            "nothing, if the track that was taken is the right one; else choose another with audio.track or sources[].track",
        ),
        Remark(
            "antiphase",
            "the mix of the channels is more than 20 dB under the loudest of them",
            "set channels: left, right or each, in audio or in the source, so that its channels are not mixed",
        ),
        Remark(
            "truncated_kept",
            "the file ends early, and what is there was used (audio.truncated: keep)",
            "copy it again if the rest is wanted",
        ),
        Remark(
            "last_frame_cut",
            "the last frame is not whole, and was left out: the file may have been longer",
            "copy it again if the recording should be longer",
        ),
        Remark(
            "end_unmarked",
            "nothing marks the end of a part before the next one begins: it may have been longer",
            "copy it again if the recording should be longer",
        ),
        Remark(
            "header_wrong",
            "the header states another length than the file has, and the file was believed",
            "nothing, unless the recording should have the length that the header states: then copy it again",
        ),
        Remark(
            "joined",
            "the file holds several recordings one behind the other, and all were used",
            "nothing, unless they should be recordings of their own: then cut the file into these",
        ),
        Remark(
            "trailing_bytes",
            "bytes behind the samples belong to no chunk and no tag that clipmill knows, and were not used",
            "nothing, unless they are samples: then correct the length in the file's header",
        ),
    )
}
