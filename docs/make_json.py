"""Write the JSON Schemas of what commands print with --json: python docs/make_json.py

Keys that are always there are required. Others may come, so nothing forbids them. Change a schema only by adding to it, or raise
`JSON_VERSION` of `clipmill.pipelines.cli.terminal`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clipmill.pipelines.cli.terminal import JSON_VERSION
from clipmill.schemas.errors import CODES

FOLDER = Path(__file__).parent / "json"
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
COUNTS = keys(
    {
        "recordings_used": WHOLE,
        "recordings_rejected": WHOLE,
        "spans_rejected": WHOLE,
        "annotations_used": WHOLE,
        "annotations_rejected": WHOLE,
        "clips_candidates": WHOLE,
        "clips_augmented": WHOLE,
        "clips_kept": WHOLE,
        "clips_rejected": WHOLE,
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
                "decoded_s": SECONDS,
                "kept_s": SECONDS,
                "by_label": by("label", SECONDS),
                "clips_by_label": by("label", WHOLE),
            }
        ),
        "by_split": by("split", AMOUNT_OF_SPLIT),
        "labels": by("split", by("label", AMOUNT)),
        "recordings_listed": WHOLE,
        "recordings_without_annotations": WHOLE,
        "annotations_read": WHOLE,
        "bytes_stored": WHOLE,
        "fields": several(TEXT),
        "classes": several(TEXT),
        "columns": several(COLUMN),
        "accepted": several(TEXT),
        "format_version": WHOLE,
    }
)
VERDICT = keys(
    {
        "snapshot": WHOLE,
        "shards": about("checked", WHOLE),
        "of_shards": WHOLE,
        "files": WHOLE,
        "clips": WHOLE,
        "size_bytes": WHOLE,
        "problems": several(TEXT),
        "not_marked": WHOLE,
        "versions": by("package", by("version", about("shards", WHOLE))),
        "ok": TRUTH,
    }
)
REPORT: dict[str, Schema] = {
    "status": {"enum": ["published", "unchanged", "not_published", "failed"]},
    "root": TEXT,
    "shards_planned": WHOLE,
    "shards_built": WHOLE,
    "shards_reused": WHOLE,
    "shards_from_clips": WHOLE,
    "shards_healed": WHOLE,
    "shards_renewed": WHOLE,
    "donors_unusable": WHOLE,
    "wall_s": SECONDS,
    "plan_s": SECONDS,
    "startup_s": SECONDS,
    "work_s": SECONDS,
    "decoded_s": SECONDS,
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
        "started": TEXT,
        "last_sign": TEXT,
        "host": TEXT,
        "pid": WHOLE,
        "shards_planned": maybe(WHOLE),
        "shards_committed": maybe(WHOLE),
        "recordings_listed": maybe(WHOLE),
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
        "kind": TEXT,
        "reason": TEXT,
        "stage": maybe(TEXT),
        "source": maybe(TEXT),
        "recording_id": maybe(TEXT),
        "source_uri": maybe(TEXT),
        "file": maybe(TEXT),
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
            "root": TEXT,
            "name": TEXT,
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
            "fields": several(TEXT),
            "label_lists": several(TEXT),
            "files": by("format", WHOLE),
            "columns": several(COLUMN),
            "measured": by("column", {"type": "object"}),
            "clip_notes": by("column", by("note", WHOLE)),
            "format_version": WHOLE,
            "versions": by("package", by("version", WHOLE)),
            "classes": several(TEXT),
            "counts": COUNTS,
            "recordings_listed": WHOLE,
            "recordings_without_annotations": WHOLE,
            "recordings_forgotten": WHOLE,
            "manifest": maybe(TEXT),
            "examples": about(
                "clips",
                several(
                    keys(
                        {
                            "clip_id": TEXT,
                            "recording_id": TEXT,
                            "split": TEXT,
                            "start_s": SECONDS,
                            "duration_s": SECONDS,
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
                "regained": WHOLE,
                "lost": WHOLE,
                "unknown": WHOLE,
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
                            "clip_id": TEXT,
                            "split": TEXT,
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
                "snapshot": WHOLE,
                "recordings": WHOLE,
                "too_quiet": WHOLE,
                "skipped": WHOLE,
                "near_duplicates": several(
                    keys(
                        {
                            "similarity": NUMBER,
                            "recording_a": TEXT,
                            "split_a": TEXT,
                            "recording_b": TEXT,
                            "split_b": TEXT,
                        }
                    )
                ),
            }
        ),
    ),
    about("--manifest", TABLE),
]
PLAN = {
    "recordings_listed": WHOLE,
    "recordings_rejected": WHOLE,
    "recordings_without_annotations": WHOLE,
    "recordings_forgotten": WHOLE,
    "recordings_dropped": by("rule", WHOLE),
    "annotations_read": WHOLE,
    "annotations_rejected": WHOLE,
    "annotations_dropped": by("rule", WHOLE),
    "annotations_ignored": WHOLE,
    "annotations_merged": WHOLE,
    "rejected": by("reason", WHOLE),
    "rejected_examples": by("reason", {"type": "object"}),
    "rejections": several({"type": "object"}),
    "noted": by("note", WHOLE),
    "passed_over": by("source", by("kind of file", WHOLE)),
    "estimate": keys({"clips": WHOLE, "clip_s": SECONDS, "stored_bytes": WHOLE, "work_s": SECONDS, "cores": WHOLE}),
    "estimated_s": SECONDS,
    "shards_planned": WHOLE,
    "shards_missing": WHOLE,
    "shards": several(
        keys({"key": TEXT, "split": TEXT, "bucket": TEXT, "recordings": several(TEXT), "committed": TRUTH})
    ),
    "notes": several(TEXT),
}
FORGET = {"recordings": several(TEXT), "absent": several(TEXT), "done": TRUTH}
FILES = {"files": WHOLE, "size_bytes": WHOLE}

COMMANDS: dict[str, Schema | list[Schema]] = {
    "build": keys(REPORT, {"saturation": SATURATION}),
    "retry": keys(
        {**REPORT, "tried": by("recording", TEXT), "rejected_again": several(TEXT), "lost": by("recording", TEXT)}
    ),
    "demo": keys({**REPORT, "config": TEXT, "picture": TEXT}),
    "plan": keys(PLAN),
    "status": keys(
        {
            "root": TEXT,
            "snapshots": several(WHOLE),
            "published": maybe(PUBLISHED),
            "forget": maybe(keys({"started": TEXT, "running": TRUTH})),
            "builds": several(BUILD),
        }
    ),
    "failures": [
        keys(
            {
                "of": TEXT,
                "reason": maybe(TEXT),
                "rejected": WHOLE,
                "reasons": several(
                    keys(
                        {
                            "reason": TEXT,
                            "kind": TEXT,
                            "count": WHOLE,
                            "meaning": TEXT,
                            "remedy": TEXT,
                            "examples": several(REJECTION),
                        }
                    )
                ),
                "dropped": by("rule", WHOLE),
                "remarks": several(REMARK),
            }
        ),
        about("--output", TABLE),
    ],
    "show": SHOW,
    "verify": VERDICT,
    "diff": keys(
        {
            "a": WHOLE,
            "b": WHOLE,
            "same": TRUTH,
            "shards": keys({"kept": WHOLE, "added": WHOLE, "removed": WHOLE}),
            "recordings": CHANGED,
            "clips": CHANGED,
            "totals": by("what", PAIR),
            "splits": by("split", by("what", PAIR)),
            "labels": by("label", by("what", PAIR)),
            "config": several(keys({"key": TEXT, "before": ANYTHING, "after": ANYTHING})),
            "side_changes": maybe(MOVES),
        }
    ),
    "gc": keys(
        {
            "snapshots": SIZES,
            "exports": SIZES,
            "shards": SIZES,
            "notes": SIZES,
            "leftovers": SIZES,
            "annotations": SIZES,
            "kept": several(WHOLE),
            "dropped": several(WHOLE),
            "held": WHOLE,
            "retries": WHOLE,
            **FILES,
            "removed": about("whether they were removed", TRUTH),
        }
    ),
    "forget": [
        about(
            "before it is confirmed",
            keys(
                {
                    **FORGET,
                    "snapshots": several(WHOLE),
                    "publishes": TRUTH,
                    "shards": WHOLE,
                    "retries": WHOLE,
                    **FILES,
                    "exports": several(TEXT),
                }
            ),
        ),
        about(
            "done",
            keys(
                {
                    **FORGET,
                    "published": maybe(WHOLE),
                    "nothing_left": several(TEXT),
                    "shards_made": WHOLE,
                    "shards_dropped": WHOLE,
                    "removed_files": WHOLE,
                    "removed_bytes": WHOLE,
                    "removed_snapshots": several(WHOLE),
                    "traces": maybe({"type": "object"}),
                    "clean": TRUTH,
                }
            ),
        ),
    ],
    "export": keys(
        {
            "snapshot": WHOLE,
            "format": TEXT,
            "to": TEXT,
            "written": several(TEXT),
            "without_clips": several(TEXT),
            "notes": several(TEXT),
        }
    ),
    "recipes": [
        about("all", keys({"recipes": several(keys(RECIPE))})),
        about("one", keys(RECIPE, {"text": TEXT, "written": TEXT})),
    ],
    "schema": about("--to", keys({"written": TEXT})),
    "error": keys({"error": TEXT, **PROBLEM, "problems": several(keys({**PROBLEM, "message": TEXT}))}),
}


def texts() -> dict[Path, str]:
    """Return the text of each file."""
    made = {}
    for name, schema in COMMANDS.items():
        ways = schema if isinstance(schema, list) else [schema]
        for way in ways:
            way["properties"] = {"schema": {"const": JSON_VERSION}, **way["properties"]}
            way["required"] = list(dict.fromkeys(["schema", *way["required"]]))
        title = "an error of any command" if name == "error" else f"clipmill {name} --json"
        whole = {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": title,
            **(ways[0] if len(ways) == 1 else {"anyOf": ways}),
        }
        made[FOLDER / f"{name}.json"] = json.dumps(whole, indent=1) + "\n"
    return made


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
