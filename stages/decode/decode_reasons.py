"""The reasons for which decoding rejects a recording."""

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
        "copy it again, or set audio.truncated: keep to use the part that exists; for headerless samples check raw.encoding and raw.channels",
    ),
    Reason("corrupt", "decoding failed partway", "copy it again or repair it; the detail names the place"),
    Reason("undecodable", "neither libsndfile nor FFmpeg can decode this encoding", "convert the file, or exclude it"),
    Reason(
        "bad_format",
        "an impossible sample rate or channel count, or one that changes partway",
        "convert the file to one rate and layout",
    ),
    Reason(
        "unsupported_format",
        "audio in a format that neither libsndfile nor the bundled FFmpeg libraries can decode; the detail names it",
        "convert it to WAV or FLAC with a program that reads the format",
    ),
    Reason(
        "timeline_gap",
        "part of the recording is missing in the middle; the detail says where and how much",
        "copy it again, or set audio.gaps: fill to replace it with silence",
    ),
    Reason(
        "track_missing",
        "the file does not have the audio track that `track` asks for",
        "correct track, or exclude the recording",
    ),
    Reason(
        "recording_too_long",
        "it is longer than limits.max_recording_s, or its clips take more temporary space than limits.max_temporary_mb",
        "exclude or split it; or raise the limit and run `clipmill retry`",
    ),
    Reason(
        "decoder_failed",
        "clipmill's own code failed on this recording, which is a bug",
        "report it with the detail; convert or exclude the file",
    ),
    Reason(
        "decoder_crashed",
        "the process that decoded the file crashed or used more memory than allowed",
        "convert or exclude the file; or raise limits.decoder_memory_mb and run `clipmill retry`",
    ),
    Reason(
        "decoder_timeout",
        "the decoder made no progress for too long",
        "convert or exclude the file; or raise limits.decoder_timeout_s and run `clipmill retry`",
    ),
    Reason("recording_missing", "the file was listed but no longer exists", "build again"),
    Reason("recording_changed", "the file changed after it was planned or while it was read", "build again"),
)
