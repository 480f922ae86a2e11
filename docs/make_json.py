"""Write the JSON Schemas of what commands print with --json: python docs/make_json.py

Keys that are always there are required. Others may come, so nothing forbids them. Change a schema only by adding to it, or raise
`JSON_VERSION` of `clipmill.pipelines.cli.terminal`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from clipmill.pipelines.cli.terminal import JSON_VERSION

sys.path.insert(0, str(Path(__file__).parent))
from json_parts import (
    ANYTHING,
    BUILD,
    CHANGED,
    FILES,
    FORGET,
    MOVES,
    NUMBER,
    PAIR,
    PLAN,
    PROBLEM,
    PUBLISHED,
    RECIPE,
    REJECTION,
    REMARK,
    REPORT,
    SATURATION,
    SECONDS,
    SHOW,
    SIZES,
    TABLE,
    TEXT,
    TRUTH,
    VERDICT,
    WHOLE,
    Schema,
    about,
    by,
    each,
    keys,
    maybe,
    several,
)

FOLDER = Path(__file__).parent / "json"

COMMANDS: dict[str, Schema | list[Schema]] = {
    "build": keys(REPORT, {"saturation": SATURATION}),
    "retry": keys(
        {**REPORT, "tried": by("recording", TEXT), "rejected_again": several(TEXT), "lost": by("recording", TEXT)}
    ),
    "demo": keys({**REPORT, "config": TEXT, "picture": TEXT}),
    "init": keys(
        {
            **each(TEXT, "written root purpose"),
            **each(WHOLE, "recordings other_files clips"),
            "extensions": by("extension", WHOLE),
            "headers": keys(
                {
                    **each(WHOLE, "read unreadable"),
                    **each(SECONDS, "shortest_s median_s longest_s"),
                    "rates_hz": by("rate", WHOLE),
                    "channels": by("number of channels", WHOLE),
                }
            ),
            "annotations": about(
                "what could be used, as `annotations` of a source",
                several(keys({"rows": about("looked at", WHOLE), "used": TRUTH}, each(TEXT, "sidecar table format"))),
            ),
            "recipe": maybe(TEXT),
            "notes": several(TEXT),
            "splits": by("split", WHOLE),
            "config": about("as plain data", {"type": "object"}),
        }
    ),
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
                            **each(TEXT, "reason kind"),
                            "count": WHOLE,
                            **each(TEXT, "meaning remedy"),
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
    "audit": keys(
        {
            **each(WHOLE, "snapshot asked seed clips"),
            "recut": about("clips that were compared with their recordings", WHOLE),
            "within": about("whether the exit code is 0", TRUTH),
            "problem": about("why there is no success although nothing is beyond", maybe(TEXT)),
            "kinds": several(
                keys(
                    {
                        **each(TEXT, "kind unit"),
                        **each(WHOLE, "clips beyond"),
                        "largest": about("difference of the clip `worst`; null if it is not finite", maybe(NUMBER)),
                        "tolerance": about("for the clip `worst`, with half a step of the stored type", NUMBER),
                        "worst": about("clip that exceeds its tolerance most, or comes closest to it", TEXT),
                    }
                )
            ),
            "beyond": several(
                keys(
                    {
                        **each(TEXT, "clip_id recording_id source_uri kind unit detail"),
                        "difference": about("null if it is not finite", maybe(NUMBER)),
                        "tolerance": NUMBER,
                    }
                )
            ),
            "not_compared": about("with the recording", by("reason", WHOLE)),
            "left_out": about("clips whose feature has no reference", by("feature and reason", WHOLE)),
            "skipped": about(
                "clips not compared with the package of the preset", by("feature, package and reason", WHOLE)
            ),
            "without_reference": about("columns that were not compared, or not for all clips", several(TEXT)),
            "readers": about("clips", by("program that read the recording", WHOLE)),
            "versions": by("package", TEXT),
        }
    ),
    "diff": keys(
        {
            **each(WHOLE, "a b"),
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
            **each(SIZES, "snapshots exports shards notes leftovers annotations"),
            **each(several(WHOLE), "kept dropped"),
            **each(WHOLE, "held retries"),
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
                    **each(WHOLE, "shards retries"),
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
                    **each(WHOLE, "shards_made shards_dropped removed_files removed_bytes"),
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
            **each(TEXT, "format to"),
            **each(several(TEXT), "written without_clips notes"),
        }
    ),
    "recipes": [
        about("all", keys({"recipes": several(keys(RECIPE))})),
        about("one", keys(RECIPE, {"text": TEXT, "written": TEXT})),
    ],
    "report": [
        keys(
            {
                "file": TEXT,
                "by": about("column by which clips were chosen", TEXT),
                **each(WHOLE, "size_bytes snapshot clips_chosen clips_shown clips_looked_at"),
                **each(several(TEXT), "remarks notes"),
            }
        ),
        about("--serve", keys({"address": TEXT, "clips": WHOLE, "list": maybe(TEXT)})),
    ],
    "sample": keys(
        {
            **each(TEXT, "to page"),
            "files": several(TEXT),
            "clips": several(
                keys(
                    {
                        **each(TEXT, "clip_id recording_id source split wav png"),
                        **each(SECONDS, "start_s duration_s"),
                        "level_dbfs": about("null in digital silence", maybe(NUMBER)),
                        "label": maybe(TEXT),
                    }
                )
            ),
            "asked": about("clips", WHOLE),
            "snapshot": about("null if the clips were built for this", maybe(WHOLE)),
            "counts": keys(
                each(
                    WHOLE,
                    "recordings_listed recordings_left_out recordings_used recordings_rejected clips_candidates clips_kept"
                    " clips_dropped clips_rejected",
                )
            ),
            "rejected": by("reason", WHOLE),
            "dropped": by("rule", WHOLE),
            "notes": about("what is not as asked", several(TEXT)),
        }
    ),
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
