"""The sections of a report on what went wrong or has changed, and on how to use the snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from clipmill.pipelines.chain import known_rules
from clipmill.pipelines.reports.amounts import duration_text, moment_text, share_text, value_text
from clipmill.pipelines.reports.markup import Safe, join, lines, table, tag
from clipmill.pipelines.reports.report_facts import Facts
from clipmill.schemas.config import Config
from clipmill.schemas.plural import counted
from clipmill.schemas.secret_values import hide_in_data, hide_secrets

_PAIRS = 20
_LABELS = 12
_NAMES = 8
_CONFIG_LENGTH = 100_000


def leaks(facts: Facts) -> Safe:
    """Return what is there twice, and what splits have in common."""
    common = facts.common
    found: list[Safe | None] = []
    rows: list[tuple[Any, ...]]
    duplicates = common.duplicates
    n_clips, n_across = duplicates.get("clips", 0), duplicates.get("across_splits", 0)
    text = f"{counted(n_clips, 'clip')} with exactly the samples of another one; {counted(n_across, 'group')} of them in several splits."
    if n := duplicates.get("unknown"):
        text += f" Of {counted(n, 'clip')} in older shards this is not known."
    found.append(tag("p", text))
    if common.groups:
        rows = [
            (str(i + 1), tag("code", row["clip_id"]), row["split"], row["label"] or "", row["recording_id"])
            for i, group in enumerate(common.groups)
            for row in group
        ]
        found.append(table(["group", "clip", "split", "label", "recording"], rows, numbers_from=9, caption="Equal clips"))  # fmt: skip
    n_recordings, examples = common.recordings
    sampled = " of the clips that were looked at" if facts.clips.is_sample else ""
    if n_recordings:
        are = f"{counted(n_recordings, 'recording')}{sampled} with clips in more than one split"
        found.append(tag("p", f"{are}, for example {examples[0]}."))
    else:
        found.append(tag("p", f"No recording{sampled} has clips in more than one split."))
    if common.fields:
        rows = [
            (tag("code", name), f"{n:,} of {n_values:,}", ", ".join(names) if n else "")
            for name, (n, n_values, names) in common.fields.items()
        ]
        found.append(tag("h3", "Values of fields in more than one split"))
        found.append(table(["field", "values", "for example"], rows, numbers_from=9, caption="Shared values of fields"))
    if facts.alike is None:
        found.append(tag("p", "Recordings that sound alike were not looked for; --near-duplicates does that.", class_="soft"))  # fmt: skip
        return join(found)
    alike = facts.alike
    found.append(tag("h3", "Recordings that sound alike"))
    about = f"{alike.recordings:,} recordings compared, {alike.too_quiet:,} too quiet to compare"
    found.append(tag("p", f"{about}, {counted(alike.table.num_rows, 'pair')} found.", class_="soft"))
    rows = [
        (share_text(row["similarity"], 1), row["recording_a"], row["split_a"], row["recording_b"], row["split_b"])
        for row in alike.table.slice(0, _PAIRS).to_pylist()
    ]
    if rows:
        heads = ["peaks in common", "recording", "split", "recording", "split"]
        found.append(table(heads, rows, numbers_from=9, caption="Recordings that sound alike"))
    return join(found)


def drifted(facts: Facts) -> Safe | None:
    """Return what has changed since an earlier snapshot; None if there is none."""
    change = facts.change
    if change is None:
        return None
    rows: list[tuple[Any, ...]]
    found: list[Safe | None] = [
        tag("p", f"Compared with snapshot {change.number} of {moment_text(change.created)}.", class_="soft")
    ]
    if change.changes is not None:
        own = change.changes
        rows = [
            (name, f"{len(each.added):,}", f"{len(each.removed):,}", f"{len(each.changed):,}")
            for name, each in (("recordings", own.recordings), ("clips", own.clips))
        ]
        found.append(table(["", "added", "removed", "changed"], rows, caption="Changes"))
        examples = [
            f"{what}: {', '.join(names[:_NAMES])}{' …' if len(names) > _NAMES else ''}"
            for what, names in (
                ("recordings added", own.recordings.added),
                ("recordings removed", own.recordings.removed),
                ("recordings changed", own.recordings.changed),
            )
            if names
        ]
        found.append(tag("ul", *(tag("li", text) for text in examples), class_="examples") if examples else None)
        if own.config:
            rows = [(tag("code", row["key"]), _value(row["before"]), _value(row["after"])) for row in own.config]
            heads = ["key", "before", "now"]
            found += [tag("h3", "Configuration"), table(heads, rows, numbers_from=9, caption="Changed keys")]
    else:
        found.append(tag("p", "There are too many clips to compare each; see `clipmill diff`.", class_="soft"))
    if change.shifts:
        rows = [
            (shift.name, value_text(shift.distance), *(value_text(v, shift.unit) for v in shift.medians))
            for shift in change.shifts
        ]
        about = (
            "Distance: the greatest difference between the two cumulative distributions, from 0 (equal) to 1 (apart)."
        )
        found += [tag("h3", "Columns"), tag("p", about, class_="soft")]
        found.append(table(["column", "distance", "median before", "median now"], rows, caption="Shifts of columns"))
    for names, what in zip(change.columns, ("gone", "new"), strict=True):
        found.append(tag("p", f"Columns that are {what}: {', '.join(names)}.") if names else None)
    moved = [(label or "(no label)", before, after) for label, before, after in change.labels if before != after]
    if moved:
        about = f"{value_text(100 * change.moved_share)} % of the labels would have to change for the shares to be as before."
        found += [tag("h3", "Shares of labels"), tag("p", about, class_="soft")]
        rows = [(label, share_text(before, 1), share_text(after, 1)) for label, before, after in moved[:_LABELS]]
        found.append(table(["label", "before", "now"], rows, caption="Shares of labels"))
    return join(found)


def _value(value: Any) -> str:
    text = "" if value is None else str(hide_in_data(value))
    return text if len(text) <= 200 else f"{text[:199]}…"


def rejected(facts: Facts) -> Safe:
    """Return what was rejected or dropped, why, what can be done about it, and examples."""
    failed, counts = facts.failed, facts.published.snapshot.counts
    found: list[Safe | None] = []
    for group in failed["reasons"]:
        found.append(_group(f"{group['count']:,} × {group['reason']} ({group['kind']})", group))
    if not failed["reasons"]:
        found.append(tag("p", "Nothing was rejected."))
    if counts.dropped:
        found.append(tag("h3", "Clips dropped by rules"))
        rules = known_rules()
        rows = []
        for rule, n in sorted(counts.dropped.items(), key=lambda item: -item[1]):
            meaning = rules.get(rule) or next(iter(failed["words"].get(rule, [])), "")
            examples = [_dropped_clip(row, rule) for row in facts.dropped_examples.get(rule, ())]
            shown = tag("ul", *(tag("li", e) for e in examples), class_="examples") if examples else ""
            rows.append((tag("code", rule), f"{n:,}", share_text(n, counts.clips_candidates), [meaning, shown]))
        heads = ["rule", "clips", "of candidates", "meaning"]
        body = [(rule, n, share, tag("div", *about)) for rule, n, share, about in rows]
        found.append(table(heads, body, numbers_from=9, caption="Dropped clips"))
    if failed["remarks"]:
        found.append(tag("h3", "Remarks on recordings that were used"))
        found += [_group(f"{group['count']:,} × {group['code']}", group) for group in failed["remarks"]]
    return join(found)


def _group(head: str, group: Mapping[str, Any]) -> Safe:
    rest = group["count"] - len(group["examples"])
    examples = [_example(row) for row in group["examples"]]
    examples += [f"and {rest:,} more"] if rest > 0 and examples else []
    remedy = tag("p", tag("strong", "What to do: "), group["remedy"]) if group["remedy"] else None
    return join(
        tag("h3", head),
        tag("p", group["meaning"]) if group["meaning"] else None,
        remedy,
        tag("ul", *(tag("li", example) for example in examples), class_="examples") if examples else None,
    )


def _example(row: Mapping[str, Any]) -> str:
    place = f"{row['file']}:{row['line']}" if row.get("file") else ""
    return " · ".join(part for part in (row.get("source_uri"), place, row.get("detail")) if part)


def _dropped_clip(row: Mapping[str, Any], rule: str) -> str:
    column = next((name for name in row if rule.startswith(f"{name}_")), "level_dbfs")
    value = f", {column} {value_text(row[column])}" if isinstance(row.get(column), float) else ""
    return f"{row['clip_id']}: {duration_text(row['duration_s'])} from {duration_text(row['start_s'])} of {row['recording_id']}{value}"


def columns(facts: Facts) -> Safe:
    """Return what each column of the shards means."""
    rows = [
        (tag("code", column["name"]), column.get("type", ""), column.get("unit", ""), column.get("meaning", ""))
        for column in facts.published.columns
    ]
    return table(["column", "type", "unit", "meaning"], rows, numbers_from=9, caption="Columns of the shards")


def configuration(facts: Facts) -> Safe:
    """Return the configuration as it was published, and what built it."""
    config = facts.published.snapshot.config
    ordered = {key: config[key] for key in (*(k for k in Config.model_fields if k in config), *config)}
    text = yaml.safe_dump(hide_in_data(ordered), sort_keys=False, allow_unicode=True, width=100)
    cut = text[:_CONFIG_LENGTH]
    versions = facts.shown["versions"]
    rows = [(name, ", ".join(f"{v} ({n:,})" for v, n in sorted(own.items()))) for name, own in sorted(versions.items())]
    return join(
        tag("pre", lines(cut.rstrip("\n"))),
        tag("p", "The rest is left out; see `clipmill show`.", class_="soft") if len(cut) < len(text) else None,
        tag("details", tag("summary", "versions of libraries, with the number of shards that each built"),
            table(["library", "versions"], rows, numbers_from=9, caption="Versions")) if rows else None,
    )  # fmt: skip


def loading(facts: Facts) -> Safe:
    """Return how to load this snapshot in a program."""
    published = facts.published
    root = hide_secrets(published.root.uri("").rstrip("/"))
    number = published.snapshot.number
    split = next((s for s in published.splits if published.snapshot.by_split[s]["clips"]), "train")
    feature = published.feature_names[:1]
    label = "multi_hot" if published.snapshot.label_lists else "label_id" if any(facts.balance.labels) else None
    names = ", ".join(f'"{name}"' for name in [*(feature or ["audio"]), *([label] if label else [])])
    code = [
        "from torch.utils.data import DataLoader",
        "from clipmill import ClipDataset, open_dataset, padded",
        "",
        f"snapshot = open_dataset({root!r}, {number})",
        "clips = snapshot.manifest().to_pandas()  # one row per clip",
        "",
        f'dataset = ClipDataset({root!r}, "{split}", ({names},), snapshot={number}, shuffle=True)',
        "loader = DataLoader(dataset, batch_size=32, num_workers=2, collate_fn=padded)",
    ]
    formats = facts.shown["files"]
    if "parquet" in formats:
        code += ["", "from datasets import load_dataset", "",
                 f'files = {{"{split}": snapshot.uris("{split}")}}',
                 'rows = load_dataset("parquet", data_files=files)']  # fmt: skip
    if "webdataset" in formats:
        code += ["", "import webdataset", "",
                 f'samples = webdataset.WebDataset(snapshot.uris("{split}", "webdataset"), shardshuffle=False)']  # fmt: skip
    return join(tag("pre", lines("\n".join(code))), _exports())


def _exports() -> Safe:
    return tag(
        "p", "For NeMo, Lhotse, Kaldi, Hugging Face and other tools there is ", tag("code", "clipmill export"), "."
    )


def section(identity: str, title: str, content: Safe | None) -> tuple[str, str, Safe] | None:
    """Return a section with its name for links; None without content."""
    return None if content is None else (identity, title, content)


def present(sections: Iterable[tuple[str, str, Safe] | None]) -> list[tuple[str, str, Safe]]:
    """Return the sections that have content."""
    return [each for each in sections if each is not None]
