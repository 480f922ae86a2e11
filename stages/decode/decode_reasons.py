"""Why a recording is rejected that was to be decoded."""

from __future__ import annotations

from clipmill.schemas.reasons import Reason

DECODE_REASONS = (
    Reason(
        "not_audio",
        "the content is not audio in any known container",
        "remove the file, or exclude it; samples without a header, as in .pcm and .raw files, are read with sources[].raw",
    ),
    Reason("empty", "the file has no bytes, or a header and no samples", "record or copy it again, or exclude it"),
    Reason(
        "truncated",
        "the file ends before its own structure says it should",
        "copy it again, or set audio.truncated: keep to use what is there; for headerless samples check raw.encoding and raw.channels",
    ),
    Reason("corrupt", "decoding failed part way", "copy it again or repair it; the detail names the place"),
    Reason("undecodable", "neither libsndfile nor FFmpeg can decode this encoding", "convert the file, or exclude it"),
    Reason(
        "bad_format",
        "an impossible sample rate or channel count, or one that changes part way",
        "convert the file to one rate and layout",
    ),
    Reason(
        "unsupported_format",
        "audio in a format that neither libsndfile nor FFmpeg's libraries here can decode; the detail names it",
        "convert it to WAV or FLAC with a program that reads the format",
    ),
    Reason(
        "timeline_gap",
        "a part of the recording is missing in the middle; the detail says where and how long",
        "copy it again, or set audio.gaps: fill to have silence in its place",
    ),
    Reason(
        "track_missing",
        "the file does not have the audio track that track asks for",
        "correct track, or exclude the recording",
    ),
    Reason(
        "recording_too_long",
        "it lasts longer than limits.max_recording_s, or its clips take more temporary space than limits.max_temporary_mb",
        "exclude it, or cut it; after raising the limit, `clipmill retry`",
    ),
    Reason(
        "decoder_failed",
        "clipmill's own code failed on this recording, which is a defect",
        "report it with the detail; convert the file or exclude it",
    ),
    Reason(
        "decoder_crashed",
        "the process that decoded the file died, or took more memory than allowed",
        "convert the file or exclude it; after raising limits.decoder_memory_mb, `clipmill retry`",
    ),
    Reason(
        "decoder_timeout",
        "decoding the file came to a stop",
        "convert the file or exclude it; after raising limits.decoder_timeout_s, `clipmill retry`",
    ),
    Reason("recording_missing", "the file was listed and gone when it was to be read", "build again"),
    Reason("recording_changed", "the file changed between planning and the end of reading", "build again"),
)
