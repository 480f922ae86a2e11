"""Find annotation formats by name, and complete the configuration of annotations by what their format declares."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.config.model import did_you_mean
from clipmill.schemas.config.problems import describe_problem
from clipmill.schemas.errors import Problem
from clipmill.stages.annotations.format import COMMON_KEYS, Format

MODULES = {
    "audacity": "audacity_files",
    "audioset": "audioset_files",
    "auto": "auto_files",
    "batdetect": "batdetect_files",
    "crowsetta": "crowsetta_files",
    "csv": "csv_files",
    "ctm": "ctm_files",
    "eaf": "eaf_files",
    "jams": "jams_files",
    "kaldi": "kaldi_files",
    "lhotse": "lhotse_files",
    "librispeech": "librispeech_files",
    "lrc": "lrc_files",
    "nemo": "nemo_files",
    "raven": "raven_files",
    "rttm": "rttm_files",
    "speechbrain": "speechbrain_files",
    "srt": "srt_files",
    "stm": "stm_files",
    "textgrid": "textgrid_files",
    "timit": "timit_files",
    "uem": "uem_files",
    "vtt": "vtt_files",
}
"""The module of each format, in `clipmill.stages.annotations.formats`."""
_OWN = "options"


@cache
def find_format(name: str) -> Format:
    """Return a format. Raises KeyError for an unknown name."""
    module = importlib.import_module(f"clipmill.stages.annotations.formats.{MODULES[name]}")
    found: Format = module.FORMAT
    return found


def complete_sources(plain: Any) -> tuple[Any, list[Problem]]:
    """Return a configuration in which the annotations of all sources are complete, and what is wrong with them.

    plain : the configuration as plain data; what has not the form of a source is left as it is
    """
    if not isinstance(plain, dict) or not isinstance(plain.get("sources"), list):
        return plain, []
    problems: list[Problem] = []
    sources = []
    for i, source in enumerate(plain["sources"]):
        sources.append(_complete_source(source, f"sources[{i}]", problems) if isinstance(source, dict) else source)
    return {**plain, "sources": sources}, problems


def _complete_source(source: dict[str, Any], key: str, problems: list[Problem]) -> dict[str, Any]:
    """Return a source with complete annotations. A list of annotations becomes the first and those joined to it."""
    given = source.get("annotations")
    joins = source.get("joins", [])
    places = [f"{key}.joins[{k}]" for k in range(len(joins))] if isinstance(joins, list) else []
    first_key = f"{key}.annotations"
    result = dict(source)
    if isinstance(given, list) and given and all(isinstance(each, dict) for each in given) and not joins:
        places = [f"{key}.annotations[{k}]" for k in range(1, len(given))]
        first_key += "[0]"
        given, joins = given[0], given[1:]
    labelled = "label" in source and _labels_by_itself(source["label"])
    if isinstance(given, dict):
        result["annotations"], found = complete(given, first_key, labelled)
        problems += found
        columns = result["annotations"].get("columns")
        labelled = labelled or (isinstance(columns, dict) and "label" in columns)
    if isinstance(joins, list) and joins:
        result["joins"] = []
        for place, each in zip(places, joins, strict=True):
            if isinstance(each, dict):
                each = _with_label_as_field(each) if labelled else each
                completed, found = complete(each, place, labelled, is_joined=True)
                each = completed
                problems += found
            result["joins"].append(each)
    return result


def complete(
    given: Mapping[str, Any], key: str, is_labelled: bool = False, is_joined: bool = False
) -> tuple[dict[str, Any], list[Problem]]:
    """Return annotations with the defaults of their format, the keys that are its own under `options`, and what is wrong.

    Parameters
    ----------
    given : `annotations` as written
    key : its place in the configuration
    is_labelled : whether labels come from elsewhere, so that the text of a row is no label
    is_joined : whether they are joined to others, so that a label is carried as a field if those have one
    """
    name = given.get("format", "csv")
    if not isinstance(name, str) or name not in MODULES:
        near = did_you_mean(name, MODULES)
        what = f"{name!r} is not a format of annotation files{near}; the formats are {', '.join(sorted(MODULES))}"
        placeholder = {"sidecar": "unknown"}  # so that nothing else is said of annotations that cannot be checked
        return placeholder, [Problem("config.invalid_value", what, f"{key}.format")]
    kind = find_format(name)
    own = kind.options.model_fields
    known = {*COMMON_KEYS, *kind.takes, *own}
    problems = [_unknown(k, name, known, key) for k in given if k not in known]
    result = {k: v for k, v in given.items() if k in {*COMMON_KEYS, *kind.takes}}
    options = {k: v for k, v in given.items() if k in own}
    try:
        checked = kind.options.model_validate(options)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            place = ".".join((key, *map(str, item["loc"])))
            problems.append(Problem("config.invalid_value", describe_problem(item), place))
    else:
        if own:
            result[_OWN] = checked.model_dump(exclude_unset=True)
    _fill_in(result, kind, is_labelled, is_joined)
    if result.get("table") is not None and "recording" not in result and name != "csv" and not kind.recording:
        what = f"files of format {name} do not name their recordings; give `sidecar`, or `recording` with the column that does"
        problems.append(Problem("config.invalid_value", what, f"{key}.table"))
        result["recording"] = ""  # reported once
    return result, problems


def _fill_in(result: dict[str, Any], kind: Format, is_labelled: bool, is_joined: bool) -> None:
    """Fill in what a format declares and the configuration does not say."""
    if "sidecar" not in result and "table" not in result:
        result |= {k: v for k, v in (("sidecar", kind.sidecar), ("table", kind.table)) if v is not None}
    if result.get("table") is not None and kind.recording:
        result.setdefault("recording", list(kind.recording))
    result |= {k: v for k, v in kind.settings.items() if k not in result}
    columns = result.get("columns", {})
    if isinstance(columns, dict) and kind.roles:
        roles = dict(kind.roles)
        if {"end", "duration"} & columns.keys():
            roles = {role: where for role, where in roles.items() if role not in ("end", "duration")}
        if is_labelled and (is_joined or roles.get("label") in kind.fields.values()):
            roles.pop("label", None)  # its column is carried as a field
        result["columns"] = {**roles, **columns}
    fields = result.get("fields", {})
    if kind.fields and isinstance(fields, dict):
        result["fields"] = {**kind.fields, **fields}
    elif kind.fields and isinstance(fields, list):
        result["fields"] = {**kind.fields, **{name: name for name in fields if isinstance(name, str)}}


def _with_label_as_field(given: dict[str, Any]) -> dict[str, Any]:
    """Return joined annotations whose label's column is carried as a field of its own name, since the rows have labels already."""
    columns, fields = given.get("columns"), given.get("fields", {})
    if not (isinstance(columns, dict) and isinstance(columns.get("label"), str)):
        return given
    name = columns["label"]
    if isinstance(fields, list):
        fields = {field: field for field in fields}
    if not isinstance(fields, dict):
        return given
    rest = {role: where for role, where in columns.items() if role != "label"}
    return {**given, "columns": rest, "fields": {name: name, **fields}}


def _labels_by_itself(label: Any) -> bool:
    """Return whether `label` gives labels that are not from rows."""
    return not isinstance(label, dict) or label.get("from") in ("path", "folder")


def _unknown(name: str, format_name: str, known: set[str], key: str) -> Problem:
    of_csv = name in Annotations.model_fields and name != _OWN
    if of_csv:
        what = f"does not apply to format {format_name}, which says it itself; leave it out"
        return Problem("config.invalid_value", what, f"{key}.{name}")
    hint = did_you_mean(name, known) or f"; known for format {format_name}: {', '.join(sorted(known))}"
    return Problem("config.unknown_key", f"unknown key{hint}", f"{key}.{name}")
