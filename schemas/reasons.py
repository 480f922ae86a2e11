"""Why something was rejected, and by which rule a clip was dropped: the codes, what they mean, what to do.

Here are the reasons for which nothing is read at all. A stage declares its own; `clipmill.pipelines.chain` knows all of them.
"""

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


PLAN_REASONS = (
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
    Reason("annotation_negative", "the range starts before 0", "correct the row"),
    Reason("annotation_end_before_start", "the range is empty or runs backwards", "correct the row"),
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
    Reason("label_missing", "there is no label where the source takes it from", "add the label, or set label.default"),
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
)
"""What listing, annotations and the plan reject."""

INPUT_CHANGED = frozenset({"recording_missing", "recording_changed"})
"""Reasons that say the plan no longer describes the input. What was built is then not what the plan's key promises."""
