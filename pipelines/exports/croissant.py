"""Croissant: the snapshot's metadata for search engines and loaders (MLCommons Croissant 1.1, docs.mlcommons.org/croissant)."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa

from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.export_format import Format
from clipmill.schemas.columns import measured_fields
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.export_marks import CROISSANT_FILE, CROISSANT_MARK
from clipmill.schemas.layout import BESIDE, SNAPSHOTS, snapshot_name
from clipmill.schemas.tables import manifest_schema

FORMAT = Format("croissant.json in ROOT: metadata in MLCommons Croissant 1.1", place="root", whole_shards=True)

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_MIME = {"parquet": "application/x-parquet", "webdataset": "application/x-tar", BESIDE: "application/x-parquet"}
_WHITE = re.compile(r"\s")
_TYPES = {"string": "sc:Text", "double": "sc:Float", "int32": "sc:Integer", "int64": "sc:Integer"}
"""By the names of Arrow's."""


def export(asked: Export) -> list[str]:
    """Write croissant.json: the manifest and the shards as files with their sha256, and the manifest's rows as records.

    Raises
    ------
    ClipmillError : shards are missing, or there is a croissant.json of somebody else's
    """
    snapshot = asked.published.snapshot
    with asked.writing(CROISSANT_FILE):
        before = asked.target.read_bytes(CROISSANT_FILE) if asked.target.exists(CROISSANT_FILE) else b""
    if before and CROISSANT_MARK.encode() not in before:
        raise ClipmillError(
            f"{asked.target.uri(CROISSANT_FILE)} is not one that clipmill wrote: move it away, then export again"
        )
    found: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": snapshot.name,
        "description": f"{snapshot.counts.clips_kept} clips, {snapshot.seconds.kept_s:.1f} s of audio, snapshot {snapshot.number}",
        "datePublished": snapshot.created,
        "version": f"{snapshot.number}.0.0",
        "sdVersion": CROISSANT_MARK,
        "distribution": [
            *_manifest(asked),
            *_shards(asked),
        ],
        "recordSet": [_records(asked)],
    }
    return [asked.write(CROISSANT_FILE, [json.dumps(found, indent=1, ensure_ascii=False)])]


def _manifest(asked: Export) -> list[dict[str, Any]]:
    """Return the manifest's file, or for a large dataset the files of its parts."""
    snapshot = asked.published.snapshot
    about = {
        "@id": "manifest",
        "name": "manifest",
        "description": "one row a clip, without audio",
        "encodingFormat": _MIME["parquet"],
    }
    if "manifest" in snapshot.files:
        path = f"{SNAPSHOTS}/{snapshot_name(snapshot.number)}/manifest.parquet"
        return [{"@type": "cr:FileObject", **about, "contentUrl": path, "sha256": snapshot.files["manifest"]}]
    paths = {
        part.path("manifest"): part.tables["manifest"].sha256 for part in snapshot.parts if "manifest" in part.tables
    }
    files = [
        {
            "@type": "cr:FileObject",
            "@id": path,
            "name": path,
            "contentUrl": path,
            "encodingFormat": _MIME["parquet"],
            "sha256": sha256,
        }
        for path, sha256 in paths.items()
    ]
    return [
        *files,
        {"@type": "cr:FileSet", **about, "containedIn": [{"@id": path} for path in paths], "includes": "*.parquet"},
    ]


def _shards(asked: Export) -> list[dict[str, Any]]:
    outputs = sorted((o for s in asked.published.all_shards() for o in s.outputs if o.rows), key=lambda o: o.path)
    return [
        {
            "@type": "cr:FileObject",
            "@id": o.path,
            "name": o.path,
            "contentUrl": o.path,
            "contentSize": f"{o.size_bytes} B",
            "encodingFormat": _MIME[o.format],
            "sha256": o.sha256,
        }
        for o in outputs
        if o.format in _MIME
    ]


def _records(asked: Export) -> dict[str, Any]:
    snapshot = asked.published.snapshot
    kind = "fileObject" if "manifest" in snapshot.files else "fileSet"
    fields = [
        _field(column, kind)
        for column in manifest_schema(
            snapshot.fields, snapshot.has_channel, measured_fields(snapshot.columns), snapshot.label_lists
        )
    ]
    return {"@type": "cr:RecordSet", "@id": "clips", "name": "clips", "key": {"@id": "clips/clip_id"}, "field": fields}


def _field(column: pa.Field, kind: str) -> dict[str, Any]:
    """Return the description of a column of the manifest. kind : of the manifest, fileObject or fileSet"""
    name = f"clips/{_WHITE.sub('_', column.name)}"
    source = {kind: {"@id": "manifest"}, "extract": {"column": column.name}}
    field = {"@type": "cr:Field", "@id": name, "name": column.name}
    if not pa.types.is_list(column.type):
        return {**field, "dataType": _TYPES[str(column.type)], "source": source}
    if not pa.types.is_struct(column.type.value_type):
        return {**field, "dataType": _TYPES[str(column.type.value_type)], "repeated": True, "source": source}
    parts = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{part.name}",
            "name": part.name,
            "dataType": _TYPES[str(part.type)],
            "source": {**source, "transform": {"jsonPath": part.name}},
        }
        for part in column.type.value_type
    ]
    return {**field, "repeated": True, "subField": parts}
