"""Define the parts of which the JSON Schemas of what commands print consist: values, lists and maps, and records that several commands share."""

from __future__ import annotations

from typing import Any

from clipmill.schemas.errors import CODES

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
SECONDS: Schema = {"type": "number", "minimum": 0}
TRUTH: Schema = {"type": "boolean"}
ANYTHING: Schema = {}


def maybe(schema: Schema) -> Schema:
    """Return the schema of a value that can be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def several(schema: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": schema}


def by(name: str, schema: Schema) -> Schema:
    """Return the schema of a map. name : what its keys are"""
    return {"description": f"by {name}", "type": "object", "additionalProperties": schema}


def about(text: str, schema: Schema) -> Schema:
    """Return a schema with a description."""
    return {"description": text, **schema}


def keys(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """Return the schema of an object."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def each(schema: Schema, names: str) -> dict[str, Schema]:
    """Return keys with one schema. names : with blanks between them"""
    return dict.fromkeys(names.split(), schema)


AMOUNT = keys({"clips": WHOLE, "seconds": SECONDS})
AMOUNT_OF_SPLIT = keys({"clips": WHOLE, "seconds": SECONDS, "shards": WHOLE})
FINDING = keys({"limit": TEXT, "found": ANYTHING, "allowed": ANYTHING, "message": TEXT})
EXAMPLE = keys({"source": TEXT, "recording_id": TEXT, "source_uri": TEXT, "detail": maybe(TEXT)})
REMARK = keys({"code": TEXT, "count": WHOLE, "meaning": TEXT, "remedy": TEXT, "examples": several(EXAMPLE)})
MOVES = keys({"moves": by("'SPLIT to SPLIT'", WHOLE), "examples": several(TEXT), "shards_unknown": WHOLE})
COLUMN = keys(
    {"name": TEXT, "type": TEXT, "kind": TEXT, "meaning": TEXT},
    {"unit": TEXT, "settings": {"type": "object"}, "shape": several(ANYTHING), "of": TEXT},
)
SATURATION = keys(
    {
        "sources": by("source", keys({"clips": WHOLE, "n_samples": WHOLE, "n_saturated": WHOLE, "share": NUMBER})),
        "clips_unknown": WHOLE,
    }
)
LIMITED = about(
    "of a build of a few recordings: how many were asked for, and how many it has and left out; empty for a whole dataset",
    {"type": "object", "properties": each(WHOLE, "asked recordings recordings_left_out annotations_left_out")},
)
COUNTS = keys(
    {
        **each(
            WHOLE,
            "recordings_used recordings_rejected spans_rejected annotations_used annotations_rejected clips_candidates"
            " clips_augmented clips_kept clips_rejected",
        ),
        "dropped": by("rule", WHOLE),
        "rejected": by("reason", WHOLE),
        "remarked": by("remark", WHOLE),
    }
)
SNAPSHOT = keys(
    {
        "number": WHOLE,
        "name": TEXT,
        "parent": maybe(WHOLE),
        "created": about("UTC, ISO 8601", TEXT),
        "counts": COUNTS,
        "seconds": keys(
            {
                **each(SECONDS, "decoded_s kept_s"),
                "by_label": by("label", SECONDS),
                "clips_by_label": by("label", WHOLE),
            }
        ),
        "by_split": by("split", AMOUNT_OF_SPLIT),
        "labels": by("split", by("label", AMOUNT)),
        **each(WHOLE, "recordings_listed recordings_without_annotations annotations_read bytes_stored"),
        **each(several(TEXT), "fields classes"),
        "columns": several(COLUMN),
        "accepted": several(TEXT),
        "format_version": WHOLE,
    }
)
VERDICT = keys(
    {
        "snapshot": WHOLE,
        "shards": about("checked", WHOLE),
        **each(WHOLE, "of_shards files clips size_bytes"),
        "problems": several(TEXT),
        "not_marked": WHOLE,
        "versions": by("package", by("version", about("shards", WHOLE))),
        "ok": TRUTH,
    }
)
REPORT: dict[str, Schema] = {
    "status": {"enum": ["published", "unchanged", "not_published", "failed"]},
    "root": TEXT,
    **each(
        WHOLE,
        "shards_planned shards_built shards_reused shards_from_clips shards_healed shards_renewed donors_unusable",
    ),
    **each(SECONDS, "wall_s plan_s startup_s work_s decoded_s"),
    "phase_s": by("phase", SECONDS),
    "stage_s": by("stage", SECONDS),
    "requests": by("operation", WHOLE),
    "features_busy": maybe(NUMBER),
    "snapshot": maybe(SNAPSHOT),
    "failures": several(TEXT),
    "limits": several(FINDING),
    "warnings": several(FINDING),
    "accepted": TRUTH,
    "remarks": several(REMARK),
    "classes": several(TEXT),
    "passed_over": by("source", by("kind of file", WHOLE)),
    "side_changes": MOVES,
    "limited": LIMITED,
    "measured": by("column", {"type": "object"}),
    "clip_notes": by("column", by("note", WHOLE)),
    "index_damaged": several(TEXT),
    "upgraded": TRUTH,
    "verified": maybe({"type": "object"}),
    "storage_weaknesses": several(TEXT),
}
PROBLEM = {"code": {"enum": list(CODES)}, "key": TEXT, "file": TEXT, "line": maybe(WHOLE)}
NUMBERS = keys(
    {
        "seconds": by("phase", SECONDS),
        "stage_seconds": by("stage", SECONDS),
        "rates": keys({"decoded_x_realtime": NUMBER, "shards_per_s": NUMBER}),
        "counts": by("what", WHOLE),
        "rejected": by("reason", WHOLE),
        "decoded_s": SECONDS,
        "bytes_stored": WHOLE,
        "requests": by("operation", WHOLE),
        "snapshot": maybe(WHOLE),
    }
)
BUILD = keys(
    {
        "state": {"enum": ["running", "interrupted", "published", "unchanged", "not_published", "failed"]},
        "message": maybe(TEXT),
        **each(TEXT, "started last_sign host"),
        "pid": WHOLE,
        **each(maybe(WHOLE), "shards_planned shards_committed recordings_listed"),
        "progress": maybe(TEXT),
        "numbers": maybe(NUMBERS),
    }
)
PUBLISHED = keys(
    {
        "snapshot": WHOLE,
        "created": TEXT,
        "clips": WHOLE,
        "seconds": SECONDS,
        "shards": WHOLE,
        "accepted": several(TEXT),
        "damage": maybe(TEXT),
    }
)
REJECTION = keys(
    {
        **each(TEXT, "kind reason"),
        **each(maybe(TEXT), "stage source recording_id source_uri file"),
        "line": maybe(WHOLE),
        "start_s": maybe(NUMBER),
        "detail": maybe(TEXT),
    }
)
PAIR = several(NUMBER)
CHANGED = keys({"added": several(TEXT), "removed": several(TEXT), "changed": several(TEXT)})
SIZES = by("path", about("bytes", WHOLE))
RECIPE = dict.fromkeys(("name", "corpus", "size", "licence", "url", "get", "layout", "gives"), TEXT)
TABLE = keys({"snapshot": WHOLE, "rows": WHOLE})
SHOW: list[Schema] = [
    keys(
        {
            **each(TEXT, "root name"),
            "snapshot": WHOLE,
            "snapshots": several(WHOLE),
            "created": TEXT,
            "accepted": several(TEXT),
            "clips": WHOLE,
            "seconds": SECONDS,
            "bytes": WHOLE,
            "splits": by("split", AMOUNT_OF_SPLIT),
            "labels": by("label", AMOUNT),
            "labels_by_split": by("split", by("label", AMOUNT)),
            "statistics": by("split", {"type": "object"}),
            "saturation": SATURATION,
            "duplicates": by("what", WHOLE),
            **each(several(TEXT), "fields label_lists"),
            "files": by("format", WHOLE),
            "columns": several(COLUMN),
            "measured": by("column", {"type": "object"}),
            "clip_notes": by("column", by("note", WHOLE)),
            "format_version": WHOLE,
            "versions": by("package", by("version", WHOLE)),
            "classes": several(TEXT),
            "counts": COUNTS,
            **each(WHOLE, "recordings_listed recordings_without_annotations recordings_forgotten"),
            "limited": LIMITED,
            "manifest": maybe(TEXT),
            "examples": about(
                "clips",
                several(
                    keys(
                        {
                            **each(TEXT, "clip_id recording_id split"),
                            **each(SECONDS, "start_s duration_s"),
                        }
                    )
                ),
            ),
        }
    ),
    about(
        "--keep",
        keys(
            {
                "root": TEXT,
                "snapshot": WHOLE,
                "keep": by("column", {"type": "object"}),
                "kept": WHOLE,
                "kept_s": SECONDS,
                "dropped": by("rule", WHOLE),
                **each(WHOLE, "regained lost unknown"),
                "by_split": by("split", {"type": "object"}),
            }
        ),
    ),
    about(
        "--duplicates",
        keys(
            {
                "root": TEXT,
                "snapshot": WHOLE,
                "counts": by("what", WHOLE),
                "duplicates": several(
                    keys(
                        {
                            "pcm_sha256": TEXT,
                            **each(TEXT, "clip_id split"),
                            "label": maybe(TEXT),
                            "recording_id": TEXT,
                            "first": TRUTH,
                        }
                    )
                ),
            }
        ),
    ),
    about(
        "--near-duplicates",
        keys(
            {
                "root": TEXT,
                **each(WHOLE, "snapshot recordings too_quiet skipped"),
                "near_duplicates": several(
                    keys(
                        {
                            "similarity": NUMBER,
                            **each(TEXT, "recording_a split_a recording_b split_b"),
                        }
                    )
                ),
            }
        ),
    ),
    about("--manifest", TABLE),
]
PLAN = {
    **each(WHOLE, "recordings_listed recordings_rejected recordings_without_annotations recordings_forgotten"),
    "recordings_dropped": by("rule", WHOLE),
    **each(WHOLE, "annotations_read annotations_rejected"),
    "annotations_dropped": by("rule", WHOLE),
    **each(WHOLE, "annotations_ignored annotations_merged"),
    "rejected": by("reason", WHOLE),
    "rejected_examples": by("reason", {"type": "object"}),
    "rejections": several({"type": "object"}),
    "noted": by("note", WHOLE),
    "limited": LIMITED,
    "root": TEXT,
    "passed_over": by("source", by("kind of file", WHOLE)),
    "estimate": keys(
        {
            **each(WHOLE, "clips stored_bytes cores headers_read"),
            **each(SECONDS, "clip_s work_s least_work_s most_work_s"),
            "of_last_build": about("whether the time follows from how fast the last build was", TRUTH),
            "rough": about("why the numbers may be far off", several(TEXT)),
        }
    ),
    "estimated_s": SECONDS,
    **each(WHOLE, "shards_planned shards_missing"),
    "shards": several(
        keys({"key": TEXT, "split": TEXT, "bucket": TEXT, "recordings": several(TEXT), "committed": TRUTH})
    ),
    "notes": several(TEXT),
}
FORGET = {"recordings": several(TEXT), "absent": several(TEXT), "done": TRUTH}
FILES = {"files": WHOLE, "size_bytes": WHOLE}
