"""Define the reasons for which recordings, annotations and clips are rejected.

This module has the reasons of the plan, which reads no audio. Each stage declares its own; `clipmill.pipelines.chain` collects all of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Describe one reason for rejecting a recording, an annotation or a clip.

    code : its name in rejections, commits and reports
    meaning : what is wrong
    remedy : what the owner of the corpus can do
    """

    code: str
    meaning: str
    remedy: str


PLAN_REASONS = (
    Reason("unreadable", "no permission to read the file", "grant read access, then build again"),
    Reason(
        "link_outside_root",
        "a symbolic link leads out of the source's root",
        "copy the file into the root, or set follow_links: true for this source",
    ),
    Reason("bad_name", "the file name is not valid UTF-8", "rename the file"),
    Reason(
        "label_not_in_path",
        "the recording's path does not contain the label or a field that the configuration takes from it",
        "correct label or fields in the configuration, or exclude the recording",
    ),
    Reason(
        "annotation_unreadable",
        "the annotation file is not of its format, or does not fit the configuration; see the detail",
        "save it as UTF-8 CSV, or correct annotations.header, annotations.columns or annotations.delimiter",
    ),
    Reason(
        "annotation_missing_column",
        "the row lacks a column that the configuration names",
        "correct the row, or annotations.columns",
    ),
    Reason(
        "annotation_join_conflict",
        "annotations that are joined give one row different values of a field",
        "correct one of the files, or carry the columns under different names by annotations.fields",
    ),
    Reason(
        "annotation_malformed",
        "the row does not have the form that annotations.format prescribes",
        "correct the row, or check annotations.format",
    ),
    Reason(
        "annotation_not_a_number",
        "start, end or duration is not a finite number",
        "correct the row, or check annotations.time_unit and annotations.decimal",
    ),
    Reason(
        "annotation_ambiguous_number",
        "the separator in the file's times can mean thousands or decimals, as in 16,000; none of its rows is read",
        "set annotations.decimal",
    ),
    Reason(
        "annotation_split_number",
        "the row has more cells than the header has columns, and its times look split at a comma, as 1,500 and 0,5 are in a file"
        " with commas",
        "quote numbers that contain the delimiter, or save the file with another delimiter",
    ),
    Reason(
        "annotation_fraction_of_sample",
        "a time in samples is not a whole number",
        "correct the row, or check annotations.time_unit",
    ),
    Reason(
        "annotation_is_header",
        "the first row is a header, but annotations.header is false",
        "set annotations.header: true, or remove the row",
    ),
    Reason(
        "annotation_not_a_channel",
        "the row's channel is not a whole number from 1 up",
        "correct the row, or annotations.columns.channel",
    ),
    Reason("annotation_negative", "the range starts before 0", "correct the row"),
    Reason("annotation_end_before_start", "the range ends before it starts, or is empty", "correct the row"),
    Reason(
        "recording_not_found",
        "the row names a recording that the source does not have",
        "add the recording, or correct the row or annotations.recording",
    ),
    Reason(
        "recording_ambiguous",
        "the row's name matches several recordings",
        "give the full path or the extension in the table, or narrow include",
    ),
    Reason("label_missing", "the label is empty or missing", "add the label, or set label.default"),
    Reason(
        "label_not_mapped",
        "the label is not in label.map",
        "add the label to label.map, set label.default, or exclude the label with label.drop",
    ),
    Reason(
        "label_not_a_class",
        "the label is not one of classes",
        "add the label to classes, rename it with label.map, or set label.default",
    ),
    Reason(
        "text_too_long",
        "the row's text has more characters than are read",
        "cut the recording and its transcript into parts, or correct sources[].text",
    ),
    Reason(
        "label_not_a_list",
        "the label is a JSON array that does not hold texts",
        "correct the row; write the labels as texts with a separator, or as an array of texts",
    ),
    Reason(
        "label_column_missing",
        "the row has none of the columns that an entry of label.one_hot names",
        "correct label.one_hot; columns that annotations does not carry are no columns here: see annotations.fields and extra_columns",
    ),
    Reason(
        "label_not_a_number",
        "the value in a column of label.one_hot is neither a number nor true or false",
        "correct the row, or leave the column out of label.one_hot",
    ),
    Reason(
        "split_field_missing",
        "the field that decides the split is empty or missing",
        "fill in the field, or split by something else",
    ),
    Reason(
        "split_not_mapped",
        "the field's value is not in split.map",
        "add the value to split.map, or set split.default",
    ),
    Reason(
        "split_not_listed",
        "no list of split.from_files names the recording",
        "add it to a list, set split.default, or exclude it",
    ),
    Reason(
        "split_in_two_lists",
        "the lists of two splits name the recording",
        "remove it from one of the lists",
    ),
)
"""Reasons of the listing, of the annotations and of the plan."""

INPUT_CHANGED = frozenset({"recording_missing", "recording_changed"})
"""Reasons that mean that the input has changed since it was planned. What was built then does not match the plan's key."""
