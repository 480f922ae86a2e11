"""Why something was rejected, and by which rule a clip was dropped: the codes, what they mean, what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """One way in which a recording, an annotation or a clip is rejected.

    code : stands in rejections, commits and reports
    meaning : what was found
    remedy : what the owner of the corpus can do
    """

    code: str
    meaning: str
    remedy: str


REASONS: dict[str, Reason] = {
    r.code: r
    for r in (
        # Recordings
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
        Reason(
            "undecodable", "neither libsndfile nor FFmpeg can decode this encoding", "convert the file, or exclude it"
        ),
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
            "channel_missing",
            "the recording does not have a channel that channels asks for",
            "correct channels, or exclude the recording",
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
        Reason("unreadable", "no permission to read the file", "grant read access, then build again"),
        Reason(
            "link_outside_root",
            "a symbolic link leads out of the source's root",
            "copy the file into the root, or set follow_links: true for this source",
        ),
        Reason("bad_name", "the file's name is not valid UTF-8", "rename the file"),
        Reason(
            "label_not_in_path",
            "the recording's path does not give the label or the fields that it should",
            "correct label or fields, or exclude the recording",
        ),
        # Annotations
        Reason(
            "annotation_unreadable",
            "the annotation file is no table of text, or its header is not what the configuration says; the detail says which",
            "save it as UTF-8 CSV, or correct annotations.header, annotations.columns or annotations.delimiter",
        ),
        Reason(
            "annotation_missing_column",
            "the row lacks a column that the configuration names",
            "correct the row, or annotations.columns",
        ),
        Reason(
            "annotation_not_a_number",
            "start, end or duration is not a finite number",
            "correct the row, or check annotations.time_unit and annotations.decimal",
        ),
        Reason(
            "annotation_ambiguous_number",
            "every time of the file that has a separator can be thousands or thousandths, as 16,000 can; none of its rows is read",
            "set annotations.decimal",
        ),
        Reason(
            "annotation_split_number",
            "the row has more cells than the header has columns, and its times look cut at a comma in them, as 1,500 and 0,5 are in a file"
            " with commas",
            "quote numbers that hold the delimiter, or save the file with another one",
        ),
        Reason(
            "annotation_fraction_of_sample",
            "a time that counts samples is no whole number",
            "correct the row, or check annotations.time_unit",
        ),
        Reason(
            "annotation_is_header",
            "the first row is a header, and annotations.header is false",
            "set annotations.header: true, or remove the row",
        ),
        Reason(
            "annotation_not_a_channel",
            "the row's channel is no whole number, counted from 1",
            "correct the row, or annotations.columns.channel",
        ),
        Reason(
            "annotation_channel_missing",
            "the recording does not have the channel that the row names",
            "correct the row; channels are counted from 1 there",
        ),
        Reason("annotation_negative", "the range starts before 0", "correct the row"),
        Reason("annotation_end_before_start", "the range is empty or runs backwards", "correct the row"),
        Reason(
            "annotation_out_of_range",
            "the range lies beyond the end of the recording",
            "correct the row, check annotations.time_unit, or raise annotations.end_tolerance_s",
        ),
        Reason(
            "recording_not_found",
            "the row names a recording that the source does not have",
            "add the recording, or correct the row or annotations.recording",
        ),
        Reason(
            "recording_ambiguous",
            "the row's name fits several recordings",
            "name the full path or extension in the table, or narrow include",
        ),
        Reason("recording_rejected", "the annotation's recording was rejected", "see the recording's own rejection"),
        Reason(
            "label_missing", "there is no label where the source takes it from", "add the label, or set label.default"
        ),
        Reason(
            "label_not_mapped",
            "the label is not in label.map",
            "add the label to label.map, set label.default, or leave the label out with label.drop",
        ),
        Reason(
            "label_not_a_class",
            "the label is not among classes",
            "add the label to classes, give it another name with label.map, or set label.default",
        ),
        Reason(
            "split_field_missing",
            "the field that decides the split is empty or unknown",
            "fill in the field, or split by something else",
        ),
        Reason(
            "split_not_mapped",
            "the field's value is not in split.map",
            "add the value to split.map, or set split.default",
        ),
        # Clips
        Reason(
            "clip_too_long",
            "the clip is longer than segment.max_clip_s",
            "cut it by windows, or raise segment.max_clip_s",
        ),
        Reason("clip_empty", "the range holds no sample at the target rate", "correct the row"),
        Reason(
            "clip_too_short_for_features",
            "fewer samples than one analysis frame and center is off",
            "set center: true, or drop such clips",
        ),
        Reason("clip_not_finite", "samples are not finite numbers", "repair the recording"),
        Reason(
            "features_not_finite",
            "a feature is beyond what its stored type holds, as of samples far over full scale",
            "bring the recording to full scale 1.0, or set features.dtype: float32",
        ),
    )
}

INPUT_MOVED = frozenset({"recording_missing", "recording_changed"})
"""Reasons that say the plan no longer describes the input. What was built is then not what the plan's key promises."""

DROP_RULES: dict[str, str] = {
    "silence": "level under silence.min_dbfs",
    "tail": "a last window that is not full, with segment.tail: drop",
    "keep_every": "not the first of every segment.keep_every windows",
}
