"""Describe how a plan interpreted annotations that can be read in several ways."""

from __future__ import annotations

READ_AS = "read_as_"
"""Beginning of the codes that tell which format was taken for how many files."""

ANNOTATION_NOTES = {
    "rows_to_the_end": ("row has no end and extends to the end of its recording", "rows have no end and extend to the end of their recording"),
    "starts_cut": ("row starts slightly before its recording and was cut at 0", "rows start slightly before their recording and were cut at 0"),
    "rows_too_wide": (
        "row has more cells than the header has columns, and the extra cells are ignored; quote cells that contain the delimiter",
        "rows have more cells than the header has columns, and the extra cells are ignored; quote cells that contain the delimiter",
    ),
    "empty_sidecars": ("recording has an annotation file without rows", "recordings have an annotation file without rows"),
    "rows_without_event": (
        "row names a recording and no event: nothing is to be heard in it",
        "rows name a recording and no event: nothing is to be heard in it",
    ),
    "tables_without_rows": ("table of annotations has no rows", "tables of annotations have no rows"),
    "sources_of_one_tree": (
        "source lists the recordings of another one",
        "sources list the same recordings; each counts once for every source, and as without annotations where a source has none for it",
    ),
    "files_read_unquoted": (
        "annotation file has quotes that do not pair up; they were read as text (annotations.quote)",
        "annotation files have quotes that do not pair up; they were read as text (annotations.quote)",
    ),
    "frequency_ranges": ("frequency range of an Audacity label was ignored", "frequency ranges of Audacity labels were ignored"),
    "headers_like_rows": (
        "annotation file has a header that looks like a label; if its first row is data, set annotations.header: false",
        "annotation files have headers that look like labels; if their first rows are data, set annotations.header: false",
    ),
    "rows_like_headers": (
        "annotation file has a first row that looks like a header; if it is one, set annotations.header: true",
        "annotation files have first rows that look like headers; if they are, set annotations.header: true",
    ),
    "headers_with_numbers": (
        "annotation file has numbers in its header; if its first row is data, set annotations.header: false and give columns by index",
        "annotation files have numbers in their headers; if their first rows are data, set annotations.header: false and give columns"
        " by index",
    ),
    "roles_not_named": (
        "annotation file has a column named like a role, and annotations.columns does not list it",
        "annotation files have columns named like roles, and annotations.columns does not list them",
    ),
    "labels_dropped": (
        "row has several labels, and some of them are left out by label.drop",
        "rows have several labels, and some of them are left out by label.drop",
    ),
    "fields_of_rows": (
        "recording has fields that differ between its rows; clips that rows label by overlap have no value of them",
        "recordings have fields that differ between their rows; clips that rows label by overlap have no value of them",
    ),
    "rows_without_join": (
        "row has no counterpart in annotations that are joined to it",
        "rows have no counterpart in annotations that are joined to them",
    ),
    "rows_with_several_counterparts": (
        "row has several counterparts in annotations that are joined to it, which fit equally well; the first was taken",
        "rows have several counterparts in annotations that are joined to them, which fit equally well; the first was taken",
    ),
    "rows_joined_to_none": (
        "row of joined annotations is the best fit of no row of the first ones and was left out",
        "rows of joined annotations are the best fit of no row of the first ones and were left out",
    ),
    "records_passed_over": (
        "record of an annotation file is not about a stretch of audio and was passed over",
        "records of annotation files are not about a stretch of audio and were passed over",
    ),
    "texts_empty": ("text is empty after the rules of sources[].text", "texts are empty after the rules of sources[].text"),
    "texts_missing": (
        "row or recording lacks the field of sources[].text.from and has no text",
        "rows or recordings lack the field of sources[].text.from and have no text",
    ),
    "utterances_without_segment": (
        "utterance of a Kaldi directory has a text or a speaker and no audio there, and was left out",
        "utterances of Kaldi directories have a text or a speaker and no audio there, and were left out",
    ),
    "commands_not_run": (
        "row is about a recording that is the output of a command, which is never run; the recording was looked up by its name",
        "rows are about recordings that are outputs of commands, which are never run; the recordings were looked up by their names",
    ),
    "events_not_present": (
        "event of AudioSet is marked as not present and was passed over",
        "events of AudioSet are marked as not present and were passed over",
    ),
    "cuts_not_of_a_file": (
        "cut or recording of a Lhotse manifest is mixed, padding, in memory, or changed in speed, so that no file holds it, and was passed over",
        "cuts or recordings of Lhotse manifests are mixed, padding, in memory, or changed in speed, so that no file holds them, and were"
        " passed over",
    ),
    "cuts_without_supervisions": (
        "cut of a Lhotse manifest has no supervisions and was passed over",
        "cuts of Lhotse manifests have no supervisions and were passed over",
    ),
    "transforms_not_applied": (
        "row is about a recording with transforms, which are not applied",
        "rows are about recordings with transforms, which are not applied",
    ),
    "rows_of_one_file": (
        "row is about channels in several files and uses the file of the first",
        "rows are about channels in several files and use the file of the first",
    ),
    "records_repeated": (
        "record of an annotation file repeats another one and was left out",
        "records of annotation files repeat others and were left out",
    ),
    "times_interpolated": (
        "row has a time that its file does not give and that was put between its neighbours",
        "rows have a time that their files do not give and that was put between its neighbours",
    ),
    "times_shared": (
        "row is one of several that divide an annotation, and has all of its time",
        "rows are several that divide an annotation, and have all of its time",
    ),
    "times_shifted": (
        "time of a row was moved to that of its recording, as TIME_ORIGIN of its file says",
        "times of rows were moved to those of their recordings, as TIME_ORIGIN of their files says",
    ),
    "times_expanded": (
        "time of a row is stretched like its recording, as time_exp of its file says",
        "times of rows are stretched like their recordings, as time_exp of their files says",
    ),
    "rows_of_one_channel": ("row uses one channel of its recording", "rows use one channel of their recording"),
}  # fmt: skip
"""By code: the text for one occurrence, and for several."""


def annotation_note(code: str, n: int) -> str:
    """Return a sentence such as ``3 rows have no end and extend to the end of their recording``."""
    if code.startswith(READ_AS):
        name = code.removeprefix(READ_AS)
        return f"{n:,} {'annotation file was' if n == 1 else 'annotation files were'} read as {name} (annotations.format: auto)"
    one, several = ANNOTATION_NOTES[code]
    return f"{n:,} {one if n == 1 else several}"
